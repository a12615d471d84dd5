//! One line of JSON Lines → named fields, or a problem in words.
//!
//! Every problem reads "`field`: expected …, found …; what to do". A problem names neither file nor line: the
//! reader puts those in front.

use serde_json::{Map, Value};

use super::Passage;

/// The fields of one record. Those that nobody asks for are ignored.
#[derive(Clone, Debug, PartialEq)]
pub struct Fields(Map<String, Value>);

/// What is wrong with a record and what to do about it, without the place.
pub type Problem = String;

impl From<Map<String, Value>> for Fields {
    fn from(fields: Map<String, Value>) -> Self {
        Self(fields)
    }
}

impl Fields {
    /// Reads one line.
    pub fn parse(line: &[u8]) -> Result<Self, Problem> {
        let text = std::str::from_utf8(line).map_err(|error| {
            let at = error.valid_up_to();
            format!(
                "expected UTF-8, found the byte 0x{:02x} at column {}; convert the file to UTF-8",
                line[at],
                at + 1
            )
        })?;
        match serde_json::from_str(text) {
            Ok(Value::Object(fields)) => lost_digits(&fields, text).map_or(Ok(Self(fields)), Err),
            Ok(other) => Err(format!(
                "expected an object, found {}; write one JSON object a line",
                describe(&other)
            )),
            Err(error) => Err(syntax_problem(text, &error)),
        }
    }

    /// The fields without the nulls within them.
    pub(super) fn without_nulls(mut self) -> Self {
        self.0.values_mut().for_each(remove_nulls);
        self
    }

