//! The number that an answer ends with, as people and models write it.
//!
//! The first of these that the text holds is read: the last `\boxed{…}`; what follows the last `####` on its
//! line (GSM8K); the last number. Nothing is cut from the text before, since an answer may stand anywhere.

use super::decimal::Decimal;

/// A number as it was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Number {
    /// Whole, or with decimals that end.
    Exact(Decimal),
    /// A fraction, or what a program computed.
    Rounded(f64),
}

impl Number {
    /// A number of JSON. One with a fraction was computed.
    pub fn of_json(number: &serde_json::Number) -> Option<Self> {
        let value = number.as_f64()?;
        let is_whole = !number.is_f64() || value.fract() == 0.0;
        let exact = is_whole.then(|| Decimal::parse(&number.to_string())).flatten();
        Some(exact.map_or(Self::Rounded(value), Self::Exact))
    }

    fn value(&self) -> f64 {
        match self {
            Self::Exact(decimal) => decimal.value(),
            Self::Rounded(value) => *value,
        }
    }

    fn negated(self) -> Self {
        match self {
            Self::Exact(decimal) => Self::Exact(decimal.negated()),
            Self::Rounded(value) => Self::Rounded(-value),
        }
    }
}

/// The number that a text answers with.
pub fn answered(text: &str) -> Option<Number> {
    let text = plain(text);
    match marked(&text) {
        Some(marked) => single(marked),
        None => numbers(&text).pop(),
    }
}

/// The number that a reference answer holds: that behind its mark, or the only one there is.
///
/// # Errors
/// In words, if there is none or there are several without a mark.
pub fn expected(text: &str) -> Result<Number, String> {
    let text = plain(text);
    if let Some(marked) = marked(&text) {
        return single(marked).ok_or_else(|| "no number behind its mark".to_owned());
    }
    let mut all = numbers(&text);
    all.dedup_by(|a, b| is_same(a, b));
    match all.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err("no number".to_owned()),
        several => Err(format!("{} numbers", several.len())),
    }
}

/// Whether two numbers are the same; where one of them is rounded, but for rounding.
pub fn is_same(one: &Number, two: &Number) -> bool {
    if let (Number::Exact(one), Number::Exact(two)) = (one, two) {
        return one == two;
    }
    let (one, two) = (one.value(), two.value());
    one == two || (one - two).abs() <= 1e-12 * one.abs().max(two.abs())
}

/// The text with the signs of LaTeX and typography as plain ones.
fn plain(text: &str) -> String {
    let spelled = [
        ("{,}", ","),
        (",\\!", ","),
        ("\\!", ""),
        ("\\,", ""),
        ("\\$", "$"),
        ("\\%", "%"),
        ("\\dfrac", "\\frac"),
        ("\\tfrac", "\\frac"),
        ("\u{2212}", "-"),
        ("\u{202f}", ""),
        ("\u{2009}", ""),
    ];
    spelled.iter().fold(text.to_owned(), |text, (from, to)| match text.contains(from) {
        true => text.replace(from, to),
        false => text,
    })
}

/// What stands in the last box, or behind the last `####`.
fn marked(text: &str) -> Option<&str> {
    const BOXES: [&str; 2] = ["\\boxed{", "\\fbox{"];
    let last = BOXES.iter().filter_map(|name| Some((text.rfind(name)?, name.len()))).max();
    let boxed = last.and_then(|(at, len)| braced(&text[at + len..]));
    boxed.or_else(|| {
        let (_, behind) = text.rsplit_once("####")?;
        behind.trim_start().lines().next()
    })
}

/// The text up to the brace that closes the one before it.
fn braced(text: &str) -> Option<&str> {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&text[..at]);
        }
    }
    None
}

/// The number of a marked answer: behind the last equals sign, its first; units and powers follow it.
fn single(marked: &str) -> Option<Number> {
    let value = marked.rsplit('=').find(|part| !part.trim().is_empty())?;
    numbers(value).into_iter().next()
}

/// All numbers of a text, in their order.
fn numbers(text: &str) -> Vec<Number> {
    let mut found = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match number_at(text, at) {
            Some((number, end)) => {
                found.push(number);
                at = end;
            }
            None => at += 1,
        }
    }
    found
}

