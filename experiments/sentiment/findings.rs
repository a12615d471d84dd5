//! What the experiment found: the table in the terminal, the summary and the report.

use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use exalign::Result;
use exalign::evaluation::{Drawn, Interval, OptimumPoint, paired_gain};
use exalign::report::{
    Distribution, FrontierPoint, Optimum, Report, ResultRow, SampleCompletion, SamplePrompt,
    Series, TrainingCurve, policy_name,
};
use serde_json::Value;

use super::{Measured, Outcome};
use crate::run::Run;

/// Prints the table, writes the report and says where it is.
pub fn report(run: &Run, outcome: &Outcome) -> Result<()> {
    let report = build(run, outcome);
    println!("{}", table(&report));
    for sentence in &report.summary {
        println!("{sentence}");
    }
    report.write(&run.out)?;
    report.write_frontier(&run.path("frontier.svg"))?;
    println!("\nreport: {}", run.path("report.html").display());
    Ok(())
}

fn build(run: &Run, outcome: &Outcome) -> Report {
    let finals = finals(outcome);
    let seed = run.config.seed();
    let results: Vec<ResultRow> = finals
        .iter()
        .map(|it| ResultRow {
            policy: it.policy.clone(),
            reward: it.evaluated.evaluation.reward,
            kl: it.evaluated.evaluation.kl,
            reward_gain: (it.step > 0).then(|| gain(it, finals[0], seed)),
            num_samples: it.evaluated.evaluation.num_samples,
            seconds: seconds(run, &it.policy),
        })
        .collect();
    let series = |objective: &str| Series {
        objective: objective.to_owned(),
        points: outcome
            .measured
            .iter()
            .filter(|it| it.policy == objective)
            .map(|it| FrontierPoint {
                step: it.step,
                reward: it.evaluated.evaluation.reward,
                kl: it.evaluated.evaluation.kl,
            })
            .collect(),
    };
    Report {
        title: title(&results),
        experiment: "sentiment".to_owned(),
        preset: run.preset.name().to_owned(),
        summary: summary(outcome, &finals, &results, seed),
        frontier: outcome.objectives.iter().map(|it| series(it.as_str())).collect(),
        optimum: Some(Optimum {
            point: outcome.optimum.clone(),
            curve: outcome.optimum_curve.clone(),
        }),
        curves: curves(run, outcome),
        distributions: finals
            .iter()
            .map(|it| Distribution {
                policy: it.policy.clone(),
                rewards: it.evaluated.drawn.iter().flatten().map(|drawn| drawn.reward).collect(),
            })
            .collect(),
        samples: samples(&finals, outcome.shown_prompts),
        stages: run.costs.clone(),
        configuration: run.config.to_json(),
        provenance: provenance(run),
        results,
        ..Report::default()
    }
}

/// The reference, and each objective at the end of its training.
fn finals(outcome: &Outcome) -> Vec<&Measured> {
    let last = |policy: &str| outcome.measured.iter().rfind(|it| it.policy == policy);
    std::iter::once("sft")
        .chain(outcome.objectives.iter().map(|it| it.as_str()))
        .filter_map(last)
        .collect()
}

/// What `ours` earns over `theirs`, paired by prompt.
fn gain(ours: &Measured, theirs: &Measured, seed: u64) -> Interval {
    let drawn = |it: &Measured| -> Vec<Vec<Drawn>> { it.evaluated.drawn.clone() };
    paired_gain(&drawn(ours), &drawn(theirs), seed)
}

fn seconds(run: &Run, policy: &str) -> f64 {
    let stage = if policy == "sft" { "fine-tuning" } else { policy };
    run.costs.iter().find(|cost| cost.name == stage).map_or(0.0, |cost| cost.seconds)
}

