//! The format of a file, told from its first bytes.

use std::path::Path;

use super::separated;
use crate::{Error, Result};

/// A form of rows that is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Parquet,
    /// Arrow's stream format, as `save_to_disk` of datasets writes it.
    ArrowStream,
    /// Arrow's file format, Feather 2 among others.
    ArrowFile,
    /// A table of text with this byte between its columns.
    Separated(u8),
    /// One JSON array.
    JsonArray,
    /// JSON objects that may take several lines each.
    JsonObjects,
    /// One JSON object a line, or what is none and is refused line by line.
    Lines,
}

/// What begins so, is this, and is not read; what to do instead.
type Foreign = (&'static [u8], &'static str, &'static str);

const FOREIGN: [Foreign; 26] = [
    (b"\xfd7zXZ\0", "xz data", "unpack it with `xz -d`, or pack it with gzip or zstd"),
    (b"BZh", "bzip2 data", "unpack it with `bunzip2`, or pack it with gzip or zstd"),
    (b"\x04\x22\x4d\x18", "lz4 data", "unpack it with `lz4 -d`, or pack it with gzip or zstd"),
    (b"\xff\x06\0\0sNaPpY", "snappy data", "unpack it, or pack it with gzip or zstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it and give the files inside"),
    (b"Rar!", "a RAR archive", "unpack it and give the files inside"),
    (b"SQLite format 3\0", "an SQLite database", "export the table as CSV or JSON Lines"),
    (b"%PDF", "a PDF document", "give the data itself"),
    (b"\x89HDF\r\n", "an HDF5 file", "write it as Parquet or JSON Lines"),
    (b"\x93NUMPY", "a NumPy array", "write the rows as Parquet or JSON Lines"),
    (b"FEA1", "a Feather file of version 1", "write it as Feather 2, Parquet or JSON Lines"),
    (b"ORC", "an ORC file", "write it as Parquet or JSON Lines"),
    (b"Obj\x01", "an Avro file", "write it as Parquet or JSON Lines"),
    (b"PARE", "an encrypted Parquet file", "decrypt it, or write it as plain Parquet"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word document", "save the sheet as CSV"),
    (b"GGUF", "a GGUF model", "give a file of records; models go to --model"),
    (b"\x89PNG", "a PNG picture", "give a file of records"),
    (b"\xff\xd8\xff", "a JPEG picture", "give a file of records"),
    (b"\x7fELF", "a program", "give a file of records"),
    (b"\xff\xfe\0\0", "text in UTF-32", "convert the file to UTF-8"),
    (b"\0\0\xfe\xff", "text in UTF-32", "convert the file to UTF-8"),
    (b"<!doctype", "an HTML page", "download the file itself, not the page that shows it"),
    (b"<html", "an HTML page", "download the file itself, not the page that shows it"),
    (b"<?xml", "an XML file", "write it as JSON Lines"),
    (
        b"version https://git-lfs",
        "a pointer of Git LFS that stands for the file",
        "fetch the file itself with `git lfs pull`",
    ),
    (b"---\n", "YAML or Markdown", "write it as JSON Lines"),
];

impl Kind {
    /// What a content that begins with `start` is.
    ///
    /// # Errors
    /// If it is of a form that is not read.
    pub fn of(name: &Path, start: &[u8]) -> Result<Self> {
        if let Some((found, remedy)) = foreign(start) {
            return Err(Error::file(
                name,
                format!(
                    "expected rows as JSON Lines, JSON, CSV, TSV, Parquet or Arrow, found {found}; {remedy}"
                ),
            ));
        }
        let text = start.trim_ascii_start();
        Ok(match start {
            [b'P', b'A', b'R', b'1', ..] => Self::Parquet,
            [b'A', b'R', b'R', b'O', b'W', b'1', ..] => Self::ArrowFile,
            [0xff, 0xff, 0xff, 0xff, _, _, _, ..] => Self::ArrowStream,
            _ if text.starts_with(b"{") => Self::JsonObjects,
            _ if text.starts_with(b"[") => Self::JsonArray,
            _ => separated::delimiter(name, start).map_or(Self::Lines, Self::Separated),
        })
    }
}

/// What is not read, and the way out.
fn foreign(start: &[u8]) -> Option<(String, &'static str)> {
    if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
        let (found, remedy) = zip(start);
        return Some((found.to_owned(), remedy));
    }
    if start.get(257..262) == Some(b"ustar") {
        return Some(("a tar archive".to_owned(), "unpack it and give the files inside"));
    }
    // Pickle's mark of protocols 2 to 5; no UTF-8 begins so.
    if let [0x80, 2..=5, ..] = start {
        let remedy = "load it in Python and write it as JSON Lines or Parquet";
        return Some(("a Python pickle".to_owned(), remedy));
    }
    let text = start.trim_ascii_start();
    let begins = |bytes: &[u8], with: &[u8]| {
        bytes.get(..with.len()).is_some_and(|it| it.eq_ignore_ascii_case(with))
    };
    // Four letters may begin a line of a table as well.
    let is_binary = text.iter().take(512).any(|byte| matches!(byte, 0..=8 | 14..=26));
    let known = FOREIGN.iter().find(|(magic, ..)| match magic {
        [b'<', ..] => begins(text, magic),
        magic if magic.len() <= 4 && magic.is_ascii() => is_binary && start.starts_with(magic),
        magic => start.starts_with(magic),
    });
    if let Some((_, found, remedy)) = known {
        return Some(((*found).to_owned(), remedy));
    }
    let is_read = [&b"PAR1"[..], b"ARROW1", &[0xff; 4]].iter().any(|it| start.starts_with(it));
    let is_json = text.starts_with(b"{") || text.starts_with(b"[");
    (!is_read && is_binary && !is_json)
        .then(|| ("binary data of another kind".to_owned(), "write it as JSON Lines or Parquet"))
}

/// What is in a zip archive, by the names of its first files.
fn zip(start: &[u8]) -> (&'static str, &'static str) {
    let holds = |name: &[u8]| start.windows(name.len()).any(|window| window == name);
    if holds(b"[Content_Types].xml") || holds(b"xl/") {
        ("an Excel or Word document", "save the sheet as CSV")
    } else if holds(b"data.pkl") || holds(b".data/serialization_id") {
        ("a PyTorch file", "load it in Python and write it as JSON Lines or Parquet")
    } else if holds(b".npy") {
        ("NumPy arrays", "write the rows as Parquet or JSON Lines")
    } else {
        ("a zip archive", "unpack it and give the files inside")
    }
}
