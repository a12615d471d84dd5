//! A PEFT folder: the model it belongs to, and the tensors that replace the model's own.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::settings::{Candidate, Settings};
use super::{CONFIG, NOTES, PREFIX, WEIGHTS, module_name};
use crate::hub::HubId;
use crate::model::ModelFolder;
use crate::model::config::DecoderConfig;
use crate::model::families::{Binding, Family, SCORE, without_wrappers};
use crate::model::published::published_folder;
use crate::model::reward_model::READS;
use crate::model::weights::SafetensorsFiles;
use crate::{Error, Result};

/// Where the file has the weights of an embedding or head: of the module itself, or of the one within the layer
/// that adds factors, or tokens, to it.
const WITHIN: [&str; 3] = ["", ".base_layer", ".token_adapter.base_layer"];

/// The scalar head as the training has it, beside the one before.
pub(super) const SAVED_SCORE: &str = "score.modules_to_save.weight";
pub(super) const ORIGINAL_SCORE: &str = "score.original_module.weight";

/// The setting that says which head the model has.
const TASK: &str = "task_type";

/// A PEFT folder.
#[derive(Clone, Debug)]
pub struct AdapterFolder {
    /// The folder.
    pub path: PathBuf,
    pub(super) settings: Settings,
    /// The family of the model it belongs to, once that is known.
    family: Option<&'static Family>,
}

/// What an adapter makes of its base's embedding and head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::model) struct EmbeddingChanges {
    /// Whether each has weights of its own where the base has one tensor for both.
    pub unties: bool,
    /// The number of tokens, where it is another than the base's.
    pub vocab_size: Option<usize>,
}

/// Tensors of an adapter's file that stand for tensors of the model.
#[derive(Debug)]
pub(in crate::model) struct Replacements {
    files: SafetensorsFiles,
    /// The model's tensor and the file's, of weights that the base is given before anything else.
    base: Vec<(String, String)>,
    /// The same, of modules trained whole.
    saved: Vec<(String, String)>,
    /// Tensors of the file that hold the same once more.
    copies: Vec<String>,
}

impl Replacements {
    /// Puts them in place of the model's tensors. `unties` has the embedding's tensor and the head's,
    /// where the head begins as a copy of the embedding.
    pub fn apply(&self, files: &mut SafetensorsFiles, unties: Option<(&str, &str)>) {
        for (name, by) in &self.base {
            files.replace(name, &self.files, by);
        }
        if let Some((embedding, head)) = unties {
            files.alias(head, embedding);
        }
        for (name, by) in &self.saved {
            files.replace(name, &self.files, by);
        }
    }

    /// The names in the adapter's file.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let read = self.base.iter().chain(&self.saved).map(|(_, by)| by.as_str());
        read.chain(self.copies.iter().map(String::as_str))
    }
}

impl AdapterFolder {
    /// Whether `path` is one.
    pub fn is_at(path: &Path) -> bool {
        path.join(CONFIG).is_file()
    }

    /// Reads `adapter_config.json` of a folder, or of a hub id where there is no such folder.
    ///
    /// # Errors
    /// If it is no LoRA adapter, or one of a kind that is not supported.
    pub fn open(path: &Path) -> Result<Self> {
        let path = published_folder(path)?.unwrap_or(path.to_owned());
        if !Self::is_at(&path) {
            return Err(Error::file(
                &path,
                format!("expected a PEFT folder with {CONFIG} and {WEIGHTS}, found no {CONFIG}"),
            ));
        }
        let settings = Settings::open(&path.join(CONFIG))?;
        Ok(Self { path, settings, family: None })
    }

    /// The adapter of a model of `family`, whose names its file may have without the prefix.
    pub(in crate::model) fn of(self, family: &'static Family) -> Self {
        Self { family: Some(family), ..self }
    }

