//! Typed configuration: defaults < `--config FILE` < `EXALIGN_SECTION__KEY` < `--set key=value` < flags.
//!
//! Every key that exists stands in the defaults under `assets/defaults`, with its meaning; a key
//! that does not is an error that names the nearest one that does.

mod choices;
mod experiment;
mod sections;
mod settings;
mod sources;
#[cfg(test)]
mod tests;

pub use experiment::ExperimentConfig;
pub use sections::{
    Checkpoint, Generation, JudgeSettings, LearningRateSchedule, Optimizer, RecordData, Section,
    TokenData, Training, TrainingData, Violation,
};
pub use settings::{
    AlignSettings, DataSettings, DrawSettings, EndpointSettings, JudgingSettings, LabelSettings,
    PairSettings, ScoreSettings, Settings, Stage, TrainSettings,
};
pub use sources::Sources;
