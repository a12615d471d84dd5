//! Published sets → examples. Each kind of set is one file.
//!
//! ```text
//! paths ─ Sources::find ─▶ files ─ rows ─▶ rows ─ SetKind::example ─▶ Example ─ Sources::read ─▶ Published
//! ```
//!
//! Nothing is guessed. A row that is no example of its set is an error with its line; a row that cannot be
//! used is counted under its [`Reason`]. A column that changes the meaning of a prompt is used, or the row is
//! refused and the error names the column; other unused columns are counted. No prompt is in both splits.
//!
//! Invariant: rows read = rows used + rows dropped by reason + bad rows.

mod columns;
mod comparisons;
mod conversation;
mod dialogues;
mod instructions;
mod key;
mod posts;
mod reviews;
mod saved;
mod sources;
mod split;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use columns::Columns;

pub use key::passage_key;
pub use sources::{Source, Sources, Split};
pub use split::{Published, SourceCount};

use super::{Fields, Passage, Problem};

/// What the rows of a set are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetKind {
    /// Texts with a sentiment, such as the IMDB reviews of Maas et al. 2011.
    Reviews,
    /// Posts with a summary, such as TL;DR, or the comparisons of Stiennon et al. 2020.
    Posts,
    /// Conversations that go on in two ways, such as those of Bai et al. 2022.
    Dialogues,
    /// Instructions with answers, such as Alpaca, AlpacaFarm and UltraFeedback.
    Instructions,
}

impl SetKind {
    /// The example of a row.
    ///
    /// # Errors
    /// Why the row is none.
    pub fn example(self, fields: &Fields) -> Result<Example, Refusal> {
        self.read(fields).map(|(example, _)| example)
    }

    /// The example of a row, and the columns that say something and are not used.
    fn read(self, fields: &Fields) -> Result<(Example, Vec<String>), Refusal> {
        let columns = Columns::new(fields);
        let example = match self {
            Self::Reviews => reviews::example(&columns),
            Self::Posts => posts::example(&columns),
            Self::Dialogues => dialogues::example(&columns),
            Self::Instructions => instructions::example(&columns),
        }?;
        let remedy = match self {
            Self::Instructions => "rename the column, or drop it",
            _ => "read the set with `exalign data instruction`, or drop the column",
        };
        let example = columns.checked(example, remedy)?;
        Ok((example, columns.unused()))
    }
}

/// What a row of a published set says.
#[derive(Clone, Debug, PartialEq)]
pub enum Example {
    /// A text with its class.
    Labelled {
        /// The text.
        text: String,
        /// Whether it is positive.
        label: bool,
    },
    /// A prompt with an answer to learn from.
    Demonstration {
        /// A text or a conversation.
        prompt: Passage,
        /// The answer: a text, or the messages of one that is more than a text.
        chosen: Passage,
        /// What the chat template takes beside the messages.
        extras: Extras,
    },
    /// A prompt with the better and the worse of two answers.
    Preference {
        /// A text or a conversation.
        prompt: Passage,
        /// The better answer.
        chosen: Passage,
        /// The worse one.
        rejected: Passage,
        /// What the chat template takes beside the messages.
        extras: Extras,
    },
}

/// What a chat template takes beside the messages; carried through to the records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Extras {
    /// `tools`: a list of tools that the assistant may call.
    pub tools: Option<Value>,
    /// `chat_template_kwargs`: further arguments by name.
    pub chat_template_kwargs: Option<Value>,
}

impl Extras {
    /// The fields that are there, with their names.
    pub fn fields(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        let fields = [("tools", &self.tools), ("chat_template_kwargs", &self.chat_template_kwargs)];
        fields.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)))
    }
}

impl Example {
    /// A demonstration of an answer that is not blank.
    fn demonstration(prompt: Passage, chosen: Passage, extras: Extras) -> Result<Self, Refusal> {
        match is_blank_passage(&chosen) || is_blank_passage(&prompt) {
            true => Err(Refusal::Dropped(Reason::Empty)),
            false => Ok(Self::Demonstration { prompt, chosen, extras }),
        }
    }

