//! Scores of a unigram model, equal to those of transformers to the last bit.
//!
//! Two ways to cut a word can have the same score; the last bit of a sum then decides. Python's tokenizers
//! reads the digits of a number as one integer and divides the integer by a power of ten, which is not always
//! the number nearest to the text. This module does the same.

/// A tokenizer.json whose numbers with a fraction are those that Python's tokenizers takes them for.
pub fn as_python_reads_them(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let mut rest = json;
    while let Some(&byte) = rest.first() {
        let length = match byte {
            b'"' => string(rest),
            b'-' | b'0'..=b'9' => rest.iter().take_while(|it| is_number(**it)).count(),
            _ => 1,
        };
        let (token, behind) = rest.split_at(length);
        match std::str::from_utf8(token).ok().filter(|_| byte != b'"').and_then(divided) {
            Some(number) => out.extend_from_slice(format!("{number:e}").as_bytes()),
            None => out.extend_from_slice(token),
        }
        rest = behind;
    }
    out
}

/// The length of the string that a text begins with, quotes included.
fn string(text: &[u8]) -> usize {
    let mut escaped = false;
    let inside = text.iter().skip(1).take_while(|&&byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        !ends
    });
    (inside.count() + 2).min(text.len())
}

fn is_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

/// The integer of a number's digits, as many as fit, divided or multiplied by a power of ten: `None`
/// for whole numbers.
fn divided(number: &str) -> Option<f64> {
    let digits = number.strip_prefix('-').unwrap_or(number);
    let (mantissa, power) = match digits.split_once(['e', 'E']) {
        Some((mantissa, power)) => (mantissa, power.parse::<i32>().ok()?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if mantissa.len() == digits.len() && fraction.is_empty() {
        return None;
    }
    let mut integer: u64 = whole.parse().ok()?;
    let mut places = 0;
    for digit in fraction.bytes() {
        let next = integer.checked_mul(10).and_then(|it| it.checked_add(u64::from(digit - b'0')));
        let Some(next) = next else { break };
        integer = next;
        places += 1;
    }
    let power = power - places;
    if power.unsigned_abs() > 308 {
        return None;
    }
    let scale = format!("1e{}", power.unsigned_abs()).parse::<f64>().ok()?;
    let value = if power < 0 { integer as f64 / scale } else { integer as f64 * scale };
    Some(if number.starts_with('-') { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PYTHON: [(&str, f64); 4] = [
        ("-18.318896234619622", -18.318896234619626),
        ("-11.015692835201465", -11.015692835201463),
        ("-4.446210560507607e-08", -4.4462105605076075e-8),
        ("-7.25", -7.25),
    ];

    fn read(number: &str) -> f64 {
        let json = as_python_reads_them(number.as_bytes());
        std::str::from_utf8(&json).unwrap().parse().unwrap()
    }

    /// The second of each is what `Tokenizer.from_str` and `to_str` of tokenizers 0.22.2 made of a
    /// unigram model with such a score.
    #[test]
    fn a_score_of_many_digits_is_the_one_that_python_has() {
        for (written, read_by_python) in PYTHON {
            assert_eq!(read(written).to_bits(), read_by_python.to_bits(), "{written}");
        }
    }

    #[test]
    fn all_but_fractions_stays_as_it_is() {
        let json = r#"{"a\\\"1.50": [12, -3, "x 1.50 \\", true, null], "é": 0}"#;
        assert_eq!(as_python_reads_them(json.as_bytes()), json.as_bytes());
        assert_eq!(as_python_reads_them(b"[1.5,\"1.50\",-2.5e-3]"), b"[1.5e0,\"1.50\",-2.5e-3]");
        assert_eq!(as_python_reads_them(b"\"open"), b"\"open");
    }
}