fn table(report: &Report) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header([
        "policy",
        "reward (log-odds)",
        "gain over SFT",
        "KL (nats)",
        "samples",
        "training",
    ]);
    for row in &report.results {
        table.add_row([
            policy_name(&row.policy),
            row.reward.to_string(),
            row.reward_gain.map_or(String::new(), |gain| gain.to_string()),
            row.kl.to_string(),
            row.num_samples.to_string(),
            format!("{:.1} s", row.seconds),
        ]);
    }
    if let Some(optimum) = &report.optimum {
        let point = &optimum.point;
        table.add_row([
            // As f32, a product of settings shows no rounding.
            format!("π* at β = {}", point.beta as f32),
            point.reward.to_string(),
            String::new(),
            point.kl.to_string(),
            format!(
                "{:.0} effective of {} a prompt",
                point.effective_sample_size, point.samples_per_prompt
            ),
            String::new(),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn title(results: &[ResultRow]) -> String {
    let gain = |row: &ResultRow| row.reward_gain.map_or(f64::NEG_INFINITY, |gain| gain.mean);
    match results.iter().max_by(|a, b| gain(a).total_cmp(&gain(b))) {
        Some(best) if best.reward_gain.is_some_and(|gain| gain.low > 0.0) => {
            format!("{} earns {:.2} log-odds more than SFT", policy_name(&best.policy), gain(best))
        }
        _ => "No objective earns more than SFT beyond the interval".to_owned(),
    }
}

/// What can be said, with its intervals, and what cannot.
fn summary(
    outcome: &Outcome,
    finals: &[&Measured],
    results: &[ResultRow],
    seed: u64,
) -> Vec<String> {
    let mut sentences = Vec::new();
    let trained = &results[1..];
    let raised = |row: &&ResultRow| row.reward_gain.is_some_and(|gain| gain.low > 0.0);
    sentences.push(format!(
        "{} of {} objectives raise the reward over SFT beyond their 95 % interval.",
        trained.iter().filter(raised).count(),
        trained.len()
    ));
    for (exo, dpo, labels) in [("exo-rw", "dpo-rw", "rewards"), ("exo-pref", "dpo", "pairs")] {
        let find = |name: &str| finals.iter().find(|it| it.policy == name);
        if let (Some(exo), Some(dpo)) = (find(exo), find(dpo)) {
            sentences.push(comparison(exo, dpo, labels, seed));
        }
    }
    let reference = results[0].reward.mean;
    for row in trained {
        if let Some(best) = reward_at(&outcome.optimum_curve, row.kl.mean)
            && best > reference
        {
            sentences.push(format!(
                "{} ends with {:.0} % of the gain that the exact optimum makes at its KL.",
                policy_name(&row.policy),
                100.0 * (row.reward.mean - reference) / (best - reference)
            ));
        }
    }
    sentences
}

fn comparison(exo: &Measured, dpo: &Measured, labels: &str, seed: u64) -> String {
    let difference = gain(exo, dpo, seed);
    let kl = |it: &Measured| it.evaluated.evaluation.kl.mean;
    let verdict = match difference {
        Interval { low, .. } if low > 0.0 => "earns more than",
        Interval { high, .. } if high < 0.0 => "earns less than",
        _ => "cannot be told apart in reward from",
    };
    format!(
        "From {labels}, {} {verdict} {} (difference {difference}, paired by prompt), at a KL of {:.2} against {:.2} nats.",
        policy_name(&exo.policy),
        policy_name(&dpo.policy),
        kl(exo),
        kl(dpo)
    )
}

/// The optimum's reward at a KL, between the points of its curve; none beyond them.
fn reward_at(curve: &[OptimumPoint], kl: f64) -> Option<f64> {
    curve.windows(2).find_map(|pair| {
        let (a, b) = (&pair[0], &pair[1]);
        (a.kl.mean <= kl && kl <= b.kl.mean).then(|| {
            let share = (kl - a.kl.mean) / (b.kl.mean - a.kl.mean);
            a.reward.mean + share * (b.reward.mean - a.reward.mean)
        })
    })
}

/// Loss of every training, accuracy of the oracle, the objectives' own figures.
fn curves(run: &Run, outcome: &Outcome) -> Vec<TrainingCurve> {
    let mut curves = Vec::new();
    let mut add = |name: &str, folder: &Path, metrics: &[&str]| {
        let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap_or_default();
        let lines: Vec<Value> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        for metric in metrics {
            let (steps, values): (Vec<f64>, Vec<f64>) = lines
                .iter()
                .filter_map(|line| Some((line["step"].as_f64()?, line[*metric].as_f64()?)))
                .unzip();
            if !steps.is_empty() {
                curves.push(TrainingCurve {
                    name: name.to_owned(),
                    metric: (*metric).to_owned(),
                    steps,
                    values,
                });
            }
        }
    };
    add("sft", &run.path("sft"), &["loss"]);
    add("oracle", &run.path("reward"), &["loss", "accuracy"]);
    for objective in &outcome.objectives {
        add(
            objective.as_str(),
            &run.path(objective.as_str()),
            &["loss", "accuracy", "reward_margin"],
        );
    }
    curves
}

/// The first completion of every policy for the first prompts.
fn samples(finals: &[&Measured], count: usize) -> Vec<SamplePrompt> {
    let num_prompts = finals.iter().map(|it| it.evaluated.groups.len()).min().unwrap_or(0);
    (0..num_prompts.min(count))
        .map(|prompt| SamplePrompt {
            prompt: finals[0].evaluated.groups[prompt].prompt.text.clone().unwrap_or_default(),
            completions: finals
                .iter()
                .filter_map(|it| {
                    let drawn = it.evaluated.drawn[prompt].first()?;
                    let passage = &it.evaluated.groups[prompt].completions.first()?.passage;
                    Some(SampleCompletion {
                        policy: it.policy.clone(),
                        text: passage.text.clone().unwrap_or_default(),
                        reward: drawn.reward,
                        kl: (it.step > 0).then_some(drawn.log_ratio),
                    })
                })
                .collect(),
        })
        .collect()
}

fn provenance(run: &Run) -> Vec<(String, String)> {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    vec![
        pair("exalign", env!("CARGO_PKG_VERSION").to_owned()),
        pair("burn", "0.22.1".to_owned()),
        pair("device", run.context.device_name.clone()),
        pair("seed", run.config.seed().to_string()),
        pair("command", std::env::args().collect::<Vec<_>>().join(" ")),
        pair(
            "method",
            "Ji et al. 2024, Towards Efficient Exact Optimization of Language Model Alignment; Rafailov et al. 2023 \
             (DPO)"
                .to_owned(),
        ),
    ]
}
