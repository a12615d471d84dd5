//! Text and numbers as the page shows them.

use crate::statistics::Interval;

/// `text` for HTML and SVG, as content and as a quoted attribute. Control characters, which neither
/// may hold, become their pictures (␀ …).
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(character),
            '\0'..='\x1f' => {
                escaped.push(char::from_u32(0x2400 + u32::from(character)).unwrap_or(' '));
            }
            '\x7f'..='\u{9f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(character),
        }
    }
    escaped
}

/// JSON for a `<script>` element: the same value with nothing in it that could end the element.
pub fn script_json(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
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

/// A trained policy's name taken apart: `exo-rw-b0.5-k4` is `exo-rw`, `EXO-rw` and what a sweep
/// varies, β_π (`b`), β_r (`r`) and K (`k`).
#[derive(Clone, Debug, PartialEq)]
pub struct Variant<'a> {
    /// The objective.
    pub base: &'static str,
    /// The objective as the field writes it.
    pub name: &'static str,
    /// Letter and value of each.
    pub parts: Vec<(char, &'a str)>,
}

/// Takes a policy's name apart; none for what is no trained policy.
pub fn variant(policy: &str) -> Option<Variant<'_>> {
    const NAMES: [(&str, &str); 5] = [
        ("exo-pref-official", "EXO-pref (official labels)"),
        ("exo-pref", "EXO-pref"),
        ("exo-rw", "EXO-rw"),
        ("dpo-rw", "DPO-rw"),
        ("dpo", "DPO"),
    ];
    let (base, name, rest) = NAMES.iter().find_map(|(base, name)| {
        let rest = policy.strip_prefix(base)?;
        (rest.is_empty() || rest.starts_with('-')).then_some((*base, *name, rest))
    })?;
    let parts = rest
        .split('-')
        .skip(1)
        .map(|part| {
            let letter = part.chars().next().filter(|it| "brk".contains(*it))?;
            Some((letter, &part[1..]))
        })
        .collect::<Option<_>>()?;
    Some(Variant { base, name, parts })
}

impl Variant<'_> {
    /// What a sweep varies, as people write it; empty where nothing is varied.
    pub fn varied(&self) -> String {
        let part = |(letter, value): &(char, &str)| match letter {
            'b' => format!("β {value}"),
            'r' => format!("β_r {value}"),
            _ => format!("K {value}"),
        };
        self.parts.iter().map(part).collect::<Vec<_>>().join(", ")
    }
}

/// A policy's name as the field writes it: `exo-rw-b0.5-k4` is `EXO-rw, β 0.5, K 4`.
pub fn policy_name(policy: &str) -> String {
    if let Some(n) = policy.strip_prefix("best-of-") {
        return format!("Best-of-{}", n.to_uppercase());
    }
    match (policy, variant(policy)) {
        ("sft", _) => "SFT".to_owned(),
        ("chosen", _) => "Chosen answers".to_owned(),
        ("optimum", _) => "π*".to_owned(),
        (_, Some(it)) if it.parts.is_empty() => it.name.to_owned(),
        (_, Some(it)) => format!("{}, {}", it.name, it.varied()),
        _ => policy.to_owned(),
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
        let value = serde_json::json!({ "text": "</script><!-- \u{2028}" });
        let embedded = script_json(&value.to_string());
        assert!(!embedded.contains(['<', '>', '\u{2028}']));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&embedded).unwrap(), value);
    }

    #[test]
    fn policies_have_the_names_of_the_field_with_what_a_sweep_varies() {
        assert_eq!(policy_name("exo-rw-b0.5-k4"), "EXO-rw, β 0.5, K 4");
        assert_eq!(policy_name("exo-pref-official-b2"), "EXO-pref (official labels), β 2");
        assert_eq!(policy_name("best-of-n"), "Best-of-N");
        assert_eq!(policy_name("dpo"), "DPO");
        assert_eq!(policy_name("dpo-mine"), "dpo-mine");
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
