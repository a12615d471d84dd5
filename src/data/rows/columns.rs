//! Tables stored by columns: Parquet, and Arrow as a stream or as a file.

use std::fs::File;
use std::io::{self, BufRead, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_ipc::reader::StreamReader;
use arrow_schema::{ArrowError, DataType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;

use super::RawRows;
use super::classes::Classes;
use super::content::Content;
use super::frames::Frames;
use super::limit::{max_row_bytes, too_large};
use super::values;
use crate::panics::quietly;
use crate::{Error, Result};

/// How many rows of Parquet are read at once.
const BATCH: usize = 256;
/// What the file format of Arrow begins with, and ends with.
const FILE_MARK: &[u8] = b"ARROW1";

/// Whether a file is Parquet and can be read from any place, as Parquet has to be.
pub(super) fn is_parquet_file(mut file: &File) -> io::Result<bool> {
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let mut start = Vec::new();
    file.take(4).read_to_end(&mut start)?;
    file.rewind()?;
    Ok(start == b"PAR1")
}

/// The rows of a Parquet file.
pub(super) fn parquet(name: &Path, file: File) -> Result<RawRows> {
    let name: Arc<Path> = name.into();
    let failed = {
        let name = name.clone();
        move |error: ParquetError| damaged(&name, "Parquet", &error.to_string())
    };
    let open = || -> Result<_, ParquetError> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
        let classes = Classes::of(builder.schema().metadata());
        Ok((builder.with_batch_size(BATCH).build()?, classes))
    };
    let (mut reader, classes) = guarded(open).map_err(&failed)?;
    Ok(rows(
        &name,
        classes,
        std::iter::from_fn(move || {
            let batch = guarded(|| reader.next().transpose().map_err(ParquetError::from));
            batch.map_err(&failed).transpose()
        }),
    ))
}

/// The rows of Arrow's stream, or of its file, which is a stream between two marks.
pub(super) fn arrow(mut content: Content, is_file: bool) -> Result<RawRows> {
    if is_file {
        let start = content.start()?.chunks_exact(8);
        // The mark, and as many zeros as a writer aligns its messages with.
        let skipped = 1 + start.skip(1).take_while(|it| **it == [0; 8]).count();
        content.source.consume(8 * skipped);
    }
    let name = content.file.clone();
    let failed = {
        let name = name.clone();
        move |error: ArrowError| damaged(&name, "Arrow", &error.to_string())
    };
    let source = Tail { source: Frames::new(content.source), last: [1; 8] };
    let mut reader = guarded(|| StreamReader::try_new(source, None)).map_err(&failed)?;
    let classes = Classes::of(reader.schema().metadata());
    let mut is_done = false;
    Ok(rows(
        &name,
        classes,
        std::iter::from_fn(move || {
            if is_done {
                return None;
            }
            let batch = guarded(|| match reader.next() {
                Some(batch) => batch.map(Some),
                None => {
                    is_done = true;
                    reader.get_mut().check_end(is_file).map_err(ArrowError::IpcError)?;
                    Ok(None)
                }
            });
            batch.map_err(&failed).transpose()
        }),
    ))
}

/// What a reader gives. Those of damaged files may panic.
fn guarded<T, E: From<std::io::Error>>(read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    quietly(read).unwrap_or_else(|panic| Err(std::io::Error::other(panic).into()))
}

/// A source that knows what was read of it last.
struct Tail {
    source: Frames<Box<dyn BufRead>>,
    last: [u8; 8],
}

impl Tail {
    /// Whether the stream ended with its mark and nothing follows, or of a file, its footer. Readers
    /// take the end of the source for the end of the stream, and lose what was cut off.
    fn check_end(&mut self, is_file: bool) -> Result<(), String> {
        // A message of length 0.
        if self.last != [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0] {
            return Err("the file is cut short".to_owned());
        }
        let mut rest = Vec::new();
        self.source.read_to_end(&mut rest).map_err(|error| error.to_string())?;
        match is_file {
            true if !rest.ends_with(FILE_MARK) => Err("the footer is cut short".to_owned()),
            false if !rest.is_empty() => Err("more follows the end of the stream".to_owned()),
            _ => Ok(()),
        }
    }
}

impl Read for Tail {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(buffer)?;
        let read = &buffer[..count];
        let kept = count.min(self.last.len());
        self.last.rotate_left(kept);
        let start = self.last.len() - kept;
        self.last[start..].copy_from_slice(&read[count - kept..]);
        Ok(count)
    }
}

