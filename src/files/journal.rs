//! Files that grow line by line. Each line is checked on its own.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::write_atomic;
use crate::{Error, Result};

/// A file of lines, each after the hash of itself and of all lines before it. A line that was cut,
/// changed, lost or moved ends what is believed of the file.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// The hash of the last line.
    last: String,
}

impl Journal {
    /// Opens the journal at `path` that belongs to `key`: anything that says what its lines were made
    /// from. Returns the lines that can be believed; what comes after them is dropped.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn open(path: &Path, key: &str) -> Result<(Self, Vec<String>)> {
        let mut last = chained("", key);
        let mut kept = Vec::new();
        // Bytes that are no text end what is believed, too.
        let bytes = std::fs::read(path).unwrap_or_default();
        let mut lines = String::from_utf8_lossy(&bytes).into_owned();
        lines.truncate(lines.rfind('\n').map_or(0, |end| end + 1));
        let mut lines = lines.lines();
        if lines.next() == Some(last.as_str()) {
            for line in lines {
                let Some((hash, text)) = line.split_once(' ') else { break };
                if hash != chained(&last, text) {
                    break;
                }
                last = hash.to_owned();
                kept.push(text.to_owned());
            }
        }
        write_atomic(path, |writer| {
            let mut before = chained("", key);
            writeln!(writer, "{before}")?;
            kept.iter().try_for_each(|text| {
                before = chained(&before, text);
                writeln!(writer, "{before} {text}")
            })
        })?;
        let file = OpenOptions::new().append(true).open(path).map_err(Error::io(path, "write"))?;
        Ok((Self { path: path.to_owned(), file, last }, kept))
    }

    /// Whether there is a line in the journal at `path`, whatever it was made from.
    pub fn has_lines(path: &Path) -> bool {
        let bytes = std::fs::read(path).unwrap_or_default();
        // The first line is the key.
        bytes.iter().filter(|byte| **byte == b'\n').count() > 1
    }

    /// Adds lines, which have reached the disk when this returns.
    ///
    /// # Errors
    /// If the file cannot be written; the lines may be there in part, and are not believed then.
    pub fn append(&mut self, lines: &[String]) -> Result<()> {
        let mut text = String::new();
        let mut last = self.last.clone();
        for line in lines {
            last = chained(&last, line);
            text += &format!("{last} {line}\n");
        }
        let write = || Error::io(&self.path, "write");
        self.file.write_all(text.as_bytes()).map_err(write())?;
        self.file.sync_data().map_err(write())?;
        self.last = last;
        Ok(())
    }
}

/// The hash of a line that follows a line with the hash `before`.
fn chained(before: &str, line: &str) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before.as_bytes());
    hasher.update(b" ");
    hasher.update(line.as_bytes());
    hasher.finalize().to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(path: &Path, key: &str) -> Vec<String> {
        Journal::open(path, key).unwrap().1
    }

    #[test]
    fn lines_are_there_until_the_first_that_was_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let lines = ["1", "[2, 3]", "ü"].map(str::to_owned);
        let (mut journal, found) = Journal::open(&path, "key").unwrap();
        assert!(found.is_empty());
        journal.append(&lines[..1]).unwrap();
        journal.append(&lines[1..]).unwrap();
        assert_eq!(opened(&path, "key"), lines);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            for damaged in [&bytes[..], &whole[..at]] {
                std::fs::write(&path, damaged).unwrap();
                let found = opened(&path, "key");
                assert!(found.len() < lines.len() && found == lines[..found.len()], "byte {at}");
            }
        }
        let holed = [&whole[..33], whole.splitn(3, |it| *it == b'\n').last().unwrap()].concat();
        std::fs::write(&path, holed).unwrap();
        assert!(opened(&path, "key").is_empty());
    }

    #[test]
    fn lines_go_on_after_what_was_kept_and_belong_to_their_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        assert!(!Journal::has_lines(&path));
        let (mut journal, _) = Journal::open(&path, "key").unwrap();
        assert!(!Journal::has_lines(&path));
        journal.append(&["one".to_owned()]).unwrap();
        assert!(Journal::has_lines(&path));
        Journal::open(&path, "key").unwrap().0.append(&["two".to_owned()]).unwrap();
        assert_eq!(opened(&path, "key"), ["one", "two"]);
        assert!(opened(&path, "other").is_empty());
        assert!(opened(&path, "key").is_empty());
    }
}
