//! Tokenizers as some models were published with: `tokenizer.model`, either a sentencepiece model
//! or a list of byte sequences and ranks as tiktoken reads it. Both become what `tokenizer.json`
//! would say.

use std::collections::HashMap;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost::Message;
use serde_json::{Map, Value, json};

use crate::files::read_json;
use crate::{Error, Result};

/// The name of the file.
pub const FILE: &str = "tokenizer.model";

/// The `tokenizer.json` of a folder that has `tokenizer.model` instead.
///
/// # Errors
/// If the file is of neither kind.
pub fn tokenizer_json(folder: &Path) -> Result<Value> {
    let path = folder.join(FILE);
    let bytes = std::fs::read(&path).map_err(Error::io(&path, "read"))?;
    let config = folder.join("tokenizer_config.json");
    let config: Value = if config.is_file() { read_json(&config)? } else { Value::Null };
    if let Some(ranks) = tiktoken_ranks(&bytes) {
        return Ok(from_ranks(ranks, &config));
    }
    let model = SentencePiece::decode(bytes.as_slice()).ok().filter(|it| !it.pieces.is_empty());
    model.and_then(|it| from_sentencepiece(&it, &config)).ok_or_else(|| {
        Error::file(
            &path,
            "expected a sentencepiece model (BPE or unigram) or tiktoken's ranks, found neither; \
             put a tokenizer.json into the folder",
        )
    })
}

/// What is used of sentencepiece's `ModelProto`.
#[derive(Clone, PartialEq, Message)]
struct SentencePiece {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<Trainer>,
    #[prost(message, optional, tag = "3")]
    normalizer: Option<Normalizer>,
}

#[derive(Clone, PartialEq, Message)]
struct Piece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    /// 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte.
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Trainer {
    /// 1 unigram, 2 BPE, 3 word, 4 character.
    #[prost(int32, optional, tag = "3")]
    model_type: Option<i32>,
    #[prost(bool, optional, tag = "35")]
    byte_fallback: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
struct Normalizer {
    #[prost(bytes = "vec", optional, tag = "2")]
    precompiled_charsmap: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "3")]
    add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    remove_extra_whitespaces: Option<bool>,
}

fn from_sentencepiece(model: &SentencePiece, config: &Value) -> Option<Value> {
    let pieces: Vec<(&str, f32, i32)> = model
        .pieces
        .iter()
        .map(|it| {
            (it.piece.as_deref().unwrap_or(""), it.score.unwrap_or(0.0), it.kind.unwrap_or(1))
        })
        .collect();
    let trainer = model.trainer.clone().unwrap_or_default();
    let byte_fallback = trainer.byte_fallback.unwrap_or(false);
    let unknown = pieces.iter().position(|(.., kind)| *kind == 2)?;
    let body = match trainer.model_type.unwrap_or(1) {
        1 => json!({
            "type": "Unigram",
            "unk_id": unknown,
            "vocab": pieces.iter().map(|(piece, score, _)| json!([piece, score])).collect::<Vec<_>>(),
            "byte_fallback": byte_fallback,
        }),
        2 => json!({
            "type": "BPE",
            "unk_token": pieces[unknown].0,
            "fuse_unk": true,
            "byte_fallback": byte_fallback,
            "vocab": pieces.iter().zip(0..).map(|((piece, ..), id): (_, u32)| ((*piece).to_owned(), json!(id))).collect::<Map<_, _>>(),
            "merges": sentencepiece_merges(&pieces),
        }),
        _ => return None,
    };
    let special = pieces
        .iter()
        .enumerate()
        .filter(|(_, (.., kind))| matches!(kind, 2..=4))
        .map(|(id, (piece, _, kind))| added_token(id, piece, *kind != 4));
    let special = special.chain(appended_tokens(config, pieces.len())).collect();
    let normalizer = model.normalizer.clone().unwrap_or_default();
    let mut steps = Vec::new();
    if let Some(map) = normalizer.precompiled_charsmap.filter(|map| !map.is_empty()) {
        let map = BASE64_STANDARD.encode(map);
        steps.push(json!({"type": "Precompiled", "precompiled_charsmap": map}));
    }
    if normalizer.remove_extra_whitespaces.unwrap_or(true) {
        steps.push(json!({"type": "Strip", "strip_left": true, "strip_right": true}));
        steps.push(replace(json!({"Regex": " {2,}"}), " "));
    }
    let prefix = normalizer.add_dummy_prefix.unwrap_or(true);
    if prefix {
        steps.push(json!({"type": "Prepend", "prepend": "▁"}));
    }
    steps.push(replace(json!({"String": " "}), "▁"));
    let mut decoders = vec![
        replace(json!({"String": "▁"}), " "),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Some(whole(
        body,
        special,
        json!({"type": "Sequence", "normalizers": steps}),
        Value::Null,
        json!({"type": "Sequence", "decoders": decoders}),
    ))
}

fn replace(pattern: Value, content: &str) -> Value {
    json!({"type": "Replace", "pattern": pattern, "content": content})
}

/// The merges of a BPE: of every piece, each way to make it of two others; the piece of the highest
/// score first, and of one piece the parts that come earlier in the vocabulary.
fn sentencepiece_merges(pieces: &[(&str, f32, i32)]) -> Vec<[String; 2]> {
    let ids: HashMap<&str, usize> =
        pieces.iter().enumerate().map(|(id, (piece, ..))| (*piece, id)).collect();
    let mut merges: Vec<(f32, usize, usize, usize)> = Vec::new();
    for (whole, (piece, score, kind)) in pieces.iter().enumerate() {
        if *kind != 1 {
            continue;
        }
        for (at, _) in piece.char_indices().skip(1) {
            if let (Some(&left), Some(&right)) = (ids.get(&piece[..at]), ids.get(&piece[at..])) {
                merges.push((*score, whole, left, right));
            }
        }
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2, a.3).cmp(&(b.1, b.2, b.3))));
    let piece = |id: usize| pieces[id].0.to_owned();
    merges.into_iter().map(|(_, _, left, right)| [piece(left), piece(right)]).collect()
}

