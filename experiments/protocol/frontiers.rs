//! Reward against KL: of every variant along its training, of Best-of-N, of the exact optimum.

use std::collections::BTreeMap;

use exalign::Result;
use exalign::config::AlignSettings;
use exalign::evaluation::{
    FEW_SAMPLES, OptimumPoint, best_of_n, betas, frontier_area, frontier_reach, optimum,
};
use exalign::report::{Area, FrontierPoint, Optimum, Repetition, Series};
use exalign::statistics::{Interval, student};

use super::labels;
use super::measured::{Lineage, Outcome, mean, over_repetitions};
use super::run::{Run, stage_settings};

/// The frontiers of all variants, and that of Best-of-N.
pub fn frontiers(outcome: &Outcome) -> Vec<Series> {
    let common_kl = common_kl(outcome);
    let mut frontiers: Vec<Series> =
        (0..outcome.variants.len()).map(|variant| series(outcome, variant, common_kl)).collect();
    frontiers.extend(best_of_series(outcome));
    frontiers
}

/// Best-of-`n`, whose N stands where others have their step.
pub fn best_of(outcome: &Outcome, n: usize) -> Option<FrontierPoint> {
    let points = outcome.lineages.iter().map(|it| best_of_n(&it.candidates, n, it.seed));
    let (rewards, kls): (Vec<_>, Vec<_>) = points.map(|it| (it.reward, it.kl)).unzip();
    let (reward, kl) = (over_repetitions(&rewards)?, over_repetitions(&kls)?);
    Some(FrontierPoint { step: n, reward, kl })
}

/// The N that the samples allow: an estimate wants several times N of them.
pub fn usable_n(outcome: &Outcome) -> Vec<usize> {
    let candidates = outcome.lineages.iter().flat_map(|it| &it.candidates);
    let samples = candidates.map(Vec::len).min().unwrap_or(0);
    let mut usable: Vec<usize> = outcome.comparison.best_of.clone();
    usable.retain(|&n| n > 0 && n <= samples / 4);
    usable.sort_unstable();
    usable
}

/// The KL that all variants of all repetitions reach.
fn common_kl(outcome: &Outcome) -> f64 {
    let reaches = outcome.lineages.iter().flat_map(|it| {
        let reference = &it.reference.evaluated.drawn;
        (0..it.variants.len()).map(|variant| frontier_reach(&it.frontier(variant), reference))
    });
    reaches.reduce(f64::min).unwrap_or(0.0)
}

/// The area under a variant's frontier up to `kl`; none where not all leave the reference.
fn area(outcome: &Outcome, variant: usize, kl: f64) -> Option<Area> {
    let of_lineage = |it: &Lineage| {
        frontier_area(&it.frontier(variant), &it.reference.evaluated.drawn, kl, it.seed)
    };
    let areas: Vec<Interval> = outcome.lineages.iter().map(of_lineage).collect();
    over_repetitions(&areas).filter(|_| kl > 0.0).map(|area| Area { up_to_kl: kl, area })
}

fn series(outcome: &Outcome, variant: usize, common_kl: f64) -> Series {
    // Repetitions take the same steps; a step counts where all have it.
    let mut steps: BTreeMap<usize, Vec<(Interval, Interval)>> = BTreeMap::new();
    for it in outcome.lineages.iter().flat_map(|it| &it.variants[variant]) {
        let evaluation = &it.evaluated.evaluation;
        steps.entry(it.step).or_default().push((evaluation.reward, evaluation.best_kl()));
    }
    let points: Vec<FrontierPoint> = steps
        .into_iter()
        .filter(|(_, points)| points.len() == outcome.lineages.len())
        .filter_map(|(step, points)| {
            let (rewards, kls): (Vec<_>, Vec<_>) = points.into_iter().unzip();
            Some(FrontierPoint {
                step,
                reward: over_repetitions(&rewards)?,
                kl: over_repetitions(&kls)?,
            })
        })
        .collect();
    let repetitions = repetitions(outcome, variant, &points);
    let area = area(outcome, variant, common_kl);
    Series { objective: outcome.variants[variant].folder(), points, repetitions, area }
}

/// Each repetition's own way along `points`, where there are several.
fn repetitions(outcome: &Outcome, variant: usize, points: &[FrontierPoint]) -> Vec<Repetition> {
    let way = |it: &Lineage| {
        let steps = points.iter().filter_map(|point| {
            let found = it.variants[variant].iter().find(|it| it.step == point.step)?;
            let evaluation = &found.evaluated.evaluation;
            Some((evaluation.best_kl().mean, evaluation.reward.mean))
        });
        Repetition { seed: it.seed, points: steps.collect() }
    };
    match outcome.lineages.as_slice() {
        [] | [_] => Vec::new(),
        several => several.iter().map(way).collect(),
    }
}

/// Best-of-N as a frontier over N.
fn best_of_series(outcome: &Outcome) -> Option<Series> {
    let points: Vec<FrontierPoint> =
        usable_n(outcome).into_iter().filter_map(|n| best_of(outcome, n)).collect();
    (!points.is_empty()).then(|| Series {
        objective: labels::BEST_OF_N.to_owned(),
        points,
        ..Series::default()
    })
}

/// The exact optimum at the first variant's β and along all β.
pub fn optimum_of(run: &Run, outcome: &Outcome) -> Result<Optimum> {
    let AlignSettings { objective, .. } = stage_settings(&run.config, "align")?;
    let beta = outcome
        .variants
        .first()
        .map_or(objective.beta_policy * objective.beta_reward, |variant| variant.beta());
    // Up to where the estimate rests on few samples.
    let curve: Vec<OptimumPoint> = betas()
        .map(|beta| optimum_at(outcome, beta))
        .take_while(|it| it.effective_sample_size >= FEW_SAMPLES)
        .collect();
    Ok(Optimum { point: optimum_at(outcome, beta), curve })
}

/// The exact optimum at a β, over all repetitions.
fn optimum_at(outcome: &Outcome, beta: f64) -> OptimumPoint {
    let points: Vec<OptimumPoint> =
        outcome.lineages.iter().map(|it| optimum(&it.candidates, beta, it.seed)).collect();
    let all = |value: fn(&OptimumPoint) -> f64| points.iter().map(value).collect::<Vec<_>>();
    match points.as_slice() {
        [only] => only.clone(),
        several => OptimumPoint {
            beta,
            reward: student(&all(|it| it.reward.mean)),
            kl: student(&all(|it| it.kl.mean)),
            effective_sample_size: mean(&all(|it| it.effective_sample_size)),
            samples_per_prompt: several.iter().map(|it| it.samples_per_prompt).min().unwrap_or(0),
        },
    }
}
