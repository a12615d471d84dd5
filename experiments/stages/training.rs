//! What the stages that train have in common: all but the batches and the model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use clap::Args;
use exalign::Result;
use exalign::config::{Config, LearningRateSchedule};
use exalign::data::{TokenGroup, Tokenizer};
use exalign::model::folder::as_f32;
use exalign::model::{self, Decoder, ModelFolder};
use exalign::training::{
    Checkpoints, Micro, Optimization, Plan, SaveModule, Schedule, Step, Trainable, Training,
};
use serde_json::{Value, json};

use crate::record::Work;

/// Options that stand for `training.*` settings.
#[derive(Args, Debug, Default)]
pub struct TrainingFlags {
    /// training.learning_rate: the peak of the schedule
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
    /// training.max_steps: stop after so many steps; 0: do not
    #[arg(long, value_name = "N")]
    max_steps: Option<usize>,
}

impl TrainingFlags {
    /// As settings.
    pub fn settings(&self) -> Vec<(&'static str, Option<String>)> {
        vec![
            ("training.learning_rate", self.learning_rate.map(|it| format!("{it:?}"))),
            ("training.batch_size", self.batch_size.map(|it| it.to_string())),
            ("training.micro_batch_size", self.micro_batch_size.map(|it| it.to_string())),
            ("training.epochs", self.epochs.map(|it| it.to_string())),
            ("training.max_steps", self.max_steps.map(|it| it.to_string())),
        ]
    }
}

/// A batch and its weight within its step: the number of groups or tokens its loss is a mean over.
pub type Weighted<B> = (B, f64);

/// Makes the batch of some of the groups, given by their indices.
pub type MakeBatch<B> = Arc<dyn Fn(&[TokenGroup], &[usize]) -> Weighted<B> + Send + Sync>;

/// A training on token groups.
pub struct Train<'a, T: Trainable> {
    /// What it is called on the progress bar.
    pub name: &'a str,
    /// The folder of metrics, checkpoints and the trained model.
    pub out: PathBuf,
    pub config: &'a Config,
    pub groups: Vec<TokenGroup>,
    /// Loads the module: from the folder of a checkpoint, or anew.
    pub load: &'a dyn Fn(Option<&Path>) -> Result<T>,
    pub save: SaveModule<T>,
    pub batch: MakeBatch<T::Batch>,
}

impl<T: Trainable> Train<'_, T> {
    /// Trains, writes `OUT/model` and finishes the record.
    pub fn run(self, work: Work) -> Result<Value> {
        let config = self.config;
        let plan = plan(config, self.groups.len());
        let num_steps = plan.num_steps();
        let (groups, batch) = (self.groups, self.batch);
        let training = Training {
            name: self.name,
            dir: &self.out,
            optimization: optimization(config, num_steps),
            num_steps,
            checkpoint_every: config.checkpoint.every,
            checkpoint_keep: config.checkpoint.keep,
            load: self.load,
            save: self.save.clone(),
            step: Arc::new(move |step| {
                let size = |it: usize| (groups[it].completions.len(), groups[it].num_tokens());
                let planned = plan.step(step, size);
                let batches: Vec<Weighted<T::Batch>> =
                    planned.micro_batches.iter().map(|micro| batch(&groups, micro)).collect();
                let whole: f64 = batches.iter().map(|(_, weight)| weight).sum();
                let records = planned.micro_batches.concat();
                Ok(Step {
                    epoch: planned.epoch,
                    micro_batches: batches
                        .into_iter()
                        .map(|(batch, weight)| Micro { batch, share: weight / whole })
                        .collect(),
                    num_groups: records.len(),
                    num_tokens: records.iter().map(|&it| groups[it].num_tokens()).sum(),
                    records: records.iter().map(|&it| name(&groups[it])).collect(),
                })
            }),
        };
        let (module, outcome) = training.run()?;
        let model = self.out.join("model");
        (self.save)(&module, &model)?;
        let result = json!({
            "model": model, "steps": num_steps, "loss": outcome.last_loss, "seconds": outcome.seconds,
        });
        work.finish(result.clone())?;
        Checkpoints::new(&self.out, config.checkpoint.keep).finish();
        Ok(result)
    }
}

/// The order of `num_records` records, as the settings say.
fn plan(config: &Config, num_records: usize) -> Plan {
    let training = &config.training;
    Plan::new(
        num_records,
        training.batch_size,
        training.micro_batch_size,
        training.epochs,
        training.max_steps,
        config.data.shuffle.then_some(config.seed),
    )
}

/// Optimizer and schedule, as the settings say.
fn optimization(config: &Config, num_steps: usize) -> Optimization {
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

/// How a message names a record.
fn name(group: &TokenGroup) -> String {
    match &group.id {
        Some(Value::String(id)) => id.clone(),
        Some(id) => id.to_string(),
        None => format!("line {}", group.line),
    }
}

/// Loads the language model of a folder.
pub fn load_decoder(folder: &ModelFolder, device: &Device) -> Result<Decoder> {
    let decoder = Decoder::new(folder.shape.clone(), device);
    folder.load(decoder, &folder.family.bindings(&folder.shape), device)
}

/// Writes language models described as `folder` is, tokenizer and companions included.
pub fn save_decoder(
    folder: &ModelFolder,
    tokenizer: Option<&Tokenizer>,
    decoder: &Decoder,
    target: &Path,
) -> Result<()> {
    if let Some(tokenizer) = tokenizer {
        tokenizer.save(target)?;
    }
    let bindings = folder.family.bindings(&folder.shape);
    model::save(decoder, &bindings, &as_f32(&folder.json), target)
}
