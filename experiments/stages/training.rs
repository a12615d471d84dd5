//! The part that all stages with a training share. Batches and models are each stage's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::data::dataset::{Dataset, DatasetError};
use burn::module::Module;
use burn::tensor::Device;
use clap::Args;
use exalign::config::{LearningRateSchedule, TrainSettings};
use exalign::data::{RewardReading, TokenGroup, Tokenizer};
use exalign::model::adapter::{AdapterFolder, AdapterTarget, Adapters, LoraConfig};
use exalign::model::families::Binding;
use exalign::model::folder::with_precision;
use exalign::model::{self, Decoder, ModelFolder, Precision, RewardModel};
use exalign::training::{
    BatchOrder, BestModel, Checkpoints, Drifted, Keeping, Measure, Micro, Optimization, SaveModule,
    Schedule, Step, Trainable, Training,
};
use exalign::{Error, Result};
use serde::{Deserialize, Serialize};

use super::validation::{MakeBatch, validation};
use crate::model_input::load_decoder;
use crate::stage::Site;

/// Options that stand for `training.*` settings.
#[derive(Args, Debug, Default)]
pub struct TrainingFlags {
    /// training.learning_rate: peak of the learning rate
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// training.batch_size: groups (or texts) an optimizer step
    #[arg(long, value_name = "GROUPS")]
    batch_size: Option<usize>,
    /// training.micro_batch_size: groups in memory at once
    #[arg(long, value_name = "GROUPS")]
    micro_batch_size: Option<usize>,
    /// training.epochs: passes over the data
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// training.compute: type of the forward and backward passes, f32 or bf16; weights and losses stay f32
    #[arg(long, value_name = "DTYPE")]
    compute: Option<String>,
    /// Validation records, in the form of --data: loss and figures over them are taken every
    /// validation.every steps [default: none, or validation.share of the data]
    #[arg(long, value_name = "FILE")]
    pub validation: Option<PathBuf>,
    /// training.max_steps: stop after this many steps; 0: no limit
    #[arg(long, value_name = "N")]
    max_steps: Option<usize>,
    /// dtype: type of the weights in OUT/model, f32, bf16 or f16; training itself is in f32
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<String>,
    /// adapter.rank: train LoRA adapters of this rank and no other weights; OUT/model is then a PEFT
    /// folder
    #[arg(long, value_name = "RANK")]
    lora_rank: Option<usize>,
    /// adapter.alpha: adapter output is scaled by alpha / rank
    #[arg(long, value_name = "ALPHA")]
    lora_alpha: Option<f64>,
    /// adapter.target_modules: matrices that get an adapter, such as q_proj,v_proj [default: all matrices
    /// of the blocks]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    lora_targets: Option<Vec<String>>,
}

impl TrainingFlags {
    /// As settings.
    pub fn settings(&self) -> Vec<(&'static str, Option<String>)> {
        vec![
            ("training.learning_rate", self.learning_rate.map(|it| format!("{it:?}"))),
            ("training.batch_size", self.batch_size.map(|it| it.to_string())),
            ("training.micro_batch_size", self.micro_batch_size.map(|it| it.to_string())),
            ("training.epochs", self.epochs.map(|it| it.to_string())),
            ("training.compute", self.compute.clone()),
            ("training.max_steps", self.max_steps.map(|it| it.to_string())),
            ("dtype", self.dtype.clone()),
            ("adapter.rank", self.lora_rank.map(|it| it.to_string())),
            ("adapter.alpha", self.lora_alpha.map(|it| format!("{it:?}"))),
            ("adapter.target_modules", self.lora_targets.as_ref().map(|it| format!("{it:?}"))),
        ]
    }
}

/// A training on records that are token groups, alone or with what belongs to them.
pub struct Train<'a, T: Trainable, I> {
    /// What it is called on the progress bar.
    pub name: &'a str,
    pub settings: &'a TrainSettings,
    pub records: Arc<dyn Dataset<I>>,
    /// The records of validation; none: there is none.
    pub held_out: Vec<I>,
    /// The drift from the reference at each validation, and its budget in nats.
    pub drift: Option<(Measure<T>, f64)>,
    /// Loads the module: from the folder of a checkpoint, or anew.
    pub load: &'a dyn Fn(Option<&Path>) -> Result<T>,
    pub save: SaveModule<T>,
    pub batch: MakeBatch<I, T::Batch>,
}