    /// All fields with their values, for what has to be undone before they are read.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = (&String, &mut Value)> {
        self.0.iter_mut()
    }

    /// All fields with their values, those that are null included.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.iter()
    }

    /// The names of all fields that are there and not null.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.as_str())
    }

    /// Whether the field is there and null.
    pub(super) fn is_null(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(Value::is_null)
    }

    /// The field, unless it is absent or null.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Whether the field is there and not null.
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// `id`, as it stands.
    pub fn id(&self) -> Option<Value> {
        self.get("id").cloned()
    }

    /// The problem of a record that lacks `name`; `remedy` says what to write.
    pub fn missing(&self, name: &str, expected: &str, remedy: &str) -> Problem {
        let found = match self.0.get(name) {
            Some(value) => describe(value),
            None if self.0.is_empty() => "an empty object".to_owned(),
            None => {
                let names: Vec<_> = self.0.keys().map(|name| format!("`{name}`")).collect();
                format!("only {}", names.join(", "))
            }
        };
        format!("`{name}`: expected {expected}, found {found}; {remedy}")
    }

    /// A text under `text`, its token ids under `ids`, or both.
    pub fn passage(&self, text: &str, ids: &str) -> Result<Option<Passage>, Problem> {
        let passage = Passage {
            text: self.get(text).map(|value| string(value, text)).transpose()?,
            ids: self.get(ids).map(|value| token_ids(value, ids)).transpose()?,
            conversation: None,
        };
        Ok((passage.text.is_some() || passage.ids.is_some()).then_some(passage))
    }

    /// A list of messages, or a single one, in place of a text; none where the field is absent or
    /// something else.
    pub(super) fn conversation(&self, name: &str) -> Result<Option<Vec<Value>>, Problem> {
        match self.get(name) {
            Some(Value::Object(_)) => {
                self.get(name).map(|it| Ok(vec![message(it, name)?])).transpose()
            }
            Some(Value::Array(items)) if items.first().is_none_or(Value::is_object) => {
                self.messages(name)
            }
            Some(_) if name == "messages" => self.messages(name),
            _ => Ok(None),
        }
    }

    /// A list of objects without their nulls, or a text that is one in JSON with them, as TRL reads tools; none where it
    /// is absent or empty.
    pub(super) fn objects(&self, name: &str) -> Result<Option<Vec<Value>>, Problem> {
        let refused = |value: &Value| {
            wrong(
                name,
                "a list of objects",
                value,
                "write them as a list in JSON, or drop the column",
            )
        };
        let objects = match self.get(name) {
            None => return Ok(None),
            Some(Value::Array(items)) => items.iter().map(without_nulls).collect(),
            Some(Value::String(text)) => serde_json::from_str::<Vec<Value>>(text)
                .map_err(|_| refused(&Value::from(text.as_str())))?,
            Some(other) => return Err(refused(other)),
        };
        match objects.iter().position(|it| !it.is_object()) {
            Some(place) => {
                let item = format!("{name}[{place}]");
                let remedy = "write the object itself, and not as text";
                Err(wrong(&item, "an object", &objects[place], remedy))
            }
            None => Ok((!objects.is_empty()).then_some(objects)),
        }
    }

    /// A list of texts or of lists of messages; an empty passage for `null` where `gaps` allows that
    /// one is missing.
    pub(super) fn passages(&self, name: &str, gaps: bool) -> Result<Option<Vec<Passage>>, Problem> {
        self.list(name, "a list of strings", |value, name| match value {
            Value::Null if gaps => Ok(Passage::default()),
            Value::Array(_) => {
                list(value, name, "a list of messages", message).map(Passage::of_messages)
            }
            Value::Object(_) => Ok(Passage::of_messages(vec![message(value, name)?])),
            _ => string(value, name).map(Passage::of_text),
        })
    }

    /// A text.
    pub fn text(&self, name: &str) -> Result<Option<String>, Problem> {
        self.get(name).map(|value| string(value, name)).transpose()
    }

    /// The first of several fields that is there, with its name.
    pub fn first<'a>(&self, names: &[&'a str]) -> Option<(&'a str, &Value)> {
        names.iter().find_map(|&name| Some((name, self.get(name)?)))
    }

    /// A finite number, or a text that is one, as tables without types have them.
    pub fn number(&self, name: &str) -> Result<Option<f64>, Problem> {
        let number = |value: &Value| match value {
            Value::String(text) => text.trim().parse().ok(),
            value => value.as_f64(),
        };
        self.get(name)
            .map(|value| {
                number(value).filter(|it: &f64| it.is_finite()).ok_or_else(|| {
                    wrong(name, "a finite number", value, "correct or drop the record")
                })
            })
            .transpose()
    }

    /// A list of messages, each with a role and a text.
    pub fn messages(&self, name: &str) -> Result<Option<Vec<Value>>, Problem> {
        self.list(name, "a list of messages", message)
    }

    /// A list of finite numbers.
    pub fn numbers(&self, name: &str) -> Result<Option<Vec<f64>>, Problem> {
        self.list(name, "a list of numbers", |value, name| {
            value
                .as_f64()
                .filter(|number| number.is_finite())
                .ok_or_else(|| wrong(name, "a finite number", value, "correct or drop the record"))
        })
    }

    /// A truth value: `true`, `false`.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, Problem> {
        self.get(name).map(|value| flag(value, name)).transpose()
    }

    /// A list of truth values.
    pub fn flags(&self, name: &str) -> Result<Option<Vec<bool>>, Problem> {
        self.list(name, "a list of true or false", flag)
    }

    /// A list of lists of token ids; `null` where `gaps` allows that one is missing.
    pub(super) fn id_lists(
        &self,
        name: &str,
        gaps: bool,
    ) -> Result<Option<Vec<Option<Vec<u32>>>>, Problem> {
        self.list(name, "a list of lists of token ids", |value, name| {
            if gaps && value.is_null() { Ok(None) } else { token_ids(value, name).map(Some) }
        })
    }

    /// A list of lists of finite numbers.
    pub(super) fn number_lists(&self, name: &str) -> Result<Option<Vec<Vec<f32>>>, Problem> {
        let number = |value: &Value, name: &str| {
            let number = value.as_f64().map(|number| number as f32);
            number
                .filter(|number| number.is_finite())
                .ok_or_else(|| wrong(name, "a finite number", value, "correct or drop the record"))
        };
        self.list(name, "a list of lists of numbers", |value, name| {
            list(value, name, "a list of numbers", number)
        })
    }

    fn list<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl Fn(&Value, &str) -> Result<T, Problem>,
    ) -> Result<Option<Vec<T>>, Problem> {
        self.get(name).map(|value| list(value, name, expected, read)).transpose()
    }
}

fn list<T>(
    value: &Value,
    name: &str,
    expected: &str,
    read: impl Fn(&Value, &str) -> Result<T, Problem>,
) -> Result<Vec<T>, Problem> {
    let Value::Array(values) = value else {
        return Err(wrong(name, expected, value, "correct or drop the record"));
    };
    values.iter().enumerate().map(|(i, value)| read(value, &format!("{name}[{i}]"))).collect()
}

