//! Tokenizers of folders without tokenizer.json: `tokenizer.model`, either a sentencepiece model or
//! tiktoken's list of byte sequences and ranks; and `vocab.json` with `merges.txt`. All of them are converted
//! into the content of a `tokenizer.json`.

mod byte_level;
mod ranks;
mod sentencepiece;

use serde_json::{Map, Value, json};

use super::class_rules::{Class, Parts};
use super::folder::TokenizerFolder;
use crate::{Error, Result};

#[cfg(test)]
pub use self::byte_level::QWEN2_WORDS;
#[cfg(test)]
pub use self::byte_level::visible;
#[cfg(test)]
pub use self::ranks::WORDS;

/// The file of sentencepiece models and ranks.
pub const FILE: &str = "tokenizer.model";

/// The `tokenizer.json` of a folder that has other files instead.
///
/// # Errors
/// If the files cannot be read, or the folder's class reads none of them.
pub fn tokenizer_json(folder: &TokenizerFolder, class: &Class) -> Result<Value> {
    if let Some(bytes) = folder.file(FILE) {
        if let Some(json) = of_llama(folder, class) {
            return Ok(json);
        }
        let json = match ranks::read(bytes) {
            Some(ranks) => Some(ranks::tokenizer_json(ranks, &folder.config)),
            None => sentencepiece::read(bytes)
                .and_then(|model| sentencepiece::tokenizer_json(&model, &folder.config)),
        };
        return json.ok_or_else(|| {
            Error::file(
                folder.path.join(FILE),
                "expected a sentencepiece model (BPE or unigram) or tiktoken's ranks, found \
                 neither; put a tokenizer.json into the folder",
            )
        });
    }
    if matches!(class.rules.parts, Parts::Gpt2 | Parts::Qwen2)
        && let Some(json) = byte_level::tokenizer_json(folder, class)?
    {
        return Ok(json);
    }
    Err(refused(folder, class))
}

/// The `tokenizer.json` that transformers makes of `tokenizer.model` for Llama's class: `None` for
/// other classes and other kinds of that file.
pub fn of_llama(folder: &TokenizerFolder, class: &Class) -> Option<Value> {
    if class.rules.parts != Parts::Llama {
        return None;
    }
    let model = folder.file(FILE).and_then(sentencepiece::read)?;
    sentencepiece::of_llama(&model, folder, class)
}

/// Why a folder's tokenizer cannot be read.
fn refused(folder: &TokenizerFolder, class: &Class) -> Error {
    let path = folder.path.join("tokenizer.json");
    let has = |name: &str| folder.path.join(name).is_file();
    let save = "save one with transformers: \
                AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)";
    if has("vocab.txt") {
        return Error::file(
            path,
            "expected a tokenizer of BPE or unigram, found vocab.txt, which is a WordPiece \
             vocabulary as BERT has it; no model that is read here has such a tokenizer",
        );
    }
    let parts = ["vocab.json", "merges.txt", "spiece.model", "tekken.json"];
    let found: Vec<&str> = parts.into_iter().filter(|name| has(name)).collect();
    if found.is_empty() {
        let source = std::io::Error::from_raw_os_error(2);
        return Error::io(&path, "read")(source);
    }
    let found = found.join(" and ");
    let name = class.name.as_deref().unwrap_or("a folder without `tokenizer_class`");
    let also = if has("vocab.json") {
        "; for GPT-2's and Qwen2's set `tokenizer_class` in tokenizer_config.json to GPT2Tokenizer \
         or Qwen2Tokenizer"
    } else {
        ""
    };
    Error::file(
        path,
        format!("expected this file, found {found}, which {name} does not read; {save}{also}"),
    )
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
