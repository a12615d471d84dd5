//! A training: its parts, where it continues, its result.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use burn::tensor::Device;
use burn::train::logger::InMemoryMetricLogger;
use burn::train::{Learner, SupervisedTraining, TrainingStrategy};

use super::checkpoint::{Checkpoints, Keeping};
use super::course::{BestModel, Course, Drifted};
use super::metrics::Metrics;
use super::optimization::Optimization;
use super::silent::Silent;
use super::step::{Step, Trainable, Trainee};
use super::step_loop::{Ledger, NoBatches, StepLoop};
use super::validation::Validation;
use super::watch::{Watch, Watchers};
use crate::Result;
use crate::files::sweep_folder;
use crate::model::Precision;
use crate::model::weights::with_stable_ids;

/// Writes a module as a Hugging Face folder, its weights as the precision says.
pub type SaveModule<T> = Arc<dyn Fn(&T, Precision, &Path) -> Result<()> + Send + Sync>;

/// Builds the step of a number, counted from 0, for the module as it is before the step.
pub type BuildStep<T> =
    Arc<dyn Fn(usize, &T) -> Result<Step<<T as Trainable>::Batch>> + Send + Sync>;

/// One training: its folder, its steps, and how it loads and saves the module.
pub struct Training<'a, T: Trainable> {
    /// The training's name on the progress bar.
    pub name: &'a str,
    /// The folder of metrics and checkpoints.
    pub dir: &'a Path,
    /// How weights are updated.
    pub optimization: Optimization,
    /// The float type of the passes.
    pub compute: Precision,
    /// Number of optimizer steps.
    pub num_steps: usize,
    /// Steps between checkpoints; 0 writes none.
    pub checkpoint_every: usize,
    /// Checkpoints whose models are kept; 0 keeps all.
    pub checkpoint_keep: usize,
    /// Loads the module: from the folder of a checkpoint, or anew.
    pub load: &'a dyn Fn(Option<&Path>) -> Result<T>,
    /// Writes the module as a Hugging Face folder.
    pub save: SaveModule<T>,
    /// The batches of a step.
    pub step: BuildStep<T>,
    /// How it is validated, if at all.
    pub validation: Option<Validation<T>>,
    /// The devices of the batches; the module is on the first.
    pub devices: Vec<Device>,
    /// Where the training shows its figures, besides `metrics.jsonl`.
    pub watch: Watch,
}

/// The result of a training.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Steps taken, over all processes.
    pub steps: usize,
    /// Seconds spent on steps, over all processes.
    pub seconds: f64,
    /// Mean loss of the last step.
    pub last_loss: Option<f64>,
    /// The best model, where one was kept.
    pub best: Option<BestModel>,
    /// The end, where the drift reached its budget before the last step.
    pub drifted: Option<Drifted>,
}

impl<T: Trainable> Training<'_, T> {
    /// Trains from the newest checkpoint to the last step, or to the end of the budget, and returns the
    /// trained module: the best one where one is kept, else the last one.
    ///
    /// # Errors
    /// [`Interrupted`](crate::Error::Interrupted) after Ctrl-C, with a checkpoint written;
    /// [`Numeric`](crate::Error::Numeric) before a
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
        let rules = self.validation.as_ref().map(|it| it.rules).unwrap_or_default();
        let course = Course::after(rules, found.lines(first));
        let metrics = found.go_on(first)?;
        let (seconds, last_loss) = (metrics.seconds, metrics.last_loss);
        let trainee = with_stable_ids(Trainee::new(module, self.compute));
        let schedule = self.optimization.schedule.clone().starting_at(first);
        let learner = Learner::new(trainee, optimizer, schedule);

        let watchers = Watchers::start(&self.watch, self.name, self.dir, (first, self.num_steps))?;
        let ledger = Arc::new(Mutex::new(Ledger {
            metrics,
            watchers,
            course,
            before: Vec::new(),
            error: None,
            last_loss,
        }));
        let steps = StepLoop {
            name: self.name.to_owned(),
            first,
            num_steps: self.num_steps,
            clip_norm: self.optimization.clip_norm,
            keeping,
            checkpoints,
            build: self.step.clone(),
            save: self.save.clone(),
            validation: self.validation.clone(),
            devices: self.devices.clone(),
            ledger: ledger.clone(),
        };
        let started = Instant::now();
        let result = SupervisedTraining::new(self.dir, Arc::new(NoBatches), Arc::new(NoBatches))
            .renderer(Box::new(Silent))
            .with_metric_logger(InMemoryMetricLogger::default())
            .with_application_logger(None)
            .with_training_strategy(TrainingStrategy::Custom(Arc::new(steps)))
            .launch(learner);
        let mut ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = ledger.error.take() {
            return Err(error);
        }
        ledger.metrics.sync()?;
        let Course { best, drifted, .. } = ledger.course.clone();
        let outcome = Outcome {
            steps: drifted.as_ref().map_or(self.num_steps, |end| end.step),
            seconds: seconds + started.elapsed().as_secs_f64(),
            last_loss: ledger.last_loss,
            best,
            drifted,
        };
        let module = match &outcome.best {
            Some(best) => {
                drop(result);
                (self.load)(Some(&Checkpoints::new(self.dir, keeping).best(best.step)))?
            }
            None => result.model.module,
        };
        Ok((module, outcome))
    }
}
