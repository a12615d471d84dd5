//! Training curves, read from the metrics of the stages.

use std::path::Path;

use exalign::report::TrainingCurve;
use serde::Deserialize;

use super::labels::REFERENCE;
use super::measured::Outcome;
use super::run::Run;

/// What is shown of a line of `metrics.jsonl`.
#[derive(Deserialize)]
struct Step {
    step: f64,
    loss: Option<f64>,
    accuracy: Option<f64>,
    reward_margin: Option<f64>,
}

/// A metric: its name and its value at a step.
type Metric = (&'static str, fn(&Step) -> Option<f64>);

const LOSS: Metric = ("loss", |step| step.loss);
const ACCURACY: Metric = ("accuracy", |step| step.accuracy);
const MARGIN: Metric = ("reward_margin", |step| step.reward_margin);

/// Loss of every training, accuracy of the reward model, the objectives' own figures; of the first
/// repetition.
pub fn curves(run: &Run, outcome: &Outcome) -> Vec<TrainingCurve> {
    let place = outcome.lineages.first().map_or("", |it| it.place.as_str());
    let mut curves = Vec::new();
    let mut add = |name: &str, folder: &str, metrics: &[Metric]| {
        curves.extend(read(name, &run.graph.out.join(format!("{place}{folder}")), metrics));
    };
    add(REFERENCE, "sft", &[LOSS]);
    add("reward model", "reward", &[LOSS, ACCURACY]);
    for variant in &outcome.variants {
        let name = variant.folder();
        add(&name, &name, &[LOSS, ACCURACY, MARGIN]);
    }
    curves
}

fn read(name: &str, folder: &Path, metrics: &[Metric]) -> Vec<TrainingCurve> {
    // A stage that did not run has none.
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap_or_default();
    let lines: Vec<Step> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let curve = |(metric, value): &Metric| {
        let (steps, values): (Vec<f64>, Vec<f64>) =
            lines.iter().filter_map(|line| Some((line.step, value(line)?))).unzip();
        let (name, metric) = (name.to_owned(), (*metric).to_owned());
        (!steps.is_empty()).then_some(TrainingCurve { name, metric, steps, values })
    };
    metrics.iter().filter_map(curve).collect()
}
