//! Training curves, read from the metrics of the stages.

use std::path::Path;

use exalign::report::TrainingCurve;
use serde_json::Value;

use super::measured::Outcome;
use super::run::Run;

/// Loss of every training, accuracy of the reward model, the objectives' own figures; of the first
/// repetition.
pub fn curves(run: &Run, outcome: &Outcome) -> Vec<TrainingCurve> {
    let mut curves = Vec::new();
    let place = outcome.lineages.first().map_or("", |it| it.place.as_str());
    let mut add = |name: &str, folder: &str, metrics: &[&str]| {
        curves.extend(read(name, &run.graph.out.join(format!("{place}{folder}")), metrics));
    };
    add("sft", "sft", &["loss"]);
    add("reward model", "reward", &["loss", "accuracy"]);
    for variant in &outcome.variants {
        let name = variant.folder();
        add(&name, &name, &["loss", "accuracy", "reward_margin"]);
    }
    curves
}

fn read(name: &str, folder: &Path, metrics: &[&str]) -> Vec<TrainingCurve> {
    // A stage that did not run has none.
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap_or_default();
    let lines: Vec<Value> =
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let curve = |metric: &&str| {
        let (steps, values): (Vec<f64>, Vec<f64>) = lines
            .iter()
            .filter_map(|line| Some((line["step"].as_f64()?, line[*metric].as_f64()?)))
            .unzip();
        let (name, metric) = (name.to_owned(), (*metric).to_owned());
        (!steps.is_empty()).then_some(TrainingCurve { name, metric, steps, values })
    };
    metrics.iter().filter_map(curve).collect()
}
