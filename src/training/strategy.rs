//! The loop that drives burn's `Learner`, one step on one screen, and the training around it.
//!
//! burn's own loop saves by epoch, sums accumulated gradients and clips every tensor apart; this
//! one checkpoints by step, takes means and clips the global norm, which is why it is custom.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use burn::data::dataloader::{self, DataLoader, DataLoaderIterator};
use burn::data::dataset::DatasetError;
use burn::optim::{AdamWConfig, ModuleOptimizer};
use burn::tensor::Device;
use burn::train::logger::InMemoryMetricLogger;
use burn::train::{
    Learner, SupervisedLearningStrategy, SupervisedTraining, SupervisedTrainingEventProcessor,
    TrainLoader, TrainOutput, TrainingComponents, TrainingStrategy, ValidLoader,
};

use super::adam::FusedAdam;
use super::checkpoint::{Checkpoints, Keeping, State};
use super::gradients::{global_norm, scale};
use super::metrics::Metrics;
use super::schedule::Schedule;
use super::silent::Silent;
use super::step::{Step, StepOutput, Trainable, Trainee};
use super::together::Together;
use crate::files::sweep_folder;
use crate::model::Precision;
use crate::model::weights::with_stable_ids;
use crate::progress::Progress;
use crate::{Error, Result, interrupt};

/// How weights are updated.
#[derive(Clone, Debug)]
pub struct Optimization {
    /// The learning rate by step.
    pub schedule: Schedule,
    /// Adam's β₁ and β₂.
    pub betas: [f64; 2],
    /// Adam's ε.
    pub epsilon: f64,
    /// Decoupled weight decay; 0 is plain Adam.
    pub weight_decay: f64,
    /// Largest global norm of a gradient; 0 does not clip.
    pub clip_norm: f64,
}

/// Writes a module as a Hugging Face folder, its weights as the precision says.
pub type SaveModule<T> = Arc<dyn Fn(&T, Precision, &Path) -> Result<()> + Send + Sync>;

/// Builds the step of a number, counted from 0.
pub type BuildStep<B> = Arc<dyn Fn(usize) -> Result<Step<B>> + Send + Sync>;

/// One training: where it is kept, and what its steps are made of.
pub struct Training<'a, T: Trainable> {
    /// What it is called on the progress bar.
    pub name: &'a str,
    /// The folder of metrics and checkpoints.
    pub dir: &'a Path,
    /// How weights are updated.
    pub optimization: Optimization,
    /// What the passes are computed in.
    pub compute: Precision,
    /// Number of optimizer steps.
    pub num_steps: usize,
    /// Steps between checkpoints; 0 writes none.
    pub checkpoint_every: usize,
    /// Models of checkpoints to keep; 0 keeps all.
    pub checkpoint_keep: usize,
    /// Loads the module: from the folder of a checkpoint, or anew.
    pub load: &'a dyn Fn(Option<&Path>) -> Result<T>,
    /// Writes the module as a Hugging Face folder.
    pub save: SaveModule<T>,
    /// The batches of a step.
    pub step: BuildStep<T::Batch>,
    /// Where the batches are, the module on the first.
    pub devices: Vec<Device>,
}

/// What a training came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Steps taken in this process.
    pub steps: usize,
    /// Seconds spent on steps, over all processes.
    pub seconds: f64,
    /// Mean loss of the last step.
    pub last_loss: Option<f64>,
}

