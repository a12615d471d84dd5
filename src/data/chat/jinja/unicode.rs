//! Characters as Python 3.11 classes them (Unicode 14).
//!
//! `unicode.txt` was written by asking `str.isprintable`, `isalpha`, `isdecimal`, `isdigit` and
//! `isnumeric` of every character: runs of those that are, as gap and length less one.

use std::sync::LazyLock;

/// A set of characters as runs, in their order.
pub struct Class(LazyLock<Vec<(u32, u32)>>);

macro_rules! class {
    ($name:literal) => {
        Class(LazyLock::new(|| runs(concat!($name, ": "))))
    };
}

/// What `repr` writes as an escape.
pub static UNPRINTABLE: Class = class!("unprintable");
pub static LETTER: Class = class!("letter");
pub static DECIMAL: Class = class!("decimal");
pub static DIGIT: Class = class!("digit");
pub static NUMERIC: Class = class!("numeric");

impl Class {
    pub fn has(&self, char: char) -> bool {
        let code = u32::from(char);
        let after = self.0.partition_point(|&(first, _)| first <= code);
        after > 0 && code <= self.0[after - 1].1
    }
}

fn runs(name: &str) -> Vec<(u32, u32)> {
    let line = include_str!("unicode.txt").lines().find_map(|line| line.strip_prefix(name));
    let mut at = 0;
    let number = |text: &str| u32::from_str_radix(text, 16).unwrap_or(0);
    let run = |text: &str| {
        let (gap, more) = text.split_once('+').unwrap_or((text, "0"));
        let first = at + number(gap);
        let last = first + number(more);
        at = last + 1;
        (first, last)
    };
    line.unwrap_or_default().split(' ').map(run).collect()
}

/// `str.isspace`, and what `strip`, `split` and `\s` take for blanks.
pub fn is_space(char: char) -> bool {
    char.is_whitespace() || matches!(char, '\x1c'..='\x1f')
}

/// `str.isalnum` of one character.
pub fn is_alphanumeric(char: char) -> bool {
    LETTER.has(char) || NUMERIC.has(char)
}

/// What ends a line for `str.splitlines`.
pub fn ends_line(char: char) -> bool {
    matches!(
        char,
        '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

/// A character as the first of a word.
pub fn title(char: char, out: &mut String) {
    match char {
        'Ǆ'..='ǆ' => out.push('ǅ'),
        'Ǉ'..='ǉ' => out.push('ǈ'),
        'Ǌ'..='ǌ' => out.push('ǋ'),
        'Ǳ'..='ǳ' => out.push('ǲ'),
        'ŉ' => out.push_str("ʼN"),
        // Georgian has capitals for whole words only.
        'ა'..='ჿ' => out.push(char),
        _ => {
            let mut upper = char.to_uppercase();
            out.extend(upper.next());
            out.extend(upper.flat_map(char::to_lowercase));
        }
    }
}
