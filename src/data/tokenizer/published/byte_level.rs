//! vocab.json and merges.txt, read as the classes of GPT-2 and Qwen2 read them.

use serde_json::{Value, json};

use super::{Class, Parts, TokenizerFolder};
use crate::{Error, Result};

/// The files of a byte-level BPE.
pub const FILES: [&str; 2] = ["vocab.json", "merges.txt"];

/// How Qwen2's class cuts text into words.
pub const QWEN2_WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The `tokenizer.json` of the two files, if both are there.
///
/// # Errors
/// If one of them cannot be read.
pub fn tokenizer_json(folder: &TokenizerFolder, class: &Class) -> Result<Option<Value>> {
    let vocab = folder.json(FILES[0])?;
    let Some(merges) = folder.text(FILES[1])? else { return Ok(None) };
    if vocab.is_null() {
        return Ok(None);
    }
    let qwen2 = class.rules.parts == Parts::Qwen2;
    let merges = if qwen2 { merges_of_qwen2(&merges) } else { merges_of_gpt2(&merges) };
    let merges: Vec<[&str; 2]> = merges
        .into_iter()
        .map(|(line, merge)| {
            let mut parts = merge.split_whitespace();
            match [parts.next(), parts.next(), parts.next()] {
                [Some(left), Some(right), None] => Ok([left, right]),
                _ => Err(Error::file(
                    folder.path.join(FILES[1]),
                    format!(
                        "line {line}: expected two tokens, found {merge:?}; copy the file anew"
                    ),
                )),
            }
        })
        .collect::<Result<_>>()?;
    let blank = !qwen2 && folder.config["add_prefix_space"] == true;
    let words = if qwen2 {
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": QWEN2_WORDS}, "behavior": "Isolated", "invert": false},
            byte_level(blank, false),
        ]})
    } else {
        byte_level(blank, true)
    };
    let begin = (!qwen2 && folder.config["add_bos_token"] == true)
        .then(|| begin_token(folder, class, &vocab))
        .flatten();
    let post_processor = match begin {
        None => byte_level(true, true),
        Some((content, id)) => json!({
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": content, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [
                {"SpecialToken": {"id": content, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": {&content: {"id": content, "ids": [id], "tokens": [content]}},
        }),
    };
    Ok(Some(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": if qwen2 { json!({"type": "NFC"}) } else { Value::Null },
        "pre_tokenizer": words,
        "post_processor": post_processor,
        "decoder": byte_level(true, true),
        "model": {
            "type": "BPE", "vocab": vocab, "merges": merges, "dropout": null, "unk_token": null,
            "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": false,
            "byte_fallback": false,
        },
    })))
}

/// All lines but the first, and not what stands behind the last line end: so GPT-2's class reads
/// them. Lines are counted from 1.
fn merges_of_gpt2(text: &str) -> Vec<(usize, &str)> {
    let lines: Vec<(usize, &str)> = (1..).zip(text.split('\n')).collect();
    let end = lines.len().saturating_sub(1).max(1);
    lines.get(1..end).unwrap_or_default().to_vec()
}

/// All lines that hold something, and not a first one that tells a version.
fn merges_of_qwen2(text: &str) -> Vec<(usize, &str)> {
    (1..)
        .zip(text.split('\n').map(str::trim))
        .filter(|(number, line)| {
            !(line.is_empty() || *number == 1 && line.starts_with("#version:"))
        })
        .collect()
}

/// The begin token of GPT-2's class and its id: the vocabulary's, or the one that it gets when it is
/// added.
fn begin_token(folder: &TokenizerFolder, class: &Class, vocab: &Value) -> Option<(String, u64)> {
    let default = class.rules.special_tokens.iter().find(|(name, _)| *name == "bos_token");
    let content = match folder.config.get("bos_token") {
        None => default.map(|(_, content)| *content)?,
        Some(value) => value.as_str().or_else(|| value["content"].as_str())?,
    };
    let listed = folder.config["added_tokens_decoder"].as_object().and_then(|tokens| {
        let (id, _) = tokens.iter().find(|(_, token)| token["content"] == content)?;
        id.parse().ok()
    });
    let size = vocab.as_object()?.len() as u64;
    Some((content.to_owned(), listed.or_else(|| vocab[content].as_u64()).unwrap_or(size)))
}

/// A byte-level step.
pub fn byte_level(blank_in_front: bool, words: bool) -> Value {
    json!({
        "type": "ByteLevel", "add_prefix_space": blank_in_front, "trim_offsets": false,
        "use_regex": words,
    })
}

/// Bytes in the characters that stand for them in byte-level vocabularies: printable ones for
/// themselves, the others from U+0100 on.
pub fn visible(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|&byte| match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
            _ => {
                let before = (0..byte)
                    .filter(|it| !matches!(it, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff))
                    .count();
                char::from_u32(0x100 + before as u32).unwrap_or('\u{fffd}')
            }
        })
        .collect()
}
