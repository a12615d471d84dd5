//! A run of an experiment: its settings and its stages.

use exalign::Result;
use exalign::config::{ExperimentConfig, Settings};
use exalign::data::rows::set_max_row_bytes;

use crate::graph::Graph;
use crate::tasks::{Preset, Task};

/// A run of an experiment.
pub struct Run {
    pub task: &'static dyn Task,
    pub preset: Preset,
    pub config: ExperimentConfig,
    pub graph: Graph,
}

/// The settings of a stage.
pub fn stage_settings<T: Settings>(config: &ExperimentConfig, stage: &str) -> Result<T> {
    let settings: T = config.stage(stage)?;
    settings.max_row_bytes().into_iter().for_each(set_max_row_bytes);
    Ok(settings)
}
