//! Tests that a long text read in pieces has the ids of the whole.

use proptest::prelude::*;

use super::super::pieces::Pieces;
use super::seam::{metaspace, tokenizer};
use super::*;

/// As Llama 3, Qwen 2 and GPT-4o have them published.
const EXPRESSIONS: [&str; 3] = [
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
];

fn split_by(expression: &str, normalizer: Value) -> Value {
    let split = json!({
        "type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false,
    });
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    let mut json = byte_level(&json!({"type": "Sequence", "pretokenizers": [split, bytes]}));
    json["normalizer"] = normalizer;
    json
}

fn all() -> Vec<Tokenizer> {
    let published = EXPRESSIONS.map(|it| split_by(it, json!({"type": "NFC"})));
    let others = [
        byte_level(&byte_level_step(false)),
        byte_level(&byte_level_step(true)),
        llama_like(),
        metaspace("first", false),
        metaspace("always", true),
    ];
    published.iter().chain(&others).map(tokenizer).collect()
}

/// Some 6000 bytes of what is cut, and of what must not be.
fn text() -> impl Strategy<Value = String> {
    let parts = prop_oneof![
        8 => "( |the|cat| the| cat){1,6}",
        2 => "[ \\n\\t]{1,4}",
        2 => "[.,:;!?'\"()<|>*-]{1,3}",
        1 => "it's|don'T|we'll| I'D",
        1 => "[0-9]{1,5}",
        1 => "[éa\u{301}\u{338}中文，。 ]{1,6}",
        1 => Just("<|endoftext|>".to_owned()),
        1 => Just("</s>".to_owned()),
        1 => "\\PC{1,4}",
    ];
    proptest::collection::vec(parts, 700..900).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..Default::default() })]

    #[test]
    fn pieces_have_the_ids_of_the_whole(text in text()) {
        for tokenizer in all() {
            let pieces = Pieces::of(&tokenizer.inner).unwrap();
            for reader in [&tokenizer.inner, &tokenizer.continuing] {
                let both: [&tokenizers::Tokenizer; 2] = [reader, &tokenizer.continuing];
                let ids = pieces.encode(both, &text, [64, 1 << 14]).unwrap();
                if let Some(ids) = ids {
                    prop_assert_eq!(ids, encode(reader, &text).unwrap());
                }
            }
        }
    }
}

/// Otherwise the claim above could be one about nothing.
#[test]
fn a_long_text_of_words_is_read_in_pieces_by_every_tokenizer_here() {
    let text = "the cat, the cat ".repeat(400);
    for tokenizer in all() {
        let pieces = Pieces::of(&tokenizer.inner).unwrap();
        let both: [&tokenizers::Tokenizer; 2] = [&tokenizer.inner, &tokenizer.continuing];
        let ids = pieces.encode(both, &text, [64, 1 << 14]).unwrap().unwrap();
        assert_eq!(ids, encode(&tokenizer.inner, &text).unwrap());
    }
}

#[test]
fn what_looks_back_has_no_pieces() {
    let has_pieces = |json: &Value| Pieces::of(&tokenizer(json).inner).is_some();
    assert!(has_pieces(&split_by(r"[^\s]+|\s+", Value::Null)));
    for expression in [r"(?<=a)b|.", r"\bcat|.", r"^cat|.", r"cat\B|."] {
        assert!(!has_pieces(&split_by(expression, Value::Null)), "{expression}");
    }
    let strip = json!({"type": "Strip", "strip_left": true, "strip_right": true});
    assert!(!has_pieces(&split_by(r"[^\s]+|\s+", strip)));
    let mut over_blanks = llama_like();
    let token = special(292, "cat the");
    over_blanks["added_tokens"].as_array_mut().unwrap().push(token);
    assert!(!has_pieces(&over_blanks));
}

#[test]
fn a_text_without_pieces_is_refused_where_it_is_too_long_to_be_read_whole() {
    let tokenizer = tokenizer(&byte_level(&byte_level_step(false)));
    let long = "a".repeat(MAX_WHOLE + 1);
    insta::assert_snapshot!(tokenizer.encode_prompt(&long).unwrap_err(), @"expected a text of at most 4194304 bytes, found 4194305, which this tokenizer cannot read in pieces; drop the record, or cut the text");
    let words = "the cat ".repeat(MAX_WHOLE / 8 + 1);
    assert_eq!(tokenizer.encode_prompt(&words).unwrap().len(), 3 * (MAX_WHOLE / 8 + 1) + 2);
}
