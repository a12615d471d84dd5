//! Typed configuration: defaults < `--config FILE` < `EXALIGN_SECTION__KEY` < `--set key=value` < flags.
//!
//! The files in `assets/defaults` list every key with its default and its meaning. An unknown key is an
//! error that names the nearest known one.

mod choices;
mod experiment;
mod sections;
mod settings;
mod sources;
#[cfg(test)]
mod tests;

pub use experiment::ExperimentConfig;
pub use sections::{
    BestBy, Checkpoint, DriftSettings, Generation, JudgeSettings, KeepReference,
    LearningRateSchedule, OnlineRounds, Optimizer, Recompute, RecordData, Refresh, RewardSettings,
    Section, TokenData, Training, TrainingData, ValidationSettings, Violation,
};
pub use settings::{
    AlignSettings, Asking, DataSettings, DrawSettings, EndpointSettings, JudgingSettings,
    LabelSettings, LossSettings, OnlineSettings, PairSettings, RewardsSettings, ScoreSettings,
    Settings, Stage, TrainSettings,
};
pub use sources::Sources;
