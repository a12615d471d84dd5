//! `value.name` and `value[key]`, as jinja2's sandbox looks them up.

use super::fault::{Outcome, clipped, fault, refuse};
use super::interpreter::Interpreter;
use super::operators;
use super::strings;
use super::value::Value;

/// What would change a value, and is hidden for that.
const CHANGES_LIST: [&str; 8] =
    ["append", "clear", "extend", "insert", "pop", "remove", "reverse", "sort"];
const CHANGES_DICT: [&str; 5] = ["clear", "pop", "popitem", "setdefault", "update"];

impl Interpreter<'_> {
    /// `value.name`: the attribute, else the item.
    pub fn attribute(&mut self, value: &Value, name: &str) -> Outcome<Value> {
        match self.own_attribute(value, name)? {
            Some(found) => Ok(found),
            None => Ok(operators::item(value, &Value::text(name))
                .unwrap_or_else(|| nothing(value, &Value::text(name)))),
        }
    }

    /// `value[key]`: the item, else the attribute.
    pub fn item(&mut self, value: &Value, key: &Value) -> Outcome<Value> {
        if let Value::Undefined(why) = value {
            refuse!("{why}");
        }
        if let Some(item) = operators::item(value, key) {
            return Ok(item);
        }
        let attribute = match key.as_str() {
            Some(name) => self.own_attribute(value, name)?,
            None => None,
        };
        Ok(attribute.unwrap_or_else(|| nothing(value, key)))
    }

    /// What Python's `getattr` finds.
    pub fn own_attribute(&mut self, value: &Value, name: &str) -> Outcome<Option<Value>> {
        if let Value::Undefined(why) = value {
            refuse!("{why}");
        }
        if name.starts_with("__") && name.ends_with("__") && name.len() > 4 {
            return Ok(Some(unsafe_attribute(value, name)));
        }
        let method = || Some(value.method(name));
        Ok(match value {
            Value::Text(_) | Value::Safe(_) if strings::METHODS.contains(&name) => method(),
            Value::Dict(_) => match name {
                "copy" | "fromkeys" | "get" | "items" | "keys" | "values" => method(),
                _ if CHANGES_DICT.contains(&name) => Some(unsafe_attribute(value, name)),
                _ => None,
            },
            Value::List(_) => match name {
                "copy" | "count" | "index" => method(),
                _ if CHANGES_LIST.contains(&name) => Some(unsafe_attribute(value, name)),
                _ => None,
            },
            Value::Tuple(_) | Value::Range(_) if matches!(name, "count" | "index") => method(),
            Value::Group(items) => match name {
                "count" | "index" => method(),
                "grouper" => items.first().cloned(),
                "list" => items.get(1).cloned(),
                _ => None,
            },
            Value::Range(range) => match name {
                "start" => Some(Value::Int(range.start)),
                "stop" => Some(Value::Int(range.stop)),
                "step" => Some(Value::Int(range.step)),
                _ => None,
            },
            Value::Namespace(dict) => dict.borrow().get_text(name).cloned(),
            Value::Loop(state) => self.loop_attribute(state, value, name)?,
            Value::Cycler(cycler) => match name {
                "current" => cycler.items.get(cycler.at.get()).cloned(),
                "next" | "reset" => method(),
                _ => None,
            },
            Value::Macro(it) if name == "name" => {
                Some(it.name.as_deref().map_or(Value::None, Value::text))
            }
            Value::Float(_) if name == "is_integer" => method(),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => number_attribute(value, name)?,
            _ => None,
        })
    }
}

fn number_attribute(value: &Value, name: &str) -> Outcome<Option<Value>> {
    const OTHERS: [&str; 9] = [
        "as_integer_ratio",
        "bit_count",
        "bit_length",
        "conjugate",
        "from_bytes",
        "fromhex",
        "hex",
        "imag",
        "to_bytes",
    ];
    match name {
        "real" | "numerator" if value.as_int().is_some() => Ok(value.as_int().map(Value::Int)),
        "real" => Ok(Some(value.clone())),
        "denominator" if value.as_int().is_some() => Ok(Some(Value::Int(1))),
        _ if OTHERS.contains(&name) => {
            Err(fault!("`{name}` of a number is not supported in chat templates"))
        }
        _ => Ok(None),
    }
}

fn unsafe_attribute(value: &Value, name: &str) -> Value {
    Value::undefined(format!(
        "access to attribute '{name}' of '{}' object is unsafe.",
        value.type_name()
    ))
}

/// Nothing, and where it was looked for.
pub fn nothing(value: &Value, key: &Value) -> Value {
    let object = match value {
        Value::None => "None".to_owned(),
        Value::Namespace(_) | Value::Cycler(_) | Value::Joiner(_) => {
            format!("jinja2.utils.{} object", value.type_name())
        }
        Value::Loop(_) | Value::Macro(_) => format!("jinja2.runtime.{} object", value.type_name()),
        _ => format!("{} object", value.type_name()),
    };
    Value::undefined(match key.as_str() {
        Some(name) => format!("'{object}' has no attribute '{}'", clipped(name)),
        None => {
            let key = key.repr().unwrap_or_default();
            format!("{object} has no element {}", clipped(&key))
        }
    })
}
