//! The loop that drives burn's `Learner`, one step on one screen.
//!
//! The loop is custom because burn's own saves by epoch, sums accumulated gradients and clips every tensor
//! apart; this loop checkpoints by step, takes means and clips the global norm. Parts of burn 0.22 that are
//! not used, and why: burn's data loaders hand over batches that are made before the step, and ours may
//! depend on the policy; burn's checkpointer saves records by epoch, and ours are Hugging Face folders by
//! step; burn's metrics and renderer print to standard output, which belongs to results (burn's screen of
//! plots gets our lines of metrics, see [`super::watch`]).

use std::marker::PhantomData;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use burn::data::dataloader::{self, DataLoader, DataLoaderIterator};
use burn::data::dataset::DatasetError;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use burn::train::{
    Learner, SupervisedLearningStrategy, SupervisedTrainingEventProcessor, TrainLoader,
    TrainingComponents, ValidLoader,
};
use serde_json::{Value, json};

use super::checkpoint::{Checkpoints, Keeping, State};
use super::course::{Course, Noted};
use super::gradients::{global_norm, scale};
use super::metrics::Metrics;
use super::run::{BuildStep, SaveModule};
use super::several_devices::SeveralDevices;
use super::step::{OptimizerSlot, Step, Trainable, Trainee};
use super::validation::{Figures, Validation, write, write_before};
use super::watch::Watchers;
use crate::model::Precision;
use crate::progress::Progress;
use crate::{Error, Result, interrupt};

/// The results of the loop besides the model, shared with the training around it: burn's strategy returns
/// the model alone.
pub struct Ledger {
    pub metrics: Metrics,
    pub course: Course,
    /// Figures from before the first step, for its line.
    pub before: Figures,
    pub watchers: Watchers,
    pub error: Option<Error>,
    pub last_loss: Option<f64>,
}

/// The loop as a strategy of burn's.
pub struct StepLoop<T: Trainable> {
    pub name: String,
    /// Number of steps taken before.
    pub first: usize,
    pub num_steps: usize,
    pub clip_norm: f64,
    pub keeping: Keeping,
    pub checkpoints: Checkpoints,
    pub build: BuildStep<T>,
    pub save: SaveModule<T>,
    pub validation: Option<Validation<T>>,
    pub devices: Vec<Device>,
    pub ledger: Arc<Mutex<Ledger>>,
}

impl<T: Trainable> SupervisedLearningStrategy<Trainee<T>> for StepLoop<T> {
    fn fit(
        &self,
        components: TrainingComponents<Trainee<T>>,
        mut learner: Learner<Trainee<T>>,
        _: TrainLoader<Trainee<T>>,
        _: ValidLoader<Trainee<T>>,
        _: usize,
    ) -> (Trainee<T>, SupervisedTrainingEventProcessor<Trainee<T>>) {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let mut progress = Progress::new(&self.name, "steps", self.first, self.num_steps);
        let several = (self.devices.len() > 1).then(|| SeveralDevices::new(&self.devices));
        let outcome = self.before(&learner).and_then(|before| {
            ledger.before = before;
            for number in self.first + 1..=self.num_steps {
                if ledger.course.drifted.is_some() {
                    break;
                }
                let loss = self.advance(number, several.as_ref(), &mut learner, &mut ledger)?;
                progress.advance(1, &format!("loss {loss:.4}"));
            }
            Ok(())
        });
        progress.finish();
        ledger.error = outcome.err();
        (learner.model(), components.event_processor)
    }
}

impl<T: Trainable> StepLoop<T> {
    /// One optimizer step, the `number`-th, counted from 1; its loss.
    fn advance(
        &self,
        number: usize,
        several: Option<&SeveralDevices<T>>,
        learner: &mut Learner<Trainee<T>>,
        ledger: &mut Ledger,
    ) -> Result<f64> {
        let model = learner.model();
        let started = Instant::now();
        let step = (self.build)(number - 1, &model.module)?;
        let (epoch, groups, tokens) = (step.epoch, step.num_groups, step.num_tokens);
        let records = step.records.clone();
        let (preparation, figures) = (step.preparation.clone(), step.figures.clone());
        let output = match several {
            Some(several) => several.train_step(&model, step)?,
            None => learner.train_step(step),
        };
        let (loss, statistics) = (output.item.loss, output.item.statistics(1.0));
        let (gradients, norm) = self.clipped(&model, loss, output.grads).map_err(|what| {
            Error::Numeric(format!(
                "step {number}: {what}; nothing was changed by it. The step's records: {}. Lower \
                 training.learning_rate, or look at these records",
                records.join(", ")
            ))
        })?;

        let is_last = number == self.num_steps;
        let stopping = interrupt::requested() && !is_last;
        let is_kept = self.keeping.is_due(number) || stopping;
        let slot = model.slot().clone();
        drop(model); // the update works in place where it holds the only copy
        if is_kept && !is_last {
            slot.request();
        }
        learner.lr_step();
        let rate = learner.lr_current().base();
        learner.optimizer_step(gradients);

        let mut line = json!({
            "step": number, "epoch": epoch, "loss": loss, "grad_norm": norm, "learning_rate": rate,
            "groups": groups, "tokens": tokens, "seconds": started.elapsed().as_secs_f64(),
            "peak_memory_bytes": peak_memory_bytes(),
            "clipped": u8::from(self.clip_norm > 0.0 && norm > self.clip_norm),
        });
        for (name, value) in statistics {
            line[name] = value.into();
        }
        write_preparation(&mut line, &preparation);
        figures.into_iter().for_each(|(name, value)| line[name] = value.into());
        write_before(&mut line, std::mem::take(&mut ledger.before));
        write(&mut line, self.validated(number, learner)?);
        ledger.metrics.append(&line)?;
        ledger.watchers.show(&line)?;
        ledger.last_loss = Some(loss);
        let noted = ledger.course.note(&line);
        self.conclude(number, noted, &learner.model().module)?;
        let is_end = ledger.course.drifted.is_some();
        if is_kept || (is_end && self.keeping.every > 0) {
            self.keep(number, &slot, &learner.model().module, ledger)?;
        }
        if stopping && !is_end { Err(Error::Interrupted) } else { Ok(loss) }
    }

