//! Special and added tokens, as transformers puts them together: from tokenizer_config.json, or,
//! where that has no `added_tokens_decoder`, also from special_tokens_map.json, added_tokens.json
//! and tokenizer.json.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};
use tokenizers::AddedToken;

use super::class_rules::{Class, Parts};
use super::folder::TokenizerFolder;
use crate::Result;

/// The names under which settings keep special tokens, in the order in which transformers adds them.
const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A special token: its text alone, or with how it is matched.
#[derive(Clone, Debug, PartialEq)]
enum Spelling {
    Text(String),
    Token(AddedToken),
}

impl Spelling {
    fn content(&self) -> &str {
        match self {
            Self::Text(content) => content,
            Self::Token(token) => &token.content,
        }
    }
}

/// The special tokens of a folder.
#[derive(Debug, Default)]
pub struct SpecialTokens {
    /// Names and tokens; further special tokens come last and all have the same name.
    named: Vec<(String, Spelling)>,
    /// What the settings add to the vocabulary, by id.
    listed: BTreeMap<u32, AddedToken>,
}

impl SpecialTokens {
    /// Reads them. `in_tokenizer` are the added tokens that the tokenizer has by itself, none where
    /// it was built of other files than tokenizer.json.
    ///
    /// # Errors
    /// If one of the files is no JSON.
    pub fn read(
        folder: &TokenizerFolder,
        class: &Class,
        in_tokenizer: &BTreeMap<u32, AddedToken>,
    ) -> Result<Self> {
        let mut settings = folder.config.as_object().cloned().unwrap_or_default();
        let mut listed = BTreeMap::new();
        if let Some(decoder) = settings.get("added_tokens_decoder").and_then(Value::as_object) {
            let tokens = decoder.iter().filter_map(|(id, it)| Some((id.parse().ok()?, token(it)?)));
            listed.extend(tokens);
        } else {
            merge_map(&mut settings, &folder.json("special_tokens_map.json")?);
            listed.extend(legacy_added_tokens(&settings, &folder.json("added_tokens.json")?));
            listed.extend(in_tokenizer.iter().map(|(id, token)| (*id, token.clone())));
        }
        let by_content: HashMap<&str, &AddedToken> =
            listed.values().map(|token| (token.content.as_str(), token)).collect();
        let known = |spelling: Spelling| match by_content.get(spelling.content()) {
            Some(&token) => Spelling::Token(token.clone()),
            None => spelling,
        };
        let mut named = Vec::new();
        for name in NAMES {
            let default = class.rules.special_tokens.iter().find(|(it, _)| *it == name);
            let spelling = match settings.get(name) {
                Some(value) => spelling(value).map(&known),
                None => default.map(|(_, content)| Spelling::Text((*content).to_owned())),
            };
            named.extend(spelling.map(|it| (name.to_owned(), as_the_class_has_it(it, class))));
        }
        named.extend(further(&settings, class));
        Ok(Self { named, listed })
    }

    /// Adds them to a tokenizer. Tokens that its vocabulary has keep their ids; the others follow
    /// behind the last one.
    pub fn add_to(&self, tokenizer: &mut tokenizers::Tokenizer) {
        let already = tokenizer.get_added_vocabulary().get_vocab();
        let mut tokens: Vec<Spelling> =
            self.listed.values().cloned().map(Spelling::Token).collect();
        for (_, token) in &self.named {
            let listed = match token {
                Spelling::Text(content) => {
                    already.contains_key(content) || tokens.iter().any(|it| it.content() == content)
                }
                Spelling::Token(_) => tokens.contains(token),
            };
            if !listed {
                tokens.push(token.clone());
            }
        }
        let special = |content: &str| self.named.iter().any(|(_, it)| it.content() == content);
        let tokens: Vec<AddedToken> = tokens
            .into_iter()
            .map(|token| match token {
                Spelling::Text(content) => AddedToken::from(content, true),
                Spelling::Token(token) => {
                    let is_special = token.special || special(&token.content);
                    token.special(is_special)
                }
            })
            .collect();
        if !tokens.is_empty() {
            tokenizer.add_tokens(&tokens);
        }
    }

    /// The text of a special token, by name (`bos_token`).
    pub fn content(&self, name: &str) -> Option<&str> {
        self.named.iter().find(|(it, _)| it == name).map(|(_, token)| token.content())
    }

