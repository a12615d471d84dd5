//! Records → token ids, with an exact seam between prompt and completion.
//!
//! A text prompt has the special tokens that its tokenizer puts in front; its completion is the rest of the
//! ids of both texts together. The model's chat template writes a conversation: the completion is
//! template(prompt + completion) without template(prompt, generation prompt). Ids that a record gives are
//! used exactly as they are. A group that is too long loses tokens from the left of its prompt, never tokens
//! of a completion.

mod intake;
mod reward;
mod seam;
mod unwritten;

use serde::{Deserialize, Serialize};

use super::{
    Answered, Completion, Conversation, Demonstration, Group, LabelledText, Located, Passage,
    PromptRecord, Record,
};
use super::{Ending, TokenGroup, Tokenizer};
use crate::{Error, Result};

pub use intake::{
    Intake, list_records, read_alignment_tokens, read_records, read_tokens, read_unpaired_tokens,
};
pub(crate) use reward::ENDS;
pub use reward::RewardReading;
pub use unwritten::Unwritten;

/// The most tokens that a sequence may have; 0 stands for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Prompt and completion together.
    pub max_length: usize,
    /// The prompt alone.
    pub max_prompt_length: usize,
    /// What sets `max_length`.
    pub set_by: SetBy,
}

/// What sets the longest sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetBy {
    /// The setting `data.max_length`.
    #[default]
    Setting,
    /// The model's positions.
    Positions,
    /// The window of the model's attention.
    Window,
}

impl SetBy {
    /// Where it stands.
    pub fn source(self) -> &'static str {
        match self {
            Self::Setting => "`data.max_length`",
            Self::Positions => "`max_position_embeddings` in the model's config.json",
            Self::Window => "`sliding_window` in the model's config.json",
        }
    }

    /// What to do where sequences of `tokens` are wanted.
    pub fn remedy(self, tokens: usize) -> String {
        match self {
            Self::Setting => {
                format!("set `data.max_length` to at least {tokens} if the model allows")
            }
            Self::Positions => format!(
                "the model has no more positions ({}): take one that has {tokens}, or correct the number if it has \
                 learned that many",
                self.source()
            ),
            Self::Window => format!(
                "attention sees no further ({}), and what lies beyond is not read: take a model without a window, or \
                 with one of {tokens} tokens",
                self.source()
            ),
        }
    }
}

impl Limits {
    /// These limits, and no sequence longer than the `max_positions` of a model, which `set_by` says the cause of.
    pub fn within(self, max_positions: usize, set_by: SetBy) -> Self {
        match self.max_length {
            limit if max_positions == 0 || (1..=max_positions).contains(&limit) => self,
            _ => Self { max_length: max_positions, set_by, ..self },
        }
    }
}

/// How records become token ids.
#[derive(Clone, Copy, Debug)]
pub struct Tokenization<'a> {
    /// For records that have text; ids need none.
    pub tokenizer: Option<&'a Tokenizer>,
    /// The most tokens a sequence may have.
    pub limits: Limits,
    /// Ids from here on are refused.
    pub vocab_size: usize,
}

/// A kind of record that becomes token ids.
pub trait Tokenize: Record {
    /// The record as token ids; what had to be cut, and what stands out, is counted in `intake`.
    fn tokenize(
        record: &Located<Self>,
        tokenization: &Tokenization<'_>,
        intake: &mut Intake,
    ) -> Result<TokenGroup>;
}

impl Tokenize for Group {
    fn tokenize(
        located: &Located<Self>,
        tokenization: &Tokenization<'_>,
        intake: &mut Intake,
    ) -> Result<TokenGroup> {
        let group = &located.record;
        let asked = tokenization.asked(located, &group.prompt, group.ending())?;
        intake.look_at_beginning(&asked.ids, tokenization.tokenizer);
        let completions = group.completions.iter().enumerate();
        let completions = completions
            .map(|(i, it)| {
                let field = group.completion_field(i);
                tokenization.completion(located, &field, &asked, it, intake)
            })
            .collect::<Result<_>>()?;
        let answers = group.completions.iter().map(|it| &it.passage);
        tokenization.look_at_fields(&group.prompt, answers, intake);
        let mut tokens = TokenGroup {
            id: group.id.clone(),
            line: located.line,
            prompt: asked.ids,
            completions,
            rewards: group.rewards.clone().unwrap_or_default(),
            log_probs: group.log_probs.clone().unwrap_or_default(),
        };
        check_log_probs(&tokens).map_err(|problem| located.error(problem))?;
        if tokens.prompt.is_empty() {
            // The first token has no predictor: no other log-prob has it either.
            for log_probs in &mut tokens.log_probs {
                log_probs.remove(0);
            }
        }
        tokenization.fit(located, tokens, |i| group.completion_field(i), intake)
    }
}

impl Group {
    /// How its prompt ends. The sides of a preference are turns of their own, as TRL reads them.
    fn ending(&self) -> Ending {
        let mut completions = self.completions.iter();
        let are_parts = completions.all(|it| goes_on(&self.prompt, &it.passage));
        ending(are_parts && !self.is_preference)
    }
}

