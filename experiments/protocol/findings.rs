//! The report of a run.

use exalign::Result;
use exalign::evaluation::{Drawn, paired_gain, share_of_gain};
use exalign::report::{
    Distribution, PolicyKind, PolicyLabel, Report, ResultRow, SampleCompletion, SamplePrompt,
};
use exalign::secrets::redact_json;
use exalign::statistics::{Interval, bootstrap};
use exalign::tuning::ROUNDS;

use super::curves::{curves, trainings};
use super::frontiers::{best_of, frontiers, optimum_of, usable_n};
use super::labels;
use super::measured::{Lineage, Measured, Outcome, over_repetitions};
use super::reward_model;
use super::rule::Rule;
use super::run::Run;
use super::sentences::{comparisons, summary, title};
use super::table::table;
use super::variants::Variant;
use super::wins::win_rates;
use crate::output::print_text;
use crate::record::command_line;

/// Writes the report, prints its table and says where it is. What a judge that is gone leaves
/// unasked does not take the rest with it: the report lacks its win rates then, and says so.
pub fn report(run: &Run, outcome: Outcome) -> Result<()> {
    let rule = Rule::new(run)?;
    let judged = win_rates(run, &outcome, &rule);
    let mut report = build(run, &outcome, &rule)?;
    let unjudged = match judged {
        Ok(rows) => {
            report.win_rates = rows;
            None
        }
        Err(error) => {
            report.summary.push(format!(
                "There are no win rates, since the judge failed ({error}); the same command asks what is left."
            ));
            Some(error)
        }
    };
    let out = &run.graph.out;
    report.write(out)?;
    report.write_frontier(&out.join("frontier.svg"))?;
    print_text(&format!("{}\n{}", table(&report), report.summary.join("\n")))?;
    print_text(&format!("\nreport: {}", out.join("report.html").display()))?;
    unjudged.map_or(Ok(()), Err)
}

/// Everything but the win rates.
fn build(run: &Run, outcome: &Outcome, rule: &Rule) -> Result<Report> {
    let seed = run.config.seed();
    let shown = outcome.comparison.shown_prompts;
    let mut report = Report {
        title: String::new(),
        experiment: run.task.name().to_owned(),
        preset: run.preset.name().to_owned(),
        summary: Vec::new(),
        reward_unit: run.task.reward_unit().to_owned(),
        policies: policies(outcome),
        results: results(run, outcome, rule, seed),
        reward_model: reward_model::row(run, outcome),
        frontier: frontiers(outcome),
        comparisons: comparisons(outcome),
        win_rates: Vec::new(),
        optimum: Some(optimum_of(run, outcome)?),
        curves: curves(run, outcome),
        trainings: trainings(run, outcome),
        distributions: distributions(outcome),
        samples: outcome.lineages.first().map_or(Vec::new(), |it| samples(outcome, it, shown)),
        stages: run.graph.costs.clone(),
        configuration: redact_json(run.config.to_json()),
        provenance: provenance(run),
    };
    report.title = title(&report);
    report.summary = summary(&report, outcome.lineages.len());
    Ok(report)
}

/// What the report's parts call by name.
fn policies(outcome: &Outcome) -> Vec<PolicyLabel> {
    let mut policies = vec![labels::reference(), labels::chosen()];
    if let Some(&largest) = usable_n(outcome).last() {
        policies.extend([labels::best_of(largest), labels::best_of_n()]);
    }
    policies.extend(outcome.variants.iter().map(labels::label_of));
    policies
}