/// What a training came to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Trained {
    /// The folder of the trained model.
    pub model: String,
    /// Steps taken.
    pub steps: usize,
    /// The loss of the last step; none where none was taken.
    pub loss: Option<f64>,
    pub seconds: f64,
    /// The step whose model is the result, where the best one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<BestModel>,
    /// Where the training ended, if the drift reached its budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drifted: Option<Drifted>,
}

/// Whether a file in the folder of a training is what it leaves; checkpoints come and go.
pub fn is_of_training(name: &str) -> bool {
    name.starts_with("model/") || name == "metrics.jsonl"
}

impl<T: Trainable, I: AsRef<TokenGroup> + Clone + Send + Sync + 'static> Train<'_, T, I> {
    /// Trains on all devices, the model on the first, and writes `OUT/model`.
    pub fn run(self, site: &Site<'_>) -> Result<Trained> {
        let (config, out) = (self.settings, site.out()?);
        let devices = site.context.training_devices();
        let order = order(config, self.records.len(), devices.len());
        let num_steps = order.num_steps();
        let (records, batch, places) = (self.records, self.batch, devices.clone());
        let device = site.context.device.clone();
        let validation =
            validation(config, num_steps, self.held_out, batch.clone(), self.drift, device);
        let training = Training {
            name: self.name,
            dir: out,
            optimization: optimization(config, num_steps),
            compute: config.training.compute,
            num_steps,
            checkpoint_every: config.checkpoint.every,
            checkpoint_keep: config.checkpoint.keep,
            load: self.load,
            save: self.save.clone(),
            step: Arc::new(move |step, _: &T| {
                let read = |record| -> Result<I> { records.get(record).map_err(unread) };
                let (epoch, of_step) = order.records(step);
                let of_step: Vec<I> = of_step.into_iter().map(read).collect::<Result<_>>()?;
                let size = |record: usize| {
                    let group = of_step[record].as_ref();
                    (group.completions.len(), group.num_tokens())
                };
                let parts = order.micro_batches(of_step.len(), size);
                let group = |&record: &usize| of_step[record].as_ref();
                let all = || parts.iter().flatten().map(group);
                // Of similar lengths one after the other, so that each device has its share of all.
                let turns = (0..places.len()).cycle();
                let batches = parts.iter().zip(turns).map(|(part, place)| {
                    let part: Vec<I> = part.iter().map(|&record| of_step[record].clone()).collect();
                    let (batch, weight) = batch(&part, &places[place]);
                    (batch, weight, place)
                });
                Ok(Step {
                    epoch,
                    micro_batches: Micro::weighted(batches.collect()),
                    num_groups: of_step.len(),
                    num_tokens: all().map(TokenGroup::num_tokens).sum(),
                    records: all().map(TokenGroup::name).collect(),
                })
            }),
            validation,
            devices,
        };
        let (module, outcome) = training.run()?;
        let model = out.join("model");
        (self.save)(&module, config.dtype, &model)?;
        let trained = Trained {
            model: model.to_string_lossy().into_owned(),
            steps: outcome.steps,
            loss: outcome.last_loss,
            seconds: outcome.seconds,
            best: outcome.best,
            drifted: outcome.drifted,
        };
        let checkpoint = &config.checkpoint;
        let keeping =
            Keeping { every: checkpoint.every, keep: checkpoint.keep, num_steps: trained.steps };
        Checkpoints::new(out, keeping).finish(trained.best.as_ref().map(|best| best.step))?;
        trained.tell(self.name, num_steps);
        Ok(trained)
    }
}

impl Trained {
    /// Says where the training ended before its last of `num_steps` steps, and which model is the result.
    fn tell(&self, name: &str, num_steps: usize) {
        if let Some(Drifted { step, kl, interval: [low, high], budget }) = &self.drifted {
            tracing::info!(
                "{name}: ended after step {step} of {num_steps}: the drift is {kl:.3} [{low:.3}, {high:.3}] \
                 nats, the budget {budget}"
            );
        }
        if let Some(BestModel { step, by, value }) = &self.best {
            let steps = self.steps;
            tracing::info!(
                "{name}: the result is the model after step {step} of {steps}, of the best {by}: {value:.4}"
            );
        }
    }
}

