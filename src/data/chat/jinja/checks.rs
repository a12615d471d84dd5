//! Jinja's tests: `value is name`.

use std::rc::Rc;

use super::arguments::Given;
use super::ast::{Comparison, Operator};
use super::evaluate::holds;
use super::fault::{Outcome, refuse};
use super::interpreter::Interpreter;
use super::operators::{binary, contains};
use super::value::Value;

/// All tests there are.
const NAMES: [&str; 39] = [
    "!=",
    "<",
    "<=",
    "==",
    ">",
    ">=",
    "boolean",
    "callable",
    "defined",
    "divisibleby",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
];

/// Whether there is such a test.
pub fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

impl Interpreter<'_> {
    /// `value is name(given)`.
    pub fn test(&mut self, name: &str, value: &Value, given: &Given) -> Outcome<bool> {
        if let Some(comparison) = comparison(name) {
            let [other] = given.places(name, 1)?;
            return holds(comparison, value, &other.unwrap_or(Value::None));
        }
        let wanted = |number: i128, rest: i128| {
            let rest_of = binary(Operator::Mod, value, &Value::Int(number))?;
            Ok(rest_of.equals(&Value::Int(rest)))
        };
        match name {
            "divisibleby" => {
                let [number] = given.bind(name, ["num"], 1)?;
                let rest = binary(Operator::Mod, value, &number.unwrap_or(Value::None))?;
                return Ok(rest.equals(&Value::Int(0)));
            }
            "sameas" => {
                let [other] = given.bind(name, ["other"], 1)?;
                return Ok(same(value, &other.unwrap_or(Value::None)));
            }
            "in" => {
                let [container] = given.bind(name, ["seq"], 1)?;
                return contains(&container.unwrap_or(Value::None), value);
            }
            _ => {}
        }
        if !exists(name) {
            refuse!("No test named '{name}'.");
        }
        given.places::<0>(name, 0)?;
        Ok(match name {
            "odd" => return wanted(2, 1),
            "even" => return wanted(2, 0),
            "defined" => !value.is_undefined(),
            "undefined" => value.is_undefined(),
            "none" => matches!(value, Value::None),
            "boolean" => matches!(value, Value::Bool(_)),
            "true" => matches!(value, Value::Bool(true)),
            "false" => matches!(value, Value::Bool(false)),
            "integer" => matches!(value, Value::Int(_)),
            "float" => matches!(value, Value::Float(_)),
            "number" => matches!(value, Value::Bool(_) | Value::Int(_) | Value::Float(_)),
            "string" => value.as_str().is_some(),
            "mapping" => matches!(value, Value::Dict(_)),
            "sequence" => matches!(
                value,
                Value::Undefined(_)
                    | Value::Text(_)
                    | Value::Safe(_)
                    | Value::List(_)
                    | Value::Tuple(_)
                    | Value::Group(_)
                    | Value::Dict(_)
                    | Value::Range(_)
            ),
            "iterable" => matches!(value, Value::Loop(_)) || value.source().is_ok(),
            "callable" => matches!(
                value,
                Value::Undefined(_)
                    | Value::Function(_)
                    | Value::Method(_)
                    | Value::Macro(_)
                    | Value::Joiner(_)
                    | Value::Loop(_)
            ),
            "escaped" => matches!(value, Value::Safe(_)),
            "lower" => is_cased(value, "islower")?,
            "upper" => is_cased(value, "isupper")?,
            "filter" => super::filters::exists(value.as_str().unwrap_or_default()),
            "test" => exists(value.as_str().unwrap_or_default()),
            _ => refuse!("No test named '{name}'."),
        })
    }
}

fn comparison(name: &str) -> Option<Comparison> {
    Some(match name {
        "==" | "eq" | "equalto" => Comparison::Eq,
        "!=" | "ne" => Comparison::Ne,
        ">" | "gt" | "greaterthan" => Comparison::Gt,
        ">=" | "ge" => Comparison::Ge,
        "<" | "lt" | "lessthan" => Comparison::Lt,
        "<=" | "le" => Comparison::Le,
        _ => return None,
    })
}

fn is_cased(value: &Value, method: &str) -> Outcome<bool> {
    let text = value.print()?;
    super::strings::call(&text, method, &Given::default()).map(|it| it.is_true())
}

/// `value is other`, where that does not hang on what Python happens to share.
fn same(value: &Value, other: &Value) -> bool {
    match (value, other) {
        (Value::None, Value::None) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::List(a), Value::List(b)) => Rc::ptr_eq(a, b),
        (Value::Tuple(a), Value::Tuple(b)) => Rc::ptr_eq(a, b),
        (Value::Dict(a), Value::Dict(b)) => Rc::ptr_eq(a, b),
        (Value::Namespace(a), Value::Namespace(b)) => Rc::ptr_eq(a, b),
        (Value::Macro(a), Value::Macro(b)) => Rc::ptr_eq(a, b),
        (Value::Function(a), Value::Function(b)) => a == b,
        _ => false,
    }
}
