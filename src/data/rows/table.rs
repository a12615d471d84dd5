//! The records of a table of text, by the rules of RFC 4180, with any delimiter.

use std::io::{self, BufRead};

use super::limit::max_row_bytes;
use crate::data::Problem;

/// One record: the line it begins in, and its fields or what is wrong with it.
pub(super) struct Record {
    pub line: usize,
    pub fields: Result<Vec<String>, Problem>,
}

/// Why there are no more records.
pub(super) enum Failure {
    /// The source failed in this line.
    Io(usize, io::Error),
    /// The field that begins in this line has no closing quote.
    OpenQuote(usize),
    /// The record that begins in this line is larger than a row may be.
    TooLarge(usize),
}

/// Where in a field the reading stands.
#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Before its first byte.
    Start,
    /// In one without quotes.
    Plain,
    /// Between quotes.
    Quoted,
    /// After a quote inside quotes: the closing one, or the first of two.
    AfterQuote,
}

/// A source of records.
pub(super) struct Table<R> {
    source: R,
    delimiter: u8,
    /// The line that the next byte is in, counted from 1.
    pub line: usize,
    /// Whether the last byte was a carriage return, of which a line feed may be the rest.
    after_return: bool,
}

/// A record that is being read.
struct Unfinished {
    state: State,
    fields: Vec<Vec<u8>>,
    /// The line that its first byte is in, and that of its last field.
    line: usize,
    field_line: usize,
    stray_quote: bool,
    /// Bytes that it takes, about.
    size: usize,
}

impl<R: BufRead> Table<R> {
    pub fn new(source: R, delimiter: u8) -> Self {
        Self { source, delimiter, line: 1, after_return: false }
    }

    /// The next record that is no blank line; none at the end.
    pub fn record(&mut self) -> Result<Option<Record>, Failure> {
        let max = max_row_bytes();
        let mut record = Unfinished::new(self.line);
        loop {
            let bytes = match self.source.fill_buf() {
                Ok(bytes) => bytes,
                Err(error) => return Err(Failure::Io(self.line, error)),
            };
            if bytes.is_empty() {
                return match record.state {
                    State::Quoted => Err(Failure::OpenQuote(record.field_line)),
                    _ => Ok((!record.is_blank()).then(|| record.finish())),
                };
            }
            let mut used = bytes.len();
            let mut is_whole = false;
            for (at, &byte) in bytes.iter().enumerate() {
                let is_rest = std::mem::take(&mut self.after_return) && byte == b'\n';
                if !is_rest {
                    self.line += usize::from(matches!(byte, b'\n' | b'\r'));
                    self.after_return = byte == b'\r';
                }
                if is_rest && record.state != State::Quoted {
                    continue;
                }
                if record.pass(byte, self.delimiter, self.line) {
                    if record.is_blank() {
                        record = Unfinished::new(self.line);
                        continue;
                    }
                    (used, is_whole) = (at + 1, true);
                    break;
                }
            }
            self.source.consume(used);
            if record.size > max {
                return Err(Failure::TooLarge(record.line));
            }
            if is_whole {
                return Ok(Some(record.finish()));
            }
        }
    }
}

impl Unfinished {
    fn new(line: usize) -> Self {
        let fields = vec![Vec::new()];
        Self { state: State::Start, fields, line, field_line: line, stray_quote: false, size: 0 }
    }

    fn is_blank(&self) -> bool {
        self.state == State::Start && self.fields.len() == 1
    }

    fn push(&mut self, byte: u8) {
        self.size += 1;
        if let Some(field) = self.fields.last_mut() {
            field.push(byte);
        }
    }

    /// Takes one byte; whether it ends the record. `line` is the line after it.
    fn pass(&mut self, byte: u8, delimiter: u8, line: usize) -> bool {
        match (self.state, byte) {
            (State::Quoted, b'"') => self.state = State::AfterQuote,
            (State::Quoted, _) => self.push(byte),
            (State::AfterQuote, b'"') => {
                self.push(byte);
                self.state = State::Quoted;
            }
            (State::Start, b'"') => self.state = State::Quoted,
            (_, b'\n' | b'\r') => return true,
            (_, byte) if byte == delimiter => {
                self.fields.push(Vec::new());
                self.size += size_of::<Vec<u8>>();
                self.state = State::Start;
                self.field_line = line;
            }
            (State::AfterQuote, _) => {
                self.stray_quote = true;
                self.state = State::Plain;
                self.push(byte);
            }
            (State::Start | State::Plain, _) => {
                self.state = State::Plain;
                self.push(byte);
            }
        }
        false
    }

    fn finish(self) -> Record {
        let texts = || {
            if self.stray_quote {
                return Err(
                    "expected a comma or the end of the line after a closing quote, found \
                            more text; double the quotes inside of a quoted field"
                        .to_owned(),
                );
            }
            let text = |(number, field): (usize, Vec<u8>)| {
                String::from_utf8(field).map_err(|_| {
                    format!(
                        "expected UTF-8, found something else in column {}; convert the file to UTF-8",
                        number + 1
                    )
                })
            };
            self.fields.into_iter().enumerate().map(text).collect()
        };
        Record { line: self.line, fields: texts() }
    }
}
