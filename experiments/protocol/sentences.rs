//! Sentences that state the results of a run with their intervals, and the limits of those results.

use exalign::alignment::{Divergence, Takes};
use exalign::evaluation::{
    Drawn, FEW_SAMPLES, FrontierGain, Pilot, VarianceComponents, frontier_gain, paired_drift,
    paired_gain,
};
use exalign::report::{
    Comparison, EqualSteps, ObjectiveLabel, PolicyKind, Report, ResultRow, RewardModelRow, Trained,
};
use exalign::statistics::{Interval, student};

use super::measured::{Lineage, Outcome, over_repetitions};
use super::variants::Variant;

/// What was found, in a few words.
pub fn title(report: &Report) -> String {
    let gain = |row: &ResultRow| row.reward_gain.map_or(f64::NEG_INFINITY, |gain| gain.mean);
    let unit = match report.reward_unit.as_str() {
        "" => "reward",
        unit => unit,
    };
    match report.results.iter().max_by(|a, b| gain(a).total_cmp(&gain(b))) {
        Some(best) if has_raised(best) => {
            format!("{} earns {:.2} {unit} more than SFT", report.label(&best.policy), gain(best))
        }
        _ => "No objective earns more than SFT beyond the interval".to_owned(),
    }
}

/// Whether an objective has raised the reward over SFT beyond the interval.
fn has_raised(row: &ResultRow) -> bool {
    row.reward_gain.is_some_and(|gain| gain.low > 0.0)
}

/// Every EXO, the reverse KL, against the DPO, the forward KL, that differs in nothing else, at the same
/// KL to the reference; then every objective on its own samples against the same one on samples of π_sft.
pub fn comparisons(outcome: &Outcome) -> Vec<Comparison> {
    let is_exo = |it: &Variant| it.objective.name.divergence == Divergence::Reverse;
    let of_objectives =
        |ours: &Variant, theirs: &Variant| is_exo(ours) && ours.is_counterpart(theirs);
    let mut comparisons = compared(outcome, of_objectives);
    comparisons.extend(compared(outcome, Variant::is_drawn_anew));
    comparisons
}

/// The comparisons of all variants that are `comparable`.
fn compared(outcome: &Outcome, comparable: impl Fn(&Variant, &Variant) -> bool) -> Vec<Comparison> {
    let variants = || outcome.variants.iter().enumerate();
    let pairs = variants().flat_map(|ours| variants().map(move |theirs| (ours, theirs)));
    let comparison = |((ours, one), (theirs, other)): ((usize, &Variant), (usize, &Variant))| {
        let pilots = outcome.lineages.iter().map(|it| pilot(it, ours, theirs));
        let pilots: Vec<Pilot<'_>> = pilots.collect();
        let gain = |(it, lineage): (&Pilot<'_>, &Lineage)| {
            let seed = lineage.seed;
            Some((seed, frontier_gain(&it.ours, &it.theirs, it.reference, seed)?))
        };
        let both = pilots.iter().zip(&outcome.lineages);
        let gains: Vec<(u64, FrontierGain)> = both.filter_map(gain).collect();
        let comparison = pooled(one.folder(), other.folder(), &gains)?;
        let at_equal_steps = equal_steps(outcome, ours, theirs);
        Some(Comparison {
            at_equal_steps,
            variance_components: VarianceComponents::of(&pilots),
            ..comparison
        })
    };
    pairs
        .filter(|((_, ours), (_, theirs))| comparable(ours, theirs))
        .filter_map(comparison)
        .collect()
}

/// Two variants after the last step that both have in all repetitions.
fn equal_steps(outcome: &Outcome, ours: usize, theirs: usize) -> Option<EqualSteps> {
    let has = |it: &Lineage, variant: usize, step: usize| it.at(variant, step).is_some();
    let first = outcome.lineages.first()?;
    let step = first.variants[ours].iter().map(|it| it.step).rev().find(|&step| {
        outcome.lineages.iter().all(|it| has(it, ours, step) && has(it, theirs, step))
    })?;
    type Difference = fn(&[Vec<Drawn>], &[Vec<Drawn>], u64) -> Interval;
    let over = |difference: Difference| -> Option<Interval> {
        let of = |it: &Lineage| {
            let [ours, theirs] = [ours, theirs].map(|variant| it.at(variant, step));
            Some(difference(&ours?.evaluated.drawn, &theirs?.evaluated.drawn, it.seed))
        };
        over_repetitions(&outcome.lineages.iter().filter_map(of).collect::<Vec<_>>())
    };
    Some(EqualSteps { step, reward: over(paired_gain)?, kl: over(paired_drift)? })
}

/// The frontiers of two variants of a repetition.
fn pilot(lineage: &Lineage, ours: usize, theirs: usize) -> Pilot<'_> {
    Pilot {
        ours: lineage.frontier(ours),
        theirs: lineage.frontier(theirs),
        reference: &lineage.reference.evaluated.drawn,
    }
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
        at_equal_steps: None,
        variance_components: None,
    })
}

