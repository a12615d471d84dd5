//! Frontiers compared: which policy earns more at the *same* KL.
//!
//! A frontier is the reward as a function of the KL, linear between checkpoints and beginning at the
//! reference (KL 0). Two frontiers are compared where both reach: on [0, k], with k the smaller of their
//! largest KLs. Intervals resample prompts, the same prompts for both frontiers, so that the variation that
//! the two share cancels.

use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::Drawn;
use crate::statistics::{Interval, mean};

/// A checkpoint's samples, prompt by prompt.
pub type Samples = Vec<Vec<Drawn>>;

/// The gain in reward of one frontier over another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrontierGain {
    /// The largest KL that both reach, in nats.
    pub common_kl: f64,
    /// Difference in reward there.
    pub at_common_kl: Interval,
    /// Mean difference over all KLs up to there: the difference of the areas under the two,
    /// divided by `common_kl`.
    pub mean_gain: Interval,
}

const RESAMPLES: usize = 1000;

/// The gain in reward of the frontier `ours` over `theirs`, both starting at `reference`; none if one of them
/// never leaves the reference.
///
/// # Panics
/// If not all hold the same number of prompts.
pub fn frontier_gain(
    ours: &[&Samples],
    theirs: &[&Samples],
    reference: &Samples,
    seed: u64,
) -> Option<FrontierGain> {
    let frontiers = Frontiers::new(ours, theirs, reference)?;
    let common_kl = frontiers.common_kl;
    let compare = |prompts: &[usize]| {
        let (ours, theirs) = (frontiers.ours.curve(prompts), frontiers.theirs.curve(prompts));
        (frontiers.at_end(&ours, &theirs), frontiers.mean_gain(&ours, &theirs))
    };
    let everyone: Vec<usize> = (0..reference.len()).collect();
    let (at_end, area) = compare(&everyone);
    let (ends, areas): (Vec<f64>, Vec<f64>) =
        resamples(reference.len(), seed).map(|prompts| compare(&prompts)).unzip();
    Some(FrontierGain {
        common_kl,
        at_common_kl: Interval::of_resamples(at_end, ends),
        mean_gain: Interval::of_resamples(area, areas),
    })
}

/// The largest KL of a frontier, in nats.
///
/// # Panics
/// As [`frontier_gain`].
pub fn frontier_reach(frontier: &[&Samples], reference: &Samples) -> f64 {
    Frontier::new(frontier, reference).reach()
}

/// Area between a frontier and the reward of the reference it starts at, over KLs from 0 to `kl`, in
/// reward × nats. Beyond the frontier's largest KL its reward there goes on.
///
/// # Panics
/// As [`frontier_gain`].
pub fn frontier_area(frontier: &[&Samples], reference: &Samples, kl: f64, seed: u64) -> Interval {
    let frontier = Frontier::new(frontier, reference);
    let area = |prompts: &[usize]| {
        let curve = frontier.curve(prompts);
        area_under(&curve, kl) - kl * curve[0].1
    };
    let everyone: Vec<usize> = (0..reference.len()).collect();
    let resampled = resamples(reference.len(), seed).map(|prompts| area(&prompts)).collect();
    Interval::of_resamples(area(&everyone), resampled)
}

/// Two frontiers, compared up to the smaller of their largest KLs.
pub(super) struct Frontiers {
    ours: Frontier,
    theirs: Frontier,
    common_kl: f64,
}

impl Frontiers {
    /// None if one of them never leaves the reference.
    pub(super) fn new(ours: &[&Samples], theirs: &[&Samples], reference: &Samples) -> Option<Self> {
        let (ours, theirs) = (Frontier::new(ours, reference), Frontier::new(theirs, reference));
        let common_kl = ours.reach().min(theirs.reach());
        (common_kl > 0.0).then_some(Self { ours, theirs, common_kl })
    }

    /// Difference in reward at the common KL of two curves of (KL, reward).
    fn at_end(&self, ours: &[(f64, f64)], theirs: &[(f64, f64)]) -> f64 {
        reward_at(ours, self.common_kl) - reward_at(theirs, self.common_kl)
    }

    /// Mean difference in reward over KLs up to the common one.
    fn mean_gain(&self, ours: &[(f64, f64)], theirs: &[(f64, f64)]) -> f64 {
        (area_under(ours, self.common_kl) - area_under(theirs, self.common_kl)) / self.common_kl
    }

