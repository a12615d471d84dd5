//! An audit of a file of records, before a training on it.
//!
//! An audit does not stop at the first bad line: it counts all bad lines and keeps the first [`SHOWN`].
//! Lengths are measured before anything is cut; the audit also says what a training would cut or refuse.

mod advice;
mod findings;
mod form;
mod length_bias;
mod shown;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use findings::Findings;

pub use advice::Advice;
pub(super) use advice::count;
pub use form::Kind;
pub use length_bias::LengthBias;
pub use shown::{ShownAnswer, ShownRow};

use super::reader::count_unread;
use super::{
    Answered, Completion, Demonstration, Fields, Group, Intake, LabelledText, Limits, Located,
    Problem, PromptRecord, Record, SetBy, TokenGroup, Tokenization, Tokenize, Tokenizer, Unwritten,
    rows,
};
use crate::{Error, Result};

/// How many bad lines and how many examples of a finding are kept.
pub const SHOWN: usize = 20;

/// Numbers of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "their names say it")]
pub struct Lengths {
    pub min: usize,
    pub median: usize,
    pub p95: usize,
    pub max: usize,
}

impl Lengths {
    /// Of lengths and how many there are of each.
    fn of(counts: &BTreeMap<usize, usize>) -> Option<Self> {
        let last = counts.values().sum::<usize>().checked_sub(1)?;
        let at = |share: f64| {
            let mut left = (last as f64 * share).round() as usize;
            let found = counts.iter().find(|(_, count)| match left.checked_sub(**count) {
                Some(rest) => {
                    left = rest;
                    false
                }
                None => true,
            });
            found.map(|(length, _)| *length)
        };
        Some(Self { min: at(0.0)?, median: at(0.5)?, p95: at(0.95)?, max: at(1.0)? })
    }
}

/// What training would cut, and what it would refuse.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TooLong {
    /// Prompt and completion together, in tokens; 0: no limit.
    pub max_length: usize,
    /// The prompt alone, in tokens; 0: no limit.
    pub max_prompt_length: usize,
    /// What sets `max_length`.
    pub set_by: SetBy,
    /// Records that lose tokens.
    pub cut: usize,
    /// Tokens they lose.
    pub tokens_lost: usize,
    /// Records whose completion does not fit at all.
    pub refused: usize,
    /// The limit at which none is refused.
    pub enough: usize,
}

/// Where encoding prompt and completion together gives other tokens than encoding them apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Seams {
    /// Seams between texts.
    pub checked: usize,
    /// Those where a token would reach over.
    pub merged: usize,
    /// The first of them: line, end of the prompt, beginning of the completion, token.
    pub examples: Vec<String>,
}

/// How completions end.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Endings {
    /// Completions.
    pub completions: usize,
    /// Those that say they were cut (`finished` is false).
    pub cut: usize,
    /// Those of token ids that end without an end-of-text token and do not say they were cut.
    pub unended: usize,
    /// Those with an end-of-text token before their end.
    pub inside: usize,
}

/// Groups and their rewards.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Groups {
    /// Groups by their number of completions.
    pub sizes: BTreeMap<usize, usize>,
    /// Groups without rewards.
    pub unlabelled: usize,
    /// Groups whose rewards are all the same.
    pub tied: usize,
    /// Groups in which a text occurs more than once.
    pub repeated: usize,
    /// Mean over groups of the standard deviation of rewards within; none where none has rewards.
    pub mean_spread: Option<f64>,
}

/// What was found; every number counts records unless it says otherwise.
#[derive(Clone, Debug, Serialize)]
pub struct Audit {
    /// What the file holds.
    pub kind: Kind,
    /// The forms its records are written in, and how many are in each.
    pub forms: BTreeMap<String, usize>,
    /// Rows: good records and bad ones.
    pub rows: usize,
    /// Good records.
    pub records: usize,
    /// Columns that are not used, and how many rows have them.
    pub unread: BTreeMap<String, usize>,
    /// Lines that training would refuse.
    pub bad: usize,
    /// The first of them: line and reason.
    pub bad_lines: Vec<(usize, Problem)>,
    /// Of the bad ones, pairs of one and the same text.
    pub equal_sides: usize,
    /// Of the bad ones, pairs of one and the same reward.
    pub ties: usize,
    /// Lengths of prompts, in tokens.
    pub prompts: Option<Lengths>,
    /// Lengths of completions or texts, end-of-text tokens included.
    pub completions: Option<Lengths>,
    /// Prompt with its longest completion.
    pub totals: Option<Lengths>,
    /// Against the limits.
    pub too_long: TooLong,
    /// Records that say what one before them says, but for case and blanks.
    pub duplicates: usize,
    /// Records whose prompt came before.
    pub repeated_prompts: usize,
    /// Records that contradict one before them: chosen and rejected swapped, or another label.
    pub contradictions: usize,
    /// The lines of the first of them.
    pub contradicting_lines: Vec<(usize, usize)>,
    /// Records whose prompt is in the other file as well, where one was given.
    pub shared_prompts: Option<usize>,
    /// Tokens at the seam.
    pub seams: Seams,
    /// How completions end.
    pub endings: Endings,
    /// The token that ends a completion.
    pub end: Option<String>,
    /// Records that begin with the begin-of-text token twice.
    pub begun_twice: usize,
    /// That token.
    pub begin: String,
    /// What the chat template leaves out.
    pub unwritten: Unwritten,
    /// What of the tokenizer's settings is not honoured.
    pub tokenizer_warnings: Vec<String>,
    /// The first records as the model reads them.
    pub shown: Vec<ShownRow>,
    /// Labelled texts: those of label 1.
    pub positive: Option<usize>,
    /// Groups, where the file has them.
    pub groups: Option<Groups>,
    /// How far "longer wins" explains the labels.
    pub length_bias: Option<LengthBias>,
    /// What to do about all of it.
    pub advice: Vec<Advice>,
}