    /// The figures from before the first step, where the training begins with it.
    fn before(&self, learner: &Learner<Trainee<T>>) -> Result<Figures> {
        match &self.validation {
            Some(validation) if self.first == 0 => validation.before(&learner.model()),
            _ => Ok(Figures::new()),
        }
    }

    /// The figures of validation after the step `number`; none where it is not due. Ctrl-C waits for
    /// them, so that the step's line is whole.
    fn validated(&self, number: usize, learner: &Learner<Trainee<T>>) -> Result<Figures> {
        match &self.validation {
            Some(validation) if validation.is_due(number, self.num_steps) => {
                interrupt::deferred(|| validation.figures(number, &learner.model()))
            }
            _ => Ok(Figures::new()),
        }
    }

    /// Keeps the model where it is the best so far, and tells what is to be told.
    fn conclude(&self, number: usize, noted: Noted, module: &T) -> Result<()> {
        if noted.is_best {
            let save = |folder: &Path| (self.save)(module, Precision::F32, folder);
            self.checkpoints.write_best(number, save)?;
        }
        if let Some([chosen, rejected]) = noted.falls {
            tracing::warn!(
                "{}: step {number}: the log-probs of chosen and of rejected completions have both fallen since \
                 the first steps, by {chosen:.1} and {rejected:.1} nats: the margin may grow while answers of \
                 either kind become rare. A weight on the likelihood of the chosen (objective.nll_weight), a lower \
                 training.learning_rate, a larger objective.beta_policy, or exo-pref in place of dpo help; apo-down lowers both by design",
                self.name
            );
        }
        if let Some(size) = noted.few {
            tracing::warn!(
                "{}: step {number}: of the completions of a group only {size:.1} count, by their weights: the policy \
                 has moved away from the one that drew them, and the gradient is that of one or two of them. A \
                 larger objective.beta_policy (with 1, samples of the policy all count alike), fewer steps a round, \
                 a lower training.learning_rate or more completions help",
                self.name
            );
        }
        Ok(())
    }

    /// The gradients, scaled down to the largest norm, with the norm they had.
    ///
    /// # Errors
    /// The loss or gradient that is not finite, with its value.
    fn clipped(
        &self,
        model: &Trainee<T>,
        loss: f64,
        gradients: GradientsParams,
    ) -> std::result::Result<(GradientsParams, f64), String> {
        if !loss.is_finite() {
            return Err(format!("the loss is {loss}"));
        }
        let norm = global_norm(model, &gradients);
        if !norm.is_finite() {
            return Err(format!("the gradient's norm is {norm}"));
        }
        if self.clip_norm > 0.0 && norm > self.clip_norm {
            return Ok((scale(model, gradients, self.clip_norm / norm), norm));
        }
        Ok((gradients, norm))
    }

    /// Writes the checkpoint of the step `number`.
    fn keep(&self, number: usize, slot: &OptimizerSlot, module: &T, ledger: &Ledger) -> Result<()> {
        let Ledger { metrics, course, .. } = ledger;
        metrics.sync()?;
        let state = State {
            step: number,
            metrics: metrics.hash(),
            best: course.best.as_ref().map(|best| best.step),
            is_end: course.drifted.is_some(),
        };
        let save = |folder: &Path| (self.save)(module, Precision::F32, folder);
        self.checkpoints.write(&state, slot.take(), save)
    }
}

/// Writes the seconds of what came before a step, and what is left for the step itself.
fn write_preparation(line: &mut Value, preparation: &[(&str, f64)]) {
    if preparation.is_empty() {
        return;
    }
    let seconds = line["seconds"].as_f64().unwrap_or_default();
    let before: f64 = preparation.iter().map(|(_, seconds)| seconds).sum();
    line["train_seconds"] = (seconds - before).max(0.0).into();
    for (name, seconds) in preparation {
        line[format!("{name}_seconds")] = (*seconds).into();
    }
}

/// The most memory the process ever held, in bytes; 0 where the system does not tell.
fn peak_memory_bytes() -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status.lines().find(|line| line.starts_with("VmHWM:"))?.to_owned();
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .map_or(0, |kibibytes| kibibytes * 1024)
}

/// A data loader without batches: the loop makes its own.
pub struct NoBatches;

impl<B: Send + 'static> DataLoader<Step<B>> for NoBatches {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<Step<B>> + 'a> {
        Box::new(Nothing(PhantomData))
    }

    fn num_items(&self) -> usize {
        0
    }

    fn to_device(&self, _: &Device) -> Arc<dyn DataLoader<Step<B>>> {
        Arc::new(Self)
    }

    fn slice(&self, _: usize, _: usize) -> Arc<dyn DataLoader<Step<B>>> {
        Arc::new(Self)
    }
}

/// The empty iterator of [`NoBatches`].
struct Nothing<B>(PhantomData<B>);

impl<B> Iterator for Nothing<B> {
    type Item = Result<Step<B>, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}

impl<B> DataLoaderIterator<Step<B>> for Nothing<B> {
    fn progress(&self) -> dataloader::Progress {
        dataloader::Progress::new(0, 0, None)
    }
}
