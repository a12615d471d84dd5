//! Measures of a policy: reward, KL and win rates, each with its uncertainty; and the agreement of judges.

mod agreement;
mod best_of_n;
mod frontier;
mod optimum;
mod power;
mod verdict;
mod win_rate;

pub use agreement::{Agreement, AnnotatorPair, Annotators};
pub use best_of_n::{BestOfN, best_of_n};
pub use frontier::{FrontierGain, Samples, frontier_area, frontier_gain, frontier_reach};
pub use optimum::{FEW_SAMPLES, OptimumPoint, betas, optimum, share_of_gain};
pub use power::{Pilot, Sizes, VarianceComponents};
pub use verdict::{BothOrders, Verdict, majority, position_bias};
pub use win_rate::{WinRate, prompts_to_tell_apart};

use serde::{Deserialize, Serialize};

use crate::statistics::{Interval, bootstrap, mean};

/// One completion drawn from a policy.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drawn {
    /// Its reward.
    pub reward: f64,
    /// log π(y | x) − log π_ref(y | x), in nats.
    pub log_ratio: f64,
    /// Σ over its tokens of KL(π ‖ π_ref) of the next token, over the whole vocabulary, in nats: what the log-ratio is
    /// on average, were each token drawn anew. None where the two have different vocabularies, and in outputs of
    /// earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_kl: Option<f64>,
}

impl Drawn {
    /// The unbiased estimate of KL(π ‖ π_ref) from this completion that varies least.
    pub fn kl(&self) -> f64 {
        self.token_kl.unwrap_or(self.log_ratio)
    }
}

/// Reward and KL of a policy over held-out prompts.
///
/// Intervals are 95 % bootstrap intervals over prompts: the samples of a prompt are no independent
/// evidence about other prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Mean reward.
    pub reward: Interval,
    /// KL(π ‖ π_ref) by the plain mean of the log-ratio: unbiased.
    pub kl: Interval,
    /// KL(π ‖ π_ref) by the mean of `exp(−l) − 1 + l`, l the log-ratio: unbiased as well, never negative, of
    /// lower variance near the reference (Schulman's k3).
    pub kl_low_variance: Interval,
    /// KL(π ‖ π_ref) by the sum over the tokens of each completion of the exact KL of the next token
    /// (Rao–Blackwellised): unbiased, in practice of the lowest variance of the three. None where it was not taken of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl_rao_blackwell: Option<Interval>,
    /// Prompts.
    pub num_prompts: usize,
    /// Samples, over all prompts.
    pub num_samples: usize,
}

impl Evaluation {
    /// From the samples of each prompt.
    pub fn new(samples: &[Vec<Drawn>], seed: u64) -> Self {
        let per_prompt = |value: fn(&Drawn) -> f64| -> Vec<f64> {
            samples.iter().map(|drawn| mean(drawn.iter().map(value))).collect()
        };
        let by_token = samples.iter().flatten().all(|it| it.token_kl.is_some());
        Self {
            reward: bootstrap(&per_prompt(|it| it.reward), seed),
            kl: bootstrap(&per_prompt(|it| it.log_ratio), seed),
            kl_low_variance: bootstrap(
                &per_prompt(|it| (-it.log_ratio).exp() - 1.0 + it.log_ratio),
                seed,
            ),
            kl_rao_blackwell: by_token.then(|| bootstrap(&per_prompt(Drawn::kl), seed)),
            num_prompts: samples.len(),
            num_samples: samples.iter().map(Vec::len).sum(),
        }
    }

    /// The estimate of the KL that varies least.
    pub fn best_kl(&self) -> Interval {
        self.kl_rao_blackwell.unwrap_or(self.kl)
    }
}

/// The gain in reward of `ours` over `theirs`, paired by prompt.
///
/// # Panics
/// If the two do not hold the same number of prompts.
pub fn paired_gain(ours: &[Vec<Drawn>], theirs: &[Vec<Drawn>], seed: u64) -> Interval {
    paired_difference(ours, theirs, |it| it.reward, seed)
}

/// By how much the KL of `ours` is larger than that of `theirs`, paired by prompt.
///
/// # Panics
/// As [`paired_gain`].
pub fn paired_drift(ours: &[Vec<Drawn>], theirs: &[Vec<Drawn>], seed: u64) -> Interval {
    paired_difference(ours, theirs, Drawn::kl, seed)
}

