//! Sequences, as Python has them.

use std::ops::Deref;

use super::budget;
use super::value::Value;

/// Values in a row, and how deep lists and dictionaries nest in them.
#[derive(Debug, Default)]
pub struct Sequence {
    values: Vec<Value>,
    nesting: usize,
}

impl Sequence {
    /// One more than its items nest.
    pub fn nesting(&self) -> usize {
        self.nesting
    }
}

impl From<Vec<Value>> for Sequence {
    fn from(values: Vec<Value>) -> Self {
        let nesting = nesting_of(&values);
        budget::list(values.len(), nesting);
        Self { values, nesting }
    }
}

/// How deep a list of values nests.
pub fn nesting_of<'v>(values: impl IntoIterator<Item = &'v Value>) -> usize {
    values.into_iter().map(Value::nesting).max().unwrap_or(0) + 1
}

impl Deref for Sequence {
    type Target = Vec<Value>;

    fn deref(&self) -> &Vec<Value> {
        &self.values
    }
}

impl<'s> IntoIterator for &'s Sequence {
    type Item = &'s Value;
    type IntoIter = std::slice::Iter<'s, Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.values.iter()
    }
}
