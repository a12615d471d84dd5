//! A file → its lines, plain or gzip, told apart by their first bytes.

use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use crate::{Error, Result};

/// The lines of a file that are not blank.
pub(super) struct Lines {
    file: Arc<Path>,
    source: Unpacked,
    number: usize,
}

/// The content of a file, unpacked where it is gzip.
pub(super) struct Unpacked {
    pub source: Box<dyn BufRead>,
    pub is_gzip: bool,
}

impl Unpacked {
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path, "read"))?;
        Self::new(path, file)
    }

    /// Reads from `source`, which messages call `name`.
    pub fn new(name: &Path, mut source: impl Read + 'static) -> Result<Self> {
        let mut magic = Vec::with_capacity(2);
        source.by_ref().take(2).read_to_end(&mut magic).map_err(Error::io(name, "read"))?;
        let is_gzip = magic == [0x1f, 0x8b];
        let source = Cursor::new(magic).chain(source);
        let source: Box<dyn BufRead> = if is_gzip {
            Box::new(BufReader::new(MultiGzDecoder::new(BufReader::new(source))))
        } else {
            Box::new(BufReader::new(source))
        };
        Ok(Self { source, is_gzip })
    }
}

impl Lines {
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self::of(path, Unpacked::open(path)?))
    }

    /// The lines of `source`, which messages call `name`.
    pub fn of(name: &Path, source: Unpacked) -> Self {
        Self { file: name.into(), source, number: 0 }
    }

    pub fn file(&self) -> &Arc<Path> {
        &self.file
    }

    /// The number of the line that came last, counted from 1.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The next line that is not blank, without what ends it; none at the end.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let mut line = Vec::new();
            let read = self.source.source.read_until(b'\n', &mut line);
            if read.map_err(|error| self.unreadable(error))? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if self.number == 1 && line.starts_with(b"\xef\xbb\xbf") {
                line.drain(..3); // the byte order mark that some editors write
            }
            let text = line.trim_ascii_end();
            if !text.is_empty() {
                line.truncate(text.len());
                return Ok(Some(line));
            }
        }
    }

    fn unreadable(&self, error: std::io::Error) -> Error {
        unreadable(&self.file, self.source.is_gzip, self.number + 1, error)
    }
}

/// The error of a file whose content ends or goes wrong in `line`.
pub(super) fn unreadable(file: &Path, is_gzip: bool, line: usize, error: std::io::Error) -> Error {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    match error.kind() {
        UnexpectedEof if is_gzip => Error::file(
            file,
            format!("the gzip data is cut short in line {line}; copy or download it again"),
        ),
        InvalidData | InvalidInput if is_gzip => Error::file(
            file,
            format!("the gzip data is damaged in line {line} ({error}); copy or download it again"),
        ),
        _ => Error::io(file, "read")(error),
    }
}
