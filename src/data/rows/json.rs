//! JSON in all its forms: one object a line, one array, objects over several lines, or one object that holds
//! the rows in a list.

use serde_json::Value;

use super::RawRows;
use super::content::Content;
use super::limit::{max_row_bytes, too_large};
use super::lines::{Line, Lines};
use crate::data::Fields;
use crate::data::fields::lost_digits;
use crate::{Error, Result};

/// The fields that make an object a record, and not something that holds records.
const OF_RECORDS: [&str; 16] = [
    "prompt",
    "messages",
    "conversations",
    "conversation",
    "chosen",
    "rejected",
    "completion",
    "completions",
    "summaries",
    "instruction",
    "question",
    "text",
    "history",
    "answers",
    "tools",
    "turns",
];

/// Texts that an object of one line may have beside the list of its rows. Another text makes it a record.
const OF_HOLDERS: [&str; 20] = [
    "version",
    "name",
    "title",
    "description",
    "license",
    "source",
    "url",
    "homepage",
    "citation",
    "author",
    "date",
    "created",
    "created_at",
    "language",
    "split",
    "dataset",
    "task",
    "type",
    "format",
    "comment",
];

/// One object a line.
pub(super) fn lines(mut lines: Lines) -> RawRows {
    Box::new(std::iter::from_fn(move || {
        let line = lines.next_line().transpose()?;
        Some(line.map(|(number, line)| (number, Fields::parse(&line))))
    }))
}

/// Objects: one a line, or over several lines, or one that holds all.
pub(super) fn objects(content: Content) -> Result<RawRows> {
    let mut source = Lines::new(content);
    let row = std::mem::replace(&mut source.max, LARGEST_HOLDER);
    let Some(first) = source.next_line()? else { return Ok(Box::new(std::iter::empty())) };
    source.max = row;
    let second = source.next_line()?;
    check_first(source.file(), &first, second.is_none())?;
    match serde_json::from_slice::<Value>(&first.1) {
        Ok(value) if second.is_none() => {
            let is_record = value.as_object().is_some_and(says_more);
            held(source.file(), first.0, value, &first.1, is_record)
        }
        Err(error) if error.is_eof() && second.as_ref().is_some_and(|it| !begins_record(it)) => {
            let mut content = source.into_content();
            let (line, mut before) = first;
            let (next, rest) = second.unwrap_or_default();
            before.resize(before.len() + next.saturating_sub(line), b'\n');
            before.extend(rest);
            before.push(b'\n');
            content.put_back(before);
            spread(content, line)
        }
        _ => {
            let ahead = [Some(first), second].into_iter().flatten();
            let ahead = ahead.map(|(number, line)| Ok((number, Fields::parse(&line))));
            Ok(Box::new(ahead.chain(lines(source))))
        }
    }
}

/// Whether a line begins a record of its own.
fn begins_record((_, line): &Line) -> bool {
    let is_object = || serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok();
    line.starts_with(b"{") && !line.ends_with(b",") && (line.starts_with(b"{\"") || is_object())
}

/// Objects one after another, each over as many lines as it likes.
fn spread(content: Content, line: usize) -> Result<RawRows> {
    let mut scan = Scan { content, line, max: LARGEST_HOLDER };
    let Some(first) = scan.object()? else { return Ok(Box::new(std::iter::empty())) };
    scan.max = max_row_bytes();
    let second = scan.object()?;
    check_first(&scan.content.file, &first, second.is_none())?;
    if let (None, Ok(value)) = (&second, serde_json::from_slice::<Value>(&first.1)) {
        return held(&scan.content.file, first.0, value, &first.1, false);
    }
    let rest = std::iter::from_fn(move || scan.object().transpose());
    let objects = [Some(first), second].into_iter().flatten().map(Ok).chain(rest);
    Ok(Box::new(objects.map(|it| it.map(|(line, item)| (line, Fields::parse(&item))))))
}

/// The bytes of a file's only object, whose rows each have the limit of a row.
const LARGEST_HOLDER: usize = 256 << 20;