    /// The mean gain over all prompts, and its derivatives by the mean reward and KL of the reference, then of each of
    /// our checkpoints, then of each of theirs.
    pub(super) fn gain_and_slopes(&self) -> (f64, Vec<[f64; 2]>) {
        let everyone: Vec<usize> = (0..self.ours.0[0].len()).collect();
        let checkpoints = self.ours.0.iter().chain(&self.theirs.0[1..]);
        let points: Vec<(f64, f64)> = checkpoints.map(|means| point(means, &everyone)).collect();
        let gain = |points: &[(f64, f64)]| {
            let (ours, theirs) = points.split_at(self.ours.0.len());
            let theirs = [&points[..1], theirs].concat();
            self.mean_gain(&in_order(ours.to_vec()), &in_order(theirs))
        };
        // Piecewise smooth, of numbers near 1: a step of 1e-5 leaves an error of about 1e-10.
        const STEP: f64 = 1e-5;
        let slope = |change: &dyn Fn(f64) -> Vec<(f64, f64)>| {
            (gain(&change(STEP)) - gain(&change(-STEP))) / (2.0 * STEP)
        };
        let changed = |number: usize, kl: f64, reward: f64| {
            let mut points = points.clone();
            points[number].0 += kl;
            points[number].1 += reward;
            points
        };
        let slopes = (0..points.len()).map(|number| {
            let by_reward = slope(&|step| changed(number, 0.0, step));
            // The reference's KL is no estimate.
            let by_kl = if number == 0 { 0.0 } else { slope(&|step| changed(number, step, 0.0)) };
            [by_reward, by_kl]
        });
        (gain(&points), slopes.collect())
    }
}

/// Mean reward and KL of each prompt at one checkpoint.
type PromptMeans = Vec<(f64, f64)>;

/// The reference and the checkpoints of one training.
struct Frontier(Vec<PromptMeans>);

impl Frontier {
    fn new(checkpoints: &[&Samples], reference: &Samples) -> Self {
        let base = reference.iter().map(|drawn| (prompt_mean(drawn).0, 0.0)).collect();
        let means = |samples: &&Samples| -> PromptMeans {
            assert_eq!(samples.len(), reference.len(), "paired by prompt");
            samples.iter().map(|drawn| prompt_mean(drawn)).collect()
        };
        Self(std::iter::once(base).chain(checkpoints.iter().map(means)).collect())
    }

    /// (KL, reward) of the checkpoints over the given prompts, in the order of their KL; the first is
    /// the reference.
    fn curve(&self, prompts: &[usize]) -> Vec<(f64, f64)> {
        in_order(self.0.iter().map(|means| point(means, prompts)).collect())
    }

    /// The largest KL; 0 without prompts.
    fn reach(&self) -> f64 {
        let everyone: Vec<usize> = (0..self.0[0].len()).collect();
        if everyone.is_empty() {
            return 0.0;
        }
        self.curve(&everyone).last().map_or(0.0, |last| last.0)
    }
}

/// (KL, reward) of a checkpoint over the given prompts.
fn point(means: &PromptMeans, prompts: &[usize]) -> (f64, f64) {
    let reward = mean(prompts.iter().map(|&it| means[it].0));
    // A KL is not negative; an estimate of one near 0 may be.
    (mean(prompts.iter().map(|&it| means[it].1)).max(0.0), reward)
}

