//! Training through burn's Learner: fine-tuning, reward models, alignment.
//!
//! One optimizer step has one or several micro-batches. Their losses are weighted so that they add up to the
//! mean over the whole step, whatever their sizes. burn's `Learner` holds model, optimizer and schedule;
//! [`Training`] drives it with a strategy of its own.
//!
//! Invariants: step N depends on the settings, the seed and N alone, never on when the process started; a
//! checkpoint is complete or absent; a loss that is not finite never reaches the weights; validation changes
//! no weight.

mod adam;
mod aligner;
mod best;
mod checkpoint;
mod course;
mod drift;
mod falling;
mod few;
mod fine_tuner;
mod gradients;
mod hold_out;
mod metrics;
mod optimization;
mod order;
mod reward_trainer;
mod run;
mod schedule;
mod several_devices;
mod silent;
mod step;
mod step_loop;
mod validation;
mod watch;

pub use adam::FusedAdam;
pub use aligner::{Aligner, AlignmentBatch, GivenTokens, GivenValues};
pub use checkpoint::{CHECKPOINTS, Checkpoints, Keeping};
pub use course::{BestModel, Drifted, Rules};
pub use drift::Drift;
pub use fine_tuner::FineTuner;
pub use hold_out::hold_out;
pub use optimization::Optimization;
pub use order::{BatchOrder, micro_batches};
pub use reward_trainer::{RewardTrainer, ScoredBatch};
pub use run::{BuildStep, Outcome, SaveModule, Training};
pub use schedule::Schedule;
pub use step::{Micro, MicroLoss, Step, StepOutput, Trainable, Trainee};
pub use validation::{Figures, Measure, Validation, means};
pub use watch::{Watch, leave_screen, write_events};