    /// The folder, or hub id, of the model it belongs to: `base_model_name_or_path`, looked for from
    /// the working folder and from the adapter's own.
    ///
    /// # Errors
    /// If the settings do not say.
    pub fn base(&self) -> Result<PathBuf> {
        let name = match self.settings.get("base_model_name_or_path") {
            Some(Value::String(name)) if !name.is_empty() => name,
            found => {
                let found = found.map_or("null".to_owned(), Value::to_string);
                return Err(self.base_error(&format!(
                    "expected the folder or hub id of the model this adapter belongs to, found {found}"
                )));
            }
        };
        let places = [PathBuf::from(name), self.path.join(name)];
        let found = places.iter().find(|it| ModelFolder::is_at(it));
        if let Some(folder) = found.or(places.iter().find(|it| it.is_dir())) {
            return Ok(folder.clone());
        }
        let revision = self.settings.get("revision").and_then(Value::as_str);
        let id = match revision.filter(|it| !it.is_empty() && !name.contains('@')) {
            Some(revision) => format!("{name}@{revision}"),
            None => name.clone(),
        };
        match HubId::parse(&id) {
            Some(_) => Ok(PathBuf::from(id)),
            None => Err(self.base_error(&format!(
                "expected the folder or hub id of the model this adapter belongs to, found `{name}`, \
                 and there is no such folder here or from {}",
                self.path.display()
            ))),
        }
    }

    /// The name of the model it was trained on, as its settings have it.
    pub fn base_name(&self) -> Option<&str> {
        let name = self.settings.get("base_model_name_or_path").and_then(Value::as_str);
        name.filter(|name| !name.is_empty())
    }

    /// An error about the model it belongs to, with the way out.
    pub(in crate::model) fn base_error(&self, what: &str) -> Error {
        self.settings.error(
            "base_model_name_or_path",
            format!(
                "{what}; correct base_model_name_or_path there, or give the model yourself: exalign \
                 merge --model BASE --adapter {} --out FOLDER",
                self.path.display()
            ),
        )
    }

    /// Whether it makes a reward model or classifier of its base; none where `task_type` does not say, and
    /// the base is what it is.
    pub fn is_classifier(&self) -> Option<bool> {
        self.settings.get(TASK).map(|task| task == "SEQ_CLS")
    }

    /// `task_type`.
    pub(in crate::model) fn task(&self) -> &Value {
        self.settings.get(TASK).unwrap_or(&Value::Null)
    }

    /// An error about `task_type`.
    pub(in crate::model) fn task_error(&self, what: &str) -> Error {
        let way_out = "correct it, or give a reward model, as `exalign reward` makes one";
        self.settings.error(TASK, format!("{what}; {way_out}"))
    }

    /// Refuses an adapter that makes something else than a language model of its base.
    ///
    /// # Errors
    /// If `task_type` says so, or there is a scalar head.
    pub(in crate::model) fn expect_language_model(&self) -> Result<()> {
        let way_out = "as an adapter of a reward model has it: give that one to --reward, and the language model's \
                       adapter here";
        if let Some(task) = self.settings.get(TASK).filter(|&it| it != "CAUSAL_LM") {
            return Err(self.settings.error(
                TASK,
                format!(
                    "of a language model, expected \"CAUSAL_LM\" or null, found {task}, {way_out}; correct the setting \
                     if it is wrong"
                ),
            ));
        }
        let files = self.weights()?;
        let start = format!("{PREFIX}{}", SCORE.trim_end_matches("weight"));
        match files.names().find(|name| name.starts_with(&start)) {
            None => Ok(()),
            Some(head) => Err(Error::file(
                self.path.join(WEIGHTS),
                format!(
                    "expected the adapter of a language model, found the head `{}`, {way_out}",
                    files.stored_name(head)
                ),
            )),
        }
    }

    /// How the reward model that it makes reads, where it says so.
    pub(in crate::model) fn reward_reads(&self) -> Option<&Value> {
        self.settings.get(NOTES)?.get(READS)
    }

    /// Its weights, for the hash of what a model computes.
    pub fn files(&self) -> [PathBuf; 2] {
        [self.path.join(CONFIG), self.path.join(WEIGHTS)]
    }

