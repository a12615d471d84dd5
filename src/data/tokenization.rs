//! Records → token ids, with an exact seam between prompt and completion.
//!
//! Prompt and completion are encoded apart and appended, so no token reaches over the seam. Ids
//! that a record gives are taken exactly as they are. What is too long loses tokens of the prompt,
//! from its left, and never one of a completion.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::records::{Completion, Passage};
use super::{Demonstration, Group, LabelledText, Located, PromptRecord, Record};
use super::{Ending, TokenGroup, Tokenizer, read};
use crate::{Error, Result};

/// The most tokens that a sequence may have; 0 stands for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Prompt and completion together.
    pub max_length: usize,
    /// The prompt alone.
    pub max_prompt_length: usize,
}

impl Limits {
    /// These limits, and no sequence longer than the `max_positions` of a model.
    pub fn within(self, max_positions: usize) -> Self {
        let limits = [self.max_length, max_positions];
        let max_length = limits.into_iter().filter(|&limit| limit > 0).min().unwrap_or(0);
        Self { max_length, ..self }
    }
}

/// What became of the records of a file.
#[derive(Debug, Default)]
pub struct TruncationReport {
    /// Records that became token ids.
    pub records: usize,
    /// Of those, records whose prompt lost tokens from its left.
    pub prompts: usize,
    /// Of those, labelled texts that keep their first tokens only.
    pub texts: usize,
    /// Bad records that were set aside.
    pub skipped: Vec<Error>,
}

impl fmt::Display for TruncationReport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", count(self.records, "record"))?;
        if self.prompts > 0 {
            write!(out, ", {} cut from the left", count(self.prompts, "prompt"))?;
        }
        if self.texts > 0 {
            write!(out, ", {} cut to the first tokens", count(self.texts, "text"))?;
        }
        if !self.skipped.is_empty() {
            write!(out, ", {} skipped", count(self.skipped.len(), "bad record"))?;
        }
        Ok(())
    }
}

fn count(number: usize, name: &str) -> String {
    format!("{number} {name}{}", if number == 1 { "" } else { "s" })
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
    /// The record as token ids; what had to be cut is counted in `report`.
    fn tokenize(
        record: &Located<Self>,
        tokenization: &Tokenization<'_>,
        report: &mut TruncationReport,
    ) -> Result<TokenGroup>;
}

impl Tokenize for Group {
    fn tokenize(
        located: &Located<Self>,
        tokenization: &Tokenization<'_>,
        report: &mut TruncationReport,
    ) -> Result<TokenGroup> {
        let group = &located.record;
        let completions = group.completions.iter().enumerate();
        let completions = completions.map(|(i, it)| (group.completion_field(i), it));
        let tokens = TokenGroup {
            id: group.id.clone(),
            line: located.line,
            prompt: tokenization.prompt(located, &group.prompt)?,
            completions: completions
                .map(|(field, it)| tokenization.completion(located, &field, it))
                .collect::<Result<_>>()?,
            rewards: group.rewards.clone().unwrap_or_default(),
        };
        tokenization.fit(located, tokens, |i| group.completion_field(i), report)
    }
}

impl Tokenize for Demonstration {
    fn tokenize(
        located: &Located<Self>,
        tokenization: &Tokenization<'_>,
        report: &mut TruncationReport,
    ) -> Result<TokenGroup> {
        let Demonstration { id, prompt, completion } = &located.record;
        let tokens = TokenGroup {
            id: id.clone(),
            line: located.line,
            prompt: tokenization.prompt(located, prompt)?,
            completions: vec![tokenization.completion(located, "chosen", completion)?],
            rewards: Vec::new(),
        };
        tokenization.fit(located, tokens, |_| "chosen".to_owned(), report)
    }
}

