//! `+ - * / // % **`, `in`, items and slices, as Python has them.

use super::ast::Operator;
use super::budget::{self, MAX_ITEMS, MAX_LENGTH};
use super::fault::{Fault, Outcome, fault, refuse};
use super::value::{Range, Value, View};

impl Operator {
    fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Sub => "-",
            Self::Mul => "*",
            Self::Div => "/",
            Self::FloorDiv => "//",
            Self::Mod => "%",
            Self::Pow => "** or pow()",
        }
    }
}

/// `left operator right`.
pub fn binary(operator: Operator, left: &Value, right: &Value) -> Outcome<Value> {
    budget::steps(1)?;
    if operator == Operator::Mod
        && let Some(text) = left.as_str()
    {
        budget::read(text.len())?;
        if matches!(left, Value::Safe(_)) {
            refuse!("`%` of a text marked safe is not supported in chat templates");
        }
        return super::percent::format(text, right).map(Value::text);
    }
    if let Value::Undefined(why) = left {
        refuse!("{why}");
    }
    if let Value::Undefined(why) = right {
        refuse!("{why}");
    }
    if let (Some(left), Some(right)) = (left.as_int(), right.as_int()) {
        return whole(operator, left, right);
    }
    if let (Some(left), Some(right)) = (left.as_float(), right.as_float()) {
        return real(operator, left, right);
    }
    let unsupported = || {
        fault!(
            "unsupported operand type(s) for {}: '{}' and '{}'",
            operator.sign(),
            left.type_name(),
            right.type_name()
        )
    };
    match operator {
        Operator::Add => add(left, right).unwrap_or_else(|| Err(unsupported())),
        Operator::Mul => match (left.as_int(), right.as_int()) {
            (_, Some(count)) => repeat(left, count).unwrap_or_else(|| Err(unsupported())),
            (Some(count), _) => repeat(right, count).unwrap_or_else(|| Err(unsupported())),
            _ => Err(unsupported()),
        },
        _ => Err(unsupported()),
    }
}

/// A text that is safe where `value` is.
pub fn like(value: &Value, text: String) -> Value {
    match value {
        Value::Safe(_) => Value::safe(text),
        _ => Value::text(text),
    }
}

fn add(left: &Value, right: &Value) -> Option<Outcome<Value>> {
    use Value::{Group, List, Safe, Tuple};
    let fits = |left: usize, right: usize, most: usize| match left + right > most {
        true => Err(fault!("a sum is longer than {most}")),
        false => Ok(()),
    };
    let listed =
        |a: &[Value], b: &[Value]| fits(a.len(), b.len(), MAX_ITEMS).map(|()| [a, b].concat());
    Some(match (left, right) {
        (List(a), List(b)) => listed(a, b).map(Value::list),
        (Tuple(a) | Group(a), Tuple(b) | Group(b)) => listed(a, b).map(Value::tuple),
        _ => {
            let (a, b) = (left.as_str()?, right.as_str()?);
            fits(a.len(), b.len(), MAX_LENGTH).map(|()| match (left, right) {
                (Safe(_), _) | (_, Safe(_)) => {
                    Value::safe([escaped(left), escaped(right)].concat())
                }
                _ => Value::text([a, b].concat()),
            })
        }
    })
}

/// The text with HTML's signs written out, as it is where it is safe already.
pub fn escaped(value: &Value) -> String {
    match value {
        Value::Safe(text) => text.to_string(),
        _ => escape(value.as_str().unwrap_or_default()),
    }
}

/// Text with HTML's signs written out.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(char),
        }
    }
    out
}

fn repeat(value: &Value, count: i128) -> Option<Outcome<Value>> {
    let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
    let fits = |length: usize, most: usize| match length.checked_mul(count) {
        Some(total) if total <= most => Ok(()),
        _ => Err(fault!("a repetition is longer than {most}")),
    };
    let repeated =
        |items: &[Value]| items.iter().cycle().take(items.len() * count).cloned().collect();
    Some(match value {
        Value::Text(text) | Value::Safe(text) => {
            fits(text.len(), MAX_LENGTH).map(|()| like(value, text.repeat(count)))
        }
        Value::List(items) => fits(items.len(), MAX_ITEMS).map(|()| Value::list(repeated(items))),
        Value::Tuple(items) | Value::Group(items) => {
            fits(items.len(), MAX_ITEMS).map(|()| Value::tuple(repeated(items)))
        }
        _ => return None,
    })
}

