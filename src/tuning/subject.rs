//! The model that is trained, whole or by adapters: loaded, and written as a Hugging Face or PEFT folder.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;

use super::load_decoder;
use crate::config::{Recompute, TrainSettings};
use crate::data::{RewardReading, Tokenizer};
use crate::deferred::Deferred;
use crate::model::adapter::{AdapterFolder, AdapterTarget, Adapters, LoraConfig};
use crate::model::families::Binding;
use crate::model::folder::with_precision;
use crate::model::{self, Decoder, ModelFolder, Precision, RewardModel};
use crate::{Error, Result};

/// A model being trained: where it comes from, and whether by adapters.
#[derive(Clone)]
pub struct Subject {
    /// The folder of the model before the training.
    pub folder: ModelFolder,
    /// Its tokenizer, if there is one, which is written beside the trained weights.
    pub tokenizer: Option<Tokenizer>,
    /// The adapters to train; of rank 0: the whole model.
    pub adapter: LoraConfig,
    /// The seed of new weights.
    pub seed: u64,
    /// Whether the activations of blocks are computed again in the backward pass.
    pub recompute: bool,
}

impl Subject {
    /// The model of `folder`, trained as `config` says.
    pub fn new(
        folder: ModelFolder,
        tokenizer: Option<Tokenizer>,
        config: &TrainSettings,
    ) -> Result<Self> {
        if config.adapter.rank > 0
            && let Some(adapter) = &folder.adapter
        {
            return Err(Error::file(
                &adapter.path,
                format!(
                    "expected a whole model to train adapters on, found an adapter; merge it first: \
                     exalign merge --model {} --adapter {} --out FOLDER",
                    folder.path.display(),
                    adapter.path.display()
                ),
            ));
        }
        let folder = folder.kept_as(config.base_type());
        Ok(Self {
            folder,
            tokenizer,
            adapter: config.adapter.clone(),
            seed: config.seed,
            recompute: config.training.recompute == Recompute::Always,
        })
    }

    /// A model with all of its weights its own.
    pub fn whole(folder: ModelFolder, tokenizer: Option<Tokenizer>) -> Self {
        let adapter = LoraConfig::none();
        Self { folder, tokenizer, adapter, seed: 0, recompute: false }
    }

    /// The language model, from a checkpoint or as it was before.
    pub fn load_decoder(&self, checkpoint: Option<&Path>, device: &Device) -> Result<Decoder> {
        let decoder = self.loaded_decoder(checkpoint, device)?;
        Ok(if self.recompute { decoder.recomputing(Deferred::default()) } else { decoder })
    }

    fn loaded_decoder(&self, checkpoint: Option<&Path>, device: &Device) -> Result<Decoder> {
        match checkpoint {
            Some(checkpoint) if self.adapter.rank == 0 => {
                load_decoder(&ModelFolder::open(checkpoint)?, device)
            }
            _ => {
                let decoder = Decoder::new(self.folder.shape.clone(), device);
                let bindings = self.folder.family.bindings(&self.folder.shape);
                let adapters = self.adapters(&decoder, &bindings, checkpoint)?;
                self.folder.load_adapted(decoder, &bindings, adapters, device)
            }
        }
    }

    /// The reward model, from a checkpoint or as it was before.
    pub fn load_reward_model(
        &self,
        checkpoint: Option<&Path>,
        device: &Device,
    ) -> Result<RewardModel> {
        let mut model = self.loaded_reward_model(checkpoint, device)?;
        if self.recompute {
            model.decoder = model.decoder.recomputing(Deferred::default());
        }
        Ok(model)
    }

    fn loaded_reward_model(
        &self,
        checkpoint: Option<&Path>,
        device: &Device,
    ) -> Result<RewardModel> {
        match checkpoint {
            Some(checkpoint) if self.adapter.rank == 0 => {
                RewardModel::load(&ModelFolder::open(checkpoint)?, self.seed, device)
            }
            _ => {
                let bindings = RewardModel::bindings(&self.folder);
                let adapters = |model: &RewardModel| self.adapters(model, &bindings, checkpoint);
                let mut model =
                    RewardModel::load_adapted(&self.folder, self.seed, &adapters, device)?;
                if let Some((_, head)) = checkpoint
                    .map(|folder| AdapterFolder::open(folder)?.score())
                    .transpose()?
                    .flatten()
                {
                    model = model.with_head(head, device);
                }
                Ok(model)
            }
        }
    }

    /// The adapters of `module`, from a checkpoint or as they begin; none where the whole model is trained.
    fn adapters<M: Module>(
        &self,
        module: &M,
        bindings: &[Binding],
        checkpoint: Option<&Path>,
    ) -> Result<Option<Adapters>> {
        if self.adapter.rank == 0 {
            return Ok(None);
        }
        let adapters = match checkpoint {
            Some(folder) => AdapterFolder::open(folder)?.read(module, bindings)?,
            None => Adapters::new(&self.adapter, module, bindings, self.seed)?,
        };
        Ok(Some(adapters))
    }

    /// Writes the language model, or its adapters, with tokenizer and companions.
    pub fn save_decoder(
        &self,
        decoder: &Decoder,
        precision: Precision,
        target: &Path,
    ) -> Result<()> {
        self.save_companions(target)?;
        let bindings = self.folder.family.bindings(&self.folder.shape);
        if self.adapter.rank > 0 {
            return self.save_adapters(decoder, &bindings, None, precision, target);
        }
        let config = with_precision(&self.folder.json, precision);
        model::save(decoder, &bindings, &config, target)
    }

    /// Writes the reward model, or its adapters and head, with tokenizer and companions.
    pub fn save_reward_model(
        &self,
        reward_model: &RewardModel,
        reading: &RewardReading,
        precision: Precision,
        target: &Path,
    ) -> Result<()> {
        self.save_companions(target)?;
        if self.adapter.rank > 0 {
            let bindings = RewardModel::bindings(&self.folder);
            return self.save_adapters(reward_model, &bindings, Some(*reading), precision, target);
        }
        let config = with_precision(&self.folder.json, precision);
        reward_model.save(&self.folder, reading, &config, target)
    }

    fn save_companions(&self, target: &Path) -> Result<()> {
        self.tokenizer.as_ref().map_or(Ok(()), |tokenizer| tokenizer.save(target))
    }

    fn save_adapters<M: Module>(
        &self,
        module: &M,
        bindings: &[Binding],
        reward: Option<RewardReading>,
        precision: Precision,
        target: &Path,
    ) -> Result<()> {
        let (base, dtype) = (&self.folder.name, precision.dtype());
        let of = AdapterTarget { bindings, base, reward, dtype };
        Adapters::of(module, &self.adapter, bindings)?.write(&self.adapter, of, target)
    }
}
