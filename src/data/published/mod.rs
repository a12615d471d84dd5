//! Sets as they are published → examples, one kind of set a file.
//!
//! ```text
//! paths ─ Sources::find ─▶ files ─ tables ─▶ rows ─ SetKind::example ─▶ Example ─ Sources::read ─▶ Published
//! ```
//!
//! Nothing is guessed: a row that is no example of its set is an error with its line, and a row
//! that cannot be used is counted under its [`Reason`]. No prompt is in both splits.

mod dialogues;
mod instructions;
mod posts;
mod reviews;
mod sources;
mod split;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use sources::{Source, Sources, Split};
pub use split::{Published, SourceCount, passage_key};

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
        match self {
            Self::Reviews => reviews::example(fields),
            Self::Posts => posts::example(fields),
            Self::Dialogues => dialogues::example(fields),
            Self::Instructions => instructions::example(fields),
        }
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
        /// The answer.
        chosen: String,
    },
    /// A prompt with the better and the worse of two answers.
    Preference {
        /// A text or a conversation.
        prompt: Passage,
        /// The better answer.
        chosen: String,
        /// The worse one.
        rejected: String,
    },
}

impl Example {
    /// A demonstration of an answer that is not blank.
    fn demonstration(prompt: Passage, chosen: String) -> Result<Self, Refusal> {
        match is_blank(&chosen) || is_blank_prompt(&prompt) {
            true => Err(Refusal::Dropped(Reason::Empty)),
            false => Ok(Self::Demonstration { prompt, chosen }),
        }
    }

    /// A preference between two answers that differ and are not blank.
    fn preference(prompt: Passage, chosen: String, rejected: String) -> Result<Self, Refusal> {
        if is_blank(&chosen) || is_blank(&rejected) || is_blank_prompt(&prompt) {
            return Err(Refusal::Dropped(Reason::Empty));
        }
        if chosen == rejected {
            return Err(Refusal::Dropped(Reason::EqualSides));
        }
        Ok(Self::Preference { prompt, chosen, rejected })
    }
}

fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn is_blank_prompt(prompt: &Passage) -> bool {
    let last = prompt.messages().and_then(<[_]>::last);
    let text = last.map(|it| &it["content"]).and_then(Value::as_str).or(prompt.text.as_deref());
    is_blank(text.unwrap_or_default())
}

/// One message of a user, as a prompt.
fn instruction(text: impl Into<String>) -> Passage {
    conversation(vec![json!({ "role": "user", "content": text.into() })])
}

fn conversation(messages: Vec<Value>) -> Passage {
    Passage::of_messages(messages)
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
    /// The same texts, but for case and punctuation, came before.
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
mod tests;
