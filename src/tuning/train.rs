//! The part that all trainings share. Batches and models are each one's own.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::TrainingSite;
use super::batches::{MakeBatch, Prepare, Records, Source, StepRecords};
use super::validation::validation;
use crate::Result;
use crate::config::{LearningRateSchedule, TrainSettings};
use crate::data::TokenGroup;
use crate::model::precision::computing_in;
use crate::progress::stages;
use crate::training::{
    BestModel, Checkpoints, Drifted, Keeping, Measure, Micro, Optimization, SaveModule, Schedule,
    Step, Trainable, Training, micro_batches,
};

/// A training on records that are token groups, alone or with what belongs to them.
pub(super) struct Train<'a, T: Trainable, I> {
    /// What it is called on the progress bar.
    pub name: &'a str,
    pub settings: &'a TrainSettings,
    pub source: Source<T, I>,
    /// The records of validation, if there are any.
    pub held_out: Option<Records<I>>,
    /// The drift from the reference at each validation, and its budget in nats.
    pub drift: Option<(Measure<T>, f64)>,
    /// Loads the module: from the folder of a checkpoint, or anew.
    pub load: &'a dyn Fn(Option<&Path>) -> Result<T>,
    /// Writes the model.
    pub save: SaveModule<T>,
    /// Writes what a checkpoint has beside the model, if anything.
    pub beside: Option<SaveModule<T>>,
    pub batch: MakeBatch<I, T::Batch>,
    /// Before the batches of a step are made.
    pub prepare: Option<Prepare<T, I>>,
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
    /// Seconds spent on steps, over all starts.
    pub seconds: f64,
    /// The step whose model is the result, where the best one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<BestModel>,
    /// Where the training ended, if the drift reached its budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drifted: Option<Drifted>,
}

impl<T: Trainable, I: AsRef<TokenGroup> + Clone + Send + Sync + 'static> Train<'_, T, I> {
    /// Trains on all devices, the model on the first, and writes `OUT/model`.
    pub(super) fn run(self, site: &TrainingSite<'_>) -> Result<Trained> {
        let (config, out) = (self.settings, site.out);
        let devices: Vec<Device> = site.devices.iter().map(|it| it.clone().autodiff()).collect();
        let Source { num_steps, of_step } = self.source;
        tell_endless_warmup(config.optimizer.warmup, num_steps);
        let (batch, places) = (self.batch, devices.clone());
        let (prepare, compute) = (self.prepare, config.training.compute);
        let largest = largest_micro_batch(config, devices.len());
        let dropout = config.dropout();
        let device = site.device().clone();
        let validation = validation(
            config,
            num_steps,
            self.held_out,
            batch.clone(),
            prepare.clone(),
            self.drift,
            device,
        )?;
        let training = Training {
            name: self.name,
            dir: out,
            optimization: optimization(config, num_steps),
            compute: config.training.compute,
            num_steps,
            checkpoint_every: config.checkpoint.every,
            checkpoint_keep: config.checkpoint.keep,
            load: self.load,
            save: self.beside.map_or(self.save.clone(), |beside| both(&self.save, beside)),
            step: Arc::new(move |step, module: &T| {
                let StepRecords { epoch, mut records, preparation, figures } =
                    of_step(step, module)?;
                if let Some(prepare) = &prepare {
                    prepare(&computing_in(module.valid(), compute), &mut records)?;
                }
                let size = |record: usize| {
                    let group = records[record].as_ref();
                    (group.completions.len(), group.num_tokens())
                };
                let parts = micro_batches(records.len(), largest, size);
                let group = |&record: &usize| records[record].as_ref();
                let all = || parts.iter().flatten().map(group);
                // Of similar lengths one after the other, so that each device has its share of all.
                let turns = (0..places.len()).cycle();
                let batches = parts.iter().zip(turns).map(|(part, place)| {
                    let part: Vec<I> = part.iter().map(|&record| records[record].clone()).collect();
                    let (batch, weight) = batch(&part, &places[place]);
                    (batch, weight, place)
                });
                let taken = Step {
                    epoch,
                    micro_batches: Micro::weighted(batches.collect()),
                    num_groups: records.len(),
                    num_tokens: all().map(TokenGroup::num_tokens).sum(),
                    records: all().map(TokenGroup::name).collect(),
                    preparation,
                    figures,
                };
                Ok(taken.with_dropout(dropout.map(|dropout| dropout.part(step as u64))))
            }),
            validation,
            devices,
            watch: site.watch.clone(),
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

/// Writes the model, and something beside it.
fn both<T: Trainable>(model: &SaveModule<T>, beside: SaveModule<T>) -> SaveModule<T> {
    let model = model.clone();
    Arc::new(move |module: &T, precision, folder: &Path| {
        model(module, precision, folder)?;
        beside(module, precision, folder)
    })
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

/// The most groups of a micro-batch: every device gets one where there are groups enough.
fn largest_micro_batch(config: &TrainSettings, num_devices: usize) -> usize {
    let training = &config.training;
    training.micro_batch_size.min(training.batch_size.div_ceil(num_devices))
}

/// Warns where the learning rate still rises at the last step. A run has its warm-up from a preset, and trains for a
/// few steps where someone tries it.
fn tell_endless_warmup(warmup: usize, num_steps: usize) {
    if warmup > 0 && warmup >= num_steps && !stages::is_run() {
        tracing::warn!(
            "optimizer.warmup: the learning rate rises over {warmup} steps, and the training has {num_steps}: it ends \
             before the rate falls; lower optimizer.warmup, or train longer"
        );
    }
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
