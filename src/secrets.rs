//! Keys that must not be shown or stored: those that this process was given, and those inside addresses.
//!
//! Code that takes a key from the environment [registers](keep) it here. Code that writes a message, a log
//! line or a server's words passes them through [`redact`].

use std::borrow::Cow;
use std::sync::{PoisonError, RwLock};

use serde_json::{Map, Value};

/// What stands in place of a secret.
const HIDDEN: &str = "…";
/// A shorter key, such as the `EMPTY` of servers that need none, may be a word of any text.
const SHORTEST: usize = 6;
/// What people give servers that need no key.
const NO_KEYS: [&str; 6] =
    ["ollama", "lm-studio", "sk-no-key-required", "not-needed", "no-key", "token-abc123"];

static KEPT: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// Remembers a key, so that it is never shown.
pub fn keep(secret: &str) {
    if NO_KEYS.contains(&secret) {
        return;
    }
    let mut kept = KEPT.write().unwrap_or_else(PoisonError::into_inner);
    // As it may stand within a JSON text or an address as well.
    let json = Value::from(secret).to_string();
    let within = json[1..json.len() - 1].to_owned();
    for form in [secret.to_owned(), within, percent_encoded(secret)] {
        if form.len() >= SHORTEST && !kept.contains(&form) {
            kept.push(form);
            // The whole before what may be a part of it.
            kept.sort_by_key(|it| std::cmp::Reverse(it.len()));
        }
    }
}

/// Remembers the user and the password of an address.
pub fn keep_user(url: &str) {
    let authority = url.split_once("://").map_or(url, |it| it.1).split(['/', '?', '#']).next();
    if let Some((user, _)) = authority.and_then(|it| it.rsplit_once('@')) {
        keep(user);
        keep(user.split_once(':').map_or("", |it| it.1));
    }
}

/// Remembers the values of fields that are called like a secret.
pub fn keep_fields(fields: &Map<String, Value>) {
    for (name, value) in fields {
        match value {
            Value::String(secret) if is_secret(name) => keep(secret),
            Value::Object(fields) => keep_fields(fields),
            _ => {}
        }
    }
}

/// The text without the keys that are kept here; nothing else of a foreign text is changed.
pub fn without_keys(text: &str) -> Cow<'_, str> {
    let mut shown = Cow::Borrowed(text);
    for secret in KEPT.read().unwrap_or_else(PoisonError::into_inner).iter() {
        if shown.contains(secret) {
            shown = Cow::Owned(shown.replace(secret, HIDDEN));
        }
    }
    shown
}

/// The text without keys, without users and passwords in addresses, and without the values of fields
/// that are called like a secret, as in `?api_key=…`.
pub fn redact(text: &str) -> String {
    without_fields(&without_users(&without_keys(text)))
}

/// A value whose texts are [redacted](redact), and the fields that are called like a secret hidden.
pub fn redact_json(value: Value) -> Value {
    match value {
        Value::String(text) => redact(&text).into(),
        Value::Array(list) => list.into_iter().map(redact_json).collect(),
        Value::Object(fields) => {
            let hide = |(name, value): (String, Value)| match value {
                Value::String(text) if is_secret(&name) && !text.is_empty() => {
                    (name, HIDDEN.into())
                }
                value => (name, redact_json(value)),
            };
            Value::Object(fields.into_iter().map(hide).collect())
        }
        other => other,
    }
}

/// `scheme://user:password@host` without the user and the password.
fn without_users(text: &str) -> String {
    let mut pieces = text.split("://");
    let mut shown = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        shown.push_str("://");
        let ends = |c: char| c.is_whitespace() || "/?#\"'`<>".contains(c);
        let authority = &piece[..piece.find(ends).unwrap_or(piece.len())];
        let host = authority.rfind('@').map_or(0, |at| {
            shown.push_str(HIDDEN);
            at
        });
        shown.push_str(&piece[host..]);
    }
    shown
}

/// `name=value` without the value where the name is that of a secret.
fn without_fields(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('=') {
        let (before, behind) = (&rest[..at], &rest[at + 1..]);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let name = before.trim_end_matches(is_name).len();
        let is_query = before[..name].ends_with(['?', '&']);
        shown.push_str(&rest[..=at]);
        let name = before[name..].to_lowercase();
        rest = behind;
        if is_secret(&name) || (is_query && ["key", "token", "sig", "auth"].contains(&&*name)) {
            let ends = |c: char| c.is_whitespace() || "&\"'`#;,)<>".contains(c);
            let quote = behind.len() - behind.trim_start_matches(['"', '\'']).len();
            let end = behind[quote..].find(ends).map_or(behind.len(), |it| it + quote);
            if end > quote {
                shown.push_str(HIDDEN);
            }
            rest = &behind[end..];
        }
    }
    shown + rest
}

/// Whether a field is called like a secret.
fn is_secret(name: &str) -> bool {
    const NAMES: [&str; 12] = [
        "apikey",
        "accesskey",
        "secretkey",
        "privatekey",
        "secret",
        "password",
        "passwd",
        "accesstoken",
        "authtoken",
        "hftoken",
        "signature",
        "authorization",
    ];
    let name: String = name.to_lowercase().replace(['-', '_'], "");
    NAMES.iter().any(|it| name.ends_with(it))
}

/// As in an address: everything but letters, digits and `-._~` as `%XX`.
pub(crate) fn percent_encoded(text: &str) -> String {
    let byte = |it: u8| match it {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(it).to_string()
        }
        _ => format!("%{it:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kept_keys_are_nowhere_in_a_text() {
        keep("kept/\"key\" 1");
        keep("EMPTY");
        let said = without_keys(
            r#"a kept/"key" 1, {"k": "kept/\"key\" 1"}, ?x=kept%2F%22key%22%201, EMPTY, password=p"#,
        );
        assert_eq!(said, r#"a …, {"k": "…"}, ?x=…, EMPTY, password=p"#);
    }

    #[test]
    fn secrets_of_addresses_and_fields_are_left_out() {
        for (text, shown) in [
            ("https://me:pass@host/a?b=1", "https://…@host/a?b=1"),
            ("http://token@h and http://h/@x", "http://…@h and http://h/@x"),
            ("GET https://h/v1?api_key=abc&n=1#f", "GET https://h/v1?api_key=…&n=1#f"),
            ("h?key=a&x-amz-signature=b,", "h?key=…&x-amz-signature=…,"),
            ("judge.extra.api_key=\"sk-1\" rest", "judge.extra.api_key=…\" rest"),
            ("key=3 max_tokens=5 eos_token=</s>", "key=3 max_tokens=5 eos_token=</s>"),
            ("password=", "password="),
        ] {
            assert_eq!(redact(text), shown);
        }
        assert_eq!(
            redact_json(json!({"url": "http://a:b@h", "extra": [{"API-Key": "k", "n": 1}]})),
            json!({"url": "http://…@h", "extra": [{"API-Key": "…", "n": 1}]})
        );
    }
}