impl Audit {
    /// Whether training would take the file as it is.
    pub fn is_usable(&self) -> bool {
        !self.advice.iter().any(|it| it.is_refused)
    }
}

/// How to audit a file.
#[derive(Clone, Copy, Debug)]
pub struct Auditor<'a> {
    /// The model's, for records that have text.
    pub tokenizer: Option<&'a Tokenizer>,
    /// What training would keep to.
    pub limits: Limits,
    /// Ids from here on are refused.
    pub vocab_size: usize,
    /// Bad records that training would pass over.
    pub skip_bad: usize,
    /// Records that are shown as tokens.
    pub show: usize,
}

impl Auditor<'_> {
    /// Audits the records of `path`, whose prompts should not be in `against`.
    ///
    /// # Errors
    /// If a file cannot be read or has no good record, or if there is text and no tokenizer.
    pub fn audit(&self, path: &Path, against: Option<&Path>) -> Result<Audit> {
        let mut findings = Findings::default();
        let mut rows = rows::open(path)?;
        while let Some(row) = rows.next() {
            let (line, fields) = row?;
            let place = Located { file: rows.file().clone(), line, record: () };
            findings.rows += 1;
            match fields {
                Ok(fields) => self.look_at(&fields, &place, &mut findings)?,
                Err(problem) => findings.refuse(place.line, problem),
            }
        }
        let Some(kind) = findings.kind.filter(|_| findings.records > 0) else {
            let first = findings.bad_lines.first().map_or(String::new(), |(line, problem)| {
                format!("; the first, line {line}: {problem}")
            });
            let found = format!("expected records, found {} bad ones{first}", findings.bad);
            return Err(Error::file(path, found));
        };
        let shared = against.map(|other| findings.shared_with(other)).transpose()?;
        Ok(findings.audit(self, kind, shared))
    }

    /// A line: a record, passed over, or bad.
    fn look_at(&self, fields: &Fields, place: &Located<()>, findings: &mut Findings) -> Result<()> {
        let kind = *findings.kind.get_or_insert_with(|| Kind::of(fields));
        match self.entry(kind, fields, place, &mut findings.intake) {
            Ok(entry) => {
                findings.add(self, kind, fields, place, entry);
                Ok(())
            }
            Err(Error::Record { message, .. }) => {
                findings.count_sides(fields);
                findings.refuse(place.line, message);
                Ok(())
            }
            Err(other) => Err(other),
        }
    }

    /// A line as a group, whatever its kind, and its tokens, nothing cut.
    fn entry(
        &self,
        kind: Kind,
        fields: &Fields,
        place: &Located<()>,
        intake: &mut Intake,
    ) -> Result<Entry> {
        match kind {
            Kind::Groups | Kind::Preferences => {
                let entry = self.tokens(fields, place, intake, |it: Group| it)?;
                match entry.group.rewards.is_some() || kind == Kind::Preferences {
                    true => entry.checked(place),
                    false => Ok(entry),
                }
            }
            Kind::Demonstrations | Kind::Texts => {
                self.tokens(fields, place, intake, |it: Demonstration| Group {
                    id: it.id,
                    prompt: it.prompt,
                    completions: vec![it.completion],
                    ..Group::default()
                })
            }
            Kind::Unpaired => {
                let label = LabelledText::from_fields(fields).map_err(|it| place.error(it))?.label;
                self.tokens(fields, place, intake, |it: Answered| Group {
                    rewards: Some(vec![f64::from(u8::from(label))]),
                    ..it.group
                })
            }
            Kind::LabelledTexts => self.tokens(fields, place, intake, |it: LabelledText| Group {
                id: it.id,
                // A text with a label ends where it ends.
                completions: vec![Completion { passage: it.text, finished: true }],
                rewards: Some(vec![f64::from(u8::from(it.label))]),
                ..Group::default()
            }),
            Kind::Prompts => self.tokens(fields, place, intake, |it: PromptRecord| Group {
                id: it.id,
                prompt: it.prompt,
                ..Group::default()
            }),
        }
    }

    fn tokens<R: Tokenize + Clone>(
        &self,
        fields: &Fields,
        place: &Located<()>,
        intake: &mut Intake,
        group: impl Fn(R) -> Group,
    ) -> Result<Entry> {
        let record = R::from_fields(fields).map_err(|problem| place.error(problem))?;
        let located = Located { file: place.file.clone(), line: place.line, record };
        let tokenization = Tokenization {
            tokenizer: self.tokenizer,
            limits: Limits::default(),
            vocab_size: self.vocab_size,
        };
        let tokens = R::tokenize(&located, &tokenization, intake)?;
        count_unread::<R>(fields, &R::reads(), &mut intake.unread);
        Ok(Entry { group: group(located.record), tokens })
    }
}

/// A record as a group, whatever its kind, and its tokens.
struct Entry {
    group: Group,
    tokens: TokenGroup,
}

impl Entry {
    fn checked(self, place: &Located<()>) -> Result<Self> {
        self.group.check_for_alignment().map_err(|problem| place.error(problem))?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
