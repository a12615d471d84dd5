//! `text % values`.

use super::budget::{self, MAX_LENGTH};
use super::fault::{Outcome, fault, refuse};
use super::numbers::{Layout, pad, real, whole};
use super::value::Value;

/// What stands between `%` and the letter of a conversion.
#[derive(Default)]
struct Flags {
    left: bool,
    zero: bool,
    layout: Layout,
    width: usize,
}

/// The values that conversions take, one after the other.
struct Given<'v> {
    values: &'v [Value],
    at: usize,
    /// Where keys are looked up.
    mapping: Option<&'v Value>,
}

impl Given<'_> {
    fn next(&mut self) -> Outcome<Value> {
        self.at += 1;
        self.values
            .get(self.at - 1)
            .cloned()
            .ok_or_else(|| fault!("not enough arguments for format string"))
    }
}

/// Writes `values` where `text` has conversions.
pub fn format(text: &str, values: &Value) -> Outcome<String> {
    let single = std::slice::from_ref(values);
    let (list, mapping) = match values {
        Value::Tuple(items) | Value::Group(items) => (items.as_slice(), None),
        Value::List(_) | Value::Dict(_) | Value::Range(_) | Value::Undefined(_) => {
            (single, Some(values))
        }
        _ => (single, None),
    };
    let mut given = Given { values: list, at: 0, mapping };
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('%') {
        out.push_str(&rest[..start]);
        rest = &rest[start + 1..];
        let before = out.len();
        rest = conversion(rest, &mut given, &mut out)?;
        budget::read(out.len() - before)?;
        if out.len() > MAX_LENGTH {
            refuse!("a formatted text is longer than {MAX_LENGTH}");
        }
    }
    out.push_str(rest);
    if given.at < given.values.len() && given.mapping.is_none() {
        refuse!("not all arguments converted during string formatting");
    }
    Ok(out)
}

fn conversion<'t>(text: &'t str, given: &mut Given<'_>, out: &mut String) -> Outcome<&'t str> {
    let mut rest = text;
    let mut value = None;
    if let Some(after) = rest.strip_prefix('(') {
        let mut open = 1;
        let end = after.find(|it| {
            open += match it {
                '(' => 1,
                ')' => -1,
                _ => 0,
            };
            open == 0
        });
        let Some(end) = end else { refuse!("incomplete format key") };
        let Some(mapping @ Value::Dict(_)) = given.mapping else {
            refuse!("format requires a mapping")
        };
        let key = Value::text(&after[..end]);
        value =
            Some(super::operators::item(mapping, &key).ok_or_else(|| {
                fault!("a format has the key '{}', the mapping none", &after[..end])
            })?);
        rest = &after[end + 1..];
    }
    let mut flags = Flags::default();
    while let Some(flag) = rest.chars().next().filter(|it| "-+ #0".contains(*it)) {
        match flag {
            '-' => flags.left = true,
            '+' => flags.layout.plus = Some('+'),
            ' ' => flags.layout.plus = flags.layout.plus.or(Some(' ')),
            '#' => flags.layout.alternate = true,
            _ => flags.zero = true,
        }
        rest = &rest[1..];
    }
    let (width, after) = number(rest, given)?;
    rest = after;
    if let Some(width) = width {
        flags.left |= width < 0;
        flags.width = usize::try_from(width.unsigned_abs()).unwrap_or(usize::MAX);
    }
    if let Some(after) = rest.strip_prefix('.') {
        let (precision, after) = number(after, given)?;
        flags.layout.precision = Some(usize::try_from(precision.unwrap_or(0)).unwrap_or(0));
        rest = after;
    }
    if flags.width.max(flags.layout.precision.unwrap_or(0)) > MAX_LENGTH {
        refuse!("a format is wider than {MAX_LENGTH}");
    }
    rest = rest.strip_prefix(['h', 'l', 'L']).unwrap_or(rest);
    let Some(kind) = rest.chars().next() else { refuse!("incomplete format") };
    if kind == '%' {
        out.push('%');
    } else {
        let value = match value {
            Some(value) => value,
            None => given.next()?,
        };
        convert(kind, &value, &flags, out)?;
    }
    Ok(&rest[kind.len_utf8()..])
}

/// A number written out, or with `*` taken from the values.
fn number<'t>(text: &'t str, given: &mut Given<'_>) -> Outcome<(Option<i128>, &'t str)> {
    if let Some(rest) = text.strip_prefix('*') {
        let value = given.next()?;
        return match value.as_int() {
            Some(value) => Ok((Some(value), rest)),
            None => refuse!("* wants int"),
        };
    }
    let end = text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len());
    Ok((text[..end].parse().ok(), &text[end..]))
}

fn convert(kind: char, value: &Value, flags: &Flags, out: &mut String) -> Outcome<()> {
    let layout = flags.layout;
    let written = match kind {
        's' | 'r' | 'a' => {
            let mut text = if kind == 's' { value.print()? } else { value.repr()? };
            if kind == 'a' {
                text = ascii(&text);
            }
            if let Some(precision) = layout.precision {
                text = text.chars().take(precision).collect();
            }
            fill(&text, flags, out);
            return Ok(());
        }
        'c' => {
            let char = match (value.as_str(), value.as_int()) {
                (Some(text), _) if text.chars().count() == 1 => text.chars().next(),
                (None, Some(code)) => u32::try_from(code).ok().and_then(char::from_u32),
                _ => None,
            };
            let Some(char) = char else { refuse!("%c requires int or char") };
            fill(char.encode_utf8(&mut [0; 4]), flags, out);
            return Ok(());
        }
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
            let number = match value {
                Value::Float(float) if matches!(kind, 'd' | 'i' | 'u') && float.is_finite() => {
                    Some(super::operators::truncated(*float)?)
                }
                _ => value.as_int(),
            };
            let Some(number) = number else {
                let kinds =
                    if matches!(kind, 'd' | 'i' | 'u') { "a real number" } else { "an integer" };
                refuse!("%{kind} format: {kinds} is required, not {}", value.type_name())
            };
            let (sign, digits) = whole(number, kind, layout);
            let zeros = layout.precision.unwrap_or(0).saturating_sub(digits.len());
            (sign, "0".repeat(zeros) + &digits)
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            if let Value::Undefined(why) = value {
                refuse!("{why}");
            }
            let Some(number) = value.as_float() else {
                refuse!("must be real number, not {}", value.type_name())
            };
            real(number, kind, layout)?
        }
        _ => refuse!("unsupported format character '{kind}'"),
    };
    let align = if flags.left {
        '<'
    } else if flags.zero {
        '='
    } else {
        '>'
    };
    let fill = if flags.zero && !flags.left { '0' } else { ' ' };
    out.push_str(&pad(&written, flags.width, fill, align));
    Ok(())
}

fn fill(text: &str, flags: &Flags, out: &mut String) {
    let blanks = " ".repeat(flags.width.saturating_sub(text.chars().count()));
    if flags.left {
        out.push_str(text);
        out.push_str(&blanks);
    } else {
        out.push_str(&blanks);
        out.push_str(text);
    }
}

/// Escapes for all that is not ASCII.
pub fn ascii(text: &str) -> String {
    let mut out = String::new();
    for char in text.chars() {
        if char.is_ascii() {
            out.push(char);
        } else {
            super::print::escape(char, &mut out);
        }
    }
    out
}
