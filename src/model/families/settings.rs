//! Typed access to `config.json`, with errors that name the file and the key.

use std::path::Path;

use serde_json::{Map, Value};

use crate::model::config::FeedForwardKind;
use crate::{Error, Result};

/// The keys of one `config.json`, or of an object in it.
pub struct Settings<'a> {
    path: &'a Path,
    keys: &'a Map<String, Value>,
    /// The key the object stands under, with a dot at its end.
    within: String,
}

impl<'a> Settings<'a> {
    pub fn new(path: &'a Path, json: &'a Value) -> Result<Self> {
        let keys = json.as_object().ok_or_else(|| {
            Error::file(path, "expected a JSON object; this is no model configuration")
        })?;
        Ok(Self { path, keys, within: String::new() })
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    fn expected(&self, key: &str, what: &str) -> Error {
        let found = self.get(key).map_or("nothing".to_owned(), Value::to_string);
        Error::file(self.path, format!("`{}{key}`: expected {what}, found {found}", self.within))
    }

    /// An error about a setting this software cannot honour.
    pub fn unsupported(&self, key: &str, supported: &str) -> Error {
        let found = self.get(key).map_or("nothing".to_owned(), Value::to_string);
        let key = format!("{}{key}", self.within);
        Error::file(self.path, format!("`{key}`: {found} is not supported, only {supported}"))
    }

    /// An error about a setting, in words of its own.
    pub fn refused(&self, key: &str, why: &str) -> Error {
        Error::file(self.path, format!("`{}{key}`: {why}", self.within))
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

    /// A count that may be left out, and where null stands for another than the default.
    pub fn count_or_if_null(&self, key: &str, default: usize, null: usize) -> Result<usize> {
        Ok(self.count_or_null(key, default)?.unwrap_or(null))
    }

    /// A number that must be there.
    pub fn number(&self, key: &str) -> Result<f64> {
        self.number_if(key)?.ok_or_else(|| self.expected(key, "a number"))
    }

    /// A number that may be left out.
    pub fn number_if(&self, key: &str) -> Result<Option<f64>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => value.as_f64().map(Some).ok_or_else(|| self.expected(key, "a number")),
        }
    }

    /// A list of numbers that must be there.
    pub fn numbers(&self, key: &str) -> Result<Vec<f64>> {
        self.get(key)
            .and_then(Value::as_array)
            .and_then(|list| list.iter().map(Value::as_f64).collect())
            .ok_or_else(|| self.expected(key, "a list of numbers"))
    }

    pub fn number_or(&self, key: &str, default: f64) -> Result<f64> {
        Ok(self.number_if(key)?.unwrap_or(default))
    }

    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.expected(key, "true or false")),
        }
    }

    pub fn text_or(&self, key: &str, default: &'a str) -> Result<&'a str> {
        Ok(self.text_if(key)?.unwrap_or(default))
    }

    /// A text that may be left out.
    pub fn text_if(&self, key: &str) -> Result<Option<&'a str>> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or_else(|| self.expected(key, "a string")),
        }
    }

    /// A list of texts, if there.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let texts = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
        texts.map(Some).ok_or_else(|| self.expected(key, "a list of strings"))
    }

    /// The activation of a feed-forward part without a gate.
    pub fn gelu(&self, key: &str, default: &'a str) -> Result<FeedForwardKind> {
        match self.text_or(key, default)? {
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh"
            | "gelu_accurate" => Ok(FeedForwardKind::GeluTanh),
            "gelu" | "gelu_python" => Ok(FeedForwardKind::GeluErf),
            _ => Err(self.unsupported(key, "gelu, gelu_new, gelu_fast and gelu_pytorch_tanh")),
        }
    }

    /// Refuses another activation of a gated feed-forward part than SiLU.
    pub fn silu(&self, key: &str) -> Result<()> {
        match self.text_or(key, "silu")? {
            "silu" | "swish" => Ok(()),
            _ => Err(self.unsupported(key, "silu (also called swish)")),
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

    /// A nested object, if there and not empty.
    pub fn object(&self, key: &str) -> Result<Option<Settings<'a>>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(keys)) if keys.is_empty() => Ok(None),
            Some(Value::Object(keys)) => {
                let within = format!("{}{key}.", self.within);
                Ok(Some(Settings { path: self.path, keys, within }))
            }
            Some(_) => Err(self.expected(key, "an object")),
        }
    }

    /// The objects among the values, by key.
    pub fn objects(&self) -> Vec<(&'a str, Settings<'a>)> {
        self.keys
            .keys()
            .filter_map(|key| Some((key.as_str(), self.object(key).ok().flatten()?)))
            .collect()
    }

    /// Whether the values are those of another object.
    pub fn same_as(&self, other: &Self) -> bool {
        self.keys == other.keys
    }

    /// One token id or a list of them.
    pub fn tokens(&self, key: &str) -> Result<Vec<u32>> {
        let token = |value: &Value| {
            value
                .as_u64()
                .and_then(|token| u32::try_from(token).ok())
                .ok_or_else(|| self.expected(key, "token ids, whole numbers from 0 to 4294967295"))
        };
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(token).collect(),
            Some(value) => Ok(vec![token(value)?]),
        }
    }
}