impl<T: Trainable> Training<'_, T> {
    /// Trains from the newest checkpoint to the last step and returns the trained module.
    ///
    /// # Errors
    /// [`Error::Interrupted`] after Ctrl-C, with a checkpoint written; [`Error::Numeric`] before a
    /// loss or gradient that is not finite reaches the weights.
    pub fn run(self) -> Result<(T, Outcome)> {
        let keeping = Keeping {
            every: self.checkpoint_every,
            keep: self.checkpoint_keep,
            num_steps: self.num_steps,
        };
        let checkpoints = Checkpoints::new(self.dir, keeping);
        sweep_folder(self.dir);
        let mut optimizer = self.optimization.optimizer();
        let found = Metrics::read(&self.dir.join("metrics.jsonl"));
        let (first, module) = match checkpoints.latest(|steps| found.hash(steps)) {
            Some((step, state)) => {
                tracing::info!("{}: continuing after step {step}", self.name);
                if let Some(state) = state {
                    optimizer = optimizer.load_record(state);
                }
                (step, (self.load)(Some(&checkpoints.path(step)))?)
            }
            None => (0, (self.load)(None)?),
        };
        let metrics = found.go_on(first)?;
        let (seconds, last_loss) = (metrics.seconds, metrics.last_loss);
        let trainee = with_stable_ids(Trainee::new(module, self.compute));
        let schedule = self.optimization.schedule.clone().starting_at(first);
        let learner = Learner::new(trainee, optimizer, schedule);

        let ledger = Arc::new(Mutex::new(Ledger { metrics, error: None, last_loss }));
        let strategy = StepStrategy {
            name: self.name.to_owned(),
            first,
            num_steps: self.num_steps,
            clip_norm: self.optimization.clip_norm,
            keeping,
            checkpoints,
            save: self.save.clone(),
            devices: self.devices.clone(),
            ledger: ledger.clone(),
        };
        let steps = StepLoader { range: first..self.num_steps, build: self.step.clone() };
        let none = StepLoader { range: 0..0, build: self.step.clone() };
        let started = Instant::now();
        let result = SupervisedTraining::new(self.dir, Arc::new(steps), Arc::new(none))
            .renderer(Box::new(Silent))
            .with_metric_logger(InMemoryMetricLogger::default())
            .with_application_logger(None)
            .with_training_strategy(TrainingStrategy::Custom(Arc::new(strategy)))
            .launch(learner);
        let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = ledger.error.take() {
            return Err(error);
        }
        ledger.metrics.sync()?;
        let outcome = Outcome {
            steps: self.num_steps - first,
            seconds: seconds + started.elapsed().as_secs_f64(),
            last_loss: ledger.last_loss,
        };
        Ok((result.model.module, outcome))
    }
}

impl Optimization {
    fn optimizer(&self) -> ModuleOptimizer {
        let [beta_1, beta_2] = self.betas.map(|beta| beta as f32);
        if self.weight_decay > 0.0 {
            AdamWConfig::new()
                .with_beta_1(beta_1)
                .with_beta_2(beta_2)
                .with_epsilon(self.epsilon as f32)
                .with_weight_decay(self.weight_decay as f32)
                .init()
        } else {
            FusedAdam::new([beta_1, beta_2], self.epsilon as f32).into()
        }
    }
}

/// What the loop leaves behind, shared with the training around it.
struct Ledger {
    metrics: Metrics,
    error: Option<Error>,
    last_loss: Option<f64>,
}

struct StepStrategy<T> {
    name: String,
    first: usize,
    num_steps: usize,
    clip_norm: f64,
    keeping: Keeping,
    checkpoints: Checkpoints,
    save: SaveModule<T>,
    devices: Vec<Device>,
    ledger: Arc<Mutex<Ledger>>,
}

impl<T: Trainable> SupervisedLearningStrategy<Trainee<T>> for StepStrategy<T> {
    fn fit(
        &self,
        components: TrainingComponents<Trainee<T>>,
        mut learner: Learner<Trainee<T>>,
        steps: TrainLoader<Trainee<T>>,
        _: ValidLoader<Trainee<T>>,
        _: usize,
    ) -> (Trainee<T>, SupervisedTrainingEventProcessor<Trainee<T>>) {
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let mut progress = Progress::new(&self.name, "steps", self.first, self.num_steps);
        let together = (self.devices.len() > 1).then(|| Together::new(&self.devices));
        let outcome = (self.first + 1..).zip(steps.iter()).try_for_each(|(number, step)| {
            let step = step.map_err(|error| Error::Numeric(error.to_string()))?;
            let gradient = |learner: &Learner<Trainee<T>>, step| match &together {
                Some(together) => together.train_step(&learner.model(), step),
                None => Ok(learner.train_step(step)),
            };
            self.advance(number, step, gradient, &mut learner, &mut ledger, &mut progress)
        });
        progress.finish();
        ledger.error = outcome.err();
        (learner.model(), components.event_processor)
    }
}

