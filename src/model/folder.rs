//! Hugging Face folders in and out: `config.json` and the weights it describes.
//!
//! A written folder loads in `transformers` without a warning. The weights are written last, so a folder with
//! weights is complete.

use std::fs::File;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::Device;
use serde_json::{Map, Value, json};

use super::adapter::{AdapterFolder, Adapters, Replacements};
use super::config::DecoderConfig;
use super::families::{Binding, Family, SCORE, end_of_text};
use super::precision::{Precision, WeightType};
use super::published::published_folder;
use super::quantization;
use super::weights::{self, INDEX, Load, SINGLE, SafetensorsFiles, Saving, weight_files};
use crate::data::{GENERATION, Limits, SetBy, Tokenizer};
use crate::files::{read_json, write_json};
use crate::{Error, Result};

/// What a model folder says of itself, apart from the weights.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    /// The folder with the weights; of an adapter, its base model's.
    pub path: PathBuf,
    /// What others know it by: the hub id it was asked for by, or its path.
    pub name: String,
    /// What its weights are kept as when they are loaded.
    pub kept: WeightType,
    /// The adapter that is added to the weights when they are loaded.
    pub adapter: Option<AdapterFolder>,
    /// `config.json`.
    pub json: Value,
    /// The family it belongs to.
    pub family: &'static Family,
    /// The shape of its decoder.
    pub shape: DecoderConfig,
    /// Whether the adapter gives embedding and head weights of their own, which the base has in one.
    unties: bool,
}

impl ModelFolder {
    /// Whether `path` holds a model or an adapter.
    pub fn is_at(path: &Path) -> bool {
        path.join("config.json").is_file() || AdapterFolder::is_at(path)
    }

