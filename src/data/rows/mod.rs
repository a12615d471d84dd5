//! A file of any format → its rows.
//!
//! ```text
//! path ─ Content: gzip, zstd, UTF-16 undone ─ first bytes ─▶ JSON Lines │ JSON │ CSV, TSV │ Parquet │ Arrow ─▶ Row
//! ```
//!
//! The first bytes of a file tell its format; CSV and TSV are recognised by the file's name or by a first
//! line of column names. The error for any other format names the format. All formats are streamed, except
//! one JSON object that holds a list.
//!
//! Invariants: nulls inside a field that records read are removed (as `remove_none_values` of TRL removes what
//! Arrow filled in); other fields stay as they are; a list that was written as text becomes a list again; a file that is damaged or cut short ends in an
//! error, never in fewer rows. A row has a largest size ([`set_max_row_bytes`]), so a file of any size takes
//! no more memory than some of its rows.

mod cells;
mod classes;
mod columns;
mod content;
mod frames;
mod json;
mod kind;
mod limit;
mod lines;
mod literal;
mod separated;
mod table;
mod utf16;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::{Fields, Problem};
use crate::{Error, Result};
use cells::Cells;
use content::Content;
use kind::Kind;

pub use limit::{max_row_bytes, set_max_row_bytes};

/// A row: where it stands (its line; of Parquet and Arrow its number, from 1), and its fields or what
/// is wrong with them.
pub type Row = (usize, Result<Fields, Problem>);

/// Rows as a form of file gives them, before their cells are looked at.
type RawRows = Box<dyn Iterator<Item = Result<Row>>>;

/// What standard input is called in messages.
const STANDARD_INPUT: &str = "standard input";

/// The rows of a file; an error ends them.
pub struct Rows {
    file: Arc<Path>,
    raw: RawRows,
    cells: Cells,
    is_done: bool,
}

/// Opens the rows of a file; `-` is standard input.
///
/// # Errors
/// If the file cannot be read, or is of a form that is not read.
pub fn open(path: &Path) -> Result<Rows> {
    let (name, path) = match path == Path::new("-") {
        true => (Path::new(STANDARD_INPUT), standard_input()?),
        false => (path, path),
    };
    if path.is_dir() {
        let message = "expected a file, found a folder; give one of its files, or write records of all \
                       of them with `exalign data`";
        return Err(Error::file(path, message));
    }
    let file = File::open(path).map_err(Error::io(name, "read"))?;
    match columns::is_parquet_file(&file).map_err(Error::io(name, "read"))? {
        true => Ok(Rows::new(name, columns::parquet(name, file)?)),
        false => of(name, file),
    }
}

/// The rows of `source`, which messages call `name`.
///
/// # Errors
/// As [`open`].
pub fn of(name: &Path, source: impl Read + 'static) -> Result<Rows> {
    let mut content = Content::new(name, Box::new(source))?;
    let raw = match Kind::of(name, content.start()?)? {
        Kind::Parquet => columns::parquet(name, content.into_file()?)?,
        Kind::ArrowStream => columns::arrow(content, false)?,
        Kind::ArrowFile => columns::arrow(content, true)?,
        Kind::Separated(delimiter) => separated::rows(content, delimiter)?,
        Kind::JsonArray => json::array(content),
        Kind::JsonObjects => json::objects(content)?,
        Kind::Lines => json::lines(lines::Lines::new(content)),
    };
    Ok(Rows::new(name, raw))
}

/// Standard input as a file, so that it can be read as often as a command has to.
///
/// # Errors
/// If it cannot be read or kept.
pub fn standard_input() -> Result<&'static Path> {
    static KEPT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let keep = || -> std::io::Result<PathBuf> {
        let mut file = tempfile::NamedTempFile::new()?;
        std::io::copy(&mut std::io::stdin().lock(), &mut file)?;
        file.into_temp_path().keep().map_err(|error| error.error)
    };
    let kept = KEPT.get_or_init(|| keep().map_err(|error| error.to_string()));
    kept.as_deref().map_err(|error| Error::file(STANDARD_INPUT, format!("cannot read: {error}")))
}

impl Rows {
    fn new(name: &Path, raw: RawRows) -> Self {
        Self { file: name.into(), raw, cells: Cells::default(), is_done: false }
    }

    /// Rows that were read otherwise.
    pub(super) fn given(name: &Path, rows: impl Iterator<Item = Result<Row>> + 'static) -> Self {
        Self::new(name, Box::new(rows))
    }

    /// What messages call the file.
    pub fn file(&self) -> &Arc<Path> {
        &self.file
    }

    /// How many lists were written as text so far, by column.
    pub fn lists_as_text(&self) -> &BTreeMap<String, usize> {
        &self.cells.lists_as_text
    }

    fn report(&self) {
        for (column, count) in self.lists_as_text() {
            tracing::info!(
                "{}: {count} lists in `{column}` were written as text and are read as lists",
                self.file.display()
            );
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let next = self.raw.next();
        self.is_done = !matches!(next, Some(Ok(_)));
        if next.is_none() {
            self.report();
        }
        let cells = &mut self.cells;
        next.map(|row| row.map(|(line, fields)| (line, fields.and_then(|it| cells.finish(it)))))
    }
}
