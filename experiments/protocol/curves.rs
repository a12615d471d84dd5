//! What was measured during training, read from the metrics of the stages.

use exalign::report::{TrainingCurve, TrainingRow};
use serde_json::Value;

use super::labels::REFERENCE;
use super::measured::Outcome;
use super::run::Run;

/// The figures of an alignment that are drawn, by their names in `metrics.jsonl`.
const ALIGNMENT: [&str; 7] = [
    "loss",
    "accuracy",
    "reward_margin",
    "logps/chosen",
    "logps/rejected",
    "rewards/chosen",
    "rewards/rejected",
];

/// Loss of every training, accuracy of the reward model, the objectives' own figures; of the first
/// repetition.
pub fn curves(run: &Run, outcome: &Outcome) -> Vec<TrainingCurve> {
    of_trainings(run, outcome, |name, metrics, lines| {
        let curve = |metric: &&str| {
            let (steps, values): (Vec<f64>, Vec<f64>) = lines
                .iter()
                .filter_map(|line| Some((line["step"].as_f64()?, line[*metric].as_f64()?)))
                .unzip();
            let (name, metric) = (name.to_owned(), (*metric).to_owned());
            (!steps.is_empty()).then_some(TrainingCurve { name, metric, steps, values })
        };
        metrics.iter().filter_map(curve).collect()
    })
}

/// Every training from its first to its last step; of the first repetition.
pub fn trainings(run: &Run, outcome: &Outcome) -> Vec<TrainingRow> {
    of_trainings(run, outcome, |name, _, lines| {
        let [first, .., last] = lines else { return Vec::new() };
        let sum = |metric: &str| lines.iter().filter_map(|line| line[metric].as_f64()).sum::<f64>();
        let both = |(key, value): (&String, &Value)| {
            let is_shown = ["logps/", "rewards/", "length/"].iter().any(|it| key.starts_with(it));
            let figures = [value.as_f64()?, last[key].as_f64()?];
            is_shown.then(|| (key.clone(), figures))
        };
        vec![TrainingRow {
            name: name.to_owned(),
            steps: lines.len(),
            tokens_per_second: sum("tokens") / sum("seconds"),
            clipped: sum("clipped") / lines.len() as f64,
            figures: first.as_object().into_iter().flatten().filter_map(both).collect(),
        }]
    })
}

/// What `of` makes of each training: its name, the figures to draw, the lines of its metrics.
fn of_trainings<T>(
    run: &Run,
    outcome: &Outcome,
    of: impl Fn(&str, &[&str], &[Value]) -> Vec<T>,
) -> Vec<T> {
    let place = outcome.lineages.first().map_or("", |lineage| lineage.place.as_str());
    let mut all = Vec::new();
    let mut add = |name: &str, folder: &str, metrics: &[&str]| {
        let path = run.graph.out.join(format!("{place}{folder}")).join("metrics.jsonl");
        // A stage that did not run has none.
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<Value> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        all.extend(of(name, metrics, &lines));
    };
    add(REFERENCE, "sft", &["loss"]);
    add("reward model", "reward", &["loss", "accuracy"]);
    for variant in &outcome.variants {
        let name = variant.folder();
        add(&name, &name, &ALIGNMENT);
    }
    all
}
