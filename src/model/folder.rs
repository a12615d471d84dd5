//! Hugging Face folders in and out: `config.json` and the weights it describes.
//!
//! What is written loads in `transformers` without a warning. The weights come last, so that a
//! folder with weights is a whole one.

use std::fs::File;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{DType, Device};
use serde_json::{Value, json};

use super::config::DecoderConfig;
use super::families::{Binding, Family};
use super::weights::{self, Load, SafetensorsFiles, Saving, weight_files};
use crate::files::{read_json, write_json};
use crate::{Error, Result};

/// What a model folder says of itself, apart from the weights.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    /// The folder.
    pub path: PathBuf,
    /// `config.json`.
    pub json: Value,
    /// The family it belongs to.
    pub family: &'static Family,
    /// The shape of its decoder.
    pub shape: DecoderConfig,
}

impl ModelFolder {
    /// Reads `config.json` (and `generation_config.json` for the end-of-text tokens).
    ///
    /// # Errors
    /// If the folder or file is missing, or the architecture is not supported.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if !path.is_dir() {
            return Err(Error::file(
                path,
                "expected a Hugging Face model folder, found none; give the path of a folder with config.json, \
                 model.safetensors and tokenizer.json",
            ));
        }
        let file = path.join("config.json");
        let json: Value = read_json(&file)?;
        let family = Family::of(&file, &json)?;
        let mut shape = family.shape(&file, &json)?;
        let generation = path.join("generation_config.json");
        if generation.is_file() {
            let generation: Value = read_json(&generation)?;
            for token in token_list(generation.get("eos_token_id")) {
                if !shape.end_of_text.contains(&token) {
                    shape.end_of_text.push(token);
                }
            }
        }
        Ok(Self { path: path.to_owned(), json, family, shape })
    }

    /// Identifies what the model computes: the hash of its shape and weights.
    pub fn content_hash(&self) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        for file in std::iter::once(self.path.join("config.json")).chain(weight_files(&self.path)?)
        {
            let opened = File::open(&file).map_err(Error::io(&file, "read"))?;
            hasher.update_reader(opened).map_err(Error::io(&file, "read"))?;
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// The number of labels of a model with a scalar head or a classifier's; none of a language model.
    pub fn num_labels(&self) -> Option<usize> {
        let architecture = self.json["architectures"][0].as_str()?;
        let labels = || self.json["id2label"].as_object().map(serde_json::Map::len);
        (architecture == self.family.classifier_architecture)
            .then(|| self.json["num_labels"].as_u64().map(|it| it as usize).or_else(labels))
            // What transformers takes where neither is written.
            .map(|labels| labels.unwrap_or(2))
    }

    /// Loads `module`'s parameters as `bindings` say; every tensor of the folder must have a place.
    ///
    /// # Errors
    /// If a file cannot be read, or tensors are missing, unexpected or misshapen.
    pub fn load<M: Module>(&self, module: M, bindings: &[Binding], device: &Device) -> Result<M> {
        self.load_with(module, bindings, &|_| false, device)
    }

    /// Like [`load`](Self::load), leaving the folder's vocabulary head aside.
    ///
    /// # Errors
    /// The same.
    pub fn load_trunk<M: Module>(
        &self,
        module: M,
        bindings: &[Binding],
        device: &Device,
    ) -> Result<M> {
        self.load_with(module, bindings, &|name| name == self.family.head, device)
    }

    fn load_with<M: Module>(
        &self,
        module: M,
        bindings: &[Binding],
        left_aside: &dyn Fn(&str) -> bool,
        device: &Device,
    ) -> Result<M> {
        let files = weight_files(&self.path)?;
        let files = SafetensorsFiles::open(&files, |name| self.family.full_name(name))?;
        let load = Load {
            folder: &self.path,
            bindings,
            ignores: &|name| self.family.ignores(&self.shape, name) || left_aside(name),
            dtype: DType::F32,
            device,
        };
        load.load(module, files)
    }
}

/// Writes `config` as `config.json` and `module`'s parameters as `bindings` say, in the dtype that
/// `config` names.
///
/// # Errors
/// If the folder cannot be written.
pub fn save<M: Module>(
    module: &M,
    bindings: &[Binding],
    config: &Value,
    folder: &Path,
) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
    write_json(&folder.join("config.json"), config)?;
    let dtype = match config["dtype"].as_str() {
        Some("bfloat16") => DType::BF16,
        Some("float16") => DType::F16,
        _ => DType::F32,
    };
    weights::save(module, Saving { bindings, dtype }, &folder.join("model.safetensors"))
}

/// `config.json` of a model whose weights are written as f32.
pub fn as_f32(config: &Value) -> Value {
    let mut json = config.clone();
    json["dtype"] = json!("float32");
    if json.get("torch_dtype").is_some() {
        json["torch_dtype"] = json!("float32");
    }
    json
}

/// `config.json` of a reward model or classifier whose trunk has `config` as its own.
pub fn classifier_json(config: &Value, family: &Family) -> Value {
    let mut json = as_f32(config);
    json["architectures"] = json!([family.classifier_architecture]);
    json["id2label"] = json!({"0": "LABEL_0"});
    json["label2id"] = json!({"LABEL_0": 0});
    if json.get("pad_token_id").is_none_or(Value::is_null) {
        json["pad_token_id"] = match &json["eos_token_id"] {
            Value::Array(list) => list.first().cloned().unwrap_or(Value::Null),
            token => token.clone(),
        };
    }
    json
}
fn token_list(value: Option<&Value>) -> Vec<u32> {
    match value {
        Some(Value::Array(list)) => {
            list.iter().filter_map(Value::as_u64).map(|it| it as u32).collect()
        }
        Some(value) => value.as_u64().map(|it| it as u32).into_iter().collect(),
        None => Vec::new(),
    }
}
