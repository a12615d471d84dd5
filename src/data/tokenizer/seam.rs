//! A text that continues another: nothing is put in front of it, and its tokens are those that it adds to the
//! text before.

use serde_json::{Value, json};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper};

use crate::{Error, Result};

/// The same tokenizer without what it puts in front of a text or takes away there: `None` where it
/// does neither.
///
/// # Errors
/// If a part of the tokenizer has no JSON form.
pub fn without_beginning(
    tokenizer: &tokenizers::Tokenizer,
) -> Result<Option<tokenizers::Tokenizer>> {
    let failed = |error: serde_json::Error| {
        Error::usage(format!(
            "the tokenizer's normalizer or pre-tokenizer has no JSON form: {error}"
        ))
    };
    let part = |part: Option<Value>| part.map(|old| (continuing(&old), old));
    let json = |it: Option<serde_json::Result<Value>>| it.transpose().map_err(failed);
    let normalizer = part(json(tokenizer.get_normalizer().map(serde_json::to_value))?);
    let pre_tokenizer = part(json(tokenizer.get_pre_tokenizer().map(serde_json::to_value))?);
    let same = |it: &Option<(Value, Value)>| it.as_ref().is_none_or(|(new, old)| new == old);
    if same(&normalizer) && same(&pre_tokenizer) {
        return Ok(None);
    }
    let mut tokenizer = tokenizer.clone();
    if let Some((new, _)) = normalizer {
        let new: NormalizerWrapper = serde_json::from_value(new).map_err(failed)?;
        tokenizer.with_normalizer(Some(new));
    }
    if let Some((new, _)) = pre_tokenizer {
        let new: PreTokenizerWrapper = serde_json::from_value(new).map_err(failed)?;
        tokenizer.with_pre_tokenizer(Some(new));
    }
    // Added tokens are looked for as the normalizer writes them; this writes them anew.
    tokenizer.add_tokens(&[]);
    Ok(Some(tokenizer))
}

/// A normalizer or pre-tokenizer as it reads a text that goes on.
fn continuing(part: &Value) -> Value {
    let mut part = part.clone();
    match part["type"].as_str() {
        Some("Sequence") => {
            for list in ["normalizers", "pretokenizers"] {
                for step in part[list].as_array_mut().into_iter().flatten() {
                    *step = continuing(step);
                }
            }
        }
        Some("Prepend") => return json!({"type": "Sequence", "normalizers": []}),
        Some("Metaspace") => part["prepend_scheme"] = json!("never"),
        Some("ByteLevel") if part.get("add_prefix_space").is_some() => {
            part["add_prefix_space"] = json!(false);
        }
        Some("Strip") => part["strip_left"] = json!(false),
        _ => {}
    }
    part
}

/// What `after` has beyond `before`, where both are the texts of ids and those of `before` begin
/// those of `after`. A letter of which `before` has a part only belongs to what follows. `None` where `after` has whole
/// letters of `before` otherwise: bytes that are no letter make a byte-fallback decoder give up those before them.
pub fn added_text<'a>(before: &str, after: &'a str) -> Option<&'a str> {
    if let Some(added) = after.strip_prefix(before) {
        return Some(added);
    }
    if !before.ends_with(char::REPLACEMENT_CHARACTER) {
        return None;
    }
    let same = before.chars().zip(after.chars()).take_while(|(a, b)| a == b);
    let length = same.map(|(a, _)| a.len_utf8()).sum::<usize>();
    Some(&after[length..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_of_two_halves_belongs_to_what_follows() {
        assert_eq!(added_text("ab", "abc"), Some("c"));
        assert_eq!(added_text("ab\u{fffd}", "abé c"), Some("é c"));
        assert_eq!(added_text("ab\u{fffd}", "ab\u{fffd}c"), Some("c"));
        assert_eq!(added_text("", ""), Some(""));
        assert_eq!(added_text("aé", "a\u{fffd}\u{fffd}\u{fffd}"), None);
    }
}
