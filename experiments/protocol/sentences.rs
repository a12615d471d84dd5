//! What can be said of a run, with its intervals, and what cannot.

use exalign::alignment::{Labels, ObjectiveName};
use exalign::evaluation::{FrontierGain, OptimumPoint, frontier_gain};
use exalign::report::{Comparison, Optimum, ResultRow, policy_name};
use exalign::statistics::{Interval, student};

use super::measured::Outcome;

/// With fewer effective samples than this, an estimate of the optimum is not worth showing.
pub const FEW_SAMPLES: f64 = 4.0;

pub fn title(results: &[ResultRow], unit: &str) -> String {
    let gain = |row: &ResultRow| row.reward_gain.map_or(f64::NEG_INFINITY, |gain| gain.mean);
    let unit = if unit.is_empty() { "reward" } else { unit };
    match results.iter().max_by(|a, b| gain(a).total_cmp(&gain(b))) {
        Some(best) if best.reward_gain.is_some_and(|gain| gain.low > 0.0) => {
            format!("{} earns {:.2} {unit} more than SFT", policy_name(&best.policy), gain(best))
        }
        _ => "No objective earns more than SFT beyond the interval".to_owned(),
    }
}

/// Every EXO against the DPO that differs in nothing else, at the same KL.
pub fn comparisons(outcome: &Outcome) -> Vec<Comparison> {
    let variants = || outcome.variants.iter().enumerate();
    let is_exo = |name| matches!(name, ObjectiveName::ExoRw | ObjectiveName::ExoPref);
    let mut comparisons = Vec::new();
    for (ours, exo) in variants().filter(|(_, it)| is_exo(it.objective)) {
        // The official labels are one more form of EXO, and have the same counterpart.
        let counterpart = |it: &super::Variant| {
            let mut paper = exo.clone();
            paper.labels = Labels::Paper;
            paper.is_counterpart(it)
        };
        for (theirs, dpo) in variants().filter(|(_, it)| counterpart(it)) {
            let gains: Vec<(u64, FrontierGain)> = outcome
                .lineages
                .iter()
                .filter_map(|it| {
                    let reference = &it.reference.evaluated.drawn;
                    let gain = frontier_gain(
                        &it.frontier(ours),
                        &it.frontier(theirs),
                        reference,
                        it.seed,
                    )?;
                    Some((it.seed, gain))
                })
                .collect();
            comparisons.extend(pooled(exo.folder(), dpo.folder(), &gains));
        }
    }
    comparisons
}

fn pooled(ours: String, theirs: String, gains: &[(u64, FrontierGain)]) -> Option<Comparison> {
    let over = |value: fn(&FrontierGain) -> Interval| match gains {
        [(_, only)] => value(only),
        _ => student(&gains.iter().map(|(_, it)| value(it).mean).collect::<Vec<_>>()),
    };
    let common_kl = gains.iter().map(|(_, it)| it.common_kl).sum::<f64>() / gains.len() as f64;
    (!gains.is_empty()).then(|| Comparison {
        ours,
        theirs,
        common_kl,
        at_common_kl: over(|it| it.at_common_kl),
        mean_gain: over(|it| it.mean_gain),
        repetitions: gains.iter().map(|(seed, it)| (*seed, it.mean_gain)).collect(),
    })
}

/// The findings, the most important one first.
pub fn summary(
    outcome: &Outcome,
    results: &[ResultRow],
    comparisons: &[Comparison],
    optimum: &Optimum,
) -> Vec<String> {
    let mut sentences: Vec<String> = comparisons
        .iter()
        .filter(|it| it.ours.starts_with("exo-rw"))
        .chain(comparisons.iter().filter(|it| !it.ours.starts_with("exo-rw")))
        .map(|it| comparison(it, outcome.lineages.len()))
        .collect();
    let trained: Vec<&ResultRow> = results.iter().filter(|it| it.reward_gain.is_some()).collect();
    let raised: Vec<&ResultRow> = trained
        .iter()
        .filter(|it| it.reward_gain.is_some_and(|gain| gain.low > 0.0))
        .copied()
        .collect();
    sentences.push(format!(
        "{} of {} objectives raise the reward over SFT beyond their 95 % interval.",
        raised.len(),
        trained.len()
    ));
    if let Some(reference) = results.iter().find(|it| it.policy == "sft") {
        for row in raised {
            let Some(kl) = row.kl else { continue };
            if let Some(best) = reward_at(&optimum.curve, kl.mean)
                && best > reference.reward.mean
            {
                let share =
                    (row.reward.mean - reference.reward.mean) / (best - reference.reward.mean);
                sentences.push(format!(
                    "{} ends with {:.0} % of the gain that the exact optimum makes at its KL.",
                    policy_name(&row.policy),
                    100.0 * share
                ));
            }
        }
    }
    if optimum.point.effective_sample_size < FEW_SAMPLES {
        sentences.push(format!(
            "The exact optimum at β = {} is so far from SFT that its estimate rests on {:.1} of {} samples a \
             prompt: its place on the picture is a lower bound, not a measurement.",
            optimum.point.beta as f32,
            optimum.point.effective_sample_size,
            optimum.point.samples_per_prompt
        ));
    }
    sentences
}

fn comparison(it: &Comparison, repetitions: usize) -> String {
    let verdict = match it.mean_gain {
        Interval { low, .. } if low > 0.0 => "earns more than",
        Interval { high, .. } if high < 0.0 => "earns less than",
        _ => "cannot be told apart from",
    };
    let basis = match repetitions {
        1 => "one seed, interval over prompts".to_owned(),
        many => format!("{many} seeds, Student's interval"),
    };
    format!(
        "At the same KL {} {verdict} {}: {} more reward on average over KLs up to {:.2} nats ({basis}).",
        policy_name(&it.ours),
        policy_name(&it.theirs),
        it.mean_gain,
        it.common_kl,
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