    /// The scalar head trained beside the adapters, `[labels, hidden]`, if there is one.
    ///
    /// # Errors
    /// If the weights cannot be read.
    pub fn score(&self) -> Result<Option<(Vec<usize>, Vec<f32>)>> {
        let files = self.weights()?;
        let mut names = [SCORE, SAVED_SCORE].map(|name| format!("{PREFIX}{name}")).into_iter();
        let Some(name) = names.find(|name| files.shape(name).is_some()) else { return Ok(None) };
        let shape = files.shape(&name).unwrap_or_default().to_vec();
        Ok(Some((shape, files.read(&name)?)))
    }

    pub(in crate::model) fn weights(&self) -> Result<SafetensorsFiles> {
        let file = self.path.join(WEIGHTS);
        if !file.is_file() {
            return Err(Error::file(
                &self.path,
                format!(
                    "expected {WEIGHTS} beside {CONFIG}, found none; adapters saved as .bin are pickles: save them with safe_serialization=True"
                ),
            ));
        }
        let files = SafetensorsFiles::open(&[file], |name| self.full_name(&name))?;
        files.check_gathered(files.names())?;
        Ok(files)
    }

    /// A tensor's name as PEFT writes it: [`PREFIX`], the model's name of the module, and the part of the adapter.
    fn full_name(&self, name: &str) -> String {
        let own = without_wrappers(&without_adapter_name(name));
        let own = match self.family {
            Some(family) => family.full_name(own),
            None => own,
        };
        format!("{PREFIX}{own}")
    }

    /// What it makes of the embedding and head that are stored as `embedding` and `head` in a base of `shape`.
    ///
    /// # Errors
    /// If its weights cannot be read, if it has another number of tokens for the head alone, or if it asks for
    /// embedding and head to stay one tensor in a way that is not supported.
    pub(in crate::model) fn embedding_changes(
        &self,
        embedding: &Binding,
        head: &str,
        shape: &DecoderConfig,
    ) -> Result<EmbeddingChanges> {
        if !self.path.join(WEIGHTS).is_file() {
            // Reading the weights says so.
            return Ok(EmbeddingChanges::default());
        }
        let files = self.weights()?;
        let head_module = head.strip_suffix(".weight").unwrap_or(head);
        let copies = |module: &str| WITHIN.map(|layer| format!("{PREFIX}{module}{layer}.weight"));
        let embedding = module_name(embedding);
        let tied = shape.tied_embeddings;
        let rows = |module: &str| {
            let found = copies(module).iter().find_map(|name| files.shape(name));
            found.and_then(|found| found.first().copied())
        };
        let vocab_size = rows(embedding).or(rows(head_module));
        if let Some(found) = vocab_size.filter(|&it| it != shape.vocab_size)
            && rows(embedding).is_none()
            && !tied
        {
            return Err(Error::file(
                self.path.join(WEIGHTS),
                format!(
                    "expected the same vocabulary in `{embedding}` and `{head_module}`, found {found} tokens in the \
                     adapter's head, and no embedding but that of the base, of {} tokens; save the adapter with \
                     `{}` among target_modules or modules_to_save, too",
                    shape.vocab_size,
                    embedding.rsplit('.').next().unwrap_or(embedding)
                ),
            ));
        }
        let adapts = |module: &str| {
            let start = format!("{PREFIX}{module}.lora_");
            self.settings.saves(module) || files.names().any(|name| name.starts_with(&start))
        };
        let changes_one = tied && (adapts(embedding) || adapts(head_module));
        let stays_tied = self.settings.is_set("ensure_weight_tying");
        // PEFT ties what is called so, and nothing else.
        let is_known = embedding.ends_with("embed_tokens") && adapts(embedding);
        if changes_one && stays_tied && (self.settings.is_set("use_dora") || !is_known) {
            return Err(self.settings.not_read(
                "ensure_weight_tying",
                "is supported for an embedding called embed_tokens that the adapter has, and \
                 without use_dora",
            ));
        }
        if changes_one && !stays_tied && self.settings.get("trainable_token_indices").is_some() {
            return Err(self.settings.not_read(
                "trainable_token_indices",
                "is not supported where the adapter also changes an embedding that is the head",
            ));
        }
        Ok(EmbeddingChanges { unties: changes_one && !stays_tied, vocab_size })
    }

