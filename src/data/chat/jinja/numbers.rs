//! Numbers as `%` and `str.format` write them.

use super::fault::{Outcome, fault};

/// The most digits after a point: more than any float has.
pub const MAX_PRECISION: usize = 10_000;

/// How a number is laid out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Layout {
    /// What stands before positive numbers.
    pub plus: Option<char>,
    /// `#`: prefixes of bases, points and zeros that would be left out.
    pub alternate: bool,
    pub precision: Option<usize>,
    pub grouping: Option<char>,
}

/// The sign of a number, and what follows it.
pub type Written = (String, String);

/// A whole number in a base.
pub fn whole(value: i128, kind: char, layout: Layout) -> Written {
    let magnitude = value.unsigned_abs();
    let (prefix, digits, group) = match kind {
        'b' => ("0b", format!("{magnitude:b}"), 4),
        'o' => ("0o", format!("{magnitude:o}"), 4),
        'x' => ("0x", format!("{magnitude:x}"), 4),
        'X' => ("0X", format!("{magnitude:X}"), 4),
        _ => ("", magnitude.to_string(), 3),
    };
    let prefix = if layout.alternate { prefix } else { "" };
    (sign(value < 0, layout) + prefix, grouped(&digits, layout.grouping, group))
}

/// A float as `e`, `f`, `g`, `%` or, with `r`, as `repr` writes it.
pub fn real(value: f64, kind: char, layout: Layout) -> Outcome<Written> {
    if layout.precision.is_some_and(|it| it > MAX_PRECISION) {
        return Err(fault!("a format has a precision above {MAX_PRECISION}"));
    }
    let sign = sign(value.is_sign_negative() && !value.is_nan(), layout);
    let magnitude = value.abs();
    let precision = layout.precision.unwrap_or(6);
    let digits = if !value.is_finite() {
        let word = if value.is_nan() { "nan" } else { "inf" };
        word.to_owned() + if kind == '%' { "%" } else { "" }
    } else {
        match kind.to_ascii_lowercase() {
            'e' => exponent(magnitude, precision, layout.alternate),
            'g' | 'n' => general(magnitude, precision.max(1), layout.alternate),
            'r' => match layout.precision {
                Some(precision) => decimal(general_of_repr(magnitude, precision.max(1))),
                None => super::print::float(magnitude),
            },
            '%' => fixed(magnitude * 100.0, precision, layout.alternate) + "%",
            _ => fixed(magnitude, precision, layout.alternate),
        }
    };
    let digits = match digits.find(|it: char| !it.is_ascii_digit()) {
        Some(end) => grouped(&digits[..end], layout.grouping, 3) + &digits[end..],
        None => grouped(&digits, layout.grouping, 3),
    };
    Ok((sign, if kind.is_ascii_uppercase() { digits.to_uppercase() } else { digits }))
}

fn sign(negative: bool, layout: Layout) -> String {
    if negative { "-".to_owned() } else { layout.plus.map(String::from).unwrap_or_default() }
}

fn grouped(digits: &str, grouping: Option<char>, size: usize) -> String {
    let Some(mark) = grouping else { return digits.to_owned() };
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(size) {
            out.push(mark);
        }
        out.push(digit);
    }
    out
}

fn fixed(value: f64, precision: usize, alternate: bool) -> String {
    let digits = format!("{value:.precision$}");
    if alternate && precision == 0 { digits + "." } else { digits }
}

/// Mantissa and exponent with the digits asked for.
fn scientific(value: f64, precision: usize) -> (String, i32) {
    let text = format!("{value:.precision$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    (mantissa.to_owned(), exponent.parse().unwrap_or(0))
}

fn with_exponent(mantissa: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

fn exponent(value: f64, precision: usize, alternate: bool) -> String {
    let (mantissa, exponent) = scientific(value, precision);
    let point = if alternate && precision == 0 { "." } else { "" };
    with_exponent(&(mantissa + point), exponent)
}

fn general(value: f64, precision: usize, alternate: bool) -> String {
    let (mantissa, exponent) = scientific(value, precision - 1);
    let whole = (-4..precision as i32).contains(&exponent);
    let digits = if whole {
        let decimals = usize::try_from(precision as i32 - 1 - exponent).unwrap_or(0);
        fixed(value, decimals, alternate)
    } else {
        mantissa
    };
    let digits = match digits.contains('.') && !alternate {
        true => digits.trim_end_matches('0').trim_end_matches('.'),
        false => &digits,
    };
    if whole { digits.to_owned() } else { with_exponent(digits, exponent) }
}

/// As `general`, but with an exponent from where there would be no digit after the point.
fn general_of_repr(value: f64, precision: usize) -> String {
    let (mantissa, exponent) = scientific(value, precision - 1);
    if exponent == precision as i32 - 1 && precision > 1 || exponent >= precision as i32 {
        let digits = match mantissa.contains('.') {
            true => mantissa.trim_end_matches('0').trim_end_matches('.'),
            false => &mantissa,
        };
        return with_exponent(digits, exponent);
    }
    general(value, precision, false)
}

fn decimal(digits: String) -> String {
    if digits.contains(['.', 'e']) { digits } else { digits + ".0" }
}

/// Fills a number up to `width`, between its sign and its digits where `align` is `=`.
pub fn pad((sign, digits): &Written, width: usize, fill: char, align: char) -> String {
    let length = sign.chars().count() + digits.chars().count();
    let missing = width.saturating_sub(length);
    let fill = |count: usize| String::from(fill).repeat(count);
    match align {
        '<' => format!("{sign}{digits}{}", fill(missing)),
        '^' => format!("{}{sign}{digits}{}", fill(missing / 2), fill(missing - missing / 2)),
        '=' => format!("{sign}{}{digits}", fill(missing)),
        _ => format!("{}{sign}{digits}", fill(missing)),
    }
}
