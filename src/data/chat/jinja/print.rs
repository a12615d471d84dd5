//! `str` and `repr` of values.

use std::cell::RefCell;
use std::fmt::Write;
use std::rc::Rc;

use super::budget;
use super::fault::{Outcome, fault};
use super::unicode::UNPRINTABLE;
use super::value::{Dict, Value};

impl Value {
    /// `str(value)`.
    pub fn print(&self) -> Outcome<String> {
        match self {
            Self::Undefined(_) => Ok(String::new()),
            _ => match self.as_str() {
                Some(text) => {
                    budget::read(text.len())?;
                    Ok(text.to_owned())
                }
                None => self.repr(),
            },
        }
    }

    /// `repr(value)`.
    pub fn repr(&self) -> Outcome<String> {
        let mut repr = Repr::default();
        repr.value(self)?;
        budget::hold(repr.out.len())?;
        Ok(repr.out)
    }
}

/// A text that values are written to.
#[derive(Default)]
struct Repr {
    out: String,
    depth: usize,
    /// The namespaces that are being written: one that holds itself is not written again.
    namespaces: Vec<Rc<RefCell<Dict>>>,
}

impl Repr {
    fn value(&mut self, value: &Value) -> Outcome<()> {
        self.depth += 1;
        budget::nest(self.depth - 1);
        budget::steps(1)?;
        budget::fits(self.out.len())?;
        let out = &mut self.out;
        match value {
            Value::Undefined(_) => out.push_str("Undefined"),
            Value::None => out.push_str("None"),
            Value::Bool(value) => out.push_str(if *value { "True" } else { "False" }),
            Value::Int(value) => _ = write!(out, "{value}"),
            Value::Float(value) => out.push_str(&float(*value)),
            Value::Text(text) => quote(text, out),
            Value::Safe(text) => {
                out.push_str("Markup(");
                quote(text, out);
                out.push(')');
            }
            Value::List(items) => self.items(items, "[", "]")?,
            Value::Tuple(items) | Value::Group(items) => {
                self.items(items, "(", if items.len() == 1 { ",)" } else { ")" })?;
            }
            Value::Dict(dict) => self.dict(dict)?,
            Value::Range(range) => {
                _ = write!(out, "range({}, {}", range.start, range.stop);
                if range.step != 1 {
                    _ = write!(out, ", {}", range.step);
                }
                out.push(')');
            }
            Value::View(view, dict) => {
                _ = write!(out, "{}(", value.type_name());
                self.items(&dict.view(*view), "[", "])")?;
            }
            Value::Namespace(it) => self.namespace(it)?,
            Value::Loop(it) => {
                let length = it.length.map_or("?".to_owned(), |length| length.to_string());
                _ = write!(out, "<LoopContext {}/{length}>", it.index.get() + 1);
            }
            Value::Macro(it) => match &it.name {
                Some(name) => {
                    out.push_str("<Macro ");
                    quote(name, out);
                    out.push('>');
                }
                None => out.push_str("<Macro anonymous>"),
            },
            Value::Generator(_)
            | Value::Cycler(_)
            | Value::Joiner(_)
            | Value::Method(_)
            | Value::Function(_) => {
                return Err(fault!(
                    "a {} is printed, which Python writes as an address in memory; write its \
                     items or its result",
                    value.type_name()
                ));
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn namespace(&mut self, namespace: &Rc<RefCell<Dict>>) -> Outcome<()> {
        self.out.push_str("<Namespace ");
        if self.namespaces.iter().any(|it| Rc::ptr_eq(it, namespace)) {
            self.out.push_str("{...}");
        } else {
            self.namespaces.push(namespace.clone());
            self.dict(&namespace.borrow())?;
            self.namespaces.pop();
        }
        self.out.push('>');
        Ok(())
    }

    fn items(&mut self, items: &[Value], open: &str, close: &str) -> Outcome<()> {
        self.out.push_str(open);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push_str(", ");
            }
            self.value(item)?;
        }
        self.out.push_str(close);
        Ok(())
    }

    fn dict(&mut self, dict: &Dict) -> Outcome<()> {
        self.out.push('{');
        for (index, (key, value)) in dict.iter().enumerate() {
            if index > 0 {
                self.out.push_str(", ");
            }
            self.value(key)?;
            self.out.push_str(": ");
            self.value(value)?;
        }
        self.out.push('}');
        Ok(())
    }
}

/// A text in quotes.
fn quote(text: &str, out: &mut String) {
    let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(mark);
    for char in text.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if char == mark => {
                out.push('\\');
                out.push(char);
            }
            _ if UNPRINTABLE.has(char) => escape(char, out),
            _ => out.push(char),
        }
    }
    out.push(mark);
}

/// A character as the escape of its code.
pub fn escape(char: char, out: &mut String) {
    _ = match u32::from(char) {
        code @ ..=0xff => write!(out, "\\x{code:02x}"),
        code @ ..=0xffff => write!(out, "\\u{code:04x}"),
        code => write!(out, "\\U{code:08x}"),
    };
}

/// A float by the fewest digits that give it back.
pub fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if value == 0.0 || (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}
