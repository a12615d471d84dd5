//! A source → its content: gzip and zstd unpacked, UTF-16 as UTF-8.

use std::io::{self, BufRead, BufReader, Cursor, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;

use super::utf16::{ByteOrder, Utf16};
use crate::{Error, Result};

/// How far the first bytes of a content are looked at.
pub(super) const START: usize = 64 * 1024;
/// How often a content may be packed in a packing.
const MAX_PACKINGS: usize = 4;

/// The content of a file.
pub(super) struct Content {
    /// What messages call the file.
    pub file: Arc<Path>,
    pub source: Box<dyn BufRead>,
    packing: Option<&'static str>,
}

impl Content {
    /// Reads from `source`, which messages call `name`.
    pub fn new(name: &Path, source: Box<dyn Read>) -> Result<Self> {
        let source: Box<dyn BufRead> = Box::new(BufReader::new(source));
        let mut content = Self { file: name.into(), source, packing: None };
        for _ in 0..MAX_PACKINGS {
            let magic = content.start()?;
            if magic.starts_with(&[0x1f, 0x8b]) {
                content = content.unpacked("gzip", |it| Ok(Box::new(MultiGzDecoder::new(it))))?;
            } else if is_zstd(magic) {
                content = content.unpacked("zstd", zstd_decoder)?;
            } else {
                break;
            }
        }
        if let Some(order) = ByteOrder::of(content.start()?) {
            let source = Utf16::new(content.source, order);
            content.source = Box::new(BufReader::new(source));
        }
        content.skip_byte_order_mark()?;
        Ok(content)
    }

    fn unpacked(
        mut self,
        packing: &'static str,
        decoder: impl FnOnce(Box<dyn BufRead>) -> io::Result<Box<dyn Read>>,
    ) -> Result<Self> {
        let inner = std::mem::replace(&mut self.source, Box::new(io::empty()));
        self.packing = Some(packing);
        let decoder = decoder(inner).map_err(|error| self.unreadable(1, error))?;
        self.source = Box::new(BufReader::new(decoder));
        Ok(self)
    }

    /// The first bytes, which stay to be read.
    pub fn start(&mut self) -> Result<&[u8]> {
        let mut start = Vec::new();
        let read = self.source.by_ref().take(START as u64).read_to_end(&mut start);
        if let Err(error) = read {
            return Err(self.unreadable(1, error));
        }
        let rest = std::mem::replace(&mut self.source, Box::new(io::empty()));
        self.source = Box::new(BufReader::with_capacity(START, Cursor::new(start).chain(rest)));
        self.source.fill_buf().map_err(Error::io(&self.file, "read"))
    }

    /// What `source` gives after `before`, which was read ahead.
    pub fn put_back(&mut self, before: Vec<u8>) {
        let rest = std::mem::replace(&mut self.source, Box::new(io::empty()));
        self.source = Box::new(BufReader::new(Cursor::new(before).chain(rest)));
    }

    fn skip_byte_order_mark(&mut self) -> Result<()> {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        if self.start()?.starts_with(MARK) {
            self.source.consume(MARK.len());
        }
        Ok(())
    }

    /// A file on the disk with what is left of the content.
    pub fn into_file(mut self) -> Result<std::fs::File> {
        let mut file = tempfile::tempfile().map_err(Error::io(std::env::temp_dir(), "write"))?;
        io::copy(&mut self.source, &mut file).map_err(|error| self.unreadable(1, error))?;
        file.rewind().map_err(Error::io(&self.file, "read"))?;
        Ok(file)
    }

    /// The error of a content that ends or goes wrong in `line`.
    pub fn unreadable(&self, line: usize, error: io::Error) -> Error {
        use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
        match (self.packing, error.kind()) {
            (Some(packing), UnexpectedEof) => Error::file(
                &self.file,
                format!(
                    "the {packing} data is cut short in line {line}; copy or download it again"
                ),
            ),
            (Some(packing), InvalidData | InvalidInput | Other) => Error::file(
                &self.file,
                format!(
                    "the {packing} data is damaged in line {line} ({error}); copy or download it again"
                ),
            ),
            (None, UnexpectedEof) => Error::file(
                &self.file,
                format!("the file is cut short in line {line}; copy or download it again"),
            ),
            _ => Error::io(&self.file, "read")(error),
        }
    }
}

/// A frame of zstd, or one that it passes over (as pzstd writes them).
fn is_zstd(magic: &[u8]) -> bool {
    matches!(magic, [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

fn zstd_decoder(source: Box<dyn BufRead>) -> io::Result<Box<dyn Read>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
    // As large as `zstd --long=31` writes them.
    decoder.window_log_max(31)?;
    Ok(Box::new(decoder))
}
