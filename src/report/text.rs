//! Text and numbers as the page shows them.

use std::fmt::Write;

use crate::statistics::Interval;

/// `text` for SVG, as content and as a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(pictured(character)),
        }
    }
    escaped
}

/// `text` with pictures (␀ …) for the control characters that neither HTML nor SVG may hold.
pub fn without_control(text: &str) -> String {
    text.chars().map(pictured).collect()
}

fn pictured(character: char) -> char {
    match character {
        '\n' | '\t' => character,
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(character)).unwrap_or(' '),
        '\x7f'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => '\u{fffd}',
        _ => character,
    }
}

/// JSON for a `<script>` element: the same value with nothing in it that could end the element, and
/// no character that HTML may not hold.
pub fn script_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        let ends = matches!(character, '<' | '>' | '\u{2028}' | '\u{2029}');
        if ends || pictured(character) != character {
            // Writing to a string does not fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(character));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// A number with a true minus sign, – where it is not finite.
pub fn number(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let text = format!("{:.decimals$}", value.abs());
    let zero = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    if value < 0.0 && !zero { format!("−{text}") } else { text }
}

/// A number that says its sign even where it is positive.
pub fn signed(value: f64, decimals: usize) -> String {
    let text = number(value, decimals);
    if value > 0.0 { format!("+{text}") } else { text }
}

/// `mean [low, high]`.
pub fn interval(interval: &Interval) -> String {
    format!("{} {}", number(interval.mean, 3), bounds(interval))
}

/// `[low, high]`.
pub fn bounds(interval: &Interval) -> String {
    format!("[{}, {}]", number(interval.low, 3), number(interval.high, 3))
}

/// A time as people say it.
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 60.0 {
        return format!("{} s", number(seconds, 1));
    }
    let whole = seconds.round() as u64;
    match whole / 3600 {
        0 => format!("{} min {:02} s", whole / 60, whole % 60),
        hours => format!("{hours} h {:02} min", whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_means_something_to_html_survives() {
        let escaped = escape("</script><b onclick='x()'>\"&\u{0}\u{1b}\n");
        assert_eq!(escaped, "&lt;/script&gt;&lt;b onclick=&#39;x()&#39;&gt;&quot;&amp;␀␛\n");
    }

    #[test]
    fn json_in_a_script_is_the_same_value() {
        let value = serde_json::json!({ "text": "</script><!-- \u{2028}\u{85}" });
        let embedded = script_json(&value.to_string());
        assert!(!embedded.contains(['<', '>', '\u{2028}', '\u{85}']));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&embedded).unwrap(), value);
    }

    #[test]
    fn numbers_read_as_in_print() {
        assert_eq!(number(-1.5, 2), "−1.50");
        assert_eq!(number(-0.0001, 2), "0.00");
        assert_eq!(number(f64::NAN, 2), "–");
        assert_eq!(signed(0.25, 1), "+0.2");
        assert_eq!(duration(59.94), "59.9 s");
        assert_eq!(duration(125.0), "2 min 05 s");
        assert_eq!(duration(3725.0), "1 h 02 min");
    }
}
