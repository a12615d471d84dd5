//! Counts of a file's rows: used, passed over, bad and cut; and warnings about what stands out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::unwritten::{Search, Unwritten};
use super::{Limits, SetBy, Tokenization, Tokenize};
use crate::data::audit::count as counted;
use crate::data::{Group, Located, Record, TokenGroup, Tokenizer, Unpaired, read};
use crate::files::{DiskList, DiskListWriter};
use crate::progress::stages;
use crate::{Error, Result};

/// How many examples of a finding are kept.
const SHOWN: usize = 20;

/// Whether a text is said for the first time.
fn is_news(text: &str) -> bool {
    static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned())
}

/// What became of the rows of a file: `rows = records + passed over + skipped`.
#[derive(Debug, Default)]
pub struct Intake {
    /// Rows that were read.
    pub rows: usize,
    /// Records that became token ids.
    pub records: usize,
    /// Of those, records whose prompt lost tokens from its left.
    pub prompts: usize,
    /// Of those, texts that keep their first tokens only.
    pub texts: usize,
    /// Good rows that are no records of the kind, by reason.
    pub passed_over: BTreeMap<String, usize>,
    /// Bad records that were set aside.
    pub skipped: Vec<Error>,
    /// Columns that nobody asked for, and how many rows have them.
    pub unread: BTreeMap<String, usize>,
    /// Records that begin with two begin-of-text tokens.
    pub begun_twice: usize,
    /// The text of that token.
    pub begin: String,
    /// Completions whose first token would reach over the end of the prompt.
    pub seams: usize,
    /// The first of them: line, end of the prompt, beginning of the completion, token.
    pub seam_examples: Vec<String>,
    /// The longest sequence that the model reads, and why, where records were cut to it.
    pub cut_by_model: Option<(usize, SetBy)>,
    /// What the chat template leaves out.
    pub(super) search: Search,
}

impl Intake {
    /// What the chat template leaves out of the records.
    pub fn unwritten(&self) -> Unwritten {
        self.search.unwritten()
    }

    /// Notes that a record was cut to the longest sequence of `limits`.
    pub(super) fn beyond(&mut self, limits: Limits) {
        let Limits { max_length, set_by, .. } = limits;
        self.cut_by_model = (set_by != SetBy::Setting).then_some((max_length, set_by));
    }

    /// Counts a record that begins with the same special token twice.
    pub(super) fn look_at_beginning(&mut self, ids: &[u32], tokenizer: Option<&Tokenizer>) {
        let Some(tokenizer) = tokenizer else { return };
        let begin = tokenizer.special("bos_token").map(|(_, id)| id);
        let is_begin = |id: u32| tokenizer.front().first() == Some(&id) || begin == Some(id);
        if let [one, two, ..] = ids
            && one == two
            && is_begin(*one)
        {
            self.begun_twice += 1;
            if self.begin.is_empty() {
                self.begin = tokenizer.token(*one).unwrap_or_default();
            }
        }
    }

    /// Counts a seam that falls inside a token.
    pub(super) fn note_seam(
        &mut self,
        line: usize,
        prompt: &str,
        completion: &str,
        across: Option<u32>,
        tokenizer: &Tokenizer,
    ) {
        self.seams += 1;
        if self.seam_examples.len() < SHOWN {
            let before: Vec<char> = prompt.chars().rev().take(12).collect();
            let before: String = before.into_iter().rev().collect();
            let after: String = completion.chars().take(12).collect();
            let across = across.map(|it| tokenizer.decode_all(&[it]).unwrap_or_default());
            let across = across.unwrap_or_default();
            self.seam_examples
                .push(format!("line {line}: {before:?} and {after:?} meet in {across:?}"));
        }
    }