    /// A preference between two answers that differ and are not blank.
    fn preference(
        prompt: Passage,
        chosen: Passage,
        rejected: Passage,
        extras: Extras,
    ) -> Result<Self, Refusal> {
        if [&prompt, &chosen, &rejected].into_iter().any(is_blank_passage) {
            return Err(Refusal::Dropped(Reason::Empty));
        }
        if chosen == rejected {
            return Err(Refusal::Dropped(Reason::EqualSides));
        }
        Ok(Self::Preference { prompt, chosen, rejected, extras })
    }
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

/// Whether a text, or the last of a list of messages, says nothing and calls no tool.
fn is_blank_passage(passage: &Passage) -> bool {
    let Some(messages) = passage.messages() else {
        return is_blank(passage.text.as_deref().unwrap_or_default());
    };
    let says_nothing = |message: &Value| match &message["content"] {
        Value::String(text) => is_blank(text),
        Value::Array(parts) => parts.is_empty(),
        _ => true,
    };
    messages.last().is_none_or(|last| says_nothing(last) && last["tool_calls"].is_null())
}

/// Why a row is no example.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// It cannot be used, which sets have their share of.
    Dropped(Reason),
    /// It is not what rows of its set are.
    Bad(Problem),
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Bad(problem)
    }
}

/// Why something that was read is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The same texts, but for case and blanks, came before.
    Duplicate,
    /// The prompt is held out.
    HeldOutPrompt,
    /// A side, the prompt or the text is blank.
    Empty,
    /// Chosen and rejected are the same.
    EqualSides,
    /// Neither side was preferred.
    Tie,
    /// The sides share no prompt.
    NoCommonPrompt,
    /// The sides differ in their turns: before the last answer, or one goes on after it.
    DifferentTurns,
    /// There is no label.
    NoLabel,
    /// A label, or the answer's `weight` or `train`, says that the answer is not wanted.
    Unwanted,
    /// The scores say that the rejected answer is the better one.
    ScoresDisagree,
    /// A conversation does not end with an answer.
    NoAnswer,
    /// A conversation has nothing before its answer.
    NoPrompt,
    /// It has pictures or sounds, which are not read.
    Media,
    /// It has documents beside the prompt, which are not read.
    Documents,
    /// It is held out, and another answer to its prompt, or pairs, are what is evaluated on.
    OtherHeldOut,
    /// It belongs to another set: an article among posts.
    OtherSet,
    /// The text is no longer than its opening.
    TooShort,
    /// The prompt has more tokens than are taken.
    LongPrompt,
    /// An answer has more tokens than are taken.
    LongAnswer,
}

impl Reason {
    /// In words, as part of "dropped: …".
    pub fn words(self) -> &'static str {
        match self {
            Self::Duplicate => "said before",
            Self::HeldOutPrompt => "prompt is held out",
            Self::Empty => "empty prompt, text or answer",
            Self::EqualSides => "chosen and rejected are the same",
            Self::Tie => "tie",
            Self::NoCommonPrompt => "sides share no prompt",
            Self::DifferentTurns => "sides differ in their turns",
            Self::NoLabel => "no label",
            Self::Unwanted => "label, weight or train says that the answer is not wanted",
            Self::ScoresDisagree => "scores say the rejected is better",
            Self::NoAnswer => "conversation without an answer at its end",
            Self::NoPrompt => "conversation with nothing before its answer",
            Self::Media => "with pictures or sounds, which are not read",
            Self::Documents => "with documents, which are not read",
            Self::OtherHeldOut => "held out beside what is evaluated on",
            Self::OtherSet => "of another set",
            Self::TooShort => "no longer than an opening",
            Self::LongPrompt => "prompt too long",
            Self::LongAnswer => "answer too long",
        }
    }
}

/// How many were dropped, by reason.
pub type Dropped = BTreeMap<Reason, usize>;

#[cfg(test)]
mod layout_tests;
#[cfg(test)]
mod tests;
