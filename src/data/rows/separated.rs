//! Tables of text (CSV, TSV) → rows, with the column names of their first line.
//!
//! Fields are quoted as RFC 4180 says: by `"`, doubled inside; a quoted field may hold separators and line
//! ends. An empty field is absent. A misplaced quote makes its row bad. A quote that is never closed is an
//! error of the file, since it would swallow all later rows.

use std::io::{BufRead, Read};
use std::path::Path;

use serde_json::{Map, Value};

use super::content::{Content, START};
use super::limit::too_large;
use super::table::{Failure, Record, Table};
use super::{RawRows, Row};
use crate::data::Problem;
use crate::{Error, Result};

const DELIMITERS: [u8; 4] = [b',', b'\t', b';', b'|'];

/// Columns that make a first line of names out of a line that is no JSON.
const KNOWN: [&str; 24] = [
    "prompt",
    "chosen",
    "rejected",
    "completion",
    "completions",
    "text",
    "label",
    "labels",
    "messages",
    "conversations",
    "instruction",
    "input",
    "output",
    "question",
    "answer",
    "response",
    "system",
    "history",
    "summary",
    "post",
    "review",
    "sentiment",
    "rewards",
    "content",
];

/// What separates the columns of a content, where its name or its first line says that it is a table.
pub(super) fn delimiter(name: &Path, start: &[u8]) -> Option<u8> {
    let name = name.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let packed = [".gz", ".gzip", ".zst", ".zstd"].iter().find_map(|it| name.strip_suffix(it));
    let name = packed.unwrap_or(&name);
    let own = match name.rsplit('.').next() {
        Some("csv") => Some(b','),
        Some("tsv" | "tab") => Some(b'\t'),
        _ => None,
    };
    if let [b's', b'e', b'p', b'=', delimiter, b'\r' | b'\n', ..] = start {
        return Some(*delimiter); // as spreadsheets write it
    }
    let count = |delimiter: u8| -> usize {
        let names = header(start, delimiter);
        let is_name = |it: &String| KNOWN.contains(&it.trim().to_lowercase().as_str());
        match names.len() {
            0 | 1 => 0,
            len => names.iter().filter(|it| is_name(it)).count() * 1000 + len,
        }
    };
    let (most, best) =
        DELIMITERS.into_iter().rev().map(|it| (count(it), it)).max_by_key(|it| it.0)?;
    match own {
        // A file by that name may have another delimiter, where a country writes decimal commas.
        Some(own) => Some(if count(own) < most { best } else { own }),
        None => (most > 1000).then_some(best),
    }
}

/// The fields of the first line.
fn header(start: &[u8], delimiter: u8) -> Vec<String> {
    let record = Table::new(start, delimiter).record().ok().flatten();
    record.and_then(|it| it.fields.ok()).unwrap_or_default()
}

/// The rows of a table.
pub(super) fn rows(mut content: Content, delimiter: u8) -> Result<RawRows> {
    let mut line = 1;
    if content.start()?.starts_with(b"sep=") {
        let read = content.source.by_ref().take(START as u64).read_until(b'\n', &mut Vec::new());
        read.map_err(|error| content.unreadable(1, error))?;
        line += 1;
    }
    let source = std::mem::replace(&mut content.source, Box::new(std::io::empty()));
    let mut table = Table::new(source, delimiter);
    table.line = line;
    let first = table.record().map_err(|failure| failed(&content, failure))?;
    let Some(first) = first else { return Ok(Box::new(std::iter::empty())) };
    let names = first.fields.and_then(names).map_err(|problem| {
        Error::file(
            &content.file,
            format!("line {}, the names of the columns: {problem}", first.line),
        )
    })?;
    Ok(Box::new(std::iter::from_fn(move || {
        let record = table.record().map_err(|failure| failed(&content, failure)).transpose()?;
        Some(record.map(|it| row(it, &names)))
    })))
}

fn failed(content: &Content, failure: Failure) -> Error {
    match failure {
        Failure::Io(line, error) => content.unreadable(line, error),
        Failure::TooLarge(line) => too_large(&content.file, line),
        Failure::OpenQuote(line) => Error::file(
            &content.file,
            format!(
                "expected a closing quote for the field that begins in line {line}, found the end of the \
                 file; close the quote, or copy the file again"
            ),
        ),
    }
}

/// The names of the columns, each once. A column of numbers that pandas puts first has none.
fn names(header: Vec<String>) -> Result<Vec<String>, Problem> {
    let mut names: Vec<String> = Vec::with_capacity(header.len());
    for (number, name) in header.into_iter().enumerate() {
        let name = match name.trim() {
            "" => format!("Unnamed: {number}"),
            name => name.to_owned(),
        };
        if names.contains(&name) {
            return Err(format!("expected every name once, found `{name}` twice; rename one"));
        }
        names.push(name);
    }
    Ok(names)
}

fn row(record: Record, names: &[String]) -> Row {
    let fields = record.fields.and_then(|fields| match fields.len() == names.len() {
        true => {
            let cells = names.iter().zip(fields).filter(|(_, text)| !text.is_empty());
            let cells = cells.map(|(name, text)| (name.clone(), cell(name, text)));
            Ok(cells.collect::<Map<String, Value>>().into())
        }
        false => Err(format!(
            "expected {} columns as in the first line, found {}; quote fields that hold commas, quotes \
             or line ends",
            names.len(),
            fields.len()
        )),
    });
    (record.line, fields)
}

/// A cell as a value: a text, and in columns of numbers and truth values what the text says.
fn cell(name: &str, text: String) -> Value {
    const TYPED: [&str; 5] = ["label", "labels", "finished", "margin", "kto_tag"];
    if !TYPED.contains(&name) && !name.contains("score") {
        return Value::from(text);
    }
    match text.trim() {
        "True" | "true" | "TRUE" => Value::from(true),
        "False" | "false" | "FALSE" => Value::from(false),
        number => match serde_json::from_str(number) {
            Ok(Value::Number(number)) => Value::Number(number),
            _ => Value::from(text),
        },
    }
}
