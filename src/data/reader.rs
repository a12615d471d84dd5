//! Files → records, one row at a time.
//!
//! A bad record is an error with its file and line; up to `skip_bad` bad records are set aside instead. A
//! fault of the file itself (it cannot be read, is empty or is cut short) is never skipped. [`rows`] reads
//! files of every format.

use std::collections::BTreeMap;
use std::io::Read;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use super::rows::{self, Rows};
use super::{Fields, Group, Problem, Record};
use crate::{Error, Result};

/// A record and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Located<R> {
    /// The file.
    pub file: Arc<Path>,
    /// The line, counted from 1; of Parquet and Arrow the row.
    pub line: usize,
    /// The record.
    pub record: R,
}

impl<R> Located<R> {
    /// The error of a record that cannot be used.
    pub fn error(&self, problem: impl Into<String>) -> Error {
        Error::record(&self.file, self.line, problem)
    }
}

impl<R> Located<R> {
    /// Records that stand one a line in the file `name`, or that count as if they did.
    pub fn numbered(name: impl AsRef<Path>, records: impl IntoIterator<Item = R>) -> Vec<Self> {
        let file: Arc<Path> = name.as_ref().into();
        let located = |(index, record)| Self { file: file.clone(), line: index + 1, record };
        records.into_iter().enumerate().map(located).collect()
    }
}

impl Located<Group> {
    /// [`Group::check_for_alignment`], with the place.
    pub fn check_for_alignment(&self) -> Result<()> {
        self.record.check_for_alignment().map_err(|problem| self.error(problem))
    }
}

/// The records of a file, in order.
pub struct Reader<R> {
    rows: Rows,
    tolerance: Tolerance,
    num_read: usize,
    num_rows: usize,
    passed_over: BTreeMap<String, usize>,
    /// Fields that the kind of record reads; none: all.
    reads: Vec<&'static str>,
    unread: BTreeMap<String, usize>,
    is_done: bool,
    kind: PhantomData<fn() -> R>,
}

/// What became of the rows of a file.
#[derive(Debug, Default)]
pub struct Census {
    /// Rows that were read.
    pub rows: usize,
    /// Bad records that were set aside.
    pub skipped: Vec<Error>,
    /// Good rows that are no records of the kind, by reason.
    pub passed_over: BTreeMap<String, usize>,
    /// Columns that nobody asked for, and how many rows have them.
    pub unread: BTreeMap<String, usize>,
}

impl Census {
    /// Why no record is left, in words.
    pub fn none_good(&self) -> String {
        let mut why: Vec<String> = Vec::new();
        match self.skipped.len() {
            0 => {}
            bad if bad == self.rows => why.push(format!("all {bad} are bad")),
            bad => why.push(format!("{bad} are bad")),
        }
        why.extend(self.passed_over.iter().map(|(reason, count)| format!("{count}: {reason}")));
        if why.is_empty() { "the file is empty".to_owned() } else { why.join(", ") }
    }
}

/// How many bad records are set aside, and those that were.
#[derive(Debug)]
pub struct Tolerance {
    /// None: not one, and nothing changes that.
    skip_bad: Option<usize>,
    skipped: Vec<Error>,
    /// What belongs to --skip-bad where it is passed after an error.
    beside: &'static str,
}

impl Tolerance {
    /// Of up to `skip_bad` records.
    pub fn new(skip_bad: usize) -> Self {
        Self { skip_bad: Some(skip_bad), skipped: Vec::new(), beside: "" }
    }

    /// Of none.
    pub fn none() -> Self {
        Self { skip_bad: None, skipped: Vec::new(), beside: "" }
    }

    /// Of up to `skip_bad` records, `skipped` among them, which were set aside as they were read. What becomes of
    /// the others is kept in an output.
    pub fn of_output(skip_bad: usize, skipped: Vec<Error>) -> Self {
        Self { skip_bad: Some(skip_bad), skipped, beside: " --fresh" }
    }

    /// Sets a bad record aside.
    ///
    /// # Errors
    /// One too many, and every error that is not about a record.
    pub fn refuse(&mut self, error: Error) -> Result<()> {
        let Some(skip_bad) = self.skip_bad else { return Err(error) };
        let Error::Record { file, line, message } = error else { return Err(error) };
        if self.skipped.len() < skip_bad {
            let error = Error::Record { file, line, message };
            tracing::warn!("skipped: {error}");
            self.skipped.push(error);
            return Ok(());
        }
        let enough = self.skipped.len() + 1;
        let way_out = format!("or pass --skip-bad {enough}{}", self.beside);
        Err(Error::record(file, line, format!("{message} {way_out}")))
    }