/// A group without completions.
impl Tokenize for PromptRecord {
    fn tokenize(
        located: &Located<Self>,
        tokenization: &Tokenization<'_>,
        report: &mut TruncationReport,
    ) -> Result<TokenGroup> {
        let PromptRecord { id, prompt } = &located.record;
        let tokens = TokenGroup {
            id: id.clone(),
            line: located.line,
            prompt: tokenization.prompt(located, prompt)?,
            completions: Vec::new(),
            rewards: Vec::new(),
        };
        tokenization.fit(located, tokens, |i| format!("completions[{i}]"), report)
    }
}

/// A group of one completion without a prompt, whose reward is the label. The text is encoded as a
/// prompt is, since nothing stands before it.
impl Tokenize for LabelledText {
    fn tokenize(
        located: &Located<Self>,
        tokenization: &Tokenization<'_>,
        report: &mut TruncationReport,
    ) -> Result<TokenGroup> {
        let LabelledText { id, text, label } = &located.record;
        let mut ids = tokenization.ids(located, "text", text, Tokenizer::encode_prompt)?;
        if ids.is_empty() {
            return Err(located.error(no_tokens("text")));
        }
        let limit = tokenization.limits.max_length;
        if limit > 0 && ids.len() > limit {
            ids.truncate(limit);
            report.texts += 1;
        }
        Ok(TokenGroup {
            id: id.clone(),
            line: located.line,
            prompt: Vec::new(),
            completions: vec![ids],
            rewards: vec![f64::from(u8::from(*label))],
        })
    }
}

impl Tokenization<'_> {
    fn prompt<R>(&self, located: &Located<R>, prompt: &Passage) -> Result<Vec<u32>> {
        let Some(messages) = prompt.messages.as_ref().filter(|_| prompt.ids.is_none()) else {
            return self.ids(located, "prompt", prompt, Tokenizer::encode_prompt);
        };
        let template = self.tokenizer.and_then(Tokenizer::chat_template).ok_or_else(|| {
            located.error(
                "`messages`: expected a model with a chat template to read them with, found none \
                 in its folder; put a chat_template.jinja there, or write the conversation out as \
                 `prompt`",
            )
        })?;
        let text = template
            .render(&messages.clone().into(), Ending::GenerationPrompt)
            .map_err(|problem| located.error(format!("`messages`: {problem}")))?;
        // The template has written all special tokens there are to be.
        self.ids(located, "messages", &Passage::of_text(text), Tokenizer::encode_completion)
    }

    /// A completion with its end-of-text token. Ids get none, nor does a text that was cut or that
    /// writes one out itself.
    fn completion<R>(
        &self,
        located: &Located<R>,
        field: &str,
        completion: &Completion,
    ) -> Result<Vec<u32>> {
        let Completion { passage, finished } = completion;
        let mut ids = self.ids(located, field, passage, Tokenizer::encode_completion)?;
        if ids.is_empty() {
            return Err(located.error(no_tokens(field)));
        }
        if let (None, true, Some(tokenizer)) = (&passage.ids, finished, self.tokenizer) {
            let Some(end_of_text) = tokenizer.end_of_text() else {
                return Err(Error::usage(
                    "the model names no end-of-text token to end completions with; set \
                     `eos_token_id` in its config.json, or `finished` to false in the records",
                ));
            };
            if !ids.last().is_some_and(|last| tokenizer.all_end_of_text().contains(last)) {
                self.check(located, field, &[end_of_text])?;
                ids.push(end_of_text);
            }
        }
        Ok(ids)
    }

    fn ids<R>(
        &self,
        located: &Located<R>,
        field: &str,
        passage: &Passage,
        encode: impl Fn(&Tokenizer, &str) -> Result<Vec<u32>>,
    ) -> Result<Vec<u32>> {
        let ids = match (&passage.ids, self.tokenizer) {
            (Some(ids), _) => ids.clone(),
            (None, Some(tokenizer)) => encode(tokenizer, passage.text.as_deref().unwrap_or(""))?,
            (None, None) => {
                return Err(Error::file(
                    &located.file,
                    format!(
                        "`{field}` in line {} is text, and the model folder has no tokenizer.json; \
                         put one there or give token ids",
                        located.line
                    ),
                ));
            }
        };
        self.check(located, field, &ids)?;
        Ok(ids)
    }

    fn check<R>(&self, located: &Located<R>, field: &str, ids: &[u32]) -> Result<()> {
        match ids.iter().find(|&&id| id as usize >= self.vocab_size) {
            Some(id) => Err(located.error(format!(
                "`{field}`: expected token ids below the model's vocabulary size {}, found {id}; \
                 use the tokenizer of this model or drop the record",
                self.vocab_size
            ))),
            None => Ok(()),
        }
    }

    /// Takes tokens from the left of the prompt until everything fits.
    fn fit<R>(
        &self,
        located: &Located<R>,
        mut group: TokenGroup,
        field: impl Fn(usize) -> String,
        report: &mut TruncationReport,
    ) -> Result<TokenGroup> {
        let Limits { max_length, max_prompt_length } = self.limits;
        let before = group.prompt.len();
        let mut room = if max_prompt_length > 0 { max_prompt_length } else { before };
        if max_length > 0 {
            let needed = before.min(1); // of the prompt, to predict the completion's first token
            let lengths = group.completions.iter().map(Vec::len).enumerate();
            let (longest, len) = lengths.max_by_key(|&(_, len)| len).unwrap_or((0, 0));
            if len + needed > max_length {
                return Err(located.error(format!(
                    "`{}`: expected at most {} tokens beside the prompt, found {len}; set \
                     `data.max_length` to at least {} if the model allows, drop the record",
                    field(longest),
                    max_length.saturating_sub(needed),
                    len + needed
                )));
            }
            room = room.min(max_length - len);
        }
        if before > room {
            group.prompt.drain(..before - room);
            report.prompts += 1;
        }
        Ok(group)
    }
}