    /// Reads `config.json` (and `generation_config.json` for the end-of-text tokens). A PEFT folder
    /// is read as its base model with the adapter added. `path` may be a hub id where there is no
    /// folder of that name.
    ///
    /// # Errors
    /// If the folder or file is missing, or the architecture is not supported.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_beneath(path.as_ref(), &mut Vec::new())
    }

    /// The same, as the base of adapters in the folders `above`.
    fn open_beneath(given: &Path, above: &mut Vec<PathBuf>) -> Result<Self> {
        let on_hub = published_folder(given)?;
        let path = on_hub.as_deref().unwrap_or(given);
        if !path.is_dir() {
            return Err(Error::file(
                path,
                "expected a Hugging Face model folder, found none; give the path of a folder with config.json, \
                 model.safetensors and tokenizer.json, or a hub id such as owner/name@revision",
            ));
        }
        let name = match on_hub {
            Some(_) => given.display().to_string(),
            None => std::fs::canonicalize(path).unwrap_or(path.to_owned()).display().to_string(),
        };
        match AdapterFolder::is_at(path) {
            true => Self::open_adapted(AdapterFolder::open(path)?, name, above),
            false => Self::open_plain(path, name),
        }
    }

    /// A folder with a model of its own, whatever adapter stands beside it.
    fn open_plain(path: &Path, name: String) -> Result<Self> {
        let file = path.join(CONFIG);
        let within = if file.is_file() { Vec::new() } else { models_within(path) };
        if !within.is_empty() {
            let problem = format!(
                "expected a folder with config.json or adapter_config.json, found a folder of such folders; name one of \
                 them: {}",
                within.join(", ")
            );
            return Err(Error::file(path, problem));
        }
        let json: Value = read_json(&file)?;
        let family = Family::of(&file, &json)?;
        quantization::refuse(&file, &json)?;
        let mut shape = family.shape(&file, &json)?;
        let own = std::mem::take(&mut shape.end_of_text);
        shape.end_of_text = with_generation_config(own, path)?;
        Ok(Self {
            path: path.to_owned(),
            name,
            adapter: None,
            kept: WeightType::F32,
            json,
            family,
            shape,
            unties: false,
        })
    }

    /// The base model that an adapter names, with the adapter added. An adapter may stand beside its
    /// own base, in the same folder.
    fn open_adapted(
        adapter: AdapterFolder,
        name: String,
        above: &mut Vec<PathBuf>,
    ) -> Result<Self> {
        let base = adapter.base()?;
        let of = |path: &Path| std::fs::canonicalize(path).unwrap_or(path.to_owned());
        let own = of(&adapter.path);
        if of(&base) == own && base.join(CONFIG).is_file() {
            return Self::open_plain(&base, name)?.with_adapter(adapter);
        }
        let is_circle = above.contains(&own);
        above.push(own);
        if is_circle {
            let names: Vec<String> = above.iter().map(|it| it.display().to_string()).collect();
            return Err(adapter.base_error(&format!(
                "expected the folder of a model, found an adapter that is the base of itself ({})",
                names.join(", whose base is ")
            )));
        }
        let depth = above.len();
        let opened =
            Self::open_beneath(&base, above).map_err(|error| match above.len() > depth {
                // An adapter beneath has said it.
                true => error,
                false => {
                    adapter.base_error(&format!("`{}` cannot be opened ({error})", base.display()))
                }
            })?;
        opened.with_adapter(adapter)
    }

    /// The model with an adapter added to its weights. An adapter that brings an embedding or a head
    /// of its own changes what `json` and `shape` say of them.
    ///
    /// # Errors
    /// If there is an adapter already, or what the adapter does with embedding and head is not
    /// supported.
    pub fn with_adapter(self, adapter: AdapterFolder) -> Result<Self> {
        if let Some(other) = &self.adapter {
            return Err(Error::file(
                &adapter.path,
                format!(
                    "expected the adapter of a whole model, found that of another adapter, {}; merge \
                     that one first: exalign merge --model {} --adapter {} --out FOLDER",
                    other.path.display(),
                    self.path.display(),
                    other.path.display()
                ),
            ));
        }
        let adapter = adapter.of(self.family);
        let Self { mut json, mut shape, .. } = self;
        let embedding = self.family.embedding(&shape);
        let changes = adapter.embedding_changes(&embedding, self.family.head, &shape)?;
        if changes.unties {
            shape.tied_embeddings = false;
            json["tie_word_embeddings"] = json!(false);
        }
        if let Some(vocab_size) = changes.vocab_size.filter(|&it| it != shape.vocab_size) {
            shape.vocab_size = vocab_size;
            json[self.family.vocab_size_key] = json!(vocab_size);
        }
        if adapter.path.join(GENERATION).is_file() {
            let own = self.family.shape(&self.path.join("config.json"), &json)?.end_of_text;
            shape.end_of_text = with_generation_config(own, &adapter.path)?;
        }
        Ok(Self { adapter: Some(adapter), json, shape, unties: changes.unties, ..self })
    }

    /// The folder whose tokenizer and chat template are the model's: the adapter's where it has a
    /// tokenizer, else the one with the weights.
    pub fn tokenizer_folder(&self) -> &Path {
        match &self.adapter {
            Some(adapter) if Tokenizer::is_at(&adapter.path) => &adapter.path,
            _ => &self.path,
        }
    }

    /// The model with its weights kept as a type.
    pub fn kept_as(self, kept: impl Into<WeightType>) -> Self {
        Self { kept: kept.into(), ..self }
    }

    /// Identifies what the model computes: the hash of its shape, its weights and what those are
    /// kept as.
    pub fn content_hash(&self) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        match self.kept {
            WeightType::F32 => {}
            WeightType::Q8 | WeightType::Q4 => {
                hasher.update(self.kept.short_name().as_bytes());
            }
            WeightType::Bf16 | WeightType::F16 => {
                hasher.update(self.kept.precision().name().as_bytes());
            }
        }
        let adapter = self.adapter.iter().flat_map(AdapterFolder::files);
        let files = std::iter::once(self.path.join("config.json"));
        for file in files.chain(weight_files(&self.path)?).chain(adapter) {
            let opened = File::open(&file).map_err(Error::io(&file, "read"))?;
            hasher.update_reader(opened).map_err(Error::io(&file, "read"))?;
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Whether it holds a reward model or classifier, as its `config.json` says; of an adapter, as its
    /// `task_type` says, or its base where that is null.
    pub fn is_classifier(&self) -> bool {
        let is_one = || self.json["architectures"][0] == self.family.classifier_architecture;
        let adapter = self.adapter.as_ref().and_then(AdapterFolder::is_classifier);
        adapter.unwrap_or_else(is_one)
    }

    /// Refuses a folder that holds no reward model or classifier.
    ///
    /// # Errors
    /// If it holds none; the message says what in the folder says so.
    pub fn expect_classifier(&self) -> Result<()> {
        if self.is_classifier() {
            return Ok(());
        }
        let expected = self.family.classifier_architecture;
        let found = &self.json["architectures"];
        Err(match &self.adapter {
            Some(adapter) => adapter.task_error(&format!(
                "of a reward model, expected \"SEQ_CLS\", or null over a base whose `architectures` are \
                 [\"{expected}\"], found {} over {found}",
                adapter.task()
            )),
            None if matches!(self.score(), Ok(Some(_))) => Error::file(
                self.path.join(CONFIG),
                format!(
                    "`architectures`: expected [\"{expected}\"] of a reward model, found {found}; correct it \
                     if the head `{SCORE}` of this folder gives rewards"
                ),
            ),
            None => Error::file(
                &self.path,
                format!(
                    "expected a reward model ({expected}), found {found}; `exalign reward` makes one"
                ),
            ),
        })
    }

    /// Reads all weights, and those of the adapter, for the one purpose of finding numbers that are not
    /// finite. A folder without weights has none.
    ///
    /// # Errors
    /// If there is one, or a file cannot be read.
    pub fn check_weights(&self) -> Result<()> {
        if ![SINGLE, INDEX].iter().any(|file| self.path.join(file).is_file()) {
            return Ok(());
        }
        self.files()?.check_finite()?;
        let adapter: Vec<PathBuf> = self.adapter.iter().flat_map(AdapterFolder::files).collect();
        let weights =
            adapter.iter().filter(|it| it.extension().is_some_and(|it| it == "safetensors"));
        let weights: Vec<PathBuf> = weights.cloned().collect();
        SafetensorsFiles::open(&weights, |name| name)?.check_finite()
    }

    /// The head of a reward model or classifier, `[labels, hidden]`, row by row: the adapter's, else that
    /// of the weights; none where neither has one.
    ///
    /// # Errors
    /// If it has another width, or cannot be read.
    pub fn score(&self) -> Result<Option<Vec<Vec<f32>>>> {
        let own = self.adapter.as_ref().map(AdapterFolder::score).transpose()?.flatten();
        let place = self.adapter.as_ref().filter(|_| own.is_some());
        let place = place.map_or(&self.path, |adapter| &adapter.path);
        let (shape, values) = match own {
            Some(score) => score,
            None => {
                let files = self.files()?;
                let Some(shape) = files.shape(SCORE).map(<[usize]>::to_vec) else {
                    return Ok(None);
                };
                files.check_gathered([SCORE])?;
                (shape, files.read(SCORE)?)
            }
        };
        let hidden = self.shape.hidden_size;
        if shape.len() != 2 || shape[1] != hidden {
            return Err(Error::file(
                place,
                format!("`{SCORE}`: expected a shape [labels, {hidden}], found {shape:?}"),
            ));
        }
        Ok(Some(values.chunks(hidden).map(<[f32]>::to_vec).collect()))
    }

    /// Refuses a folder that has a scalar head under another name than [`SCORE`].
    ///
    /// # Errors
    /// If there are tensors of such names; the message has them as they stand in the file.
    pub(super) fn refuse_other_heads(&self) -> Result<()> {
        const PARTS: [&str; 5] = ["score", "reward", "value", "classifier", "regressor"];
        let bindings = self.family.trunk_bindings(&self.shape, "");
        let of_head = self.family.head.trim_end_matches("weight"); // `lm_head.`
        let is_head = |name: &&str| {
            let own = name.trim_start_matches("base_model.model.");
            let is_known = own.starts_with(of_head)
                || own.contains(".lora_")
                || bindings.iter().any(|it| it.name == own);
            !is_known && own.split('.').any(|it| PARTS.contains(&it) || it.ends_with("head"))
        };
        let refuse = |place: &Path, files: &SafetensorsFiles| {
            let shape = |name| weights::shown(files.shape(name));
            let shown = |name| format!("`{}` {}", files.stored_name(name), shape(name));
            let heads: Vec<String> = files.names().filter(is_head).map(shown).collect();
            if heads.is_empty() {
                return Ok(());
            }
            let problem = format!(
                "expected the head `{SCORE}` [1, {}] of a reward model, found {}; if the head is one matrix, save it \
                 as `{SCORE}` of this shape, without a bias, which adds the same to every reward",
                self.shape.hidden_size,
                weights::abridged(&heads)
            );
            Err(Error::file(place, problem))
        };
        if let Some(adapter) = &self.adapter {
            refuse(&adapter.path, &adapter.weights()?)?;
        }
        refuse(&self.path, &self.files()?)
    }

    /// Loads a language model's parameters as `bindings` say; every tensor of the folder must have a place.
    ///
    /// # Errors
    /// If a file cannot be read, tensors are missing, unexpected or misshapen, or the adapter is that of a reward
    /// model.
    pub fn load<M: Module>(&self, module: M, bindings: &[Binding], device: &Device) -> Result<M> {
        self.load_adapted(module, bindings, None, device)
    }

    /// Like [`load`](Self::load), the weights frozen and `adapters` beside them to be trained, if there are some.
    ///
    /// # Errors
    /// The same.
    pub fn load_adapted<M: Module>(
        &self,
        module: M,
        bindings: &[Binding],
        adapters: Option<Adapters>,
        device: &Device,
    ) -> Result<M> {
        self.adapter.as_ref().map_or(Ok(()), AdapterFolder::expect_language_model)?;
        self.load_with(module, bindings, adapters, &|_| false, device)
    }

    /// Like [`load_adapted`](Self::load_adapted), leaving the folder's vocabulary or scalar head aside.
    ///
    /// # Errors
    /// The same.
    pub fn load_trunk<M: Module>(
        &self,
        module: M,
        bindings: &[Binding],
        adapters: Option<Adapters>,
        device: &Device,
    ) -> Result<M> {
        let heads = [self.family.head, SCORE];
        self.load_with(module, bindings, adapters, &|name| heads.contains(&name), device)
    }

    fn load_with<M: Module>(
        &self,
        module: M,
        bindings: &[Binding],
        adapters: Option<Adapters>,
        left_aside: &dyn Fn(&str) -> bool,
        device: &Device,
    ) -> Result<M> {
        let mut files = self.files()?;
        let embedding = self.family.embedding(&self.shape).name;
        let pair = (embedding.as_str(), self.family.head);
        let tied = Some(pair).filter(|_| self.shape.tied_embeddings || self.unties);
        // One tensor of the base under two names, either of which may be in the file.
        if tied.is_some() && files.shape(&embedding).is_none() {
            files.alias(&embedding, self.family.head);
        }
        if let Some(adapter) = &self.adapter {
            let replaced: Replacements = adapter.replacements(bindings, tied)?;
            replaced.apply(&mut files, Some(pair).filter(|_| self.unties));
        }
        let load = Load {
            folder: &self.path,
            bindings,
            ignores: &|name| self.family.ignores(&self.shape, name) || left_aside(name),
            kept: self.kept,
            device,
        };
        let Some(adapter) = &self.adapter else { return load.load(module, files, adapters) };
        // A head that has no place in the module: of the embedding's weights, or not wanted.
        let head = self.family.head;
        let has_head = bindings.iter().any(|it| it.name == head);
        let of_head = format!("{}.", head.trim_end_matches(".weight"));
        let left_aside = |name: &str| !has_head && name.starts_with(&of_head);
        let own = adapter.read_beside(&module, bindings, &left_aside)?;
        if self.kept.format().is_none() {
            let module = load.load(module, files, adapters)?;
            return Ok(own.merge(module, device));
        }
        // Nothing can be added to weights in few bits, but factors can stand beside them.
        if adapters.is_some() || !own.are_factors_alone() {
            return Err(Error::file(
                &adapter.path,
                format!(
                    "expected weights that the adapter can be added to, found {}; merge it first (exalign merge \
                     --model {} --adapter {} --out FOLDER), or keep the weights as bf16",
                    self.kept.short_name(),
                    self.path.display(),
                    adapter.path.display()
                ),
            ));
        }
        load.load(module, files, Some(own))
    }

    /// These limits, and no sequence longer than the model reads.
    pub fn within(&self, limits: Limits) -> Limits {
        let DecoderConfig { max_positions, window, .. } = self.shape;
        limits
            .within(max_positions, if window.is_some() { SetBy::Window } else { SetBy::Positions })
    }

    fn files(&self) -> Result<SafetensorsFiles> {
        let files = weight_files(&self.path)?;
        let files = SafetensorsFiles::open(&files, |name| self.family.full_name(name))?;
        quantization::refuse_by_names(&self.path, files.names())?;
        Ok(files)
    }
}