/// Whether a completion goes on with the assistant's turn that its prompt has begun, as it was sampled. Messages are
/// turns of their own.
fn goes_on(prompt: &Passage, completion: &Passage) -> bool {
    let is_begun = prompt.conversation.as_ref().is_some_and(|it| it.begun().is_some());
    is_begun && completion.conversation.is_none()
}

/// How a prompt ends whose completions go on with the turn that it has begun, or not.
fn ending(goes_on: bool) -> Ending {
    if goes_on { Ending::Continued } else { Ending::GenerationPrompt }
}

impl Tokenize for Demonstration {
    fn tokenize(
        located: &Located<Self>,
        tokenization: &Tokenization<'_>,
        intake: &mut Intake,
    ) -> Result<TokenGroup> {
        let Demonstration { id, prompt, completion, is_whole, is_preference } = &located.record;
        if *is_whole {
            return tokenization.whole(located, intake);
        }
        let is_part = !is_preference && goes_on(prompt, &completion.passage);
        let asked = tokenization.asked(located, prompt, ending(is_part))?;
        intake.look_at_beginning(&asked.ids, tokenization.tokenizer);
        tokenization.look_at_fields(prompt, [&completion.passage], intake);
        let completion = tokenization.completion(located, "chosen", &asked, completion, intake)?;
        let tokens = TokenGroup {
            id: id.clone(),
            line: located.line,
            prompt: asked.ids,
            completions: vec![completion],
            ..TokenGroup::default()
        };
        let field = |_| "chosen".to_owned();
        tokens.check_predicted(field).map_err(|problem| located.error(problem))?;
        tokenization.fit(located, tokens, field, intake)
    }
}

impl Tokenize for Answered {
    fn tokenize(
        located: &Located<Self>,
        tokenization: &Tokenization<'_>,
        intake: &mut Intake,
    ) -> Result<TokenGroup> {
        let Answered { group, is_whole } = located.record.clone();
        let (file, line) = (located.file.clone(), located.line);
        match group.completions.as_slice() {
            [only] if is_whole => {
                let (id, completion) = (group.id.clone(), only.clone());
                let prompt = Passage::default();
                let is_preference = false;
                let record = Demonstration { id, prompt, completion, is_whole, is_preference };
                Demonstration::tokenize(&Located { file, line, record }, tokenization, intake)
            }
            _ => Group::tokenize(&Located { file, line, record: group }, tokenization, intake),
        }
    }
}

/// A group without completions. A conversation that ends with the assistant's turn is continued there.
impl Tokenize for PromptRecord {
    fn tokenize(
        located: &Located<Self>,
        tokenization: &Tokenization<'_>,
        intake: &mut Intake,
    ) -> Result<TokenGroup> {
        let PromptRecord { id, prompt, .. } = &located.record;
        let is_begun = prompt.conversation.as_ref().is_some_and(Conversation::is_begun);
        let ending = if is_begun { Ending::Continued } else { Ending::GenerationPrompt };
        let asked = tokenization.asked(located, prompt, ending)?;
        intake.look_at_beginning(&asked.ids, tokenization.tokenizer);
        tokenization.look_at_fields(prompt, [], intake);
        let tokens = TokenGroup {
            id: id.clone(),
            line: located.line,
            prompt: asked.ids,
            completions: Vec::new(),
            ..TokenGroup::default()
        };
        tokenization.fit(located, tokens, |i| format!("completions[{i}]"), intake)
    }
}

/// A group of one completion without a prompt, whose reward is the label. The text is encoded as a
/// prompt is, since nothing stands before it.
impl Tokenize for LabelledText {
    fn tokenize(
        located: &Located<Self>,
        tokenization: &Tokenization<'_>,
        intake: &mut Intake,
    ) -> Result<TokenGroup> {
        let LabelledText { id, prompt, text, label } = &located.record;
        let ids = match prompt {
            Some(prompt) => {
                let is_part = goes_on(prompt, text);
                let asked = tokenization.asked(located, prompt, ending(is_part))?;
                let answer = Completion::finished(text.clone());
                let answer =
                    tokenization.completion(located, "completion", &asked, &answer, intake)?;
                intake.look_at_beginning(&asked.ids, tokenization.tokenizer);
                tokenization.look_at_fields(prompt, [text], intake);
                // The label is the answer's: what is too long loses tokens of the prompt.
                let group = TokenGroup {
                    prompt: asked.ids,
                    completions: vec![answer],
                    ..TokenGroup::default()
                };
                let field = |_| "completion".to_owned();
                let group = tokenization.fit(located, group, field, intake)?;
                [group.prompt, group.completions.concat()].concat()
            }
            None => {
                let asked = tokenization.asked(located, text, Ending::Closed)?;
                tokenization.look_at_whole(located, text, &asked, intake);
                let mut ids = asked.ids;
                intake.look_at_beginning(&ids, tokenization.tokenizer);
                tokenization.cut_text(&mut ids, intake);
                ids
            }
        };
        if ids.is_empty() {
            return Err(located.error(no_tokens("text")));
        }
        Ok(TokenGroup {
            id: id.clone(),
            line: located.line,
            prompt: Vec::new(),
            completions: vec![ids],
            rewards: vec![f64::from(u8::from(*label))],
            ..TokenGroup::default()
        })
    }
}

