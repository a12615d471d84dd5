//! Foreign text made safe for a terminal: file names, record fields, answers of servers.
//!
//! Control characters move the cursor, change titles and colours, or answer in the user's name; marks of
//! writing direction show letters in another order than they are in. All of them are shown as escapes.

use std::borrow::Cow;
use std::fmt::Write;

/// Characters of an error line; longer ones lose their middle.
pub const LONGEST_LINE: usize = 2000;

/// Whether a terminal shows a character as itself, and nothing else happens.
fn is_harmless(c: char) -> bool {
    let is_mark = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    !(c.is_control() || is_mark)
}

fn escaped(
    text: &str,
    keeps: impl Fn(char) -> bool,
    escape: impl Fn(char) -> String,
) -> Cow<'_, str> {
    if text.chars().all(|c| is_harmless(c) || keeps(c)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match is_harmless(c) || keeps(c) {
            true => shown.push(c),
            false => shown.push_str(&escape(c)),
        }
    }
    Cow::Owned(shown)
}

/// A text of several lines; line ends and tabs stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c == '\n' || c == '\t', |c| c.escape_unicode().to_string())
}

/// A text as one line; line ends and tabs become blanks.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(
        text,
        |_| false,
        |c| if c.is_whitespace() { " ".to_owned() } else { c.escape_unicode().to_string() },
    )
}

/// JSON text, which stays what it says: characters are written as JSON escapes.
pub fn json(text: &str) -> Cow<'_, str> {
    // Between values stand line ends; within texts, serde_json escapes those.
    escaped(
        text,
        |c| c == '\n' || c == '\t',
        |c| {
            let mut escape = String::new();
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(escape, "\\u{unit:04x}");
            }
            escape
        },
    )
}

/// An error or a warning: one [`line()`] of [`LONGEST_LINE`] characters at most. What is left out of the
/// middle is counted; the beginning says where, the end says what to do.
pub fn message(text: &str) -> String {
    let text = line(text);
    let count = text.chars().count();
    if count <= LONGEST_LINE {
        return text.into_owned();
    }
    let end = LONGEST_LINE / 4;
    let start = LONGEST_LINE - end;
    let at = |index: usize| text.char_indices().nth(index).map_or(text.len(), |it| it.0);
    format!(
        "{} … ({} characters left out) … {}",
        &text[..at(start)],
        count - LONGEST_LINE,
        &text[at(count - end)..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_as_an_escape() {
        for (text, shown) in [
            ("plain ünïcode 語 🙂", "plain ünïcode 語 🙂"),
            ("\u{1b}[2J\u{1b}]0;title\u{7}", "\\u{1b}[2J\\u{1b}]0;title\\u{7}"),
            ("\u{9b}31m\u{7f}\u{8}\0", "\\u{9b}31m\\u{7f}\\u{8}\\u{0}"),
            ("a\u{202e}txt.exe\u{2066}", "a\\u{202e}txt.exe\\u{2066}"),
            ("one\r\ntwo\tthree\u{2028}four", "one  two three four"),
        ] {
            assert_eq!(line(text), shown);
        }
        assert_eq!(lines("a\n\tb\r\u{1b}"), "a\n\tb\\u{d}\\u{1b}");
    }

    #[test]
    fn json_says_the_same_afterwards() {
        let value = serde_json::json!({ "k\u{9b}": "a\u{7f}\u{202e}\n\u{1b} ü" });
        let text = value.to_string();
        let shown = json(&text);
        assert!(shown.chars().all(is_harmless), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn a_long_message_keeps_its_ends_and_counts_the_rest() {
        let long = format!("file: {}; do this", "é".repeat(9000));
        let shown = message(&long);
        assert!(shown.starts_with("file: é") && shown.ends_with("é; do this"), "{shown}");
        assert!(shown.contains(&format!("({} characters left out)", 9015 - LONGEST_LINE)));
        assert!(shown.chars().count() < LONGEST_LINE + 50);
        let fits = "é".repeat(LONGEST_LINE);
        assert_eq!(message(&fits), fits);
    }
}
