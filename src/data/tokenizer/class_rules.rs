//! What the tokenizer classes of transformers do beyond tokenizer.json.
//!
//! transformers 4.57 reads `tokenizer_class`, and that class, in its fast form, changes the tokenizer: some
//! classes build a new post-processor, all of them set the blank in front of the text where the pre-tokenizer
//! is byte-level, and each has special tokens of its own.

use serde_json::{Value, json};
use tokenizers::{PostProcessorWrapper, PreTokenizerWrapper};

use super::folder::TokenizerFolder;
use super::special_tokens::SpecialTokens;
use crate::{Error, Result};

/// What a class reads where tokenizer.json is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// Nothing.
    None,
    /// vocab.json and merges.txt, as GPT-2 reads them.
    Gpt2,
    /// vocab.json and merges.txt, as Qwen2 reads them.
    Qwen2,
    /// tokenizer.model, as Llama reads it.
    Llama,
}

/// The rules of a class.
#[derive(Debug)]
pub struct Rules {
    /// The name of the class without `Fast`.
    pub name: &'static str,
    /// Special tokens where the settings name none.
    pub special_tokens: &'static [(&'static str, &'static str)],
    /// Further special tokens that the class always has.
    pub additional: &'static [&'static str],
    /// Where the class makes the post-processor anew: whether it adds the begin and the end token if
    /// the settings do not say.
    pub ends: Option<(bool, bool)>,
    /// What the class reads where tokenizer.json is missing.
    pub parts: Parts,
}

const END_OF_TEXT: &str = "<|endoftext|>";
const GPT2: [(&str, &str); 3] =
    [("bos_token", END_OF_TEXT), ("eos_token", END_OF_TEXT), ("unk_token", END_OF_TEXT)];
const LLAMA: [(&str, &str); 3] =
    [("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")];

const PLAIN: Rules = Rules {
    name: "PreTrainedTokenizer",
    special_tokens: &[],
    additional: &[],
    ends: None,
    parts: Parts::None,
};

static CLASSES: [Rules; 8] = [
    PLAIN,
    Rules { name: "GPT2Tokenizer", special_tokens: &GPT2, parts: Parts::Gpt2, ..PLAIN },
    Rules { name: "CodeGenTokenizer", special_tokens: &GPT2, parts: Parts::Gpt2, ..PLAIN },
    Rules { name: "GPTNeoXTokenizer", special_tokens: &GPT2, ends: Some((false, false)), ..PLAIN },
    Rules {
        name: "LlamaTokenizer",
        special_tokens: &LLAMA,
        ends: Some((true, false)),
        parts: Parts::Llama,
        ..PLAIN
    },
    Rules {
        name: "CodeLlamaTokenizer",
        special_tokens: &LLAMA,
        additional: &["▁<PRE>", "▁<MID>", "▁<SUF>", "▁<EOT>"],
        ends: Some((true, false)),
        parts: Parts::Llama,
    },
    Rules {
        name: "GemmaTokenizer",
        special_tokens: &[
            ("bos_token", "<bos>"),
            ("eos_token", "<eos>"),
            ("unk_token", "<unk>"),
            ("pad_token", "<pad>"),
        ],
        ends: Some((true, false)),
        ..PLAIN
    },
    Rules {
        name: "Qwen2Tokenizer",
        special_tokens: &[
            ("eos_token", END_OF_TEXT),
            ("unk_token", END_OF_TEXT),
            ("pad_token", END_OF_TEXT),
        ],
        parts: Parts::Qwen2,
        ..PLAIN
    },
];

/// The class of a model type, for folders that name none.
fn class_of(model_type: &str) -> Option<&'static str> {
    Some(match model_type {
        "gpt2" | "gpt_bigcode" | "gpt_neo" | "gptj" | "opt" | "starcoder2" | "olmo3"
        | "exaone4" | "dbrx" | "granite" | "granitemoe" | "minimax" => "GPT2Tokenizer",
        "gpt_neox" | "stablelm" | "olmo" | "olmo2" | "olmoe" | "mpt" | "mamba" | "mamba2"
        | "rwkv" | "falcon_mamba" => "GPTNeoXTokenizer",
        "llama" | "mistral" | "ministral" | "mixtral" | "phi3" | "phimoe" | "deepseek_v2"
        | "deepseek_v3" | "arcee" | "jamba" | "persimmon" | "ernie4_5" | "diffllama" => {
            "LlamaTokenizer"
        }
        "code_llama" => "CodeLlamaTokenizer",
        "gemma" | "gemma2" | "gemma3" | "gemma3_text" => "GemmaTokenizer",
        "qwen2" | "qwen2_moe" | "qwen3" | "qwen3_moe" | "qwen3_next" => "Qwen2Tokenizer",
        "phi" | "codegen" => "CodeGenTokenizer",
        "glm" | "glm4" | "glm4_moe" | "gpt_oss" | "falcon" | "smollm3" | "nemotron" | "bitnet" => {
            "PreTrainedTokenizer"
        }
        _ => return None,
    })
}

/// Classes that ship with the model, or are of later versions, and add nothing to what is read here.
const SAME_AS_PLAIN: [&str; 3] = ["TokenizersBackend", "ChatGLMTokenizer", "ChatGLM4Tokenizer"];

/// The class of a folder and where its name stands.
#[derive(Debug)]
pub struct Class {
    /// The rules it follows.
    pub rules: &'static Rules,
    /// The name as the folder gives it, if it gives one.
    pub name: Option<String>,
    /// Whether the rules are those of the class named.
    pub known: bool,
}