/// The reference, the answers people gave, Best-of-N, and each variant at the end of its training.
fn results(run: &Run, outcome: &Outcome, rule: &Rule, seed: u64) -> Vec<ResultRow> {
    let row = |policy: PolicyLabel,
               (stage, learned_from): (&str, Option<usize>),
               of: &dyn Fn(&Lineage) -> Option<&Measured>| {
        let pooled = |value: &dyn Fn(&Measured, &Lineage) -> Option<Interval>| {
            pooled(outcome, &|it| value(of(it)?, it))
        };
        let trained = policy.kind != PolicyKind::Reference;
        let samples = |it| Some(of(it)?.evaluated.evaluation.num_samples);
        Some(ResultRow {
            policy: policy.name,
            reward: pooled(&|it, _| Some(it.evaluated.evaluation.reward))?,
            kl: pooled(&|it, _| Some(it.evaluated.evaluation.kl)),
            kl_low_variance: pooled(&|it, _| Some(it.evaluated.evaluation.kl_low_variance)),
            kl_rao_blackwell: pooled(&|it, _| it.evaluated.evaluation.kl_rao_blackwell),
            reward_gain: pooled(&|it, lineage| Some(gain(it, &lineage.reference, seed)))
                .filter(|_| trained),
            share_of_optimum: shares(outcome, of).filter(|_| trained),
            rule: pooled(&|it, _| Some(bootstrap(&rule.means(&it.evaluated.groups)?, seed))),
            num_samples: outcome.lineages.iter().filter_map(samples).sum(),
            learned_from,
            seconds: seconds(run, stage),
        })
    };
    let reference = row(labels::reference(), ("fine-tuning", None), &|it| Some(&it.reference));
    let variants = outcome.variants.iter().enumerate().filter_map(|(index, variant)| {
        let learned_from = learned_from(run, outcome, variant);
        row(labels::label_of(variant), (&variant.name(), learned_from), &|it| it.last(index))
    });
    let others = [chosen_row(outcome, rule, seed), best_of_row(outcome)];
    reference.into_iter().chain(others.into_iter().flatten()).chain(variants).collect()
}

/// The completions that a variant's training learned from, over all repetitions: what its rounds drew, or what was
/// drawn for all; told only in a run where some draw their own.
fn learned_from(run: &Run, outcome: &Outcome, variant: &Variant) -> Option<usize> {
    if !outcome.variants.iter().any(|variant| variant.online) {
        return None;
    }
    let folder = if variant.online { variant.folder() } else { "sample-drawn".to_owned() };
    let of_lineage = |lineage: &Lineage| {
        let folder = run.graph.out.join(format!("{}{folder}", lineage.place));
        let folder = if variant.online { folder.join(ROUNDS) } else { folder };
        let files = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
        let files = files.filter(|path| path.extension().is_some_and(|it| it == "jsonl"));
        let lines = files.filter_map(|path| std::fs::read_to_string(path).ok());
        Some(lines.map(|text| text.lines().count()).sum::<usize>())
    };
    let groups: usize = outcome.lineages.iter().filter_map(of_lineage).sum();
    Some(groups * variant.completions)
}

/// A value of every repetition, taken together.
fn pooled(outcome: &Outcome, of: &dyn Fn(&Lineage) -> Option<Interval>) -> Option<Interval> {
    over_repetitions(&outcome.lineages.iter().filter_map(of).collect::<Vec<_>>())
}

/// The answers people gave.
fn chosen_row(outcome: &Outcome, rule: &Rule, seed: u64) -> Option<ResultRow> {
    let rewards = |it: &Lineage| -> Option<Vec<f64>> {
        let groups = it.chosen.as_ref()?.iter();
        Some(groups.filter_map(|group| group.rewards.as_ref()?.first().copied()).collect())
    };
    Some(ResultRow {
        policy: labels::chosen().name,
        reward: pooled(outcome, &|it| Some(bootstrap(&rewards(it)?, seed)))?,
        kl: None,
        kl_low_variance: None,
        kl_rao_blackwell: None,
        reward_gain: None,
        share_of_optimum: None,
        rule: pooled(outcome, &|it| Some(bootstrap(&rule.means(it.chosen.as_ref()?)?, seed))),
        num_samples: outcome.lineages.iter().filter_map(|it| Some(rewards(it)?.len())).sum(),
        learned_from: None,
        seconds: 0.0,
    })
}

/// Best-of-N at the largest N.
fn best_of_row(outcome: &Outcome) -> Option<ResultRow> {
    let point = best_of(outcome, *usable_n(outcome).last()?)?;
    Some(ResultRow {
        policy: labels::best_of(point.step).name,
        reward: point.reward,
        kl: Some(point.kl),
        kl_low_variance: None,
        kl_rao_blackwell: None,
        reward_gain: None,
        share_of_optimum: None,
        rule: None,
        num_samples: outcome.lineages.iter().flat_map(|it| &it.candidates).map(Vec::len).sum(),
        learned_from: None,
        seconds: 0.0,
    })
}