fn string(value: &Value, name: &str) -> Result<String, Problem> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| wrong(name, "a string", value, "correct or drop the record"))
}

/// A message as templates read it: an object with a role, a text or parts of one (or calls of tools),
/// and whatever else it has that is not null, since tables fill what a message lacks with null.
fn message(value: &Value, name: &str) -> Result<Value, Problem> {
    let remedy = "write a message as {\"role\": .., \"content\": ..}";
    let found = |field: &str| value.get(field).map_or("nothing".to_owned(), describe);
    if !value["role"].is_string() {
        let sharegpt = match value.get("from") {
            Some(_) if value.is_object() => "a message with `from` and `value`".to_owned(),
            _ => found("role"),
        };
        return Err(format!("`{name}.role`: expected a string, found {sharegpt}; {remedy}"));
    }
    let calls = value["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty());
    match &value["content"] {
        Value::String(_) => {}
        Value::Null if calls => {}
        Value::Array(parts) => {
            for (place, part) in parts.iter().enumerate() {
                let kind = part["type"].as_str();
                if !part["text"].is_string() || kind.is_some_and(|kind| kind != "text") {
                    return Err(format!(
                        "`{name}.content[{place}]`: expected a part of the type text, found {}; only text \
                         is read: drop the record",
                        kind.map_or_else(
                            || describe(part),
                            |kind| format!("one of the type {kind}")
                        )
                    ));
                }
            }
        }
        _ => {
            let found = found("content");
            return Err(format!("`{name}.content`: expected a string, found {found}; {remedy}"));
        }
    }
    Ok(without_nulls(value))
}

/// Fields of a message that say whether it is learned from.
pub(super) const LEARNING: [&str; 2] = ["weight", "train"];

/// The field that says that a turn of the assistant is not learned from: `weight` is 0, or `train` is false.
pub(super) fn unlearned(message: &Value) -> Option<&'static str> {
    let says_no = |name: &&str| {
        let value = &message[*name];
        value == &Value::Bool(false) || value.as_f64() == Some(0.0)
    };
    LEARNING.into_iter().filter(|_| message["role"] == "assistant").find(says_no)
}

/// Refuses a turn before the last that is not learned from, among turns that all are.
pub(super) fn all_learned(messages: &[Value], name: &str) -> Result<(), Problem> {
    let earlier = messages.split_last().map_or(messages, |(_, earlier)| earlier);
    match earlier.iter().find_map(unlearned) {
        Some(field) => Err(format!(
            "`{name}`: expected turns that are all learned from, found one of the assistant whose `{field}` \
             says no; write the turns before the last as `prompt` and the last as `chosen`, which alone is \
             learned from"
        )),
        None => Ok(()),
    }
}

/// A value without the keys that hold null, at any depth.
fn without_nulls(value: &Value) -> Value {
    let mut value = value.clone();
    remove_nulls(&mut value);
    value
}

/// Drops the fields of objects that are null, as `remove_none_values` of TRL does. Arrow gives all
/// objects of a column the same fields and fills those that one has not with null.
pub(super) fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

fn flag(value: &Value, name: &str) -> Result<bool, Problem> {
    value.as_bool().ok_or_else(|| wrong(name, "true or false", value, "correct or drop the record"))
}

fn token_ids(value: &Value, name: &str) -> Result<Vec<u32>, Problem> {
    list(value, name, "a list of token ids", |value, name| {
        value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(|| {
            let expected = "a token id, a whole number from 0 on";
            wrong(name, expected, value, "correct or drop the record")
        })
    })
}

/// "`name`: expected …, found …; remedy".
pub(super) fn wrong(name: &str, expected: &str, found: &Value, remedy: &str) -> Problem {
    format!("`{name}`: expected {expected}, found {}; {remedy}", describe(found))
}

/// A value in a few words.
pub(super) fn describe(value: &Value) -> String {
    const SHOWN: usize = 40;
    match value {
        Value::Array(values) => format!("a list of {}", values.len()),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) if text.chars().count() > SHOWN => {
            let start: String = text.chars().take(SHOWN).collect();
            format!("{}…", Value::from(start))
        }
        _ => value.to_string(),
    }
}

