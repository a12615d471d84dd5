//! sentencepiece models, read by their own settings or as transformers' Llama class reads them.

use std::cmp::Ordering;
use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prost::Message;
use serde_json::{Map, Value, json};

use super::{Class, TokenizerFolder, added_token, appended_tokens, whole};

/// What is used of sentencepiece's `ModelProto`.
#[derive(Clone, PartialEq, Message)]
pub struct SentencePiece {
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
    #[prost(string, optional, tag = "45")]
    unk_piece: Option<String>,
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

/// A model, if the bytes are one.
pub fn read(bytes: &[u8]) -> Option<SentencePiece> {
    SentencePiece::decode(bytes).ok().filter(|it| !it.pieces.is_empty())
}

impl SentencePiece {
    /// Texts, scores and kinds.
    fn entries(&self) -> Vec<(&str, f32, i32)> {
        self.pieces
            .iter()
            .map(|it| {
                (it.piece.as_deref().unwrap_or(""), it.score.unwrap_or(0.0), it.kind.unwrap_or(1))
            })
            .collect()
    }
}

/// The `tokenizer.json` of a model by its own settings.
pub fn tokenizer_json(model: &SentencePiece, config: &Value) -> Option<Value> {
    let pieces = model.entries();
    let trainer = model.trainer.clone().unwrap_or_default();
    let byte_fallback = trainer.byte_fallback.unwrap_or(false);
    let unknown = pieces.iter().position(|(.., kind)| *kind == 2)?;
    let body = body(&pieces, &trainer, unknown, pieces[unknown].0, byte_fallback)?;
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
    Some(whole(
        body,
        special,
        json!({"type": "Sequence", "normalizers": steps}),
        Value::Null,
        decoder(prefix),
    ))
}

fn replace(pattern: Value, content: &str) -> Value {
    json!({"type": "Replace", "pattern": pattern, "content": content})
}

/// The `tokenizer.json` that transformers makes for Llama's class, which follows
/// tokenizer_config.json and not what the model says of normalization.
pub fn of_llama(model: &SentencePiece, folder: &TokenizerFolder, class: &Class) -> Option<Value> {
    let mut pieces = model.entries();
    for (id, piece) in pieces.iter_mut().enumerate().take(3) {
        let listed = &folder.config["added_tokens_decoder"][id.to_string()]["content"];
        *piece = (listed.as_str().unwrap_or(piece.0), 0.0, piece.2);
    }
    let trainer = model.trainer.clone().unwrap_or_default();
    let unknown = trainer.unk_piece.as_deref().unwrap_or("<unk>");
    let body = body(&pieces, &trainer, 0, unknown, true)?;
    let added = (0..)
        .zip(&pieces)
        .filter(|(_, (.., kind))| matches!(kind, 3 | 4))
        .map(|(id, (piece, _, kind))| added_token(id, piece, *kind == 3))
        .collect();
    // Only this class keeps the two settings.
    let own = class.rules.name == "LlamaTokenizer";
    let setting = |name: &str| folder.config.get(name).filter(|_| own);
    let legacy = setting("legacy").is_none_or(|it| it.as_bool().unwrap_or(true));
    let blank = setting("add_prefix_space").is_none_or(|it| it == true);
    let scheme = match (blank, legacy) {
        (true, true) => "always",
        (true, false) => "first",
        (false, _) => "never",
    };
    let prepend = blank.then(|| json!({"type": "Prepend", "prepend": "▁"}));
    let steps: Vec<Value> =
        prepend.into_iter().chain([replace(json!({"String": " "}), "▁")]).collect();
    let (normalizer, pre_tokenizer) = if legacy {
        (json!({"type": "Sequence", "normalizers": steps}), Value::Null)
    } else {
        let metaspace = json!({
            "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false,
        });
        (Value::Null, metaspace)
    };
    Some(whole(body, added, normalizer, pre_tokenizer, decoder(blank)))
}

/// What makes text of pieces again.
fn decoder(blank_in_front: bool) -> Value {
    let mut decoders = vec![
        replace(json!({"String": "▁"}), " "),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if blank_in_front {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({"type": "Sequence", "decoders": decoders})
}

/// The model itself: `None` if it is neither unigram nor BPE.
fn body(
    pieces: &[(&str, f32, i32)],
    trainer: &Trainer,
    unknown: usize,
    unknown_piece: &str,
    byte_fallback: bool,
) -> Option<Value> {
    Some(match trainer.model_type.unwrap_or(1) {
        1 => json!({
            "type": "Unigram",
            "unk_id": unknown,
            "vocab": pieces.iter().map(|(piece, score, _)| json!([piece, score])).collect::<Vec<_>>(),
            "byte_fallback": byte_fallback,
        }),
        2 => json!({
            "type": "BPE",
            "unk_token": unknown_piece,
            "fuse_unk": true,
            "byte_fallback": byte_fallback,
            "vocab": pieces.iter().zip(0..).map(|((piece, ..), id): (_, u32)| ((*piece).to_owned(), json!(id))).collect::<Map<_, _>>(),
            "merges": merges(pieces),
        }),
        _ => return None,
    })
}

/// The merges of a BPE: of every piece, each way to make it of two others; the piece of the highest
/// score first, of equal scores the longest left part.
fn merges(pieces: &[(&str, f32, i32)]) -> Vec<[String; 2]> {
    let ids: HashMap<&str, usize> =
        pieces.iter().enumerate().map(|(id, (piece, ..))| (*piece, id)).collect();
    let mut merges: Vec<(f32, [usize; 2], [usize; 2])> = Vec::new();
    for (piece, score, _) in pieces {
        let mut ways: Vec<([usize; 2], [usize; 2])> = piece
            .char_indices()
            .skip(1)
            .filter_map(|(at, _)| {
                let parts = [&piece[..at], &piece[at..]];
                let length = parts.map(|it| it.chars().count());
                Some((length, [*ids.get(parts[0])?, *ids.get(parts[1])?]))
            })
            .collect();
        ways.sort_by_key(|(_, ids)| *ids);
        merges.extend(ways.into_iter().map(|(length, ids)| (*score, length, ids)));
    }
    merges.sort_by(|a, b| {
        let score = b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal);
        score.then(b.1.cmp(&a.1))
    });
    merges.into_iter().map(|(.., ids)| ids.map(|id| pieces[id].0.to_owned())).collect()
}