/// The findings, the most important one first: what was found of objectives with rewards before what
/// was found of those on pairs.
pub fn summary(report: &Report, repetitions: usize) -> Vec<String> {
    let Report { results, comparisons, .. } = report;
    let on_rewards =
        |it: &&Comparison| objective(report, &it.ours).is_some_and(|it| it.takes == Takes::Rewards);
    let (first, then): (Vec<_>, Vec<_>) = comparisons.iter().partition(on_rewards);
    let mut sentences: Vec<String> =
        first.into_iter().chain(then).map(|it| comparison(it, report, repetitions)).collect();
    let trained: Vec<&ResultRow> = results.iter().filter(|it| it.reward_gain.is_some()).collect();
    let raised = trained.iter().filter(|it| has_raised(it)).count();
    sentences.push(format!(
        "{} of {} objectives raise the reward over SFT beyond their 95 % interval.",
        raised,
        trained.len()
    ));
    sentences.extend(report.reward_model.map(|it| {
        let RewardModelRow { accuracy, records } = it;
        format!(
            "The reward model is right about {:.0} % [{:.0}, {:.0}] of {records} held-out records.",
            100.0 * accuracy.mean,
            100.0 * accuracy.low,
            100.0 * accuracy.high,
        )
    }));
    let Some(optimum) = &report.optimum else { return sentences };
    sentences.extend(shares_of_optimum(report));
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

/// The objective that trained a policy.
fn objective<'a>(report: &'a Report, policy: &str) -> Option<&'a ObjectiveLabel> {
    match &report.policy(policy)?.kind {
        PolicyKind::Trained(Trained { objective, .. }) => Some(objective),
        _ => None,
    }
}

/// Whether two policies differ in who drew the samples.
fn is_drawn_anew(it: &Comparison, report: &Report) -> bool {
    let online = |policy: &str| match &report.policy(policy)?.kind {
        PolicyKind::Trained(trained) => Some(trained.online),
        _ => None,
    };
    online(&it.ours) == Some(true) && online(&it.theirs) == Some(false)
}

fn comparison(it: &Comparison, report: &Report, repetitions: usize) -> String {
    let verdict = match it.mean_gain {
        Interval { low, .. } if low > 0.0 => "earns more than",
        Interval { high, .. } if high < 0.0 => "earns less than",
        _ => "cannot be told apart from",
    };
    let basis = match repetitions {
        1 => "one seed, interval over prompts".to_owned(),
        many => format!("{many} seeds, Student's interval"),
    };
    let subject = if is_drawn_anew(it, report) { "Drawing anew: at" } else { "At" };
    format!(
        "{subject} the same KL {} {verdict} {}: a difference of {} in reward, averaged over KLs up to {:.2} nats \
         ({basis}).",
        report.label(&it.ours),
        report.label(&it.theirs),
        it.mean_gain,
        it.common_kl,
    )
}

/// How much of what can be gained at their KL the objectives that gained anything have gained.
fn shares_of_optimum(report: &Report) -> Vec<String> {
    let share = |row: &ResultRow| {
        let Interval { mean, low, high } = row.share_of_optimum?;
        Some(format!(
            "{} ends with {:.0} % [{:.0}, {:.0}] of the gain that the exact optimum makes at its KL.",
            report.label(&row.policy),
            100.0 * mean,
            100.0 * low,
            100.0 * high,
        ))
    };
    report.results.iter().filter(|row| has_raised(row)).filter_map(share).collect()
}

#[cfg(test)]
mod tests {
    use exalign::alignment::objectives;

    use super::*;
    use crate::protocol::labels;

    fn report(results: Vec<ResultRow>, unit: &str) -> Report {
        let mut policies = vec![labels::reference()];
        policies.extend(objectives().iter().map(|objective| labels::named(objective.name)));
        Report { policies, results, reward_unit: unit.to_owned(), ..Report::default() }
    }

    fn exactly(mean: f64) -> Interval {
        Interval { mean, low: mean, high: mean }
    }

    fn row(policy: &str, reward: f64, kl: f64, gain: Interval) -> ResultRow {
        ResultRow {
            policy: policy.to_owned(),
            reward: exactly(reward),
            kl: Some(exactly(kl)),
            kl_low_variance: None,
            kl_rao_blackwell: None,
            reward_gain: Some(gain),
            share_of_optimum: None,
            rule: None,
            num_samples: 100,
            learned_from: None,
            seconds: 1.0,
        }
    }

    #[test]
    fn only_an_objective_that_raised_the_reward_has_a_share_of_the_gain() {
        let sft = ResultRow { reward_gain: None, ..row("sft", 1.0, 0.0, exactly(0.0)) };
        let unsure = Interval { mean: 0.5, low: -0.1, high: 1.1 };
        let share = Some(Interval { mean: 0.75, low: 0.604, high: 0.896 });
        // Where the optimum's curve does not reach nothing can be said.
        let results = vec![
            sft,
            ResultRow { share_of_optimum: share, ..row("exo-rw", 1.75, 0.5, exactly(0.75)) },
            ResultRow { share_of_optimum: share, ..row("dpo", 1.5, 0.5, unsure) },
            row("exo-pref", 3.0, 2.5, exactly(2.0)),
        ];
        let found = report(results, "points");
        assert_eq!(
            shares_of_optimum(&found),
            ["EXO-rw ends with 75 % [60, 90] of the gain that the exact optimum makes at its KL."]
        );
        assert_eq!(title(&found), "EXO-pref earns 2.00 points more than SFT");
        let none = report(vec![row("dpo", 1.5, 0.5, unsure)], "");
        assert_eq!(title(&none), "No objective earns more than SFT beyond the interval");
    }
}