    /// Says what became of the rows of `path`, and warns of what is probably not meant.
    ///
    /// Nothing is said twice of a file: an experiment reads some files again and again. It made them
    /// itself, so that their mere number of records is no news.
    pub fn tell(&self, path: &Path) {
        let summary = format!("{}: {self}", path.display());
        if !is_news(&summary) {
            return;
        }
        let is_plain = self.rows == self.records && self.prompts + self.texts == 0;
        match is_plain && stages::is_run() {
            true => tracing::debug!("{summary}"),
            false => tracing::info!("{summary}"),
        }
        let unwritten = self.unwritten();
        let unread = self.unread.iter().map(|(name, count)| (name.clone(), *count));
        let columns: Vec<String> = unread
            .chain(unwritten.notes())
            .map(|(name, count)| format!("`{name}` ({count})"))
            .collect();
        if !columns.is_empty() {
            tracing::info!("{}: columns that are not used: {}", path.display(), columns.join(", "));
        }
        if let Some(words) = unwritten.words() {
            tracing::warn!("{}: {words}", path.display());
        }
        if let Some((limit, set_by)) = self.cut_by_model {
            tracing::warn!(
                "{}: records are cut to the {limit} tokens that the model reads ({})",
                path.display(),
                set_by.source()
            );
        }
        if self.begun_twice > 0 {
            tracing::warn!(
                "{}: {} with the begin token {} twice, once from the text and once from the tokenizer; \
                 take it out of the text",
                path.display(),
                counted(self.begun_twice, "record begins", "records begin"),
                self.begin
            );
        }
        if self.seams > 0 {
            tracing::info!(
                "{}: {} inside a token ({}); the completion is encoded on its own there, see `exalign check`",
                path.display(),
                counted(self.seams, "completion begins", "completions begin"),
                self.seam_examples.first().map_or("", String::as_str)
            );
        }
    }
}

impl fmt::Display for Intake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", count(self.records, "record"))?;
        if self.prompts > 0 {
            write!(out, ", {} cut from the left", count(self.prompts, "prompt"))?;
        }
        if self.texts > 0 {
            write!(out, ", {} cut to the first tokens", count(self.texts, "text"))?;
        }
        for (reason, number) in &self.passed_over {
            write!(out, ", {} passed over ({reason})", count(*number, "row"))?;
        }
        if !self.skipped.is_empty() {
            write!(out, ", {} skipped", count(self.skipped.len(), "bad record"))?;
        }
        Ok(())
    }
}

pub(super) fn count(number: usize, name: &str) -> String {
    counted(number, name, &format!("{name}s"))
}

/// What `take` makes of the records of a file, of which up to `skip_bad` may be bad for any reason:
/// those that cannot be read, and those that `take` refuses.
///
/// # Errors
/// If the file cannot be read, has one bad record too many, or no good one.
pub fn read_records<R: Record, T>(
    path: &Path,
    skip_bad: usize,
    mut take: impl FnMut(Located<R>, &mut Intake) -> Result<T>,
) -> Result<(Vec<T>, Intake)> {
    let mut taken = Vec::new();
    let intake = take_records(path, skip_bad, |located, intake| {
        taken.push(take(located, intake)?);
        Ok(())
    })?;
    Ok((taken, intake))
}

/// As [`read_records`], in a list on disk: what is in memory does not grow with the records' lengths.
///
/// # Errors
/// The same; if the list cannot be written.
pub fn list_records<R: Record, T: Serialize>(
    path: &Path,
    skip_bad: usize,
    mut take: impl FnMut(Located<R>, &mut Intake) -> Result<T>,
) -> Result<(DiskList<T>, Intake)> {
    let mut taken = DiskListWriter::default();
    let intake = take_records(path, skip_bad, |located, intake| {
        let value = take(located, intake)?;
        taken.push(&value)
    })?;
    Ok((taken.finish()?, intake))
}