fn unread(error: DatasetError) -> Error {
    Error::usage(format!("a record cannot be read again: {error}"))
}

/// The order of `num_records` records, as the settings say; every device gets a micro-batch where
/// there are groups enough.
fn order(config: &TrainSettings, num_records: usize, num_devices: usize) -> BatchOrder {
    let training = &config.training;
    BatchOrder::new(
        num_records,
        training.batch_size,
        training.micro_batch_size.min(training.batch_size.div_ceil(num_devices)),
        training.epochs,
        training.max_steps,
        config.data.shuffle.then_some(config.seed),
    )
}

/// Optimizer and schedule, as the settings say.
fn optimization(config: &TrainSettings, num_steps: usize) -> Optimization {
    let (rate, optimizer) = (config.training.learning_rate, &config.optimizer);
    Optimization {
        schedule: match optimizer.schedule {
            LearningRateSchedule::Constant => Schedule::constant(rate, optimizer.warmup),
            LearningRateSchedule::Cosine => Schedule::cosine(rate, optimizer.warmup, num_steps),
        },
        betas: optimizer.betas,
        epsilon: optimizer.epsilon,
        weight_decay: optimizer.weight_decay,
        clip_norm: optimizer.clip_norm,
    }
}

/// A model being trained: where it comes from, and whether by adapters.
#[derive(Clone)]
pub struct Subject {
    pub folder: ModelFolder,
    pub tokenizer: Option<Tokenizer>,
    pub adapter: LoraConfig,
    pub seed: u64,
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
        Ok(Self { folder, tokenizer, adapter: config.adapter.clone(), seed: config.seed })
    }

    /// A model with all of its weights its own.
    pub fn whole(folder: ModelFolder, tokenizer: Option<Tokenizer>) -> Self {
        let adapter = LoraConfig { rank: 0, alpha: 1.0, target_modules: Vec::new() };
        Self { folder, tokenizer, adapter, seed: 0 }
    }

    /// The language model, from a checkpoint or as it was before.
    pub fn load_decoder(&self, checkpoint: Option<&Path>, device: &Device) -> Result<Decoder> {
        match checkpoint {
            Some(checkpoint) if self.adapter.rank == 0 => {
                load_decoder(&ModelFolder::open(checkpoint)?, device)
            }
            _ => {
                let decoder = load_decoder(&self.folder, device)?;
                let bindings = self.folder.family.bindings(&self.folder.shape);
                self.with_adapters(decoder, &bindings, checkpoint, device)
            }
        }
    }

    /// The reward model, from a checkpoint or as it was before.
    pub fn load_reward_model(
        &self,
        checkpoint: Option<&Path>,
        device: &Device,
    ) -> Result<RewardModel> {
        match checkpoint {
            Some(checkpoint) if self.adapter.rank == 0 => {
                RewardModel::load(&ModelFolder::open(checkpoint)?, self.seed, device)
            }
            _ => {
                let mut model = RewardModel::load(&self.folder, self.seed, device)?;
                if let Some((_, head)) = checkpoint
                    .map(|folder| AdapterFolder::open(folder)?.score())
                    .transpose()?
                    .flatten()
                {
                    model = model.with_head(head, device);
                }
                let bindings = RewardModel::bindings(&self.folder);
                self.with_adapters(model, &bindings, checkpoint, device)
            }
        }
    }

    fn with_adapters<M: Module>(
        &self,
        module: M,
        bindings: &[Binding],
        checkpoint: Option<&Path>,
        device: &Device,
    ) -> Result<M> {
        if self.adapter.rank == 0 {
            return Ok(module);
        }
        let adapters = match checkpoint {
            Some(folder) => AdapterFolder::open(folder)?.read(&module, bindings)?,
            None => Adapters::new(&self.adapter, &module, bindings, self.seed)?,
        };
        Ok(adapters.attach(module, device))
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
        Adapters::of(module, &self.adapter).write(&self.adapter, of, target)
    }
}
