//! Dictionaries, as Python has them.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::rc::Rc;

use super::budget;
use super::fault::Outcome;
use super::value::{Value, View};

/// A dictionary, in the order in which its keys came.
#[derive(Clone, Debug, Default)]
pub struct Dict {
    entries: Vec<(Value, Value)>,
    /// Where texts stand, once there are many.
    places: HashMap<Rc<str>, usize>,
    nesting: usize,
}

const MANY: usize = 16;

impl Dict {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &(Value, Value)> {
        self.entries.iter()
    }

    /// How deep lists and dictionaries nest in it.
    pub fn nesting(&self) -> usize {
        1 + self.nesting
    }

    fn place(&self, key: &Value) -> Option<usize> {
        match key {
            Value::Text(text) | Value::Safe(text) if self.entries.len() > MANY => {
                _ = budget::read(text.len());
                self.places.get(text).copied()
            }
            _ => {
                _ = budget::steps(self.entries.len() / MANY);
                self.entries.iter().position(|(it, _)| it.equals(key))
            }
        }
    }

    pub fn get(&self, key: &Value) -> Option<&Value> {
        self.place(key).map(|at| &self.entries[at].1)
    }

    pub fn get_text(&self, key: &str) -> Option<&Value> {
        if self.entries.len() > MANY {
            return self.places.get(key).map(|&at| &self.entries[at].1);
        }
        self.entries.iter().find(|(it, _)| it.as_str() == Some(key)).map(|(_, value)| value)
    }

    pub fn insert(&mut self, key: Value, value: Value) -> Outcome<()> {
        key.hashable()?;
        self.nesting = self.nesting.max(key.nesting()).max(value.nesting());
        budget::list(2, self.nesting());
        budget::check()?;
        if let Some(at) = self.place(&key) {
            self.entries[at].1 = value;
            return Ok(());
        }
        let note = |places: &mut HashMap<Rc<str>, usize>, key: &Value, at: usize| {
            if let Value::Text(text) | Value::Safe(text) = key {
                places.insert(text.clone(), at);
            }
        };
        self.entries.push((key, value));
        let count = self.entries.len();
        let first = match count.cmp(&(MANY + 1)) {
            Ordering::Less => count,
            Ordering::Equal => 0,
            Ordering::Greater => count - 1,
        };
        for at in first..count {
            note(&mut self.places, &self.entries[at].0, at);
        }
        Ok(())
    }

    pub fn keys(&self) -> Vec<Value> {
        self.entries.iter().map(|(key, _)| key.clone()).collect()
    }

    pub fn view(&self, view: View) -> Vec<Value> {
        let entries = self.entries.iter();
        match view {
            View::Keys => self.keys(),
            View::Values => entries.map(|(_, value)| value.clone()).collect(),
            View::Items => {
                entries.map(|(key, value)| Value::tuple(vec![key.clone(), value.clone()])).collect()
            }
        }
    }
}