/// Refuses a file's first object where it is larger than a row and one of several, or alone but reading it
/// would take more memory than a file may: a value takes a hundred bytes and more, whatever its length.
fn check_first(file: &std::path::Path, (line, text): &Line, is_alone: bool) -> Result<()> {
    const VALUE: usize = 128;
    const MOST: usize = 2 << 30;
    if text.len() <= max_row_bytes() {
        return Ok(());
    }
    if !is_alone {
        return Err(too_large(file, *line));
    }
    let values = text.iter().filter(|it| b",[{".contains(it)).count();
    if values.saturating_mul(VALUE).saturating_add(text.len()) <= MOST {
        return Ok(());
    }
    Err(Error::record(
        file,
        *line,
        "expected rows one a line, or in a list, found one JSON object of more values than are held at a \
         time; write the list alone, without the object around it",
    ))
}

/// Whether an object has a text that is not about a list beside it.
fn says_more(object: &serde_json::Map<String, Value>) -> bool {
    let is_about = |name: &str| OF_HOLDERS.contains(&name.to_lowercase().as_str());
    object.iter().any(|(name, value)| value.is_string() && !is_about(name))
}

/// The rows of the only object of a file: those of the list that it holds, or the object itself, which may be
/// known to be a record.
fn held(
    file: &std::path::Path,
    line: usize,
    value: Value,
    text: &[u8],
    is_record: bool,
) -> Result<RawRows> {
    let one = |fields| -> Result<RawRows> { Ok(Box::new(std::iter::once(Ok((line, fields))))) };
    let Value::Object(object) = value else { return one(Fields::parse(text)) };
    if let Some(problem) = lost_digits(&object, &String::from_utf8_lossy(text)) {
        return one(Err(problem));
    }
    let is_row_like = is_record || OF_RECORDS.iter().any(|name| object.contains_key(*name));
    if is_row_like && text.len() > max_row_bytes() {
        return Err(too_large(file, line));
    }
    if is_columns(&object) {
        return Err(Error::file(
            file,
            "expected rows, found one JSON object of columns; write one object a row: \
             to_json(orient=\"records\", lines=True) in pandas",
        ));
    }
    let is_message = |it: &Value| it["role"].is_string() && it.get("content").is_some();
    let is_rows = |value: &Value| {
        let items = value.as_array().filter(|it| !it.is_empty() && it.iter().all(Value::is_object));
        items.is_some_and(|it| !it.iter().all(is_message))
    };
    let lists: Vec<&String> =
        object.iter().filter(|(_, value)| is_rows(value)).map(|(name, _)| name).collect();
    match lists.as_slice() {
        _ if is_row_like => one(Ok(Fields::from(object))),
        [] => one(Ok(Fields::from(object))),
        [name] => {
            let Some(Value::Array(rows)) = object.get(name.as_str()).cloned() else {
                return one(Ok(Fields::from(object)));
            };
            let rows = rows.into_iter().enumerate().filter_map(|(number, row)| match row {
                Value::Object(fields) => Some(Ok((number + 1, Ok(Fields::from(fields))))),
                _ => None,
            });
            Ok(Box::new(rows))
        }
        several => {
            let names: Vec<String> = several.iter().map(|name| format!("`{name}`")).collect();
            Err(Error::file(
                file,
                format!(
                    "expected one list of rows in the JSON object, found {}; write each list to a file \
                     of its own",
                    names.join(", ")
                ),
            ))
        }
    }
}

/// Whether an object is a table by its columns, as pandas writes it: every value an object of numbered
/// values, or every value a list of the same length, and that of a text a list of texts.
fn is_columns(object: &serde_json::Map<String, Value>) -> bool {
    const TEXTS: [&str; 6] = ["prompt", "text", "instruction", "question", "chosen", "output"];
    let is_numbered = |value: &Value| {
        let numbered = |it: &serde_json::Map<String, Value>| {
            !it.is_empty() && it.keys().all(|key| key.parse::<usize>().is_ok())
        };
        value.as_object().is_some_and(numbered)
    };
    let texts = TEXTS.iter().find_map(|name| object.get(*name)?.as_array());
    let Some(texts) = texts.filter(|it| it.iter().all(Value::is_string)) else {
        return !object.is_empty() && object.values().all(is_numbered);
    };
    object.len() > 1 && object.values().all(|it| it.as_array().map(Vec::len) == Some(texts.len()))
}

/// The objects of one array, each with the line it begins in.
pub(super) fn array(content: Content) -> RawRows {
    let mut scan = Scan { content, line: 1, max: max_row_bytes() };
    let mut is_open = false;
    Box::new(std::iter::from_fn(move || {
        let item = scan.item(&mut is_open).transpose()?;
        Some(item.map(|(line, item)| (line, Fields::parse(&item))))
    }))
}

