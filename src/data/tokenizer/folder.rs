//! The files of a model folder from which its tokenizer is built.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::ModelWrapper;

use super::class_rules::Class;
use super::{published, scores};
use crate::{Error, Result};

/// The tokenizer itself, and beside it what servers of Hugging Face folders look for.
pub const COMPANIONS: [&str; 12] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    GENERATION,
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
];

/// How other programs generate.
pub const GENERATION: &str = "generation_config.json";

const TOKENIZER: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";

/// The folder of further chat templates, each a file of its own.
const TEMPLATES: &str = "additional_chat_templates";

/// Files that say that a folder has a tokenizer. Not all of them can be read; those that cannot are
/// refused by name.
const MARKS: [&str; 6] =
    ["tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json"];

/// The files of a model folder that belong to its tokenizer and to generation, those that exist.
pub fn companion_files(folder: &Path) -> Vec<PathBuf> {
    let mut templates: Vec<PathBuf> = std::fs::read_dir(folder.join(TEMPLATES))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|it| it == "jinja"))
        .collect();
    templates.sort();
    let companions = COMPANIONS.iter().map(|name| folder.join(name));
    companions.chain(templates).filter(|path| path.is_file()).collect()
}

/// Whether a folder has a tokenizer.
pub fn has_tokenizer(folder: &Path) -> bool {
    MARKS.iter().any(|name| folder.join(name).is_file())
}

/// What a folder holds of a tokenizer, read.
pub struct TokenizerFolder {
    /// The folder.
    pub path: PathBuf,
    /// Names, relative to the folder, and bytes.
    pub files: Vec<(String, Vec<u8>)>,
    /// tokenizer_config.json, `null` where it is missing.
    pub config: Value,
    /// config.json, `null` where it is missing or no JSON.
    pub model_config: Value,
}

impl TokenizerFolder {
    /// Reads all files that belong to the tokenizer.
    ///
    /// # Errors
    /// If a file cannot be read, or tokenizer_config.json is no JSON.
    pub fn read(path: &Path) -> Result<Self> {
        let files = companion_files(path)
            .into_iter()
            .map(|file| {
                let name = file.strip_prefix(path).unwrap_or(&file).to_string_lossy();
                let content = std::fs::read(&file).map_err(Error::io(&file, "read"))?;
                Ok((name.replace('\\', "/"), content))
            })
            .collect::<Result<_>>()?;
        let model_config = std::fs::read(path.join("config.json")).unwrap_or_default();
        let mut folder = Self {
            path: path.to_owned(),
            files,
            config: Value::Null,
            model_config: serde_json::from_slice(&model_config).unwrap_or_default(),
        };
        folder.config = folder.json(CONFIG)?;
        folder.check_end()?;
        Ok(folder)
    }

    /// Refuses an end of text that is none: training and sampling would go on with another, or with
    /// none.
    fn check_end(&self) -> Result<()> {
        let refused = |key: &str, expected: &str| {
            let found = &self.config[key];
            let message = format!("`{key}`: expected {expected}, found {found}; correct it there");
            Err(Error::file(self.path.join(CONFIG), message))
        };
        let end = &self.config["eos_token"];
        if !(end.is_null() || end.is_string() || end["content"].is_string()) {
            return refused("eos_token", "the text of a token, or an object with its `content`");
        }
        let is_id = |it: &Value| it.as_u64().is_some_and(|it| u32::try_from(it).is_ok());
        let ids = &self.config["eos_token_id"];
        let are_ids = ids.as_array().map_or(is_id(ids), |ids| ids.iter().all(is_id));
        if !(ids.is_null() || are_ids) {
            return refused("eos_token_id", "token ids, whole numbers from 0 to 4294967295");
        }
        Ok(())
    }

    /// The bytes of a file, if the folder has it.
    pub fn file(&self, name: &str) -> Option<&[u8]> {
        self.files.iter().find(|(it, _)| it == name).map(|(_, content)| content.as_slice())
    }

    /// A file as JSON, `null` where it is missing.
    pub fn json(&self, name: &str) -> Result<Value> {
        self.file(name).map_or(Ok(Value::Null), |content| {
            serde_json::from_slice(content).map_err(|error| {
                Error::file(self.path.join(name), format!("cannot be read as JSON: {error}"))
            })
        })
    }

    /// A file as text, with line ends as Python's text files have them.
    pub fn text(&self, name: &str) -> Result<Option<String>> {
        let Some(content) = self.file(name) else { return Ok(None) };
        let text = std::str::from_utf8(content).map_err(|error| {
            Error::file(self.path.join(name), format!("cannot be read as UTF-8: {error}"))
        })?;
        Ok(Some(text.replace("\r\n", "\n").replace('\r', "\n")))
    }

    /// The tokenizer before the settings change it. One that is made of other files joins the
    /// folder's as tokenizer.json. What differs from transformers is told in `warnings`.
    ///
    /// # Errors
    /// If the folder has no tokenizer, or one of a kind that is not read.
    pub fn tokenizer(
        &mut self,
        class: &Class,
        warnings: &mut Vec<String>,
    ) -> Result<tokenizers::Tokenizer> {
        let path = self.path.join(TOKENIZER);
        let made = self.made_of_other_files(class, warnings)?;
        let json = made.as_deref().or_else(|| self.file(TOKENIZER)).unwrap_or_default();
        let read = |json: &[u8]| {
            tokenizers::Tokenizer::from_bytes(json).map_err(|error| {
                Error::file(&path, format!("cannot be read as a tokenizer: {error}"))
            })
        };
        let mut tokenizer = read(json)?;
        match tokenizer.get_model() {
            ModelWrapper::WordPiece(_) => Err(Error::file(
                &path,
                "expected a tokenizer of BPE or unigram, found WordPiece, as BERT has it; no model \
                 that is read here has such a tokenizer",
            )),
            ModelWrapper::Unigram(_) if made.is_none() => read(&scores::as_python_reads_them(json)),
            ModelWrapper::BPE(model) if model.dropout.is_some_and(|it| it > 0.0) => {
                let mut model = model.clone();
                model.dropout = None;
                tokenizer.with_model(model);
                warnings.push(
                    "tokenizer.json: `model.dropout` draws other ids for the same text every time; \
                     it is switched off"
                        .to_owned(),
                );
                Ok(tokenizer)
            }
            _ => Ok(tokenizer),
        }
    }

    /// A tokenizer.json of other files, where there is none or where the class makes it anew.
    fn made_of_other_files(
        &mut self,
        class: &Class,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Vec<u8>>> {
        if self.file(TOKENIZER).is_none() {
            let json = published::tokenizer_json(self, class)?.to_string().into_bytes();
            self.files.push((TOKENIZER.to_owned(), json.clone()));
            return Ok(Some(json));
        }
        if !class.rebuilds(&self.config) {
            return Ok(None);
        }
        let json = published::of_llama(self, class);
        if json.is_none() {
            warnings.push(
                "tokenizer_config.json: `add_prefix_space` is set, for which transformers makes \
                 the tokenizer anew from tokenizer.model; there is no such model here, so the ids \
                 are those of tokenizer.json, where the blank in front of a text may differ"
                    .to_owned(),
            );
        }
        Ok(json.map(|json| json.to_string().into_bytes()))
    }
}
