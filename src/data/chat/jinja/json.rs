//! JSON as Python's `json.dumps` writes it.

use std::fmt::Write;

use super::budget;
use super::fault::{Outcome, refuse};
use super::value::{Dict, Value};

/// The options of `tojson`.
pub struct Dump {
    pub ascii: bool,
    /// What one level is set in by; none for a single line.
    pub indent: Option<String>,
    /// Between items, and between key and value.
    pub separators: (String, String),
    pub sorted: bool,
}

impl Dump {
    /// A value as JSON.
    pub fn write(&self, value: &Value, depth: usize, out: &mut String) -> Outcome<()> {
        budget::steps(1)?;
        budget::fits(out.len())?;
        match value {
            Value::None => out.push_str("null"),
            Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::Int(value) => _ = write!(out, "{value}"),
            Value::Float(value) => out.push_str(&float(*value)),
            Value::Text(text) | Value::Safe(text) => self.quote(text, out),
            Value::List(items) | Value::Tuple(items) | Value::Group(items) => {
                self.items(items, depth, out)?;
            }
            Value::Dict(dict) => self.dict(dict, depth, out)?,
            _ => refuse!("Object of type {} is not JSON serializable", value.type_name()),
        }
        Ok(())
    }

    fn items(&self, items: &[Value], depth: usize, out: &mut String) -> Outcome<()> {
        if items.is_empty() {
            out.push_str("[]");
            return Ok(());
        }
        out.push('[');
        for (index, item) in items.iter().enumerate() {
            self.separate(index, depth + 1, out)?;
            self.write(item, depth + 1, out)?;
        }
        self.line(depth, out)?;
        out.push(']');
        Ok(())
    }

    fn dict(&self, dict: &Dict, depth: usize, out: &mut String) -> Outcome<()> {
        let mut entries: Vec<_> = dict.iter().collect();
        if entries.is_empty() {
            out.push_str("{}");
            return Ok(());
        }
        if self.sorted {
            super::sort::sort_by_key(&mut entries, |(key, _)| Ok(key.clone()), false)?;
        }
        out.push('{');
        for (index, (key, value)) in entries.into_iter().enumerate() {
            self.separate(index, depth + 1, out)?;
            match key {
                Value::Text(text) | Value::Safe(text) => self.quote(text, out),
                Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                    out.push('"');
                    self.write(key, depth, out)?;
                    out.push('"');
                }
                _ => refuse!("keys must be str, int, float, bool or None, not {}", key.type_name()),
            }
            out.push_str(&self.separators.1);
            self.write(value, depth + 1, out)?;
        }
        self.line(depth, out)?;
        out.push('}');
        Ok(())
    }

    fn separate(&self, index: usize, depth: usize, out: &mut String) -> Outcome<()> {
        if index > 0 {
            out.push_str(&self.separators.0);
        }
        self.line(depth, out)
    }

    fn line(&self, depth: usize, out: &mut String) -> Outcome<()> {
        if let Some(indent) = &self.indent {
            budget::fits(out.len().saturating_add(indent.len().saturating_mul(depth)))?;
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
        Ok(())
    }

    fn quote(&self, text: &str, out: &mut String) {
        out.push('"');
        for char in text.chars() {
            match char {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\x08' => out.push_str("\\b"),
                '\x0c' => out.push_str("\\f"),
                '\0'..='\x1f' => _ = write!(out, "\\u{:04x}", u32::from(char)),
                _ if self.ascii && !(' '..='~').contains(&char) => {
                    for unit in char.encode_utf16(&mut [0; 2]) {
                        _ = write!(out, "\\u{unit:04x}");
                    }
                }
                _ => out.push(char),
            }
        }
        out.push('"');
    }
}

fn float(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        super::print::float(value)
    }
}