/// What describes a model.
pub(super) const CONFIG: &str = "config.json";

/// The names of the folders in a folder that hold a model or adapters.
fn models_within(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|it| it.path().join(CONFIG).is_file() || AdapterFolder::is_at(&it.path()))
        .filter_map(|it| it.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// The tokens that end a text: those of `config.json`, and those that a folder's
/// `generation_config.json` adds.
fn with_generation_config(mut tokens: Vec<u32>, folder: &Path) -> Result<Vec<u32>> {
    let file = folder.join(GENERATION);
    if file.is_file() {
        let generation: Value = read_json(&file)?;
        for token in end_of_text(&file, &generation)? {
            if !tokens.contains(&token) {
                tokens.push(token);
            }
        }
    }
    Ok(tokens)
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
    crate::files::create_dir(folder)?;
    write_json(&folder.join("config.json"), config)?;
    // `torch_dtype` before transformers 4.56, which takes the other where both are there.
    let named = config["dtype"].as_str().or(config["torch_dtype"].as_str());
    let dtype = Precision::named(named.unwrap_or_default()).dtype();
    weights::save(module, Saving { bindings, dtype }, &folder.join("model.safetensors"))
}

/// `config.json` of a model whose weights are written in another `precision`.
pub fn with_precision(config: &Value, precision: Precision) -> Value {
    let mut json = config.clone();
    json["dtype"] = json!(precision.name());
    if json.get("torch_dtype").is_some() {
        json["torch_dtype"] = json!(precision.name());
    }
    json
}

/// `config.json` of a reward model or classifier of `labels` labels whose trunk has `config` as its own. The
/// labels keep their names where there are as many.
pub fn classifier_json(config: &Value, family: &Family, labels: usize) -> Value {
    let mut json = config.clone();
    json["architectures"] = json!([family.classifier_architecture]);
    if json["id2label"].as_object().map(Map::len) != Some(labels) {
        let names = || (0..labels).map(|label| (label, format!("LABEL_{label}")));
        let by_id = names().map(|(label, name)| (label.to_string(), json!(name)));
        json["id2label"] = by_id.collect::<Map<_, _>>().into();
        let by_name = names().map(|(label, name)| (name, json!(label)));
        json["label2id"] = by_name.collect::<Map<_, _>>().into();
    }
    // transformers leaves it out, and reads it where it is.
    if json.get("num_labels").is_some() {
        json["num_labels"] = json!(labels);
    }
    json
}
