//! The results of a run: `report.json` for programs and `report.html` for people.
//!
//! A [`Report`] is exactly the content of `report.json`. The page is one file that needs nothing else: no
//! network, no font, and no script to be readable. Several reports make one page ([`render`]), on which their
//! frontiers share a picture. Where a report lacks a part, the page omits the part and its heading.
//!
//! Invariants: the page holds no text that is not escaped (a completion may contain anything), and no number
//! that is not in the report.

mod article;
mod frontier;
mod page;
mod pictures;
mod samples;
mod tables;
mod text;

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::evaluation::OptimumPoint;
use crate::statistics::Interval;
use crate::{Error, Result, files};

pub use article::{Article, Part};
pub use page::render;
pub use pictures::{Cells, Content, Curve, Figure, Line, Plot, frontier_svg};
pub use text::policy_name;

/// The file a run's numbers are in.
pub const JSON_NAME: &str = "report.json";
/// The file a run's page is in.
pub const HTML_NAME: &str = "report.html";

/// What a run found, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The page's title: what was done.
    pub title: String,
    /// The experiment, as on the command line.
    pub experiment: String,
    /// The experiment's preset.
    pub preset: String,
    /// What was found, in plain sentences, the most important one first.
    pub summary: Vec<String>,
    /// What rewards are measured in, such as `log-odds`; empty: in nothing that has a name.
    pub reward_unit: String,
    /// The policies at the end of their training, the reference (`sft`) first.
    pub results: Vec<ResultRow>,
    /// Reward and KL along the checkpoints of each objective.
    pub frontier: Vec<Series>,
    /// Objectives compared at the same KL.
    pub comparisons: Vec<Comparison>,
    /// Policies against each other by a judge.
    pub win_rates: Vec<WinRateRow>,
    /// Where the exact optimum lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimum: Option<Optimum>,
    /// What was measured during training.
    pub curves: Vec<TrainingCurve>,
    /// All rewards behind the means, policy by policy.
    pub distributions: Vec<Distribution>,
    /// Completions of the same prompts by several policies.
    pub samples: Vec<SamplePrompt>,
    /// What each stage cost.
    pub stages: Vec<StageCost>,
    /// The whole configuration.
    pub configuration: Value,
    /// Name and value of what else is needed to repeat the run: versions, device, hashes, seed,
    /// command line.
    pub provenance: Vec<(String, String)>,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            title: String::new(),
            experiment: String::new(),
            preset: String::new(),
            summary: Vec::new(),
            reward_unit: "log-odds".to_owned(),
            results: Vec::new(),
            frontier: Vec::new(),
            comparisons: Vec::new(),
            win_rates: Vec::new(),
            optimum: None,
            curves: Vec::new(),
            distributions: Vec::new(),
            samples: Vec::new(),
            stages: Vec::new(),
            configuration: Value::Null,
            provenance: Vec::new(),
        }
    }
}

/// A policy's row in the table of results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResultRow {
    /// `sft`, `chosen`, `best-of-4`, or the objective it was trained with: `dpo`, `exo-rw`, …
    pub policy: String,
    /// Mean reward.
    pub reward: Interval,
    /// KL to the reference, in nats, by the plain mean of the log-ratio; none of what no model wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<Interval>,
    /// The same KL by the estimator of low variance, the mean of exp(−l) − 1 + l for a log-ratio l.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl_low_variance: Option<Interval>,
    /// The gain in reward over the reference, paired by prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward_gain: Option<Interval>,
    /// Mean score by a rule that the reward was learned to follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Interval>,
    /// Samples the row was measured on.
    pub num_samples: usize,
    /// What its training took.
    pub seconds: f64,
}

/// An objective's way through the reward–KL plane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The objective, or `best-of-n`.
    pub objective: String,
    /// Its checkpoints in the order of training; of several repetitions, their means.
    pub points: Vec<FrontierPoint>,
    /// Each repetition's own way, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repetitions: Vec<Repetition>,
    /// The area under it, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub area: Option<Area>,
}

/// The area between a frontier and the reward of the reference it starts at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Area {
    /// Over KLs from 0 to this one, in nats.
    pub up_to_kl: f64,
    /// The area, in reward × nats.
    pub area: Interval,
}

/// A repetition's way through the reward–KL plane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Repetition {
    /// Its seed.
    pub seed: u64,
    /// KL in nats and mean reward at each of the series' points.
    pub points: Vec<(f64, f64)>,
}

/// A checkpoint in the reward–KL plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrontierPoint {
    /// Optimizer steps taken; N of Best-of-N.
    pub step: usize,
    /// Mean reward.
    pub reward: Interval,
    /// KL to the reference, in nats.
    pub kl: Interval,
}

/// Two objectives on their way, compared at the same KL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The one.
    pub ours: String,
    /// The other.
    pub theirs: String,
    /// Up to this KL both go, in nats; the mean over repetitions.
    pub common_kl: f64,
    /// Difference in reward at that KL.
    pub at_common_kl: Interval,
    /// Difference in reward, averaged over all KLs up to there.
    pub mean_gain: Interval,
    /// `mean_gain` of each repetition: seed and interval over prompts.
    pub repetitions: Vec<(u64, Interval)>,
}