impl Tokenization<'_> {
    /// All of a text or conversation: the first token as the prompt, the others to be learned. What
    /// is too long keeps its first tokens.
    fn whole(&self, located: &Located<Demonstration>, intake: &mut Intake) -> Result<TokenGroup> {
        let Demonstration { id, completion, .. } = &located.record;
        let asked = self.asked(located, &completion.passage, Ending::Closed)?;
        self.look_at_whole(located, &completion.passage, &asked, intake);
        let mut ids = asked.ids;
        intake.look_at_beginning(&ids, self.tokenizer);
        if completion.passage.conversation.is_none() {
            self.end(located, "text", completion, &mut ids)?;
        }
        self.cut_text(&mut ids, intake);
        if ids.len() < 2 {
            return Err(located.error(format!(
                "`text`: expected at least two tokens, of which the second is learned, found {}; drop \
                 the record",
                ids.len()
            )));
        }
        let rest = ids.split_off(1);
        Ok(TokenGroup {
            id: id.clone(),
            line: located.line,
            prompt: ids,
            completions: vec![rest],
            ..TokenGroup::default()
        })
    }

    /// Keeps the first tokens of a text that is too long.
    fn cut_text(&self, ids: &mut Vec<u32>, intake: &mut Intake) {
        let limit = self.limits.max_length;
        if limit > 0 && ids.len() > limit {
            ids.truncate(limit);
            intake.texts += 1;
            intake.beyond(self.limits);
        }
    }

    /// Takes tokens from the left of the prompt until everything fits.
    fn fit<R>(
        &self,
        located: &Located<R>,
        mut group: TokenGroup,
        field: impl Fn(usize) -> String,
        intake: &mut Intake,
    ) -> Result<TokenGroup> {
        let Limits { max_length, max_prompt_length, set_by } = self.limits;
        let before = group.prompt.len();
        let mut room = if max_prompt_length > 0 { max_prompt_length } else { before };
        if max_length > 0 {
            let needed = before.min(1); // of the prompt, to predict the completion's first token
            let lengths = group.completions.iter().map(Vec::len).enumerate();
            let (longest, len) = lengths.max_by_key(|&(_, len)| len).unwrap_or((0, 0));
            if len + needed > max_length {
                return Err(located.error(format!(
                    "`{}`: expected at most {} tokens beside the prompt, found {len}; {}, or drop the record",
                    field(longest),
                    max_length.saturating_sub(needed),
                    set_by.remedy(len + needed)
                )));
            }
            room = room.min(max_length - len);
        }
        if before > room {
            if room < max_prompt_length || max_prompt_length == 0 {
                intake.beyond(self.limits);
            }
            group.prompt.drain(..before - room);
            intake.prompts += 1;
        }
        Ok(group)
    }

    /// Refuses ids that the model has no embedding of.
    ///
    /// # Errors
    /// If there are any, with the record's `field`.
    pub fn check<R>(&self, located: &Located<R>, field: &str, ids: &[u32]) -> Result<()> {
        match ids.iter().find(|&&id| id as usize >= self.vocab_size) {
            Some(id) => Err(located.error(format!(
                "`{field}`: expected token ids below the model's vocabulary size {}, found {id}; \
                 use the tokenizer of this model or drop the record",
                self.vocab_size
            ))),
            None => Ok(()),
        }
    }

    /// The tokenizer that a text needs.
    fn needed<R>(&self, located: &Located<R>, field: &str) -> Result<&Tokenizer> {
        self.tokenizer.ok_or_else(|| {
            Error::file(
                &located.file,
                format!(
                    "`{field}` in line {} is text, and the model folder has no tokenizer.json; \
                     put one there or give token ids",
                    located.line
                ),
            )
        })
    }
}

/// Refuses log-probs that are not one a token.
fn check_log_probs(group: &TokenGroup) -> Result<(), String> {
    let lists = group.log_probs.iter().zip(&group.completions).enumerate();
    match lists.into_iter().find(|(_, (log_probs, ids))| log_probs.len() != ids.len()) {
        None => Ok(()),
        Some((i, (log_probs, ids))) => Err(format!(
            "`log_probs[{i}]`: expected {}, one for each token of the completion, found {}; give the \
             `completion_ids` that were drawn, or leave `log_probs` out",
            ids.len(),
            log_probs.len()
        )),
    }
}

fn no_tokens(field: &str) -> String {
    format!("`{field}`: expected at least one token, found a text that has none; drop the record")
}

/// What a message calls the prompt of a record.
fn prompt_field(prompt: &Passage) -> &'static str {
    if prompt.conversation.is_some() { "messages" } else { "prompt" }
}

#[cfg(test)]
mod conversation_tests;
#[cfg(test)]
mod tests;