    /// How many were set aside.
    pub fn skipped(&self) -> usize {
        self.skipped.len()
    }
}

/// Opens a file of records (`-` is standard input), of which up to `skip_bad` may be bad.
pub fn read<R: Record>(path: &Path, skip_bad: usize) -> Result<Reader<R>> {
    Ok(Reader::of(rows::open(path)?, skip_bad))
}

/// All records of a file at once.
pub fn read_all<R: Record>(path: &Path, skip_bad: usize) -> Result<Vec<Located<R>>> {
    read(path, skip_bad)?.collect()
}

/// Whether the first good record of a file is a text or completion with a label of its own (`text` or
/// `completion`, and `label`).
pub fn has_labels(path: &Path) -> Result<bool> {
    let mut reader = read::<Fields>(path, usize::MAX)?;
    let first = reader.next().transpose()?;
    Ok(first.is_some_and(|it| {
        let text = ["text", "text_ids", "completion", "completion_ids"];
        it.record.has("label") && text.iter().any(|name| it.record.has(name))
    }))
}

impl<R: Record> Reader<R> {
    /// Reads from `source`, which messages call `name`.
    pub fn new(name: &Path, source: impl Read + 'static, skip_bad: usize) -> Result<Self> {
        Ok(Self::of(rows::of(name, source)?, skip_bad))
    }

    fn of(rows: Rows, skip_bad: usize) -> Self {
        Self {
            rows,
            tolerance: Tolerance::new(skip_bad),
            num_read: 0,
            num_rows: 0,
            passed_over: BTreeMap::new(),
            reads: R::reads(),
            unread: BTreeMap::new(),
            is_done: false,
            kind: PhantomData,
        }
    }

    /// The bad records that were set aside so far.
    pub fn skipped(&self) -> &[Error] {
        &self.tolerance.skipped
    }

    /// What became of the rows that were read.
    pub fn into_census(self) -> Census {
        let Self { num_rows: rows, passed_over, unread, .. } = self;
        Census { rows, skipped: self.tolerance.skipped, passed_over, unread }
    }

    /// Sets aside a record found bad after it was read, within the same `skip_bad`. One too many,
    /// and every error that is not about a record, comes back.
    pub fn refuse(&mut self, error: Error) -> Result<()> {
        self.tolerance.refuse(error)
    }

    fn advance(&mut self) -> Result<Option<Located<R>>> {
        while let Some(row) = self.rows.next() {
            let (line, fields) = row?;
            let file = self.rows.file().clone();
            self.num_rows += 1;
            match fields.and_then(|fields| self.record(&fields)) {
                Ok(Some(record)) => {
                    self.num_read += 1;
                    return Ok(Some(Located { file, line, record }));
                }
                Ok(None) => {}
                Err(problem) => self.refuse(Error::record(&file, line, problem))?,
            }
        }
        if self.num_read > 0 {
            return Ok(None);
        }
        let skipped = std::mem::take(&mut self.tolerance.skipped);
        let passed_over = std::mem::take(&mut self.passed_over);
        let census = Census { rows: self.num_rows, skipped, passed_over, ..Census::default() };
        let found = census.none_good();
        let message = format!("expected records, one JSON object a line, but {found}");
        Err(Error::file(self.rows.file(), message))
    }

    /// The record of a line, unless it is passed over.
    fn record(&mut self, fields: &Fields) -> std::result::Result<Option<R>, Problem> {
        if let Some(reason) = R::passed_over(fields) {
            *self.passed_over.entry(reason.to_owned()).or_default() += 1;
            return Ok(None);
        }
        let record = R::from_fields(fields)?;
        count_unread::<R>(fields, &self.reads, &mut self.unread);
        Ok(Some(record))
    }
}

