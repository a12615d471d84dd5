//! `text.format(..)`.

use super::arguments::Given;
use super::budget::{self, MAX_LENGTH};
use super::fault::{Outcome, fault, refuse};
use super::numbers::{Layout, pad, real, whole};
use super::value::Value;

/// Looks an attribute (true) or an item (false) of a value up.
pub type Lookup<'l> = &'l mut dyn FnMut(&Value, &str, bool) -> Outcome<Value>;

/// Writes the arguments where `text` has fields.
pub fn format(text: &str, given: &Given, lookup: Lookup<'_>) -> Outcome<String> {
    let mut next = Some(0);
    fields(text, given, lookup, &mut next, 2)
}

fn fields(
    text: &str,
    given: &Given,
    lookup: Lookup<'_>,
    next: &mut Option<usize>,
    depth: usize,
) -> Outcome<String> {
    if depth == 0 {
        refuse!("Max string recursion exceeded");
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(['{', '}']) {
        out.push_str(&rest[..start]);
        let mark = &rest[start..=start];
        rest = &rest[start + 1..];
        if let Some(after) = rest.strip_prefix(mark) {
            out.push_str(mark);
            rest = after;
            continue;
        }
        if mark == "}" {
            refuse!("Single '}}' encountered in format string");
        }
        let mut open = 1;
        let end = rest.find(|it| {
            open += match it {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            open == 0
        });
        let Some(end) = end else { refuse!("expected '}}' before end of string") };
        let written = field(&rest[..end], given, lookup, next, depth)?;
        budget::read(end + written.len())?;
        out.push_str(&written);
        rest = &rest[end + 1..];
        if out.len() > MAX_LENGTH {
            refuse!("a formatted text is longer than {MAX_LENGTH}");
        }
    }
    out.push_str(rest);
    Ok(out)
}

fn field(
    field: &str,
    given: &Given,
    lookup: Lookup<'_>,
    next: &mut Option<usize>,
    depth: usize,
) -> Outcome<String> {
    let mut in_key = false;
    let end = field.find(|it| {
        in_key = match it {
            '[' => true,
            ']' => false,
            _ => in_key,
        };
        !in_key && matches!(it, ':' | '!')
    });
    let (name, rest) = field.split_at(end.unwrap_or(field.len()));
    let value = named(name, given, lookup, next)?;
    let (conversion, spec) = match rest.strip_prefix('!') {
        Some(rest) => (rest.chars().next(), rest.get(1..).unwrap_or("")),
        None => (None, rest),
    };
    let spec = match spec.strip_prefix(':') {
        Some(spec) => fields(spec, given, lookup, next, depth - 1)?,
        None if spec.is_empty() => String::new(),
        None => refuse!("expected ':' after conversion specifier"),
    };
    let value = match conversion {
        None => value,
        Some('s') => Value::text(value.print()?),
        Some('r') => Value::text(value.repr()?),
        Some('a') => Value::text(super::percent::ascii(&value.repr()?)),
        Some(other) => refuse!("Unknown conversion specifier {other}"),
    };
    one(&value, &spec)
}

/// The value of a field: an argument, and attributes and items of it.
fn named(
    name: &str,
    given: &Given,
    lookup: Lookup<'_>,
    next: &mut Option<usize>,
) -> Outcome<Value> {
    let end = name.find(['.', '[']).unwrap_or(name.len());
    let (first, mut rest) = name.split_at(end);
    let index = if first.is_empty() {
        let Some(index) = next.as_mut() else {
            refuse!("cannot switch from manual field specification to automatic field numbering")
        };
        *index += 1;
        Some(*index - 1)
    } else {
        let index = first.parse::<usize>().ok();
        if index.is_some() {
            if next.is_some_and(|it| it > 0) {
                refuse!(
                    "cannot switch from automatic field numbering to manual field specification"
                );
            }
            *next = None;
        }
        index
    };
    let mut value = match index {
        Some(index) => given.positional.get(index).cloned().ok_or_else(|| {
            fault!("Replacement index {index} out of range for positional args tuple")
        })?,
        None => given
            .keyword(first)
            .ok_or_else(|| fault!("a format has the field '{first}', the arguments none"))?,
    };
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            value = lookup(&value, &after[..end], true)?;
            rest = &after[end..];
        } else {
            let Some(end) = rest.find(']') else { refuse!("Missing ']' in format string") };
            value = lookup(&value, &rest[1..end], false)?;
            rest = &rest[end + 1..];
        }
    }
    Ok(value)
}

/// `format(value, spec)`.
pub fn one(value: &Value, spec: &str) -> Outcome<String> {
    if spec.is_empty() {
        return value.print();
    }
    let spec = Spec::parse(spec)?;
    if spec.width.max(spec.layout.precision.unwrap_or(0)) > MAX_LENGTH {
        refuse!("a format is wider than {MAX_LENGTH}");
    }
    match value {
        Value::Text(text) | Value::Safe(text) => spec.text(text),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => spec.number(value),
        _ => refuse!("unsupported format string passed to {}.__format__", value.type_name()),
    }
}