/// Hands `take` the records of a file, one after the other.
fn take_records<R: Record>(
    path: &Path,
    skip_bad: usize,
    mut take: impl FnMut(Located<R>, &mut Intake) -> Result<()>,
) -> Result<Intake> {
    let mut reader = read::<R>(path, skip_bad)?;
    let mut intake = Intake::default();
    while let Some(located) = reader.next().transpose()? {
        match take(located, &mut intake) {
            Ok(()) => intake.records += 1,
            Err(error) => reader.refuse(error)?,
        }
    }
    let census = reader.into_census();
    if intake.records == 0 {
        return Err(Error::file(path, format!("expected records, but {}", census.none_good())));
    }
    intake.rows = census.rows;
    intake.skipped = census.skipped;
    intake.passed_over = census.passed_over;
    intake.unread = census.unread;
    Ok(intake)
}

/// The records of a file as token ids, of which up to `skip_bad` may be bad, and what became of them.
pub fn read_tokens<R: Tokenize>(
    path: &Path,
    skip_bad: usize,
    tokenizer: Option<&Tokenizer>,
    limits: &Limits,
    vocab_size: usize,
) -> Result<(DiskList<TokenGroup>, Intake)> {
    let tokenization = Tokenization { tokenizer, limits: *limits, vocab_size };
    list_records(path, skip_bad, |located, intake| R::tokenize(&located, &tokenization, intake))
}

/// As [`read_tokens`], of groups that [an alignment can learn from](Group::check_for_alignment), and of a
/// number of completions that `takes` has nothing against. A pair's better completion comes first.
pub fn read_alignment_tokens(
    path: &Path,
    skip_bad: usize,
    tokenizer: Option<&Tokenizer>,
    limits: &Limits,
    vocab_size: usize,
    takes: &dyn Fn(usize) -> Result<()>,
) -> Result<(DiskList<TokenGroup>, Intake)> {
    let tokenization = Tokenization { tokenizer, limits: *limits, vocab_size };
    list_records(path, skip_bad, |located: Located<Group>, intake| {
        located.check_for_alignment()?;
        takes(located.record.completions.len())
            .map_err(|error| located.error(error.to_string()))?;
        let tokens = predicted(&located, &tokenization, intake)?;
        match tokens.completions.as_slice() {
            [one, two] if one == two => {
                let [one, two] = [0, 1].map(|i| located.record.completion_field(i));
                Err(located.error(format!(
                    "`{one}` and `{two}` are the same tokens: the chat template leaves out what they differ in; \
                     write them so that it does not, or drop the pair"
                )))
            }
            _ => Ok(tokens),
        }
    })
}

/// As [`read_tokens`], of completions with [labels of their own](Unpaired), and of groups of a number of
/// completions that `takes` has nothing against. A pair's better completion comes first.
pub fn read_unpaired_tokens(
    path: &Path,
    skip_bad: usize,
    tokenizer: Option<&Tokenizer>,
    limits: &Limits,
    vocab_size: usize,
    takes: &dyn Fn(usize) -> Result<()>,
) -> Result<(DiskList<TokenGroup>, Intake)> {
    let tokenization = Tokenization { tokenizer, limits: *limits, vocab_size };
    list_records(path, skip_bad, |located: Located<Unpaired>, intake| {
        located.record.check().map_err(|problem| located.error(problem))?;
        let Located { file, line, record: Unpaired(record) } = located;
        let located = Located { file, line, record };
        takes(located.record.completions.len())
            .map_err(|error| located.error(error.to_string()))?;
        predicted(&located, &tokenization, intake)
    })
}

/// The tokens of a group of which a model says something, a pair's better completion first.
fn predicted(
    located: &Located<Group>,
    tokenization: &Tokenization<'_>,
    intake: &mut Intake,
) -> Result<TokenGroup> {
    let mut tokens = Group::tokenize(located, tokenization, intake)?;
    tokens
        .check_predicted(|i| located.record.completion_field(i))
        .map_err(|problem| located.error(problem))?;
    tokens.chosen_first();
    Ok(tokens)
}