fn paired_difference(
    ours: &[Vec<Drawn>],
    theirs: &[Vec<Drawn>],
    of: impl Fn(&Drawn) -> f64,
    seed: u64,
) -> Interval {
    assert_eq!(ours.len(), theirs.len(), "paired by prompt");
    let of_prompt = |drawn: &[Drawn]| mean(drawn.iter().map(&of));
    let differences: Vec<f64> =
        ours.iter().zip(theirs).map(|(a, b)| of_prompt(a) - of_prompt(b)).collect();
    bootstrap(&differences, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_means_over_prompts_of_means_over_their_samples() {
        let drawn = |reward, log_ratio| Drawn { reward, log_ratio, token_kl: None };
        let evaluation =
            Evaluation::new(&[vec![drawn(1.0, 0.5), drawn(3.0, -0.5)], vec![drawn(5.0, 1.0)]], 0);
        // Of two prompts a fourth of all resamples holds the one alone, a fourth the other.
        let both = |low: f64, high: f64| Interval { mean: f64::midpoint(low, high), low, high };
        assert_eq!(evaluation.reward, both(2.0, 5.0));
        assert_eq!(evaluation.kl, both(0.0, 1.0));
        // ½ (e^−½ − ½ + e^½ − 3/2) = cosh ½ − 1, and e^−1.
        let found = evaluation.kl_low_variance;
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 1e-12, "{found}");
        near(found.low, 0.127_625_965_206_380_8);
        near(found.high, 0.367_879_441_171_442_3);
        near(found.mean, 0.247_752_703_188_911_55);
        assert_eq!((evaluation.num_prompts, evaluation.num_samples), (2, 3));
    }

    #[test]
    fn a_gain_is_ours_less_theirs_prompt_by_prompt() {
        let of = |rewards: [f64; 2]| -> Vec<Vec<Drawn>> {
            rewards.map(|reward| vec![Drawn { reward, log_ratio: 0.0, token_kl: None }; 3]).to_vec()
        };
        // Prompts differ by ten, ours is better by two on each: the pairs have no spread.
        let gain = paired_gain(&of([3.0, 13.0]), &of([1.0, 11.0]), 0);
        assert_eq!(gain, Interval { mean: 2.0, low: 2.0, high: 2.0 });
        assert_eq!(paired_gain(&of([1.0, 11.0]), &of([3.0, 13.0]), 0).mean, -2.0);
        let drifted = |kl| vec![vec![Drawn { reward: 0.0, log_ratio: 9.0, token_kl: Some(kl) }]; 2];
        assert_eq!(paired_drift(&drifted(1.5), &drifted(1.0), 0).mean, 0.5);
    }

    #[test]
    fn samples_that_agree_within_a_prompt_narrow_no_interval() {
        let of = |count: usize| {
            let prompt = |it: usize| {
                let value = (it as f64).sin();
                vec![Drawn { reward: value, log_ratio: value.abs(), token_kl: None }; count]
            };
            Evaluation::new(&(0..12).map(prompt).collect::<Vec<_>>(), 0)
        };
        let (one, many) = (of(1), of(50));
        let width = |it: Interval| it.high - it.low;
        assert!(width(one.reward) > 0.2 && width(one.kl) > 0.1);
        for (one, many) in [(one.reward, many.reward), (one.kl, many.kl)] {
            assert!((width(one) - width(many)).abs() < 1e-9, "{one:?} {many:?}");
        }
    }

    #[test]
    fn both_estimates_of_the_kl_agree_with_the_exact_one() {
        // π = (.9, .1), π_ref = (.5, .5), each outcome in the share π gives it.
        let (often, seldom) = ((0.9f64 / 0.5).ln(), (0.1f64 / 0.5).ln());
        let prompt = |_| {
            let drawn = |log_ratio| Drawn { reward: 0.0, log_ratio, token_kl: None };
            let mut all = vec![drawn(often); 9];
            all.push(drawn(seldom));
            all
        };
        let evaluation = Evaluation::new(&(0..4).map(prompt).collect::<Vec<_>>(), 0);
        let exact = 0.9 * often + 0.1 * seldom;
        assert!((evaluation.kl.mean - exact).abs() < 1e-12);
        assert!((evaluation.kl_low_variance.mean - exact).abs() < 1e-12);
    }
}