struct Spec {
    fill: Option<char>,
    align: Option<char>,
    zero: bool,
    width: usize,
    layout: Layout,
    kind: Option<char>,
}

impl Spec {
    fn parse(spec: &str) -> Outcome<Self> {
        let mut chars: Vec<char> = spec.chars().rev().collect();
        let is_align = |it: &char| "<>=^".contains(*it);
        let mut parsed = Self {
            fill: None,
            align: None,
            zero: false,
            width: 0,
            layout: Layout::default(),
            kind: None,
        };
        let last = chars.len();
        if last > 1 && is_align(&chars[last - 2]) {
            parsed.fill = chars.pop();
        }
        parsed.align = chars.pop_if(|it| is_align(it));
        parsed.layout.plus = chars.pop_if(|it| "+- ".contains(*it)).filter(|it| *it != '-');
        parsed.layout.alternate = chars.pop_if(|it| *it == '#').is_some();
        parsed.zero = parsed.fill.is_none() && chars.pop_if(|it| *it == '0').is_some();
        let digits = |chars: &mut Vec<char>| {
            let mut digits = String::new();
            while let Some(digit) = chars.pop_if(|it| it.is_ascii_digit()) {
                digits.push(digit);
            }
            digits
        };
        let width = digits(&mut chars);
        if !width.is_empty() {
            parsed.width = width.parse().map_err(|_| fault!("a format is too wide"))?;
        }
        parsed.layout.grouping = chars.pop_if(|it| ",_".contains(*it));
        if chars.pop_if(|it| *it == '.').is_some() {
            let precision = digits(&mut chars);
            parsed.layout.precision =
                Some(precision.parse().map_err(|_| fault!("Format specifier missing precision"))?);
        }
        parsed.kind = chars.pop();
        if !chars.is_empty() {
            refuse!("Invalid format specifier '{spec}'");
        }
        Ok(parsed)
    }

    fn text(&self, text: &str) -> Outcome<String> {
        if !matches!(self.kind, None | Some('s')) {
            refuse!("Unknown format code '{}' for object of type 'str'", self.kind.unwrap_or(' '));
        }
        let zero = if self.zero { '=' } else { '<' };
        let align = self.align.unwrap_or(if self.zero { '<' } else { zero });
        if align == '=' || self.layout.plus.is_some() || self.layout.alternate {
            refuse!("a format of numbers was given a text");
        }
        let text = match self.layout.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text.to_owned(),
        };
        let fill = self.fill.unwrap_or(if self.zero { '0' } else { ' ' });
        Ok(pad(&(String::new(), text), self.width, fill, align))
    }

    fn number(&self, value: &Value) -> Outcome<String> {
        let kind = self.kind.unwrap_or(if matches!(value, Value::Float(_)) { 'r' } else { 'd' });
        let written = match (kind, value.as_int()) {
            ('c', Some(code)) => {
                let char = u32::try_from(code).ok().and_then(char::from_u32);
                let char = char.ok_or_else(|| fault!("%c arg not in range(0x110000)"))?;
                return self.text_of_char(char);
            }
            ('b' | 'd' | 'n' | 'o' | 'x' | 'X', Some(number)) => {
                if self.layout.precision.is_some() {
                    refuse!("Precision not allowed in integer format specifier");
                }
                whole(number, kind, self.layout)
            }
            ('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%' | 'n' | 'r', _) if self.kind != Some('r') => {
                real(value.as_float().unwrap_or(0.0), kind, self.layout)?
            }
            _ => refuse!("Unknown format code '{kind}' for object of type '{}'", value.type_name()),
        };
        let zero = self.zero && self.align.is_none();
        let align = self.align.unwrap_or(if zero { '=' } else { '>' });
        let fill = self.fill.unwrap_or(if self.zero { '0' } else { ' ' });
        Ok(self.padded(&written, fill, align))
    }

    /// Filled up; zeros before a grouped number are grouped as well.
    fn padded(&self, written: &(String, String), fill: char, align: char) -> String {
        let (sign, digits) = written;
        match self.layout.grouping {
            Some(mark) if fill == '0' && align == '=' => {
                let end = digits.find(['.', 'e', '%']).unwrap_or(digits.len());
                let (whole, rest) = digits.split_at(end);
                let width = self.width.saturating_sub(sign.chars().count() + rest.len());
                let mut backwards: Vec<char> = whole.chars().rev().collect();
                let mut run = whole.find(mark).unwrap_or(whole.len());
                while backwards.len() < width {
                    if run == 3 {
                        backwards.push(mark);
                    }
                    run = run % 3 + 1;
                    backwards.push('0');
                }
                let whole: String = backwards.into_iter().rev().collect();
                format!("{sign}{whole}{rest}")
            }
            _ => pad(written, self.width, fill, align),
        }
    }

    fn text_of_char(&self, char: char) -> Outcome<String> {
        let fill = self.fill.unwrap_or(' ');
        Ok(pad(&(String::new(), char.to_string()), self.width, fill, self.align.unwrap_or('<')))
    }
}
