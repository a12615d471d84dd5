//! Typed configuration: defaults < `--config FILE` < `EXALIGN_SECTION__KEY` < `--set key=value` < flags.
//!
//! Every key that exists stands in the defaults under `assets/defaults`, with its meaning; a key
//! that does not is an error that names the nearest one that does.

mod experiment;
mod settings;
mod sources;
#[cfg(test)]
mod tests;

pub use experiment::ExperimentConfig;
pub use settings::{
    Checkpoint, Config, Data, Generation, JudgeSettings, LearningRateSchedule, ObjectiveSettings,
    Optimizer, Stage, Training,
};
pub use sources::Sources;