/// How often a judge finds a policy's answers better than an opponent's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WinRateRow {
    /// The policy.
    pub policy: String,
    /// `sft`, or `chosen` for the answers people gave.
    pub opponent: String,
    /// Who judges.
    pub judge: String,
    /// Share of comparisons won, ties as half, with its Wilson interval; a prompt that recurs in
    /// several repetitions counts as one.
    pub rate: Interval,
    /// Comparisons won.
    pub wins: usize,
    /// Comparisons on which the two are as good, or that the order of the answers decided.
    pub ties: usize,
    /// Comparisons lost.
    pub losses: usize,
    /// Ties because the order of the answers decided.
    #[serde(default)]
    pub order_dependent: usize,
    /// Comparisons without a verdict; they count nowhere else.
    #[serde(default)]
    pub no_verdict: usize,
    /// Prompts that would tell the two apart with 80 % power; none where the rate is exactly ½.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts_to_tell_apart: Option<usize>,
}

/// The exactly optimal policies π*(y|x) ∝ π_sft(y|x) exp(r(x, y) / β).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Optimum {
    /// The optimum at this run's β.
    pub point: OptimumPoint,
    /// The optimum along β: the best frontier any policy can reach.
    pub curve: Vec<OptimumPoint>,
}

/// A quantity along a training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingCurve {
    /// The stage or objective.
    pub name: String,
    /// The quantity: `loss`, `accuracy`, …
    pub metric: String,
    /// Optimizer steps.
    pub steps: Vec<f64>,
    /// Its values at these steps.
    pub values: Vec<f64>,
}

/// The rewards of a policy's samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// The policy.
    pub policy: String,
    /// One reward for each sample.
    pub rewards: Vec<f64>,
}

/// A prompt and what the policies made of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplePrompt {
    /// The prompt.
    pub prompt: String,
    /// Its completions.
    pub completions: Vec<SampleCompletion>,
}

/// A completion shown on the page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleCompletion {
    /// The policy it was drawn from.
    pub policy: String,
    /// The completion.
    pub text: String,
    /// Its reward.
    pub reward: f64,
    /// Its log-ratio to the reference, in nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
}

/// What a stage cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageCost {
    /// The stage.
    pub name: String,
    /// Time it took when it was computed.
    pub seconds: f64,
    /// Whether its result was found and not computed again.
    pub cached: bool,
    /// What it was computed from, as a hash.
    pub key: String,
}

/// A report and what it is called beside others.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedReport {
    /// What the run is called: its folder's name.
    pub name: String,
    /// Its report.
    pub report: Report,
}

impl Report {
    /// Writes [`JSON_NAME`] and [`HTML_NAME`] into `folder`, each complete or not at all.
    ///
    /// # Errors
    /// If a number is not finite (JSON has no such numbers), with the place it stands at; if the
    /// folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        self.check()?;
        files::write_json(&folder.join(JSON_NAME), self)?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        write_page(&folder.join(HTML_NAME), &[NamedReport { name, report: self.clone() }])
    }

    /// Writes the frontier as a picture of its own ([`frontier_svg`]).
    ///
    /// # Errors
    /// If the report has no result to draw; if the file cannot be written.
    pub fn write_frontier(&self, path: &Path) -> Result<()> {
        let svg = frontier_svg(self).ok_or_else(|| {
            Error::file(path, "nothing to draw: the report has neither results nor a frontier")
        })?;
        files::write_atomic(path, |writer| writer.write_all(svg.as_bytes()))
    }

    /// Reads a report from its file or from the folder it is in.
    ///
    /// # Errors
    /// If there is none or it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        if path.is_dir() { files::read_json(&path.join(JSON_NAME)) } else { files::read_json(path) }
    }

    /// Refuses what JSON cannot hold: numbers that are not finite.
    fn check(&self) -> Result<()> {
        let invalid = |error| Error::Numeric(format!("the report cannot be JSON: {error}"));
        let mut json = serde_json::to_value(self).map_err(invalid)?;
        // The one part that may hold a null; a `None` elsewhere is not written.
        json["configuration"] = Value::Bool(true);
        match first_null(&json) {
            None => Ok(()),
            Some(place) => Err(Error::Numeric(format!(
                "report: `{}` is not a finite number; look for its stage's records in this run's folder",
                place.trim_start_matches('.')
            ))),
        }
    }
}

/// Writes the page of one report, or of several compared, to a file.
///
/// # Errors
/// If the file cannot be written.
pub fn write_page(path: &Path, runs: &[NamedReport]) -> Result<()> {
    files::write_atomic(path, |writer| writer.write_all(render(runs).as_bytes()))
}

/// The path of the first null below `value`.
fn first_null(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| Some(format!("[{index}]{}", first_null(item)?))),
        Value::Object(fields) => {
            fields.iter().find_map(|(name, field)| Some(format!(".{name}{}", first_null(field)?)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