impl Class {
    /// The class transformers' `AutoTokenizer` takes: tokenizer_config.json's, else config.json's,
    /// else the one of the model type.
    pub fn of(folder: &TokenizerFolder) -> Self {
        let named = |settings: &Value| settings["tokenizer_class"].as_str().map(str::to_owned);
        let name = named(&folder.config).or_else(|| named(&folder.model_config)).or_else(|| {
            folder.model_config["model_type"].as_str().and_then(class_of).map(str::to_owned)
        });
        let plain = name.as_deref().map(|it| it.strip_suffix("Fast").unwrap_or(it));
        let rules = CLASSES.iter().find(|it| Some(it.name) == plain);
        let same = plain.is_none_or(|it| SAME_AS_PLAIN.contains(&it));
        Self { rules: rules.unwrap_or(&CLASSES[0]), known: rules.is_some() || same, name }
    }

    /// Whether transformers makes the tokenizer anew from tokenizer.model although there is a
    /// tokenizer.json.
    pub fn rebuilds(&self, config: &Value) -> bool {
        self.rules.name == "LlamaTokenizer" && !config["add_prefix_space"].is_null()
    }
}

/// Does to a tokenizer what its class does after reading it. What cannot be done is told.
///
/// # Errors
/// If the tokenizer cannot be changed.
pub fn apply(
    tokenizer: &mut tokenizers::Tokenizer,
    class: &Class,
    config: &Value,
    special_tokens: &SpecialTokens,
    warnings: &mut Vec<String>,
) -> Result<()> {
    set_blank_in_front(tokenizer, class, config);
    tokenizer.set_encode_special_tokens(config["split_special_tokens"] == true);
    if let Some((begin, end)) = class.rules.ends {
        let mut asked = |key: &str, default: bool, name: &str| {
            let asked = config.get(key).map_or(default, |it| it.as_bool().unwrap_or(false));
            let token = special_tokens
                .content(name)
                .and_then(|content| Some((content.to_owned(), tokenizer.token_to_id(content)?)));
            if asked && token.is_none() {
                warnings.push(format!(
                    "tokenizer_config.json: `{key}` is on and `{name}` is not set, which \
                     transformers refuses; nothing is added"
                ));
            }
            token.filter(|_| asked)
        };
        let begin = asked("add_bos_token", begin, "bos_token");
        let end = asked("add_eos_token", end, "eos_token");
        tokenizer.with_post_processor(Some(ends(begin, end)?));
    }
    Ok(())
}

/// What of tokenizer_config.json is not followed here and may change ids.
pub fn not_followed(config: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |key: &str, what: &str| {
        warnings.push(format!("tokenizer_config.json: `{key}` is not followed: {what}"));
    };
    if config["fix_mistral_regex"] == true {
        warn(
            "fix_mistral_regex",
            "the words are cut as tokenizer.json says, which gives other ids if that was not mended",
        );
    }
    if config["tokenizer_file"].is_string() {
        warn("tokenizer_file", "the folder's own tokenizer.json is read");
    }
    if config["fast_tokenizer_files"].as_array().is_some_and(|files| files.len() > 1) {
        warn("fast_tokenizer_files", "tokenizer.json is read whatever the version");
    }
    warnings
}

/// The setting of the blank that a byte-level pre-tokenizer puts before a text. Only one that stands
/// by itself follows the settings; off where they are silent.
fn set_blank_in_front(tokenizer: &mut tokenizers::Tokenizer, class: &Class, config: &Value) {
    let llama = class.rules.name == "LlamaTokenizer";
    let asked = match config.get("add_prefix_space") {
        None => !llama && class.name.is_some(),
        Some(value) => !llama && value.is_boolean(),
    };
    let blank = config["add_prefix_space"] == true;
    if let Some(PreTokenizerWrapper::ByteLevel(old)) = tokenizer.get_pre_tokenizer()
        && asked
        && old.add_prefix_space != blank
    {
        let new = old.add_prefix_space(blank);
        tokenizer.with_pre_tokenizer(Some(new));
    }
}

/// A post-processor that adds a token in front and one at the end.
fn ends(begin: Option<(String, u32)>, end: Option<(String, u32)>) -> Result<PostProcessorWrapper> {
    let special = |(content, _): &(String, u32), sequence: usize| json!({"SpecialToken": {"id": content, "type_id": sequence}});
    let around = |name: &str, sequence: usize| -> Vec<Value> {
        let text = json!({"Sequence": {"id": name, "type_id": sequence}});
        let begin = begin.iter().map(|it| special(it, sequence));
        let end = end.iter().map(|it| special(it, sequence));
        begin.chain([text]).chain(end).collect()
    };
    let tokens: serde_json::Map<String, Value> = [&begin, &end]
        .into_iter()
        .flatten()
        .map(|(content, id)| {
            (content.clone(), json!({"id": content, "ids": [id], "tokens": [content]}))
        })
        .collect();
    let pair: Vec<Value> = around("A", 0).into_iter().chain(around("B", 1)).collect();
    serde_json::from_value(json!({
        "type": "TemplateProcessing", "single": around("A", 0), "pair": pair,
        "special_tokens": tokens,
    }))
    .map_err(|error| Error::usage(format!("the tokenizer cannot be given end tokens: {error}")))
}
