//! How often the reward model is right about records that it has not learned from.

use std::path::Path;

use exalign::report::RewardModelRow;
use exalign::statistics::wilson;
use exalign::{Error, Result};
use serde_json::Value;

use super::data::HELD_OUT_LABELLED;
use super::measured::Outcome;
use super::run::Run;

/// Held-out records that were judged rightly, of how many.
#[derive(Clone, Copy)]
struct Tally {
    right: f64,
    of: f64,
}

impl Tally {
    /// By the last validation of the reward model's training; none where there is none.
    fn read(training: &Path, data: &Path) -> Option<Self> {
        let metrics = std::fs::read_to_string(training.join("metrics.jsonl")).ok()?;
        let lines = metrics.lines().rev().filter_map(|it| serde_json::from_str::<Value>(it).ok());
        let accuracy = lines.filter_map(|line| line["validation/accuracy"].as_f64()).next()?;
        let records = std::fs::read_to_string(data.join(HELD_OUT_LABELLED)).ok()?.lines().count();
        Some(Self { right: accuracy * records as f64, of: records as f64 })
    }
}

/// Refuses to go on with a reward model that is no better than a coin: what an objective learned from it would be
/// noise.
pub fn refuse_chance(training: &Path, data: &Path) -> Result<()> {
    let Some(Tally { right, of }) = Tally::read(training, data) else { return Ok(()) };
    let accuracy = wilson(right / of, of);
    if accuracy.low > 0.5 {
        return Ok(());
    }
    Err(Error::file(
        training,
        format!(
            "expected a reward model that is right more often than a coin, found one that is right about \
             {:.0} % [{:.0}, {:.0}] of {of} held-out records: objectives would learn noise. Give it more to learn from \
             (data.labelled), more epochs or another rate (reward.training), or more held-out records to tell \
             (data.held_out_labelled); protocol.refuse_chance=false goes on with it",
            100.0 * accuracy.mean,
            100.0 * accuracy.low,
            100.0 * accuracy.high,
        ),
    ))
}

/// Over all repetitions.
pub fn row(run: &Run, outcome: &Outcome) -> Option<RewardModelRow> {
    let tally = |place: &str| {
        let folder = |name: &str| run.graph.out.join(format!("{place}{name}"));
        Tally::read(&folder("reward"), &folder("data"))
    };
    let tallies = outcome.lineages.iter().map(|it| tally(&it.place));
    let tallies: Vec<Tally> = tallies.collect::<Option<_>>()?;
    let sum = |of: fn(&Tally) -> f64| tallies.iter().map(of).sum::<f64>();
    let (right, of) = (sum(|it| it.right), sum(|it| it.of));
    (of > 0.0).then(|| RewardModelRow { accuracy: wilson(right / of, of), records: of as usize })
}
