//! A file of a published set → its rows: JSON Lines, a JSON array, CSV or TSV, any of them gzip, or
//! Parquet. What a file is, its first bytes say; CSV and TSV are known by their names.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use parquet::file::reader::SerializedFileReader;
use parquet::record::{Field, Row as ParquetRow};
use serde_json::{Map, Value};

use crate::data::fields::string_len;
use crate::data::lines::{Lines, Unpacked, unreadable};
use crate::data::{Fields, Problem};
use crate::{Error, Result};

/// A row: its line (of Parquet its number, from 1), and its fields or what is wrong with them.
pub type Row = (usize, Result<Fields, Problem>);

/// The rows of a file; an error ends them.
pub type Rows = Box<dyn Iterator<Item = Result<Row>>>;

/// Opens the rows of a file.
pub fn rows(path: &Path) -> Result<Rows> {
    if is_parquet(path)? {
        return parquet_rows(path);
    }
    let mut content = Unpacked::open(path)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    if name.ends_with(".csv") || name.ends_with(".tsv") {
        return separated_rows(path, content, if name.ends_with(".tsv") { b'\t' } else { b',' });
    }
    let is_gzip = content.is_gzip;
    let start = content.source.fill_buf().map_err(|it| unreadable(path, is_gzip, 1, it))?;
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    if start.trim_ascii_start().starts_with(b"[") {
        return array_rows(path, content);
    }
    let mut lines = Lines::of(path, content);
    Ok(Box::new(std::iter::from_fn(move || {
        let line = lines.next_line().transpose()?;
        Some(line.map(|line| (lines.number(), Fields::parse(&line))))
    })))
}

fn is_parquet(path: &Path) -> Result<bool> {
    let mut magic = Vec::new();
    let file = File::open(path).map_err(Error::io(path, "read"))?;
    file.take(4).read_to_end(&mut magic).map_err(Error::io(path, "read"))?;
    Ok(magic == b"PAR1")
}

fn separated_rows(path: &Path, content: Unpacked, delimiter: u8) -> Result<Rows> {
    let path = path.to_owned();
    let is_gzip = content.is_gzip;
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(content.source);
    let failed = move |error: csv::Error, line: usize| match error.into_kind() {
        csv::ErrorKind::Io(error) => unreadable(&path, is_gzip, line, error),
        kind => Error::file(&path, format!("cannot be read as CSV: {}", described(&kind))),
    };
    let header = reader.headers().map_err(|error| failed(error, 1))?.clone();
    let names: Vec<String> =
        header.iter().map(|it| it.trim_start_matches('\u{feff}').to_owned()).collect();
    let mut is_done = false;
    Ok(Box::new(std::iter::from_fn(move || {
        let mut record = csv::StringRecord::new();
        // The line that a quoted field begins in, which may have several.
        let line = reader.position().line() as usize;
        let read = if is_done { Ok(false) } else { reader.read_record(&mut record) };
        match read {
            Ok(true) => {
                let line = record.position().map_or(line, |it| it.line() as usize);
                let values = record.iter().map(Value::from);
                let fields: Map<String, Value> = names.iter().cloned().zip(values).collect();
                Some(Ok((line, Ok(fields.into()))))
            }
            Ok(false) => None,
            Err(error) => match error.kind() {
                csv::ErrorKind::Utf8 { .. } | csv::ErrorKind::UnequalLengths { .. } => {
                    let line = error.position().map_or(line, |it| it.line() as usize);
                    Some(Ok((line, Err(described(error.kind())))))
                }
                _ => {
                    is_done = true;
                    Some(Err(failed(error, line)))
                }
            },
        }
    })))
}

fn described(kind: &csv::ErrorKind) -> String {
    match kind {
        csv::ErrorKind::Utf8 { err, .. } => format!(
            "expected UTF-8, found something else in column {}; convert the file to UTF-8",
            err.field() + 1
        ),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => format!(
            "expected {expected_len} columns as in the first line, found {len}; quote fields that \
             hold commas, quotes or line ends"
        ),
        kind => format!("{kind:?}"),
    }
}

/// The objects of one JSON array, each with the line it begins in.
fn array_rows(path: &Path, mut content: Unpacked) -> Result<Rows> {
    let mut text = String::new();
    let read = content.source.read_to_string(&mut text);
    read.map_err(|error| unreadable(path, content.is_gzip, 1, error))?;
    let items = items(&text).ok_or_else(|| {
        Error::file(path, "truncated JSON: expected a list that ends with `]`; copy it again")
    })?;
    let rows: Vec<Row> =
        items.into_iter().map(|(line, item)| (line, Fields::parse(item.as_bytes()))).collect();
    Ok(Box::new(rows.into_iter().map(Ok)))
}

/// The items of a JSON array as text, each with its line; none if the array does not end.
fn items(text: &str) -> Option<Vec<(usize, &str)>> {
    let open = text.find('[')? + 1;
    let (mut at, mut start, mut depth) = (open, open, 0usize);
    let mut line = 1 + text[..open].matches('\n').count();
    let mut items = Vec::new();
    loop {
        let byte = *text.as_bytes().get(at)?;
        let ends = depth == 0 && matches!(byte, b',' | b']');
        if ends {
            let piece = &text[start..at];
            let item = piece.trim_start();
            let before = &piece[..piece.len() - item.len()];
            if !item.is_empty() {
                items.push((line + before.matches('\n').count(), item.trim_end()));
            }
            line += piece.matches('\n').count();
            start = at + 1;
            if byte == b']' {
                return Some(items);
            }
        }
        match byte {
            b'"' => at += string_len(&text[at..]) - 1,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
    }
}

fn parquet_rows(path: &Path) -> Result<Rows> {
    let file = File::open(path).map_err(Error::io(path, "read"))?;
    let path = path.to_owned();
    let failed = move |error: parquet::errors::ParquetError| {
        let error = error.to_string().replace('\n', " ");
        Error::file(&path, format!("cannot be read as Parquet: {error}; copy or download it again"))
    };
    let reader = SerializedFileReader::new(file).map_err(&failed)?;
    Ok(Box::new(reader.into_iter().enumerate().map(move |(number, row)| {
        row.map(|row| (number + 1, Ok(object(row).into()))).map_err(&failed)
    })))
}

fn object(row: ParquetRow) -> Map<String, Value> {
    row.into_columns().into_iter().map(|(name, field)| (name, value(&field))).collect()
}

fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(it) => Value::from(*it),
        Field::Byte(it) => Value::from(*it),
        Field::Short(it) => Value::from(*it),
        Field::Int(it) => Value::from(*it),
        Field::Long(it) => Value::from(*it),
        Field::UByte(it) => Value::from(*it),
        Field::UShort(it) => Value::from(*it),
        Field::UInt(it) => Value::from(*it),
        Field::ULong(it) => Value::from(*it),
        Field::Float16(it) => Value::from(f32::from(*it)),
        Field::Float(it) => Value::from(*it),
        Field::Double(it) => Value::from(*it),
        Field::Str(it) => Value::from(it.as_str()),
        Field::Bytes(it) => Value::from(String::from_utf8_lossy(it.data())),
        Field::Group(it) => {
            it.get_column_iter().map(|(name, field)| (name.clone(), value(field))).collect()
        }
        Field::ListInternal(it) => it.elements().iter().map(value).collect(),
        Field::MapInternal(it) => it
            .entries()
            .iter()
            .map(|(key, field)| match value(key) {
                Value::String(key) => (key, value(field)),
                key => (key.to_string(), value(field)),
            })
            .collect(),
        // Dates, times and decimals, which no reader asks for.
        other => Value::from(other.to_string()),
    }
}
