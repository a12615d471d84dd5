//! A content → its lines.

use std::path::Path;
use std::sync::Arc;

use super::content::Content;
use super::limit::{max_row_bytes, too_large};
use crate::Result;

/// The lines of a text that are not blank. A line ends with a line feed, a carriage return or both.
pub(super) struct Lines {
    content: Content,
    number: usize,
    /// Whether the last line ended with a carriage return, of which a line feed may be the rest.
    after_return: bool,
    /// The bytes of the longest line.
    pub max: usize,
}

/// A line and its number, counted from 1.
pub(super) type Line = (usize, Vec<u8>);

impl Lines {
    pub fn new(content: Content) -> Self {
        Self { content, number: 0, after_return: false, max: max_row_bytes() }
    }

    pub fn file(&self) -> &Arc<Path> {
        &self.content.file
    }

    /// What follows the lines that were read.
    pub fn into_content(self) -> Content {
        self.content
    }

    /// The next line that is not blank, without what ends it; none at the end.
    pub fn next_line(&mut self) -> Result<Option<Line>> {
        loop {
            let mut line = Vec::new();
            if !self.read(&mut line)? {
                return Ok(None);
            }
            self.number += 1;
            let text = line.trim_ascii_end();
            if !text.is_empty() {
                line.truncate(text.len());
                return Ok(Some((self.number, line)));
            }
        }
    }

    /// Reads to the end of a line; false where there is none.
    fn read(&mut self, line: &mut Vec<u8>) -> Result<bool> {
        let max = self.max;
        let mut found = false;
        loop {
            if line.len() > max {
                return Err(too_large(self.file(), self.number + 1));
            }
            let bytes = match self.content.source.fill_buf() {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.content.unreadable(self.number + 1, error)),
                Ok(bytes) => bytes,
            };
            if bytes.is_empty() {
                return Ok(found);
            }
            if std::mem::take(&mut self.after_return) && bytes[0] == b'\n' {
                self.content.source.consume(1);
                continue;
            }
            found = true;
            let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            line.extend_from_slice(&bytes[..end.unwrap_or(bytes.len())]);
            self.after_return = end.is_some_and(|at| bytes[at] == b'\r');
            let used = end.map_or(bytes.len(), |at| at + 1);
            self.content.source.consume(used);
            if end.is_some() {
                return match line.len() > max {
                    true => Err(too_large(self.file(), self.number + 1)),
                    false => Ok(true),
                };
            }
        }
    }
}