/// Counts the columns of a row that are not among those that are read; where none are, all are. Idle ones are counted
/// in any case.
pub(super) fn count_unread<R: Record>(
    fields: &Fields,
    reads: &[&'static str],
    unread: &mut BTreeMap<String, usize>,
) {
    let idle = R::idle(fields);
    let is_unread = |name: &&str| !reads.is_empty() && !reads.contains(name) || idle.contains(name);
    for name in fields.names().filter(is_unread) {
        match unread.get_mut(name) {
            Some(count) => *count += 1,
            None => _ = unread.insert(name.to_owned(), 1),
        }
    }
}

impl<R: Record> Iterator for Reader<R> {
    type Item = Result<Located<R>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let next = self.advance();
        self.is_done = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::data::PromptRecord;

    fn reader(content: impl Into<Vec<u8>>, skip_bad: usize) -> Reader<PromptRecord> {
        Reader::new(Path::new("prompts.jsonl"), Cursor::new(content.into()), skip_bad).unwrap()
    }

    fn lines(content: impl Into<Vec<u8>>) -> Vec<usize> {
        reader(content, 0).map(|located| located.unwrap().line).collect()
    }

    fn error(content: impl Into<Vec<u8>>, skip_bad: usize) -> Error {
        let mut last = None;
        let source = Cursor::new(content.into());
        let reader = match Reader::<PromptRecord>::new(Path::new("prompts.jsonl"), source, skip_bad)
        {
            Ok(reader) => reader,
            Err(error) => return error,
        };
        for next in reader {
            assert!(last.is_none(), "nothing follows an error");
            last = next.err();
        }
        last.unwrap()
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn blank_lines_count_but_hold_no_record() {
        assert_eq!(lines("\u{feff}{\"prompt\": \"a\"}\r\n\n  \n{\"prompt\": \"b\"}"), [1, 4]);
    }

    #[test]
    fn gzip_is_told_by_its_bytes_and_may_have_several_members() {
        let content = [gzip("{\"prompt\": \"a\"}\n"), gzip("{\"prompt\": \"b\"}\n")].concat();
        assert_eq!(lines(content), [1, 2]);
    }

    #[test]
    fn gzip_that_is_cut_or_damaged_is_an_error_that_no_skipping_hides() {
        let text: String = (0..3000).map(|i| format!("{{\"prompt\": \"{i}\"}}\n")).collect();
        let whole = gzip(&text);
        let cut = error(&whole[..whole.len() / 2], 9).to_string();
        assert!(cut.contains("the gzip data is cut short in line 1"), "{cut}");
        let mut damaged = whole.clone();
        let middle = whole.len() / 2;
        damaged[middle..middle + 40].fill(0xff);
        let damaged = error(damaged, 9).to_string();
        assert!(damaged.contains("the gzip data is damaged"), "{damaged}");
    }

    #[test]
    fn a_file_without_records_is_an_error() {
        insta::assert_snapshot!(error("", 0), @"prompts.jsonl: expected records, one JSON object a line, but the file is empty");
        insta::assert_snapshot!(error("\n \n", 0), @"prompts.jsonl: expected records, one JSON object a line, but the file is empty");
        insta::assert_snapshot!(error("{}\n{}\n", 2), @"prompts.jsonl: expected records, one JSON object a line, but all 2 are bad");
    }

    #[test]
    fn one_bad_record_more_than_may_be_skipped_is_the_error() {
        let content = "{\"prompt\": 1}\n{\"prompt\": \"a\"}\n{\"prompt\": [\n{\"prompt\": \"b\"}\n";
        insta::assert_snapshot!(error(content, 0), @"prompts.jsonl:1: `prompt`: expected a string, found 1; correct or drop the record or pass --skip-bad 1");
        insta::assert_snapshot!(error(content, 1), @"prompts.jsonl:3: truncated JSON: the line ends at column 12 in the middle of a value; write every record whole on a line or pass --skip-bad 2");
        let mut tolerant = reader(content, 2);
        assert_eq!(tolerant.by_ref().map(|it| it.unwrap().line).collect::<Vec<_>>(), [2, 4]);
        assert_eq!(tolerant.skipped().len(), 2);
        insta::assert_snapshot!(tolerant.skipped()[0], @"prompts.jsonl:1: `prompt`: expected a string, found 1; correct or drop the record");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read::<PromptRecord>(Path::new("nowhere.jsonl"), 0).err().unwrap();
        insta::assert_snapshot!(error, @"nowhere.jsonl: cannot read: No such file or directory (os error 2)");
    }

    #[test]
    fn labelled_texts_are_told_from_pairs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.jsonl");
        std::fs::write(&path, "oops\n{\"text\": \"a\", \"label\": 1}\n").unwrap();
        assert!(has_labels(&path).unwrap());
        std::fs::write(&path, "{\"prompt\": \"a\", \"chosen\": \"b\", \"label\": 1}\n").unwrap();
        assert!(!has_labels(&path).unwrap());
    }
}