/// A finite float without its fraction, as a whole number.
pub fn truncated(value: f64) -> Outcome<i128> {
    if value.abs() >= 1.7e38 { Err(too_large()) } else { Ok(value.trunc() as i128) }
}

fn too_large() -> Fault {
    fault!("a whole number has more than 127 bits")
}

fn whole(operator: Operator, left: i128, right: i128) -> Outcome<Value> {
    let value = match operator {
        Operator::Add => left.checked_add(right),
        Operator::Sub => left.checked_sub(right),
        Operator::Mul => left.checked_mul(right),
        Operator::Div => return real(operator, left as f64, right as f64),
        Operator::FloorDiv | Operator::Mod if right == 0 => {
            refuse!("integer division or modulo by zero")
        }
        Operator::FloorDiv => floor_division(left, right),
        Operator::Mod => left
            .checked_rem_euclid(right)
            .map(|rest| if right < 0 && rest != 0 { rest + right } else { rest }),
        Operator::Pow if right < 0 => return real(operator, left as f64, right as f64),
        Operator::Pow => {
            u32::try_from(right).ok().and_then(|it| left.checked_pow(it)).or(match left {
                0 | 1 => Some(left),
                -1 => Some(if right % 2 == 0 { 1 } else { -1 }),
                _ => None,
            })
        }
    };
    value.map(Value::Int).ok_or_else(too_large)
}

fn floor_division(left: i128, right: i128) -> Option<i128> {
    let quotient = left.checked_div(right)?;
    let inexact = left % right != 0 && (left < 0) != (right < 0);
    Some(quotient - i128::from(inexact))
}

fn real(operator: Operator, left: f64, right: f64) -> Outcome<Value> {
    Ok(Value::Float(match operator {
        Operator::Add => left + right,
        Operator::Sub => left - right,
        Operator::Mul => left * right,
        Operator::Div | Operator::FloorDiv | Operator::Mod if right == 0.0 => {
            refuse!("division by zero")
        }
        Operator::Div => left / right,
        Operator::FloorDiv => floor_and_rest(left, right).0,
        Operator::Mod => floor_and_rest(left, right).1,
        Operator::Pow if left == 0.0 && right < 0.0 => {
            refuse!("0.0 cannot be raised to a negative power")
        }
        Operator::Pow if left < 0.0 && right.fract() != 0.0 => {
            refuse!("a power is a complex number")
        }
        Operator::Pow => left.powf(right),
    }))
}

/// CPython's `float_divmod`.
fn floor_and_rest(left: f64, right: f64) -> (f64, f64) {
    let mut rest = left % right;
    let mut quotient = (left - rest) / right;
    if rest == 0.0 {
        rest = 0.0_f64.copysign(right);
    } else if (right < 0.0) != (rest < 0.0) {
        rest += right;
        quotient -= 1.0;
    }
    if quotient == 0.0 {
        return (0.0_f64.copysign(left / right), rest);
    }
    let floor = quotient.floor();
    (if quotient - floor > 0.5 { floor + 1.0 } else { floor }, rest)
}

/// `-value`, `+value`.
pub fn signed(value: &Value, negative: bool) -> Outcome<Value> {
    match value {
        Value::Undefined(why) => refuse!("{why}"),
        Value::Float(value) => Ok(Value::Float(if negative { -value } else { *value })),
        _ => match value.as_int() {
            Some(value) if negative => value.checked_neg().map(Value::Int).ok_or_else(too_large),
            Some(value) => Ok(Value::Int(value)),
            None => refuse!(
                "bad operand type for unary {}: '{}'",
                if negative { '-' } else { '+' },
                value.type_name()
            ),
        },
    }
}

