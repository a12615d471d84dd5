//! tiktoken's list of byte sequences and ranks.

use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::byte_level::{byte_level, visible};
use super::{appended_tokens, whole};

/// The ranks of a tiktoken file: a line for each, of base64 and a number.
pub fn read(bytes: &[u8]) -> Option<Vec<(Vec<u8>, u32)>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let ranks: Vec<(Vec<u8>, u32)> = text
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (token, rank) = line.split_once(' ')?;
            Some((BASE64_STANDARD.decode(token).ok()?, rank.trim().parse().ok()?))
        })
        .collect::<Option<_>>()?;
    (!ranks.is_empty()).then_some(ranks)
}

/// How text is cut into words before bytes are merged: GLM-4's rule, which is cl100k's.
pub const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The `tokenizer.json` of ranks.
pub fn tokenizer_json(mut ranks: Vec<(Vec<u8>, u32)>, config: &Value) -> Value {
    ranks.sort_by_key(|(_, rank)| *rank);
    let by_bytes: HashMap<&[u8], u32> =
        ranks.iter().map(|(token, rank)| (token.as_slice(), *rank)).collect();
    let mut merges = Vec::new();
    for (token, _) in &ranks {
        let mut ways: Vec<(u32, u32, usize)> = (1..token.len())
            .filter_map(|at| Some((*by_bytes.get(&token[..at])?, *by_bytes.get(&token[at..])?, at)))
            .collect();
        ways.sort_unstable();
        merges.extend(
            ways.into_iter().map(|(.., at)| [visible(&token[..at]), visible(&token[at..])]),
        );
    }
    let vocab: Map<String, Value> =
        ranks.iter().map(|(token, rank)| (visible(token), json!(rank))).collect();
    let next = ranks.last().map_or(0, |(_, rank)| *rank as usize + 1);
    whole(
        json!({
            "type": "BPE", "vocab": vocab, "merges": merges, "ignore_merges": true,
            "byte_fallback": false, "fuse_unk": false,
        }),
        appended_tokens(config, next).collect(),
        Value::Null,
        json!({"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": WORDS}, "behavior": "Isolated", "invert": false},
            byte_level(false, false),
        ]}),
        byte_level(false, false),
    )
}
