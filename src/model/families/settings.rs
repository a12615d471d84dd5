//! Typed access to `config.json`, with errors that name the file and the key.

use std::path::Path;

use serde_json::{Map, Value};

use crate::model::config::FeedForwardKind;
use crate::{Error, Result};

/// The keys of one `config.json`.
pub struct Settings<'a> {
    path: &'a Path,
    keys: &'a Map<String, Value>,
}

impl<'a> Settings<'a> {
    pub fn new(path: &'a Path, json: &'a Value) -> Result<Self> {
        let keys = json.as_object().ok_or_else(|| {
            Error::file(path, "expected a JSON object; this is no model configuration")
        })?;
        Ok(Self { path, keys })
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    fn expected(&self, key: &str, what: &str) -> Error {
        let found = self.get(key).map_or("nothing".to_owned(), Value::to_string);
        Error::file(self.path, format!("`{key}`: expected {what}, found {found}"))
    }

    /// An error about a setting this software cannot honour.
    pub fn unsupported(&self, key: &str, supported: &str) -> Error {
        let found = self.get(key).map_or("nothing".to_owned(), Value::to_string);
        Error::file(self.path, format!("`{key}`: {found} is not supported, only {supported}"))
    }

    /// A count that must be there and be at least 1.
    pub fn count(&self, key: &str) -> Result<usize> {
        self.get(key)
            .and_then(Value::as_u64)
            .filter(|&count| count > 0)
            .map(|count| count as usize)
            .ok_or_else(|| self.expected(key, "a positive whole number"))
    }

    /// A count that may be left out.
    pub fn count_or(&self, key: &str, default: usize) -> Result<usize> {
        if self.get(key).is_none() { Ok(default) } else { self.count(key) }
    }

    /// A count that may be left out, and where null stands for there being none.
    pub fn count_or_null(&self, key: &str, default: usize) -> Result<Option<usize>> {
        if self.keys.get(key).is_some_and(Value::is_null) {
            return Ok(None);
        }
        self.count_or(key, default).map(Some)
    }

    pub fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| self.expected(key, "a number")),
        }
    }

    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.expected(key, "true or false")),
        }
    }

    pub fn text_or(&self, key: &str, default: &'a str) -> Result<&'a str> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_str().ok_or_else(|| self.expected(key, "a string")),
        }
    }

    /// The activation of a feed-forward part without a gate.
    pub fn gelu(&self, key: &str, default: &'a str) -> Result<FeedForwardKind> {
        match self.text_or(key, default)? {
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Ok(FeedForwardKind::GeluTanh),
            "gelu" => Ok(FeedForwardKind::GeluErf),
            _ => Err(self.unsupported(key, "gelu, gelu_new, gelu_fast and gelu_pytorch_tanh")),
        }
    }

    /// Refuses a setting that is there with another value than the `only` one supported.
    pub fn only(&self, key: &str, only: impl Into<Value>) -> Result<()> {
        let only = only.into();
        match self.get(key) {
            Some(found) if *found != only => Err(self.unsupported(key, &only.to_string())),
            _ => Ok(()),
        }
    }

    /// A nested object, if there.
    pub fn object(&self, key: &str) -> Result<Option<Settings<'a>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(keys)) => Ok(Some(Settings { path: self.path, keys })),
            Some(_) => Err(self.expected(key, "an object")),
        }
    }

    /// One token id or a list of them.
    pub fn tokens(&self, key: &str) -> Result<Vec<u32>> {
        let token = |value: &Value| {
            value
                .as_u64()
                .and_then(|token| u32::try_from(token).ok())
                .ok_or_else(|| self.expected(key, "token ids"))
        };
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(token).collect(),
            Some(value) => Ok(vec![token(value)?]),
        }
    }
}