/// The ranks of a tiktoken file: a line for each, of base64 and a number.
fn tiktoken_ranks(bytes: &[u8]) -> Option<Vec<(Vec<u8>, u32)>> {
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
const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

fn from_ranks(mut ranks: Vec<(Vec<u8>, u32)>, config: &Value) -> Value {
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
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
        ]}),
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false}),
    )
}

/// Bytes in the characters that stand for them in byte-level vocabularies: printable ones for
/// themselves, the others from U+0100 on.
fn visible(bytes: &[u8]) -> String {
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

/// The special tokens behind a vocabulary of `next` entries: those the settings list, or, of a
/// ChatGLM, those its code adds.
fn appended_tokens(config: &Value, next: usize) -> impl Iterator<Item = Value> {
    let listed = config["added_tokens_decoder"].as_object().cloned().unwrap_or_default();
    let mut tokens: Vec<(usize, String)> = listed
        .iter()
        .filter_map(|(id, token)| Some((id.parse().ok()?, token["content"].as_str()?.to_owned())))
        .filter(|(id, _)| *id >= next)
        .collect();
    if tokens.is_empty() && config["tokenizer_class"] == "ChatGLMTokenizer" {
        let added = ["[MASK]", "[gMASK]", "[sMASK]", "sop", "eop"].map(str::to_owned);
        tokens = added.into_iter().enumerate().map(|(i, token)| (next + i, token)).collect();
    }
    tokens.sort();
    tokens.into_iter().map(|(id, token)| added_token(id, &token, true))
}

fn added_token(id: usize, content: &str, special: bool) -> Value {
    json!({
        "id": id, "content": content, "special": special,
        "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
    })
}

/// A whole `tokenizer.json`. ChatGLM and GLM begin every prompt with two tokens of their own.
fn whole(
    model: Value,
    added_tokens: Vec<Value>,
    normalizer: Value,
    pre_tokenizer: Value,
    decoder: Value,
) -> Value {
    let id = |content: &str| {
        added_tokens.iter().find(|it| it["content"] == content).map(|it| it["id"].clone())
    };
    let prefix: Vec<(&str, Value)> = [["[gMASK]", "sop"], ["[gMASK]", "<sop>"]]
        .into_iter()
        .find_map(|names| {
            names.into_iter().map(|name| Some((name, id(name)?))).collect::<Option<Vec<_>>>()
        })
        .unwrap_or_default();
    let piece = |kind: &str, id: &str| json!({ kind: { "id": id, "type_id": 0 } });
    let single: Vec<Value> = prefix
        .iter()
        .map(|(name, _)| piece("SpecialToken", name))
        .chain([piece("Sequence", "A")])
        .collect();
    let special_tokens: Map<String, Value> = prefix
        .iter()
        .map(|(name, id)| ((*name).to_owned(), json!({"id": name, "ids": [id], "tokens": [name]})))
        .collect();
    let post_processor = if prefix.is_empty() {
        Value::Null
    } else {
        json!({
            "type": "TemplateProcessing", "single": single, "pair": single.clone(),
            "special_tokens": special_tokens,
        })
    };
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added_tokens,
        "normalizer": normalizer, "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor, "decoder": decoder, "model": model,
    })
}

#[cfg(test)]
mod tests;