fn no_tokens(field: &str) -> String {
    format!("`{field}`: expected at least one token, found a text that has none; drop the record")
}

/// The records of a file as token ids, of which up to `skip_bad` may be bad, and what was cut.
pub fn read_tokens<R: Tokenize>(
    path: &Path,
    skip_bad: usize,
    tokenizer: Option<&Tokenizer>,
    limits: &Limits,
    vocab_size: usize,
) -> Result<(Vec<TokenGroup>, TruncationReport)> {
    let tokenization = Tokenization { tokenizer, limits: *limits, vocab_size };
    tokenization.read_file::<R>(path, skip_bad, |_| Ok(()))
}

/// As [`read_tokens`], of groups that [an alignment can learn from](Group::check_for_alignment).
pub fn read_alignment_tokens(
    path: &Path,
    skip_bad: usize,
    tokenizer: Option<&Tokenizer>,
    limits: &Limits,
    vocab_size: usize,
) -> Result<(Vec<TokenGroup>, TruncationReport)> {
    let tokenization = Tokenization { tokenizer, limits: *limits, vocab_size };
    tokenization.read_file(path, skip_bad, Located::<Group>::check_for_alignment)
}

impl Tokenization<'_> {
    /// The records of a file that pass `check`, as token ids.
    pub fn read_file<R: Tokenize>(
        &self,
        path: &Path,
        skip_bad: usize,
        check: impl Fn(&Located<R>) -> Result<()>,
    ) -> Result<(Vec<TokenGroup>, TruncationReport)> {
        let mut reader = read::<R>(path, skip_bad)?;
        let mut report = TruncationReport::default();
        let mut groups = Vec::new();
        while let Some(located) = reader.next().transpose()? {
            match check(&located).and_then(|()| R::tokenize(&located, self, &mut report)) {
                Ok(group) => groups.push(group),
                Err(error) => reader.refuse(error)?,
            }
        }
        if groups.is_empty() {
            let bad = reader.skipped().len();
            return Err(Error::file(path, format!("expected records, but all {bad} are bad")));
        }
        report.records = groups.len();
        report.skipped = reader.into_skipped();
        Ok((groups, report))
    }
}

#[cfg(test)]
mod tests;