/// Cuts JSON values out of a text without reading them.
struct Scan {
    content: Content,
    line: usize,
    /// The bytes of the longest value.
    max: usize,
}

impl Scan {
    /// The next object; none at the end.
    fn object(&mut self) -> Result<Option<Line>> {
        match self.skip_blanks()? {
            None => Ok(None),
            Some(b'{') => {
                let line = self.line;
                let item = self.value(false)?;
                Ok(Some((line, item)))
            }
            Some(_) => {
                Err(self.error("expected one JSON object after another, found something else"))
            }
        }
    }

    /// The next item of an array; none after its last.
    fn item(&mut self, is_open: &mut bool) -> Result<Option<Line>> {
        loop {
            let Some(byte) = self.skip_blanks()? else {
                return if *is_open { Err(self.cut(true)) } else { Ok(None) };
            };
            match byte {
                b'[' if !*is_open => *is_open = true,
                _ if !*is_open => {
                    return Err(self.error("expected nothing after the list, found more"));
                }
                b',' => {}
                b']' => {
                    self.content.source.consume(1);
                    *is_open = false;
                    return match self.skip_blanks()? {
                        None => Ok(None),
                        Some(_) => Err(self.error("expected nothing after the list, found more")),
                    };
                }
                _ => {
                    let line = self.line;
                    return Ok(Some((line, self.value(true)?)));
                }
            }
            self.content.source.consume(1);
        }
    }

    /// The first byte that is not blank, which stays to be read.
    fn skip_blanks(&mut self) -> Result<Option<u8>> {
        loop {
            let bytes = self.content.source.fill_buf();
            let bytes = bytes.map_err(|error| (self.line, error));
            let (blanks, line_ends, next) = match bytes {
                Err((line, error)) => return Err(self.content.unreadable(line, error)),
                Ok([]) => return Ok(None),
                Ok(bytes) => {
                    let end = bytes.iter().position(|it| !it.is_ascii_whitespace());
                    let blanks = &bytes[..end.unwrap_or(bytes.len())];
                    (blanks.len(), count_lines(blanks), end.map(|at| bytes[at]))
                }
            };
            self.content.source.consume(blanks);
            self.line += line_ends;
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    /// The bytes of an item of an array, up to what ends it, or of an object, its last brace included.
    fn value(&mut self, is_item: bool) -> Result<Vec<u8>> {
        let (max, line) = (self.max, self.line);
        let mut item = Vec::new();
        let mut state = Nesting::default();
        loop {
            let bytes = match self.content.source.fill_buf() {
                Ok(bytes) => bytes,
                Err(error) => return Err(self.content.unreadable(self.line, error)),
            };
            if bytes.is_empty() {
                return Err(self.cut(is_item));
            }
            let end = bytes.iter().enumerate().find_map(|(at, &byte)| {
                let ends_before = is_item && state.is_outside() && matches!(byte, b',' | b']');
                state.pass(byte);
                match ends_before {
                    true => Some(at),
                    false => (!is_item && byte == b'}' && state.is_outside()).then_some(at + 1),
                }
            });
            let used = end.unwrap_or(bytes.len());
            item.extend_from_slice(&bytes[..used]);
            let line_ends = count_lines(&bytes[..used]);
            self.content.source.consume(used);
            self.line += line_ends;
            if item.len() > max {
                return Err(too_large(&self.content.file, line));
            }
            if end.is_some() {
                item.truncate(item.trim_ascii_end().len());
                return Ok(item);
            }
        }
    }

    fn error(&self, problem: &str) -> Error {
        let line = self.line;
        Error::file(
            &self.content.file,
            format!("{problem} in line {line}; write one JSON object a line"),
        )
    }

    fn cut(&self, is_list: bool) -> Error {
        let expected =
            if is_list { "a list that ends with `]`" } else { "an object that ends with `}`" };
        let message = format!("truncated JSON: expected {expected}; copy it again");
        Error::file(&self.content.file, message)
    }
}

/// How deep in brackets, and whether in a text.
#[derive(Default)]
struct Nesting {
    depth: usize,
    is_text: bool,
    is_escaped: bool,
}

impl Nesting {
    fn is_outside(&self) -> bool {
        self.depth == 0 && !self.is_text
    }

    fn pass(&mut self, byte: u8) {
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' if self.is_text => self.is_escaped = true,
            b'"' => self.is_text = !self.is_text,
            b'[' | b'{' if !self.is_text => self.depth += 1,
            b']' | b'}' if !self.is_text => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}