/// Marks a bare word in a line read again; a noncharacter, which no text contains.
const MARK: char = '\u{fdd0}';

fn syntax_problem(line: &str, error: &serde_json::Error) -> Problem {
    if error.is_eof() {
        return format!(
            "truncated JSON: the line ends at column {} in the middle of a value; write every \
             record whole on a line",
            error.column()
        );
    }
    let is_unknown = |word: &str| serde_json::from_str::<Value>(word).is_err();
    if let Some((path, word)) = find_bare_word(line, is_unknown) {
        let expected =
            if is_numeric(&word) { "a finite number" } else { "null, true, false or a number" };
        return format!("`{path}`: expected {expected}, found {word}; correct or drop the record");
    }
    let message = error.to_string();
    // What serde_json says of half a pair of UTF-16.
    if message.contains("surrogate") || message.starts_with("unexpected end of hex escape") {
        return format!(
            "expected text, found a lone surrogate at column {}, half of a sign such as \\ud83d\\ude42; write \
             the whole sign, or drop the record",
            error.column()
        );
    }
    let reason = message.split(" at line ").next().unwrap_or(&message);
    format!(
        "expected JSON, found an error at column {}: {reason}; write one JSON object a line",
        error.column()
    )
}

fn is_numeric(word: &str) -> bool {
    // Rust reads nan, inf, infinity and overlong exponents, in any case and with a sign.
    word.parse::<f64>().is_ok()
}

/// Whether a value holds a number that may have been an integer too large for 64 bits.
fn is_huge(value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            number.is_f64() && number.as_f64().is_some_and(|it| it.abs() >= i64::MAX as f64)
        }
        Value::Array(values) => values.iter().any(is_huge),
        Value::Object(fields) => fields.values().any(is_huge),
        _ => false,
    }
}

/// The problem of an object, read from `text`, with an integer that has lost digits, if there is one.
pub(super) fn lost_digits(object: &Map<String, Value>, text: &str) -> Option<Problem> {
    object.values().any(is_huge).then(|| large_integer(text)).flatten()
}

/// The problem of a line with an integer that would lose digits.
fn large_integer(line: &str) -> Option<Problem> {
    let is_large = |word: &str| {
        let digits = word.strip_prefix('-').unwrap_or(word);
        let is_read = word.parse::<u64>().is_ok() || word.parse::<i64>().is_ok();
        !is_read && digits.bytes().all(|it| it.is_ascii_digit())
    };
    let (path, word) = find_bare_word(line, is_large)?;
    Some(format!(
        "`{path}`: expected an integer of at most 64 bits, found {word}, which would lose digits; write it \
         as a string, or with a point if it is no exact number"
    ))
}

/// The first bare word that is looked for, and the field that holds it.
fn find_bare_word(line: &str, is_wanted: impl Fn(&str) -> bool) -> Option<(String, String)> {
    let marked: Option<Value> = serde_json::from_str(&mark_bare_words(line, is_wanted)).ok();
    find_mark(&marked?, String::new())
}

/// `line` with every bare word that is wanted (NaN, -Infinity, None, 1e999) as a string.
fn mark_bare_words(line: &str, is_wanted: impl Fn(&str) -> bool) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
    let mut marked = String::with_capacity(line.len() + 16);
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let (is_bare, len) = if first == '"' {
            (false, string_len(rest))
        } else if is_word(first) {
            (true, rest.find(|c| !is_word(c)).unwrap_or(rest.len()))
        } else {
            (false, first.len_utf8())
        };
        let (piece, after) = rest.split_at(len);
        if is_bare && is_wanted(piece) {
            marked.push('"');
            marked.push(MARK);
            marked.push_str(piece);
            marked.push('"');
        } else {
            marked.push_str(piece);
        }
        rest = after;
    }
    marked
}