impl<T: Trainable> StepStrategy<T> {
    /// One optimizer step: the `number`-th, counted from 1.
    fn advance(
        &self,
        number: usize,
        step: Step<T::Batch>,
        gradient: impl FnOnce(&Learner<Trainee<T>>, Step<T::Batch>) -> Result<TrainOutput<StepOutput>>,
        learner: &mut Learner<Trainee<T>>,
        ledger: &mut Ledger,
        progress: &mut Progress,
    ) -> Result<()> {
        let started = Instant::now();
        let (epoch, groups, tokens, records) =
            (step.epoch, step.num_groups, step.num_tokens, step.records.clone());
        let refuse = |what: &str, value: f64| {
            Error::Numeric(format!(
                "step {number}: {what} is {value}; nothing was changed by it. The step's records: {}. \
                 Lower training.learning_rate, or look at these records",
                records.join(", ")
            ))
        };

        let output = gradient(learner, step)?;
        let StepOutput { loss, statistics, .. } = output.item;
        if !loss.is_finite() {
            return Err(refuse("the loss", loss));
        }
        let model = learner.model();
        let norm = global_norm(&model, &output.grads);
        if !norm.is_finite() {
            return Err(refuse("the gradient's norm", norm));
        }
        let gradients = if self.clip_norm > 0.0 && norm > self.clip_norm {
            scale(&model, output.grads, self.clip_norm / norm)
        } else {
            output.grads
        };
        let slot = model.slot().clone();
        drop(model); // the update works in place where it holds the only copy

        let last = number == self.num_steps;
        let stopping = interrupt::requested() && !last;
        let is_kept = self.keeping.is_due(number) || stopping;
        if is_kept && !last {
            slot.request();
        }
        learner.lr_step();
        let rate = learner.lr_current().base();
        learner.optimizer_step(gradients);

        let mut line = serde_json::json!({
            "step": number, "epoch": epoch, "loss": loss, "grad_norm": norm, "learning_rate": rate,
            "groups": groups, "tokens": tokens, "seconds": started.elapsed().as_secs_f64(),
            "peak_memory_bytes": peak_memory_bytes(),
        });
        for (name, value) in statistics {
            line[name] = value.into();
        }
        ledger.metrics.append(&line)?;
        ledger.last_loss = Some(loss);
        if is_kept {
            let model = learner.model();
            ledger.metrics.sync()?;
            let state = State { step: number, metrics: ledger.metrics.hash() };
            self.checkpoints.write(&state, slot.take(), |folder| {
                (self.save)(&model.module, Precision::F32, folder)
            })?;
        }
        progress.advance(1, &format!("loss {loss:.4}"));
        if stopping { Err(Error::Interrupted) } else { Ok(()) }
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

/// The steps of a training as burn's data loader.
struct StepLoader<B> {
    range: std::ops::Range<usize>,
    build: BuildStep<B>,
}

impl<B: Send + 'static> DataLoader<Step<B>> for StepLoader<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<Step<B>> + 'a> {
        Box::new(StepIterator { loader: self, next: self.range.start })
    }

    fn num_items(&self) -> usize {
        self.range.len()
    }

    fn to_device(&self, _: &Device) -> Arc<dyn DataLoader<Step<B>>> {
        Arc::new(Self { range: self.range.clone(), build: self.build.clone() })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<Step<B>>> {
        let range = self.range.start + start..self.range.start + end;
        Arc::new(Self { range, build: self.build.clone() })
    }
}

struct StepIterator<'a, B> {
    loader: &'a StepLoader<B>,
    next: usize,
}

impl<B> Iterator for StepIterator<'_, B> {
    type Item = Result<Step<B>, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.next;
        self.next += 1;
        self.loader
            .range
            .contains(&step)
            .then(|| (self.loader.build)(step).map_err(DatasetError::new))
    }
}

impl<B> DataLoaderIterator<Step<B>> for StepIterator<'_, B> {
    fn progress(&self) -> dataloader::Progress {
        let range = &self.loader.range;
        dataloader::Progress::new(self.next - range.start, range.len(), Some("steps".to_owned()))
    }
}