/// The rows of batches, numbered from 1.
fn rows(
    file: &Arc<Path>,
    classes: Classes,
    batches: impl Iterator<Item = Result<RecordBatch>> + 'static,
) -> RawRows {
    let rows = batches.flat_map(|batch| -> Box<dyn Iterator<Item = Result<_>>> {
        match batch {
            Ok(batch) => {
                let may_be_large = batch.get_array_memory_size() > max_row_bytes();
                Box::new((0..batch.num_rows()).map(move |row| {
                    let is_too_large = may_be_large && is_large(&batch, row);
                    Ok((!is_too_large).then(|| values::fields(&batch, row)))
                }))
            }
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    });
    let file = file.clone();
    Box::new(rows.zip(1..).map(move |(row, number)| match row? {
        Some(mut fields) => {
            if let Ok(fields) = &mut fields {
                classes.name(fields);
            }
            Ok((number, fields))
        }
        None => Err(too_large(&file, number)),
    }))
}

/// Whether a row takes more than a row may.
fn is_large(batch: &RecordBatch, row: usize) -> bool {
    let row = batch.slice(row, 1);
    row.columns().iter().map(|it| size(it)).fold(0, usize::saturating_add) > max_row_bytes()
}

/// The bytes of an array's own values. A slice of nested values holds on to those of the whole array, which
/// arrow's own measures count.
fn size(array: &dyn Array) -> usize {
    let all = |arrays: &mut dyn Iterator<Item = ArrayRef>| arrays.map(|it| size(&it)).sum();
    match array.data_type() {
        DataType::List(_) => all(&mut array.as_list::<i32>().iter().flatten()),
        DataType::LargeList(_) => all(&mut array.as_list::<i64>().iter().flatten()),
        DataType::FixedSizeList(..) => all(&mut array.as_fixed_size_list().iter().flatten()),
        DataType::Map(..) => array
            .as_map()
            .iter()
            .flatten()
            .map(|it| it.columns().iter().map(|it| size(it)).sum::<usize>())
            .sum(),
        DataType::Struct(_) => all(&mut array.as_struct().columns().iter().cloned()),
        DataType::Utf8View => array.as_string_view().iter().flatten().map(str::len).sum(),
        DataType::BinaryView => array.as_binary_view().iter().flatten().map(<[u8]>::len).sum(),
        DataType::Dictionary(..) => {
            let dictionary = array.as_any_dictionary();
            let values = dictionary.values();
            if values.is_empty() {
                return 0;
            }
            dictionary.normalized_keys().iter().map(|key| size(&values.slice(*key, 1))).sum()
        }
        _ => array.to_data().get_slice_memory_size().unwrap_or(0),
    }
}

fn damaged(file: &Path, form: &str, error: &str) -> Error {
    let error = error.replace('\n', " ");
    if let Some((_, codec)) = error.split_once("Disabled feature at compile time: ") {
        let remedy = "write it with snappy, zstd or gzip";
        return Error::file(
            file,
            format!("expected {form} that is packed otherwise, found {codec}; {remedy}"),
        );
    }
    Error::file(file, format!("cannot be read as {form}: {error}; copy or download it again"))
}

#[cfg(test)]
mod tests {
    use arrow_array::builder::{ListBuilder, StringBuilder, StringDictionaryBuilder};
    use arrow_array::types::Int32Type;

    use super::*;

    #[test]
    fn a_row_is_as_large_as_what_is_in_it_and_not_as_its_batch() {
        let text = "x".repeat(1000);
        let (mut lists, mut names) =
            (ListBuilder::new(StringBuilder::new()), StringDictionaryBuilder::<Int32Type>::new());
        for row in 0..200 {
            lists.values().append_value(&text);
            lists.values().append_value(if row == 7 { text.repeat(50) } else { text.clone() });
            lists.append(true);
            names.append_value(format!("{row}{text}"));
        }
        let columns: [(_, ArrayRef); 2] =
            [("lists", Arc::new(lists.finish())), ("names", Arc::new(names.finish()))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let sizes = |row: usize| {
            batch.slice(row, 1).columns().iter().map(|it| size(it)).collect::<Vec<_>>()
        };
        let [lists, names] = sizes(3)[..] else { panic!("two columns") };
        assert!((2000..2100).contains(&lists) && (1001..1100).contains(&names), "{lists} {names}");
        assert!((51_000..51_100).contains(&sizes(7)[0]), "{:?}", sizes(7));
    }
}