/// Bytes of the string literal that `text` begins with, quotes included.
fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn find_mark(value: &Value, path: String) -> Option<(String, String)> {
    match value {
        Value::String(text) => text.strip_prefix(MARK).map(|word| (path, word.to_owned())),
        Value::Array(values) => values
            .iter()
            .enumerate()
            .find_map(|(i, value)| find_mark(value, format!("{path}[{i}]"))),
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            let dot = if path.is_empty() { "" } else { "." };
            find_mark(value, format!("{path}{dot}{name}"))
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: &str) -> Problem {
        Fields::parse(line.as_bytes()).unwrap_err()
    }

    #[test]
    fn numbers_that_json_does_not_know_are_named_with_their_field() {
        insta::assert_snapshot!(problem(r#"{"prompt": "NaN \" NaN", "rewards": [0.5, NaN]}"#), @"`rewards[1]`: expected a finite number, found NaN; correct or drop the record");
        insta::assert_snapshot!(problem(r#"{"rewards": [-Infinity, 1]}"#), @"`rewards[0]`: expected a finite number, found -Infinity; correct or drop the record");
        insta::assert_snapshot!(problem(r#"{"rewards": [1, 1e999]}"#), @"`rewards[1]`: expected a finite number, found 1e999; correct or drop the record");
        insta::assert_snapshot!(problem(r#"{"meta": {"score": [nan]}}"#), @"`meta.score[0]`: expected a finite number, found nan; correct or drop the record");
        insta::assert_snapshot!(problem(r#"{"rewards": None}"#), @"`rewards`: expected null, true, false or a number, found None; correct or drop the record");
    }

    #[test]
    fn a_line_that_is_no_object_is_refused() {
        insta::assert_snapshot!(problem("[1, 2]"), @"expected an object, found a list of 2; write one JSON object a line");
        insta::assert_snapshot!(problem(r#"{"prompt": "a", "cho"#), @"truncated JSON: the line ends at column 20 in the middle of a value; write every record whole on a line");
        insta::assert_snapshot!(problem(r#"{"prompt": "a",, "b": 1}"#), @"expected JSON, found an error at column 16: key must be a string; write one JSON object a line");
        insta::assert_snapshot!(Fields::parse(b"{\"prompt\": \"\xff\"}").unwrap_err(), @"expected UTF-8, found the byte 0xff at column 13; convert the file to UTF-8");
    }

    #[test]
    fn integers_that_would_lose_digits_are_named_with_their_field() {
        insta::assert_snapshot!(problem(r#"{"id": 18446744073709551617, "prompt": "a"}"#), @"`id`: expected an integer of at most 64 bits, found 18446744073709551617, which would lose digits; write it as a string, or with a point if it is no exact number");
        insta::assert_snapshot!(problem(r#"{"meta": {"n": [1e30, -9223372036854775809]}}"#), @"`meta.n[1]`: expected an integer of at most 64 bits, found -9223372036854775809, which would lose digits; write it as a string, or with a point if it is no exact number");
        for line in [
            r#"{"id": 18446744073709551615, "least": -9223372036854775808}"#,
            r#"{"score": 1e30, "other": 123456789012345678901234567890.0, "zero": -0}"#,
            r#"{"text": "123456789012345678901234567890", "huge": -1e300}"#,
        ] {
            Fields::parse(line.as_bytes()).unwrap();
        }
    }

    #[test]
    fn half_of_a_sign_is_named() {
        insta::assert_snapshot!(problem(r#"{"text": "b \ud83d"}"#), @r"expected text, found a lone surrogate at column 19, half of a sign such as \ud83d\ude42; write the whole sign, or drop the record");
        for half in [r"\ud83dx", r"\ude42", r"\ud83d\u0041", r"\ud83d\n"] {
            let problem = problem(&format!("{{\"text\": \"{half} and more\"}}"));
            assert!(problem.contains("a lone surrogate at column"), "{half}: {problem}");
        }
    }

    #[test]
    fn elements_that_are_no_numbers_are_refused() {
        let numbers = |line: &str| Fields::parse(line.as_bytes()).unwrap().numbers("rewards");
        assert_eq!(numbers(r#"{"rewards": [1, -2.5]}"#).unwrap().unwrap(), [1.0, -2.5]);
        insta::assert_snapshot!(numbers(r#"{"rewards": [1, null]}"#).unwrap_err(), @"`rewards[1]`: expected a finite number, found null; correct or drop the record");
        insta::assert_snapshot!(numbers(r#"{"rewards": ["1"]}"#).unwrap_err(), @r#"`rewards[0]`: expected a finite number, found "1"; correct or drop the record"#);
        insta::assert_snapshot!(numbers(r#"{"rewards": 3}"#).unwrap_err(), @"`rewards`: expected a list of numbers, found 3; correct or drop the record");
    }
}