/// The reference's point, then the others by their KL.
fn in_order(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    points[1..].sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

fn prompt_mean(drawn: &[Drawn]) -> (f64, f64) {
    (mean(drawn.iter().map(|it| it.reward)), mean(drawn.iter().map(Drawn::kl)))
}

/// Area between a curve and a reward of 0, over KLs from 0 to `kl`; beyond the last point its reward
/// goes on.
fn area_under(curve: &[(f64, f64)], kl: f64) -> f64 {
    let pieces = curve.windows(2).filter(|pair| pair[0].0 < pair[1].0.min(kl)).map(|pair| {
        let (a, b) = (pair[0], pair[1]);
        let width = b.0.min(kl) - a.0;
        let end = a.1 + width / (b.0 - a.0) * (b.1 - a.1);
        width * (a.1 + end) / 2.0
    });
    let inner: f64 = pieces.sum();
    curve.last().map_or(0.0, |last| inner + (kl - last.0).max(0.0) * last.1)
}

/// Prompts drawn anew with replacement, as often as an interval needs.
fn resamples(prompts: usize, seed: u64) -> impl Iterator<Item = Vec<usize>> {
    let mut random = rand_chacha::ChaCha12Rng::seed_from_u64(seed);
    (0..RESAMPLES).map(move |_| (0..prompts).map(|_| random.random_range(0..prompts)).collect())
}

/// The reward at a KL, between the points; at the ends that of the end.
fn reward_at(curve: &[(f64, f64)], kl: f64) -> f64 {
    let after = curve.partition_point(|point| point.0 < kl);
    match (after.checked_sub(1).map(|it| curve[it]), curve.get(after)) {
        (Some(a), Some(&b)) if b.0 > a.0 => a.1 + (kl - a.0) / (b.0 - a.0) * (b.1 - a.1),
        (_, Some(b)) => b.1,
        (Some(a), None) => a.1,
        (None, None) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prompts whose rewards differ by prompt, and a policy that adds `gain` at `kl`.
    fn samples(gain: f64, kl: f64) -> Samples {
        (0..40)
            .map(|prompt| {
                vec![
                    Drawn { reward: f64::from(prompt % 7) + gain, log_ratio: kl, token_kl: None };
                    2
                ]
            })
            .collect()
    }

    #[test]
    fn frontiers_are_compared_at_the_same_kl_and_prompts_cancel() {
        let reference = samples(0.0, 0.0);
        // Ours earns 2 a nat, theirs 1 a nat but goes further.
        let ours = [samples(1.0, 0.5), samples(2.0, 1.0)];
        let theirs = [samples(1.0, 1.0), samples(3.0, 3.0)];
        let (ours, theirs): (Vec<_>, Vec<_>) = (ours.iter().collect(), theirs.iter().collect());
        let gain = frontier_gain(&ours, &theirs, &reference, 0).unwrap();
        assert_eq!(gain.common_kl, 1.0);
        assert!((gain.at_common_kl.mean - 1.0).abs() < 1e-12);
        // A triangle of height 1: its mean is ½. Every prompt gains alike, so the interval is a point.
        assert!((gain.mean_gain.mean - 0.5).abs() < 1e-12);
        assert!(gain.mean_gain.high - gain.mean_gain.low < 1e-12);
        let reverse = frontier_gain(&theirs, &ours, &reference, 0).unwrap();
        assert!((reverse.mean_gain.mean + 0.5).abs() < 1e-12);
        // Two triangles, and no spread between prompts.
        for (frontier, kl, expected) in
            [(&ours, 1.0, 1.0), (&theirs, 1.0, 0.5), (&theirs, 3.0, 4.5)]
        {
            let area = frontier_area(frontier, &reference, kl, 0);
            assert!((area.mean - expected).abs() < 1e-12, "{area}");
            assert!(area.high - area.low < 1e-12);
        }
        assert_eq!(frontier_reach(&theirs, &reference), 3.0);
    }

    #[test]
    fn a_policy_that_never_leaves_the_reference_cannot_be_compared() {
        let reference = samples(0.0, 0.0);
        let moved = samples(1.0, 1.0);
        assert_eq!(frontier_gain(&[&reference], &[&moved], &reference, 0), None);
    }

    #[test]
    fn the_interval_has_the_width_the_normal_theory_gives() {
        // One checkpoint each at KL 1; the gain of a prompt is 0 or 2, half of them each.
        let reference = samples(0.0, 0.0);
        let mut ours = samples(0.0, 1.0);
        for (prompt, drawn) in ours.iter_mut().enumerate().filter(|(prompt, _)| prompt % 2 == 0) {
            drawn.iter_mut().for_each(|it| it.reward = f64::from(prompt as u32 % 7) + 2.0);
        }
        let gain = frontier_gain(&[&ours], &[&samples(0.0, 1.0)], &reference, 1).unwrap();
        let expected = 2.0 * 1.96 / 40f64.sqrt();
        let width = gain.at_common_kl.high - gain.at_common_kl.low;
        assert!((width / expected - 1.0).abs() < 0.15, "{width} and {expected}");
        assert!((gain.at_common_kl.mean - 1.0).abs() < 1e-12);
    }
}
