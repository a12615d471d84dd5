//! `str` and `repr` of values.

use std::fmt::Write;

use super::fault::{Outcome, fault};
use super::unicode::UNPRINTABLE;
use super::value::{Dict, Value};

impl Value {
    /// `str(value)`.
    pub fn print(&self) -> Outcome<String> {
        match self {
            Self::Undefined(_) => Ok(String::new()),
            _ => match self.as_str() {
                Some(text) => Ok(text.to_owned()),
                None => self.repr(),
            },
        }
    }

    /// `repr(value)`.
    pub fn repr(&self) -> Outcome<String> {
        let mut out = String::new();
        self.write_repr(&mut out)?;
        Ok(out)
    }

    fn write_repr(&self, out: &mut String) -> Outcome<()> {
        match self {
            Self::Undefined(_) => out.push_str("Undefined"),
            Self::None => out.push_str("None"),
            Self::Bool(value) => out.push_str(if *value { "True" } else { "False" }),
            Self::Int(value) => _ = write!(out, "{value}"),
            Self::Float(value) => out.push_str(&float(*value)),
            Self::Text(text) => quote(text, out),
            Self::Safe(text) => {
                out.push_str("Markup(");
                quote(text, out);
                out.push(')');
            }
            Self::List(items) => write_items(items, "[", "]", out)?,
            Self::Tuple(items) | Self::Group(items) => {
                write_items(items, "(", if items.len() == 1 { ",)" } else { ")" }, out)?;
            }
            Self::Dict(dict) => write_dict(dict, out)?,
            Self::Range(range) => {
                _ = write!(out, "range({}, {}", range.start, range.stop);
                if range.step != 1 {
                    _ = write!(out, ", {}", range.step);
                }
                out.push(')');
            }
            Self::View(view, dict) => {
                _ = write!(out, "{}(", self.type_name());
                write_items(&dict.view(*view), "[", "])", out)?;
            }
            Self::Namespace(it) => {
                out.push_str("<Namespace ");
                match it.try_borrow() {
                    Ok(dict) => write_dict(&dict, out)?,
                    Err(_) => out.push_str("{...}"),
                }
                out.push('>');
            }
            Self::Loop(it) => {
                let length = it.length.map_or("?".to_owned(), |length| length.to_string());
                _ = write!(out, "<LoopContext {}/{length}>", it.index.get() + 1);
            }
            Self::Macro(it) => match &it.name {
                Some(name) => {
                    out.push_str("<Macro ");
                    quote(name, out);
                    out.push('>');
                }
                None => out.push_str("<Macro anonymous>"),
            },
            Self::Generator(_)
            | Self::Cycler(_)
            | Self::Joiner(_)
            | Self::Method(_)
            | Self::Function(_) => {
                return Err(fault!(
                    "a {} is printed, which Python writes as an address in memory; write its \
                     items or its result",
                    self.type_name()
                ));
            }
        }
        Ok(())
    }
}

fn write_items(items: &[Value], open: &str, close: &str, out: &mut String) -> Outcome<()> {
    out.push_str(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        item.write_repr(out)?;
    }
    out.push_str(close);
    Ok(())
}

fn write_dict(dict: &Dict, out: &mut String) -> Outcome<()> {
    out.push('{');
    for (index, (key, value)) in dict.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        key.write_repr(out)?;
        out.push_str(": ");
        value.write_repr(out)?;
    }
    out.push('}');
    Ok(())
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
