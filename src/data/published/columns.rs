//! The columns of a row, and which of them were used.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::Value;

use super::{Example, Reason, Refusal};
use crate::data::{Fields, Problem};

/// What says what was said before, or to whom: a row without is another row.
const OF_THE_PROMPT: [&str; 9] = [
    "system",
    "system_prompt",
    "history",
    "input",
    "context",
    "tools",
    "functions",
    "chat_template_kwargs",
    "instruction",
];
/// Pictures and sounds, without which a prompt about them asks for a guess.
const MEDIA: [&str; 7] = ["images", "image", "videos", "video", "audio", "audios", "pixel_values"];
/// Texts that a prompt is about and that no reader here puts into it.
const DOCUMENTS: [&str; 3] = ["documents", "passages", "contexts"];

/// The columns of a row. Whatever is read of them counts as used.
pub(super) struct Columns<'a> {
    fields: &'a Fields,
    used: RefCell<BTreeSet<String>>,
}

impl<'a> Columns<'a> {
    pub fn new(fields: &'a Fields) -> Self {
        // What a row says of its split is used by whoever splits.
        let used = BTreeSet::from(["split".to_owned()]);
        Self { fields, used: RefCell::new(used) }
    }

    /// Counts a column as used.
    pub fn mark(&self, name: &str) {
        self.used.borrow_mut().insert(name.to_owned());
    }

    /// Whether a column is there and holds more than nothing: `""`, `[]` and `{}`.
    pub fn has(&self, name: &str) -> bool {
        self.fields.get(name).is_some_and(|value| !is_nothing(value))
    }

    /// Whether a column is there, if with nothing in it.
    pub fn is_there(&self, name: &str) -> bool {
        self.fields.has(name) || self.fields.is_null(name)
    }

    /// The value of a column, which does not count as used.
    pub fn peek(&self, name: &str) -> Option<&'a Value> {
        self.fields.get(name)
    }

    /// The value of a column.
    pub fn get(&self, name: &str) -> Option<&'a Value> {
        self.mark(name);
        self.fields.get(name)
    }

    /// The text of a column.
    pub fn text(&self, name: &str) -> Result<Option<String>, Problem> {
        self.mark(name);
        self.fields.text(name)
    }

    /// The objects of a column, as records read them.
    pub fn objects(&self, name: &str) -> Result<Option<Vec<Value>>, Problem> {
        self.mark(name);
        self.fields.objects(name)
    }

    /// The number of a column.
    pub fn number(&self, name: &str) -> Result<Option<f64>, Problem> {
        self.mark(name);
        self.fields.number(name)
    }

    /// The first of several columns that is there, with its name.
    pub fn first<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &'a Value)> {
        let (name, _) = names.iter().find_map(|&name| Some((name, self.fields.get(name)?)))?;
        Some((name, self.get(name)?))
    }

    /// As [`Fields::missing`], or of a column that is there and empty, that the row is.
    pub fn missing(&self, name: &str, expected: &str, remedy: &str) -> Refusal {
        match self.is_there(name) {
            true => Refusal::Dropped(Reason::Empty),
            false => self.problem(name, expected, remedy).into(),
        }
    }

    /// As [`Fields::missing`].
    pub fn problem(&self, name: &str, expected: &str, remedy: &str) -> Problem {
        self.fields.missing(name, expected, remedy)
    }

    /// The columns that hold something and were not used.
    pub fn unused(&self) -> Vec<String> {
        let used = self.used.borrow();
        let names = self.fields.names().filter(|name| !used.contains(*name) && self.has(name));
        names.map(str::to_owned).collect()
    }

    /// Refuses an example that leaves out a column without which it says something else.
    pub fn checked(&self, example: Example, remedy: &str) -> Result<Example, Refusal> {
        let unused = self.unused();
        let holds = |names: &[&str]| unused.iter().find(|it| names.contains(&it.as_str()));
        if holds(&MEDIA).is_some() {
            return Err(Refusal::Dropped(Reason::Media));
        }
        if holds(&DOCUMENTS).is_some() {
            return Err(Refusal::Dropped(Reason::Documents));
        }
        match holds(&OF_THE_PROMPT) {
            Some(name) => Err(Refusal::Bad(format!(
                "`{name}`: expected a column that has a place in the prompt, found one that has none in \
                 this layout; {remedy}"
            ))),
            None => Ok(example),
        }
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}
