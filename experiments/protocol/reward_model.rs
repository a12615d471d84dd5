//! How often the reward model is right about records that it has not learned from.

use std::path::Path;

use exalign::report::RewardModelRow;
use exalign::statistics::{Interval, wilson};
use exalign::{Error, Result};
use serde_json::Value;

use super::data::HELD_OUT_LABELLED;
use super::measured::{Outcome, over_repetitions};
use super::run::Run;

/// How often a reward model is right about held-out records.
#[derive(Clone, Copy)]
struct Accuracy {
    /// With Wilson's interval.
    share: Interval,
    /// How often one would be right who always says the same.
    of_a_constant: f64,
    records: usize,
}

impl Accuracy {
    /// By the validation of the model that the training has kept; none where it was not validated on these records.
    fn read(training: &Path, data: &Path) -> Option<Self> {
        let lines = |path: &Path| -> Option<Vec<Value>> {
            let text = std::fs::read_to_string(path).ok()?;
            Some(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
        };
        let records = lines(&data.join(HELD_OUT_LABELLED))?;
        let best = best_step(training);
        let metrics = lines(&training.join("metrics.jsonl"))?;
        let is_kept = |line: &&Value| best.is_none() || line["step"].as_u64() == best;
        let mut kept = metrics.iter().rev().filter(is_kept);
        let share = kept.find_map(|line| line["validation/accuracy"].as_f64())?;
        let labels: Vec<f64> = records.iter().filter_map(|it| it["label"].as_f64()).collect();
        let positive = labels.iter().sum::<f64>() / labels.len() as f64;
        // Of a pair, either answer may be the better one.
        let of_a_constant = if labels.is_empty() { 0.5 } else { positive.max(1.0 - positive) };
        Some(Self {
            share: wilson(share, records.len() as f64),
            of_a_constant,
            records: records.len(),
        })
    }
}

/// The step of the best model, where a training has kept that.
fn best_step(training: &Path) -> Option<u64> {
    let names = std::fs::read_dir(training.join("checkpoints")).ok()?.flatten();
    let mut names = names.filter_map(|entry| entry.file_name().into_string().ok());
    names.find_map(|name| name.strip_prefix("best-")?.parse().ok())
}

/// Refuses to go on with a reward model that is no better than one that always says the same: what an objective
/// learned from it would be noise.
pub fn refuse_chance(training: &Path, data: &Path) -> Result<()> {
    let Some(Accuracy { share, of_a_constant, records }) = Accuracy::read(training, data) else {
        return Ok(());
    };
    if share.low > of_a_constant {
        return Ok(());
    }
    Err(Error::file(
        training,
        format!(
            "expected a reward model that is right more often than chance, {:.0} %, found one that is right about {:.0} \
             % [{:.0}, {:.0}] of {records} held-out records: objectives would learn noise. Give it more to learn from \
             (data.labelled), more epochs or another rate (reward.training), or more held-out records to tell \
             (data.held_out_labelled); protocol.refuse_chance=false goes on with it",
            100.0 * of_a_constant,
            100.0 * share.mean,
            100.0 * share.low,
            100.0 * share.high,
        ),
    ))
}

/// Over all repetitions.
pub fn row(run: &Run, outcome: &Outcome) -> Option<RewardModelRow> {
    let accuracy = |place: &str| {
        let folder = |name: &str| run.graph.out.join(format!("{place}{name}"));
        Accuracy::read(&folder("reward"), &folder("data"))
    };
    let all: Vec<Accuracy> =
        outcome.lineages.iter().map(|it| accuracy(&it.place)).collect::<Option<_>>()?;
    let shares: Vec<Interval> = all.iter().map(|it| it.share).collect();
    let records = all.iter().map(|it| it.records).sum();
    Some(RewardModelRow { accuracy: over_repetitions(&shares)?, records })
}