/// What `ours` earns over `theirs`, paired by prompt.
fn gain(ours: &Measured, theirs: &Measured, seed: u64) -> Interval {
    let drawn = |it: &Measured| -> Vec<Vec<Drawn>> { it.evaluated.drawn.clone() };
    paired_gain(&drawn(ours), &drawn(theirs), seed)
}

/// The gain as a share of the exact optimum's, where all repetitions have one.
fn shares(outcome: &Outcome, of: &dyn Fn(&Lineage) -> Option<&Measured>) -> Option<Interval> {
    let share = |it: &Lineage| {
        let (drawn, reference) = (&of(it)?.evaluated.drawn, &it.reference.evaluated.drawn);
        share_of_gain(drawn, reference, &it.candidates, it.seed)
    };
    over_repetitions(&outcome.lineages.iter().map(share).collect::<Option<Vec<_>>>()?)
}

/// What the training of a policy took, in all repetitions.
fn seconds(run: &Run, stage: &str) -> f64 {
    let of_stage = |name: &str| name == stage || name.starts_with(&format!("{stage}, seed"));
    run.graph.costs.iter().filter(|cost| of_stage(&cost.name)).map(|cost| cost.seconds).sum()
}

fn distributions(outcome: &Outcome) -> Vec<Distribution> {
    let rewards = |of: &dyn Fn(&Lineage) -> Option<&Measured>| -> Vec<f64> {
        let drawn = outcome.lineages.iter().filter_map(of).flat_map(|it| &it.evaluated.drawn);
        drawn.flatten().map(|it| it.reward).collect()
    };
    let mut all = vec![Distribution {
        policy: labels::REFERENCE.to_owned(),
        rewards: rewards(&|it| Some(&it.reference)),
    }];
    all.extend(outcome.variants.iter().enumerate().map(|(index, variant)| Distribution {
        policy: variant.folder(),
        rewards: rewards(&|it| it.last(index)),
    }));
    all
}

/// The first completion of every policy for the first prompts, beside the answers people gave.
fn samples(outcome: &Outcome, lineage: &Lineage, count: usize) -> Vec<SamplePrompt> {
    let finals: Vec<(String, &Measured)> =
        std::iter::once((labels::REFERENCE.to_owned(), &lineage.reference))
            .chain(
                outcome
                    .variants
                    .iter()
                    .enumerate()
                    .filter_map(|(index, it)| Some((it.folder(), lineage.last(index)?))),
            )
            .collect();
    let num_prompts = finals.iter().map(|(_, it)| it.evaluated.groups.len()).min().unwrap_or(0);
    (0..num_prompts.min(count))
        .map(|prompt| {
            let chosen = lineage.chosen.as_ref().and_then(|groups| {
                let group = groups.get(prompt)?;
                Some(SampleCompletion {
                    policy: labels::CHOSEN.to_owned(),
                    text: group.completions.first()?.passage.text.clone()?,
                    reward: *group.rewards.as_ref()?.first()?,
                    kl: None,
                })
            });
            let drawn = finals.iter().filter_map(|(policy, it)| {
                let drawn = it.evaluated.drawn[prompt].first()?;
                let passage = &it.evaluated.groups[prompt].completions.first()?.passage;
                Some(SampleCompletion {
                    policy: policy.clone(),
                    text: passage.text.clone().unwrap_or_default(),
                    reward: drawn.reward,
                    kl: (it.step > 0).then_some(drawn.log_ratio),
                })
            });
            SamplePrompt {
                prompt: lineage.reference.evaluated.groups[prompt]
                    .prompt
                    .words()
                    .unwrap_or_default(),
                completions: chosen.into_iter().chain(drawn).collect(),
            }
        })
        .collect()
}

fn provenance(run: &Run) -> Vec<(String, String)> {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    vec![
        pair("exalign", env!("CARGO_PKG_VERSION").to_owned()),
        pair("burn", "0.22.1".to_owned()),
        pair("device", run.graph.context.device_name.clone()),
        pair("seed", run.config.seed().to_string()),
        pair("command", command_line().join(" ")),
        pair(
            "method",
            "Ji et al. 2024, Towards Efficient Exact Optimization of Language Model Alignment; Rafailov et al. 2023 \
             (DPO)"
                .to_owned(),
        ),
    ]
}