/// The number that begins at a byte, its sign before it included, and where it ends.
fn number_at(text: &str, at: usize) -> Option<(Number, usize)> {
    let bytes = text.as_bytes();
    let signed = |number: Number| if has_minus(text, at) { number.negated() } else { number };
    if text.is_char_boundary(at) && text[at..].starts_with("\\frac") {
        let (value, end) = fraction_at(text, at + 5)?;
        return Some((signed(Number::Rounded(value)), end));
    }
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let starts = is_digit(at) || (bytes[at] == b'.' && is_digit(at + 1));
    // A digit within a word or a name is no number: x2, H2O, 1.2.3.
    if !starts || text[..at].ends_with(|c: char| is_of_word(c) || c == '.') {
        return None;
    }
    let (mut number, mut end) = decimal_at(bytes, at)?;
    // A fraction: 3/4.
    if bytes.get(end) == Some(&b'/')
        && is_digit(end + 1)
        && let Some((below, behind)) = decimal_at(bytes, end + 1)
        && below.value() != 0.0
    {
        (number, end) = (Number::Rounded(number.value() / below.value()), behind);
    }
    Some((signed(number), end))
}

/// Whether a character before a digit makes it part of a word: a letter that has a small and a large form, a digit, `_`.
/// Scripts without the two (Chinese, Japanese, Thai) write words and numbers side by side.
fn is_of_word(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase() || c.is_numeric() || c == '_'
}

/// Whether a minus that is a sign stands before the number, perhaps before its currency.
fn has_minus(text: &str, at: usize) -> bool {
    let before = text[..at].trim_end_matches(['$', '€', '£', '¥']);
    let Some(rest) = before.strip_suffix('-') else { return false };
    // "5-3" is a difference or a range.
    !rest.ends_with(|c: char| is_of_word(c) || matches!(c, ')' | '}' | ']' | '-'))
}