    /// Tensors that stand for those of a model whose parameters are stored as `bindings` say. `tied` has the
    /// embedding's tensor and the head's, where they are one in the base.
    ///
    /// # Errors
    /// If the weights cannot be read, or `modules_to_save` names a tensor that is not there.
    pub(in crate::model) fn replacements(
        &self,
        bindings: &[Binding],
        tied: Option<(&str, &str)>,
    ) -> Result<Replacements> {
        let files = self.weights()?;
        let (mut base, mut saved, mut copies) = (Vec::new(), Vec::new(), Vec::new());
        for binding in bindings {
            let (module, part) = binding.name.rsplit_once('.').unwrap_or((&binding.name, ""));
            let plain = format!("{PREFIX}{module}.{part}");
            let inner = format!("{PREFIX}{module}.base_layer.{part}");
            let of_tokens = format!("{PREFIX}{module}.token_adapter.base_layer.{part}");
            let has = |name: &str| files.shape(name).is_some();
            if self.settings.saves(module) && !self.settings.targets(candidate(binding))? {
                // What peft writes beside it once the vocabulary is another: the module before the training,
                // and the trained one again. Elsewhere the trained one may have that name alone.
                let original = format!("{PREFIX}{module}.original_module.{part}");
                let again = format!("{PREFIX}{module}.modules_to_save.{part}");
                let trained = if has(&plain) { &plain } else { &again };
                if !has(trained) {
                    if binding.name == SCORE {
                        continue;
                    }
                    return Err(self.settings.error(
                        "modules_to_save",
                        format!(
                            "expected the tensor `{plain}` of `{module}` in {WEIGHTS}, found none; \
                             save the adapter again, or remove the module from the list"
                        ),
                    ));
                }
                saved.push((binding.name.clone(), trained.clone()));
                base.extend(has(&original).then(|| (binding.name.clone(), original)));
                copies.extend(has(&again).then_some(again));
            } else if self.settings.targets(candidate(binding))? {
                base.extend(has(&inner).then(|| (binding.name.clone(), inner)));
            } else {
                // Of an embedding with tokens of its own, the one that those are put into.
                for name in [plain, of_tokens] {
                    base.extend(has(&name).then(|| (binding.name.clone(), name)));
                }
            }
        }
        if let Some((embedding, head)) = tied
            && !base.iter().chain(&saved).any(|(it, _)| it == embedding)
        {
            // One tensor under two names: the embedding is what the head was before the training.
            let module = head.strip_suffix(".weight").unwrap_or(head);
            let is_trained = self.settings.saves(module);
            let before = base.iter().find(|(it, _)| it == head).map(|(_, by)| by.clone());
            let mut copies = WITHIN
                .iter()
                .filter(|layer| !(layer.is_empty() && is_trained))
                .map(|layer| format!("{PREFIX}{module}{layer}.weight"));
            let before = before.or_else(|| copies.find(|name| files.shape(name).is_some()));
            base.extend(before.map(|name| (embedding.to_owned(), name)));
        }
        Ok(Replacements { files, base, saved, copies })
    }
}

/// The name of a tensor without the name `default`, which PEFT gives an adapter and leaves out of files.
fn without_adapter_name(name: &str) -> String {
    let is_named = |part: &str| {
        part.starts_with("lora_") || ["modules_to_save", "trainable_tokens_delta"].contains(&part)
    };
    let parts: Vec<&str> = name.split('.').collect();
    let is_own = |at: usize| parts[at] == "default" && at > 0 && is_named(parts[at - 1]);
    let kept: Vec<&str> = (0..parts.len()).filter(|&at| !is_own(at)).map(|at| parts[at]).collect();
    kept.join(".")
}

/// The module of a tensor, as `target_modules` may take it.
pub(super) fn candidate(binding: &Binding) -> Candidate<'_> {
    Candidate {
        name: binding.name.rsplit_once('.').map_or(&*binding.name, |(module, _)| module),
        is_inner_linear: binding.parameters.iter().all(|it| {
            let path = it.trim_start_matches("decoder.");
            path.starts_with("blocks.") && !path.contains("norm")
        }),
    }
}
