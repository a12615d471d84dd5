//! Filters of numbers.

use super::arguments::{Given, whole};
use super::fault::{Outcome, fault, refuse};
use super::operators;
use super::value::Value;

/// `abs`, `int`, `float`, `filesizeformat` and `round`.
pub fn number(name: &str, value: &Value, given: &Given) -> Outcome<Value> {
    match name {
        "abs" => {
            given.places::<0>(name, 0)?;
            match value {
                Value::Float(number) => Ok(Value::Float(number.abs())),
                _ => match value.as_int() {
                    Some(number) => operators::signed(&Value::Int(number), number < 0),
                    None => refuse!("bad operand type for abs(): '{}'", value.type_name()),
                },
            }
        }
        "int" => {
            let [default, base] = given.bind(name, ["default", "base"], 0)?;
            let base = base.as_ref().map_or(Ok(10), whole)?;
            Ok(to_int(value, base)?.map_or(default.unwrap_or(Value::Int(0)), Value::Int))
        }
        "float" => {
            let [default] = given.bind(name, ["default"], 0)?;
            Ok(to_float(value)?.map_or(default.unwrap_or(Value::Float(0.0)), Value::Float))
        }
        "filesizeformat" => {
            let [binary] = given.bind(name, ["binary"], 0)?;
            let bytes = to_float(value)?.ok_or_else(|| fault!("could not convert to float"))?;
            Ok(Value::text(file_size(bytes, binary.is_some_and(|it| it.is_true()))))
        }
        _ => {
            let [precision, method] = given.bind(name, ["precision", "method"], 0)?;
            let precision = precision.as_ref().map_or(Ok(0), whole)?.clamp(-400, 400) as i32;
            let method = method.map_or(Ok("common".to_owned()), |it| it.print())?;
            round(value, precision, &method)
        }
    }
}

fn to_int(value: &Value, base: i128) -> Outcome<Option<i128>> {
    if let Value::Undefined(why) = value {
        refuse!("{why}");
    }
    if let Some(text) = value.as_str() {
        if let Some(number) = parse_int(text, base) {
            return Ok(Some(number));
        }
    } else if let Some(number) = value.as_int() {
        return Ok(Some(number));
    }
    match to_float(value)? {
        Some(number) if number.is_infinite() && value.as_str().is_none() => {
            refuse!("cannot convert float infinity to integer")
        }
        number => number.filter(|it| it.is_finite()).map(operators::truncated).transpose(),
    }
}

/// `int(text, base)`.
fn parse_int(text: &str, base: i128) -> Option<i128> {
    let text = text.trim_matches(super::unicode::is_space);
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (&text[..1], digits),
        None => ("", text),
    };
    let lower = digits.to_ascii_lowercase();
    let prefix =
        |prefix: &str| lower.strip_prefix(prefix).map(|it| it.strip_prefix('_').unwrap_or(it));
    let (base, digits) = match base {
        0 => match (prefix("0x"), prefix("0o"), prefix("0b")) {
            (Some(rest), ..) => (16, rest),
            (_, Some(rest), _) => (8, rest),
            (.., Some(rest)) => (2, rest),
            _ => (10, lower.as_str()),
        },
        16 => (16, prefix("0x").unwrap_or(&lower)),
        8 => (8, prefix("0o").unwrap_or(&lower)),
        2 => (2, prefix("0b").unwrap_or(&lower)),
        base => (u32::try_from(base).ok().filter(|it| (2..=36).contains(it))?, lower.as_str()),
    };
    plain(digits).and_then(|digits| i128::from_str_radix(&format!("{sign}{digits}"), base).ok())
}

/// Digits without the `_` between them.
fn plain(digits: &str) -> Option<String> {
    let wrong =
        digits.starts_with(['_', '+', '-']) || digits.ends_with('_') || digits.contains("__");
    (!wrong && !digits.is_empty()).then(|| digits.replace('_', ""))
}

/// `float(value)`.
fn to_float(value: &Value) -> Outcome<Option<f64>> {
    if let Value::Undefined(why) = value {
        refuse!("{why}");
    }
    let Some(text) = value.as_str() else { return Ok(value.as_float()) };
    let text = text.trim_matches(super::unicode::is_space);
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    Ok(plain(unsigned).and_then(|_| text.replace('_', "").parse().ok()))
}

fn round(value: &Value, precision: i32, method: &str) -> Outcome<Value> {
    if !matches!(method, "common" | "ceil" | "floor") {
        refuse!("method must be common, ceil or floor");
    }
    let Some(number) = value.as_float() else {
        refuse!("type {} doesn't define __round__ method", value.type_name())
    };
    if method != "common" {
        let scale = 10_f64.powi(precision);
        let scaled = number * scale;
        let whole = if method == "ceil" { scaled.ceil() } else { scaled.floor() };
        return Ok(Value::Float(whole / scale));
    }
    if let (Some(whole), true) = (value.as_int(), precision >= 0) {
        return Ok(Value::Int(whole));
    }
    if precision >= 0 {
        let digits = usize::try_from(precision).unwrap_or(0);
        return Ok(Value::Float(format!("{number:.digits$}").parse().unwrap_or(number)));
    }
    let scale = 10_f64.powi(-precision);
    let rounded = (number / scale).round_ties_even() * scale;
    Ok(if value.as_int().is_some() {
        Value::Int(operators::truncated(rounded)?)
    } else {
        Value::Float(rounded)
    })
}

fn file_size(bytes: f64, binary: bool) -> String {
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    if bytes == 1.0 {
        return "1 Byte".to_owned();
    }
    if bytes < base {
        return format!("{} Bytes", bytes.trunc());
    }
    let letters = if binary { "KMGTPEZY" } else { "kMGTPEZY" };
    let mut power = 2;
    let mut letter = 'Y';
    for it in letters.chars() {
        letter = it;
        if bytes < base.powi(power) {
            break;
        }
        power += 1;
    }
    let unit = base.powi(power.min(9));
    format!("{:.1} {letter}{}B", base * bytes / unit, if binary { "i" } else { "" })
}