/// Digits with commas between thousands, decimals and an exponent: the value and where it ends.
fn decimal_at(bytes: &[u8], at: usize) -> Option<(Number, usize)> {
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let digits_from = |mut at: usize| {
        while is_digit(at) {
            at += 1;
        }
        at
    };
    let mut end = digits_from(at);
    if (1..=3).contains(&(end - at)) {
        while bytes.get(end) == Some(&b',') && digits_from(end + 1) == end + 4 {
            end += 4;
        }
    }
    if bytes.get(end) == Some(&b'.') && is_digit(end + 1) {
        end = digits_from(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let signed = end + 1 + usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        if is_digit(signed) {
            end = digits_from(signed);
        }
    }
    let digits: String =
        bytes[at..end].iter().filter(|&&b| b != b',').map(|&b| char::from(b)).collect();
    let value: f64 = digits.parse().ok()?;
    let number = Decimal::parse(&digits).map_or(Number::Rounded(value), Number::Exact);
    value.is_finite().then_some((number, end))
}

/// `{a}{b}` or `ab` behind `\frac`.
fn fraction_at(text: &str, at: usize) -> Option<(f64, usize)> {
    let mut end = at;
    let mut part = || -> Option<f64> {
        let rest = &text[end..];
        let skipped = rest.len() - rest.trim_start().len();
        let rest = rest.trim_start();
        let inner = match rest.strip_prefix('{') {
            Some(inside) => {
                let inner = braced(inside)?;
                end += skipped + inner.len() + 2;
                inner
            }
            None => {
                let first = rest.chars().next()?;
                end += skipped + first.len_utf8();
                &rest[..first.len_utf8()]
            }
        };
        match numbers(inner).as_slice() {
            [only] => Some(only.value()),
            _ => None,
        }
    };
    let (above, below) = (part()?, part()?);
    (below != 0.0).then(|| (above / below, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(text: &str) -> Number {
        Number::Exact(Decimal::parse(text).unwrap())
    }

    #[test]
    fn the_number_that_an_answer_ends_with_is_read_as_people_write_it() {
        for (text, number) in [
            ("The answer is 42.", Some(42.0)),
            ("She pays $29.00 in total.", Some(29.0)),
            ("That makes 1,234,567 stars", Some(1_234_567.0)),
            ("1,2 and 3", Some(3.0)),
            ("so x = -7", Some(-7.0)),
            ("so x = \u{2212}7.5!", Some(-7.5)),
            ("He owes -$5", Some(-5.0)),
            ("between 3-4", Some(4.0)),
            ("10 - 4 = 6", Some(6.0)),
            ("50%", Some(50.0)),
            ("**12**", Some(12.0)),
            ("about 1e3", Some(1000.0)),
            ("3.", Some(3.0)),
            (".5", Some(0.5)),
            ("3/4 of it", Some(0.75)),
            ("5kg", Some(5.0)),
            ("x2 is H2O, version 1.2.3", Some(1.2)),
            ("no number", None),
            ("", None),
            // Boxes and marks come before the last number.
            ("#### 70,000\nand the 2 checks confirm it", Some(70_000.0)),
            ("#### $18 per day for 3 days", Some(18.0)),
            ("first \\boxed{3}, no: \\boxed{42\\text{ cm}^2} by rule 7", Some(42.0)),
            ("\\boxed{x = -\\frac{1}{2}}", Some(-0.5)),
            ("\\boxed{\\dfrac12}", Some(0.5)),
            ("\\boxed{10{,}000}", Some(10_000.0)),
            ("\\boxed{\\$1,\\!000}", Some(1000.0)),
            ("\\boxed{a}", None),
            ("\\boxed{3", Some(3.0)),
            ("Zahl: 12 \u{20ac}", Some(12.0)),
            ("\u{20ac}5", Some(5.0)),
            ("-\u{a3}5", Some(-5.0)),
            ("#### \u{a5}5", Some(5.0)),
            ("\u{7b54}\u{6848}\u{662f}5\u{3002}", Some(5.0)), // no blank between words and numbers
            ("\u{7b54}\u{6848}-5", Some(-5.0)),
            ("\u{ff1a}\u{201c}7\u{201d}", Some(7.0)),
            ("\u{3c0} \u{2248}3.25", Some(3.25)),
            ("caf\u{e9}5", None),
            ("\u{43e}\u{442}5", None),
        ] {
            assert_eq!(answered(text).map(|it| it.value()), number, "{text}");
        }
    }

    #[test]
    fn a_reference_answer_has_one_number_or_a_mark() {
        let gsm8k = "80,000+50,000=$<<80000+50000=130000>>130,000\n#### 70000";
        assert_eq!(expected(gsm8k), Ok(exact("70000")));
        assert_eq!(expected(" -3.0 "), Ok(exact("-3")));
        assert_eq!(expected("We have $8+(-6)=\\boxed{2}$."), Ok(exact("2")));
        assert_eq!(expected("12 apples and 3 pears"), Err("2 numbers".to_owned()));
        assert_eq!(expected("twelve"), Err("no number".to_owned()));
        assert_eq!(expected("#### twelve"), Err("no number behind its mark".to_owned()));
    }

    #[test]
    fn numbers_are_the_same_in_every_digit() {
        let same = |one: &str, two: &str| {
            let [one, two] = [one, two].map(|it| answered(it).unwrap());
            is_same(&one, &two)
        };
        for (one, two) in [
            ("1,082,152,022,374,638", "1082152022374638.00"),
            ("1e3", "1000"),
            ("1.50", "0.15e1"),
            ("-0", "0.0"),
            ("$5", "5%"),
            ("1200e-2", "12"),
        ] {
            assert!(same(one, two), "{one} and {two}");
        }
        for (one, two) in [
            ("1000000000001", "1000000000000"),
            ("9007199254740993", "9007199254740992"),
            ("1082152022374638", "1082152022374000"),
            ("0.1234567890123456789", "0.1234567890123456788"),
            ("1e-300", "0"),
            ("-5", "5"),
        ] {
            assert!(!same(one, two), "{one} and {two}");
        }
    }

    #[test]
    fn fractions_and_computed_numbers_are_the_same_but_for_rounding() {
        let json = |text: &str| Number::of_json(&serde_json::from_str(text).unwrap()).unwrap();
        let text = |text: &str| answered(text).unwrap();
        assert!(is_same(&text("1/3"), &text("0.3333333333333333")));
        assert!(is_same(&text("\\frac{1}{4}"), &text("0.25")));
        assert!(is_same(&json("0.30000000000000004"), &text("0.3")));
        assert!(!is_same(&text("1/3"), &text("0.3333")));
        // A whole number is exact, whatever wrote it.
        assert!(is_same(&json("1e15"), &text("1000000000000000")));
        assert!(!is_same(&json("1e15"), &text("1000000000000001")));
        assert!(!is_same(&json("9007199254740993"), &text("9007199254740992")));
    }
}
