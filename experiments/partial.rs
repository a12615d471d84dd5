//! What a stage has made so far, a line a record, beside its output: a stopped stage goes on from there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use exalign::files::{self, Journal, Output};
use exalign::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// What was made of records so far, under the key of what it was made with.
pub struct Partial<T> {
    /// None where the output is a device or a pipe, which nothing is kept beside.
    journal: Option<Journal>,
    /// What was made, by the number of its record.
    pub made: BTreeMap<usize, T>,
}

impl<T: Serialize + DeserializeOwned> Partial<T> {
    /// What an earlier start left beside `out`, where `key` is that of this one.
    pub fn open(out: &Path, key: &str) -> Result<Self> {
        let Some(path) = path(out)? else {
            return Ok(Self { journal: None, made: BTreeMap::new() });
        };
        files::sweep(&path);
        let (journal, lines) = Journal::open(&path, key)?;
        let read = |line: &String| {
            serde_json::from_str::<(usize, T)>(line).map_err(|error| {
                Error::file(&path, format!("cannot be read: {error}; remove it to start over"))
            })
        };
        let made = lines.iter().map(read).collect::<Result<_>>()?;
        Ok(Self { journal: Some(journal), made })
    }

    /// Keeps what was made of the records `numbers`.
    pub fn append(&mut self, numbers: &[usize], made: Vec<T>) -> Result<()> {
        if let Some(journal) = &mut self.journal {
            let lines = numbers.iter().zip(&made).map(|it| json!(it).to_string());
            journal.append(&lines.collect::<Vec<_>>())?;
        }
        self.made.extend(numbers.iter().copied().zip(made));
        Ok(())
    }
}

fn path(out: &Path) -> Result<Option<PathBuf>> {
    Output::beside(out, ".partial")
}

/// Whether an earlier start left the result of any record beside `out`.
pub fn is_begun(out: &Path) -> Result<bool> {
    Ok(path(out)?.is_some_and(|path| Journal::has_lines(&path)))
}

/// Removes what a finished stage needs no more, also what one left that was killed at its end.
pub fn remove(out: &Path) {
    if let Ok(Some(path)) = path(out) {
        let _ = std::fs::remove_file(path);
    }
}