    /// Names, texts and ids of those that a tokenizer has.
    pub fn with_ids(&self, tokenizer: &tokenizers::Tokenizer) -> Vec<(String, String, u32)> {
        let id = |token: &Spelling| tokenizer.token_to_id(token.content());
        self.named
            .iter()
            .filter_map(|(name, token)| {
                Some((name.clone(), token.content().to_owned(), id(token)?))
            })
            .collect()
    }
}

/// Special tokens beyond the named ones: a list, those that the class always has, and those with
/// names of their own.
fn further(settings: &Map<String, Value>, class: &Class) -> Vec<(String, Spelling)> {
    let name = "additional_special_tokens";
    let list = settings.get(name).and_then(Value::as_array).into_iter().flatten();
    let additional = list
        .filter_map(spelling)
        .chain(class.rules.additional.iter().map(|it| Spelling::Text((*it).to_owned())))
        .map(|token| (name.to_owned(), token));
    let extra: Vec<(String, Spelling)> = match settings.get("extra_special_tokens") {
        Some(Value::Object(tokens)) => {
            tokens.iter().filter_map(|(name, it)| Some((name.clone(), spelling(it)?))).collect()
        }
        Some(Value::Array(tokens)) => {
            tokens.iter().filter_map(spelling).map(|it| (name.to_owned(), it)).collect()
        }
        _ => Vec::new(),
    };
    additional.chain(extra).collect()
}

/// Qwen2's class matches its special tokens as they are written, before the text is normalised; so
/// do the classes of which the slow form is read.
fn as_the_class_has_it(spelling: Spelling, class: &Class) -> Spelling {
    match (spelling, class.rules.parts) {
        (Spelling::Text(content), Parts::Qwen2) => Spelling::Token(AddedToken::from(content, true)),
        (spelling, _) => spelling,
    }
}

/// What special_tokens_map.json says wins over tokenizer_config.json; further special tokens of both
/// are kept.
fn merge_map(settings: &mut Map<String, Value>, map: &Value) {
    for (name, value) in map.as_object().into_iter().flatten() {
        let mut value = value.clone();
        let mark = |token: &mut Value| {
            if let Some(token) = token.as_object_mut() {
                token.insert("special".to_owned(), Value::Bool(true));
            }
        };
        mark(&mut value);
        if name == "additional_special_tokens"
            && let Some(tokens) = value.as_array_mut()
        {
            tokens.iter_mut().for_each(mark);
            let before = settings.remove(name).and_then(|it| it.as_array().cloned());
            let mut all = before.unwrap_or_default();
            for token in tokens {
                if !all.contains(token) {
                    all.push(token.clone());
                }
            }
            value = Value::Array(all);
        }
        settings.insert(name.clone(), value);
    }
}

/// added_tokens.json: texts and ids; special are those that the settings name.
fn legacy_added_tokens(settings: &Map<String, Value>, file: &Value) -> Vec<(u32, AddedToken)> {
    let list = settings.get("additional_special_tokens").and_then(Value::as_array);
    let special: Vec<String> = NAMES
        .iter()
        .filter_map(|name| settings.get(*name))
        .chain(list.into_iter().flatten())
        .filter_map(|it| Some(spelling(it)?.content().to_owned()))
        .collect();
    file.as_object()
        .into_iter()
        .flatten()
        .filter_map(|(content, id)| {
            let id = u32::try_from(id.as_u64()?).ok()?;
            Some((id, AddedToken::from(content.clone(), special.contains(content))))
        })
        .collect()
}

fn spelling(value: &Value) -> Option<Spelling> {
    match value {
        Value::String(content) => Some(Spelling::Text(content.clone())),
        value => token(value).map(Spelling::Token),
    }
}

/// A token with how it is matched. A special token is matched as it is written unless it says
/// otherwise.
fn token(value: &Value) -> Option<AddedToken> {
    let content = value["content"].as_str()?;
    let flag = |name: &str| value[name].as_bool();
    let token = AddedToken::from(content, flag("special").unwrap_or(false));
    let normalized = flag("normalized").unwrap_or(token.normalized);
    Some(
        token
            .single_word(flag("single_word").unwrap_or(false))
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false))
            .normalized(normalized),
    )
}
