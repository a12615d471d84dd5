//! The special tokens that a template gets, as `transformers` reads them from a folder.

use std::path::Path;

use serde_json::{Map, Value};

use super::folder::existing_json;
use crate::Result;

/// The tokens that every tokenizer may have.
const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// What a class of tokenizers takes for its tokens where the folder says nothing: bos, eos, unk,
/// pad (the defaults of `__init__` in transformers 4.57.6).
type Defaults = [Option<&'static str>; 4];

const SENTENCE: Defaults = [Some("<s>"), Some("</s>"), Some("<unk>"), None];
const GPT: Defaults = [Some("<|endoftext|>"), Some("<|endoftext|>"), Some("<|endoftext|>"), None];
const QWEN: Defaults = [None, Some("<|endoftext|>"), Some("<|endoftext|>"), Some("<|endoftext|>")];

fn defaults(class: &str) -> Defaults {
    match class.strip_suffix("Fast").unwrap_or(class) {
        "LlamaTokenizer" | "CodeLlamaTokenizer" => SENTENCE,
        "GPT2Tokenizer" | "GPTNeoXTokenizer" | "CodeGenTokenizer" => GPT,
        "Qwen2Tokenizer" => QWEN,
        "GemmaTokenizer" => [Some("<bos>"), Some("<eos>"), Some("<unk>"), Some("<pad>")],
        "BloomTokenizer" => [Some("<s>"), Some("</s>"), Some("<unk>"), Some("<pad>")],
        "CohereTokenizer" => {
            [Some("<BOS_TOKEN>"), Some("<|END_OF_TURN_TOKEN|>"), Some("<UNK>"), None]
        }
        _ => [None; 4],
    }
}

/// The class that a model's tokenizer is of where no file names one.
fn class_of_model(model_type: &str) -> &'static str {
    match model_type {
        "llama" | "mistral" | "mixtral" | "phi3" => "LlamaTokenizer",
        "qwen2" | "qwen3" | "qwen2_moe" | "qwen3_moe" => "Qwen2Tokenizer",
        "gpt2" | "opt" | "starcoder2" => "GPT2Tokenizer",
        "gpt_neox" | "olmo" | "olmo2" | "stablelm" => "GPTNeoXTokenizer",
        "gemma" | "gemma2" | "gemma3" | "gemma3_text" => "GemmaTokenizer",
        "phi" => "CodeGenTokenizer",
        "bloom" => "BloomTokenizer",
        "cohere" | "cohere2" => "CohereTokenizer",
        _ => "",
    }
}

/// `special_tokens_map` of a folder's tokenizer.
pub(super) fn of_folder(folder: &Path) -> Result<Map<String, Value>> {
    let json = |name: &str| existing_json(&folder.join(name));
    let config = json("tokenizer_config.json")?;
    let mut given = config.as_object().cloned().unwrap_or_default();
    // A file of old: what it says counts where the tokens are not described in the first.
    if !given.contains_key("added_tokens_decoder")
        && let Value::Object(map) = json("special_tokens_map.json")?
    {
        given.extend(map);
    }
    // What is wrong with it is told where the model is read.
    let model = json("config.json").unwrap_or_default();
    let class = config["tokenizer_class"]
        .as_str()
        .or(model["tokenizer_class"].as_str())
        .unwrap_or_else(|| class_of_model(model["model_type"].as_str().unwrap_or_default()));
    let [bos, eos, unk, pad] = defaults(class);
    let default = |name: &str| match name {
        "bos_token" => bos,
        "eos_token" => eos,
        "unk_token" => unk,
        "pad_token" => pad,
        _ => None,
    };
    let mut tokens = Map::new();
    let mut add = |name: &str, token: Option<&str>| {
        if let Some(token) = token.filter(|it| !it.is_empty()) {
            tokens.insert(name.to_owned(), token.into());
        }
    };
    for name in NAMES {
        add(name, given.get(name).map_or(default(name), text));
    }
    for (name, token) in
        given.get("extra_special_tokens").and_then(Value::as_object).into_iter().flatten()
    {
        add(name, text(token));
    }
    let additional = given.get("additional_special_tokens").and_then(Value::as_array);
    let additional: Vec<Value> =
        additional.into_iter().flatten().filter_map(text).map(Value::from).collect();
    if !additional.is_empty() {
        tokens.insert("additional_special_tokens".to_owned(), additional.into());
    }
    Ok(tokens)
}

/// A token, written as a text or described.
fn text(token: &Value) -> Option<&str> {
    token.as_str().or(token["content"].as_str())
}
