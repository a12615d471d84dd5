//! stub of the report
use crate::evaluation::Interval;
use serde::{Deserialize, Serialize};
use std::path::Path;
/// What a stage cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageCost {
    /// n
    pub name: String,
    /// s
    pub seconds: f64,
    /// c
    pub cached: bool,
    /// k
    pub key: String,
}
/// row
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResultRow {
    /// p
    pub policy: String,
    /// r
    pub reward: Interval,
    /// k
    pub kl: Interval,
    /// g
    pub reward_gain: Option<Interval>,
    /// n
    pub num_samples: usize,
    /// s
    pub seconds: f64,
}
/// report
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// r
    pub results: Vec<ResultRow>,
    /// c
    pub stages: Vec<StageCost>,
}
impl Report {
    /// write
    pub fn write(&self, folder: &Path) -> crate::Result<()> {
        crate::files::write_json(&folder.join("report.json"), self)
    }
}