/// `item in container`.
pub fn contains(container: &Value, item: &Value) -> Outcome<bool> {
    let is_item = |found: &Value| budget::steps(1).map(|()| found.equals(item));
    match container {
        Value::Text(text) | Value::Safe(text) => match item.as_str() {
            Some(part) => budget::read(text.len() + part.len()).map(|()| text.contains(part)),
            None => {
                refuse!("'in <string>' requires string as left operand, not {}", item.type_name())
            }
        },
        Value::Dict(dict) | Value::View(View::Keys, dict) => {
            item.hashable()?;
            Ok(dict.get(item).is_some())
        }
        Value::Generator(generator) => {
            while let Some(found) = generator.next()? {
                if is_item(&found)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::List(items) | Value::Tuple(items) | Value::Group(items) => {
            for found in &**items {
                if is_item(found)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => match container.items() {
            Ok(items) => Ok(items.iter().any(|it| it.equals(item))),
            Err(_) => refuse!("argument of type '{}' is not iterable", container.type_name()),
        },
    }
}

/// `value[key]`, if there is one.
pub fn item(value: &Value, key: &Value) -> Option<Value> {
    match value {
        Value::Dict(dict) => dict.get(key).cloned(),
        Value::Text(text) | Value::Safe(text) => {
            let index = key.as_int()?;
            budget::read(text.len()).ok()?;
            let char = if index >= 0 {
                text.chars().nth(usize::try_from(index).ok()?)?
            } else {
                text.chars().rev().nth(usize::try_from(-(index + 1)).ok()?)?
            };
            Some(like(value, char.to_string()))
        }
        Value::List(items) | Value::Tuple(items) | Value::Group(items) => {
            Some(items[position(key.as_int()?, items.len())?].clone())
        }
        Value::Range(range) => Some(range.at(position(key.as_int()?, range.len())?)),
        _ => None,
    }
}

fn position(index: i128, length: usize) -> Option<usize> {
    let index = if index < 0 { index + length as i128 } else { index };
    usize::try_from(index).ok().filter(|&index| index < length)
}

/// `value[start:stop:step]`.
pub fn slice(value: &Value, bounds: [Option<Value>; 3]) -> Outcome<Value> {
    if let Value::Undefined(why) = value {
        refuse!("{why}");
    }
    let number = |bound: Option<Value>| match bound {
        None | Some(Value::None) => Ok(None),
        Some(bound) => bound.as_int().map(Some).ok_or_else(|| {
            fault!("slice indices must be integers or None or have an __index__ method")
        }),
    };
    let [start, stop, step] = bounds;
    // Farther steps than the longest list has items are all alike.
    let most = 1 << 62;
    let step = number(step)?.unwrap_or(1).clamp(-most, most);
    let (start, stop) = (number(start)?, number(stop)?);
    if step == 0 {
        refuse!("slice step cannot be zero");
    }
    match value {
        Value::Text(text) | Value::Safe(text) => {
            budget::look_up(text)?;
            let chars: Vec<char> = text.chars().collect();
            let range = range_of(start, stop, step, chars.len());
            let text = range.values().filter_map(|it| Some(chars[it.as_int()? as usize]));
            Ok(like(value, text.collect()))
        }
        Value::List(items) | Value::Tuple(items) | Value::Group(items) => {
            let range = range_of(start, stop, step, items.len());
            let chosen = range.values().filter_map(|it| Some(items[it.as_int()? as usize].clone()));
            let chosen = chosen.collect();
            let list = matches!(value, Value::List(_));
            Ok(if list { Value::list(chosen) } else { Value::tuple(chosen) })
        }
        Value::Range(whole) => {
            let part = range_of(start, stop, step, whole.len());
            let at = |index: i128| whole.step.checked_mul(index)?.checked_add(whole.start);
            let step = whole.step.checked_mul(part.step);
            let range = at(part.start).zip(at(part.stop)).zip(step);
            let ((start, stop), step) = range.ok_or_else(too_large)?;
            Ok(Value::Range(Range { start, stop, step }))
        }
        Value::Dict(_) => refuse!("unhashable type: 'slice'"),
        _ => refuse!("'{}' object is not subscriptable", value.type_name()),
    }
}

/// The indices of a slice.
fn range_of(start: Option<i128>, stop: Option<i128>, step: i128, length: usize) -> Range {
    let length = length as i128;
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let bound = |bound: Option<i128>, default: i128| match bound {
        None => default,
        Some(it) if it < 0 => (it + length).clamp(low, high),
        Some(it) => it.clamp(low, high),
    };
    let (first, last) = if step > 0 { (low, high) } else { (high, low) };
    Range { start: bound(start, first), stop: bound(stop, last), step }
}
