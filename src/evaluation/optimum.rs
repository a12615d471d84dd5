//! The exact optimum: π*(y|x) ∝ π_ref(y|x) exp(r(x, y) / β), by self-normalised importance weights over
//! samples of π_ref.
//!
//! With samples y_1 … y_M of a prompt and w_i ∝ exp(r_i / β):
//!
//!   E_π*[r] ≈ Σ w_i r_i      KL(π* ‖ π_ref) ≈ Σ w_i r_i / β − log (1/M) Σ exp(r_i / β)
//!
//! No policy has a higher reward at the same KL than π*. The result is an estimate of π*: it is low on
//! average (reward − β KL is β times the logarithm of a mean), reaches no KL above log M, and is as good as
//! its effective sample size 1 / Σ w_i².

use serde::{Deserialize, Serialize};

use super::Samples;
use crate::statistics::{Interval, bootstrap, mean, resampled};

/// With fewer effective samples than this, an estimate of the optimum is not worth showing.
pub const FEW_SAMPLES: f64 = 4.0;

/// Reward and KL of the optimum at one β.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimumPoint {
    /// The weight of the KL: β_π · β_r of the objectives.
    pub beta: f64,
    /// Mean reward of π*.
    pub reward: Interval,
    /// KL(π* ‖ π_ref), in nats.
    pub kl: Interval,
    /// Mean over prompts of 1 / Σ w²: the number of samples the estimate really rests on.
    pub effective_sample_size: f64,
    /// Samples of each prompt.
    pub samples_per_prompt: usize,
}

/// The optimum at `beta`, from the rewards of many samples of the reference for each prompt.
pub fn optimum(rewards: &[Vec<f64>], beta: f64, seed: u64) -> OptimumPoint {
    let prompts: Vec<(f64, f64, f64)> = rewards.iter().map(|rewards| tilt(rewards, beta)).collect();
    let column = |value: fn(&(f64, f64, f64)) -> f64| prompts.iter().map(value).collect::<Vec<_>>();
    OptimumPoint {
        beta,
        reward: bootstrap(&column(|it| it.0), seed),
        kl: bootstrap(&column(|it| it.1), seed),
        effective_sample_size: mean(prompts.iter().map(|it| it.2)),
        samples_per_prompt: rewards.iter().map(Vec::len).min().unwrap_or(0),
    }
}

/// The β along which the optimum is shown, from the loosest tie to the reference to the closest to the best sample.
pub fn betas() -> impl Iterator<Item = f64> {
    (0..=32).map(|it| 20.0 * 0.75f64.powi(it))
}

/// The gain in reward of a policy over the reference, as a share of the gain that the exact optimum makes at the
/// policy's own KL; with its 95 % bootstrap interval over prompts. `rewards` are those of many samples of the reference
/// for each prompt.
///
/// None where the KL is beyond what those samples support, or where there is nothing to gain.
///
/// # Panics
/// If not all hold the same number of prompts.
pub fn share_of_gain(
    policy: &Samples,
    reference: &Samples,
    rewards: &[Vec<f64>],
    seed: u64,
) -> Option<Interval> {
    assert!(policy.len() == reference.len() && policy.len() == rewards.len(), "paired by prompt");
    let along: Vec<Vec<(f64, f64, f64)>> = betas()
        .map(|beta| rewards.iter().map(|rewards| tilt(rewards, beta)).collect::<Vec<_>>())
        .take_while(|prompts| mean(prompts.iter().map(|it| it.2)) >= FEW_SAMPLES)
        .collect();
    let share = |prompts: Vec<&usize>| -> Option<f64> {
        let over = |of: &dyn Fn(usize) -> f64| mean(prompts.iter().map(|&&it| of(it)));
        let reward = |samples: &Samples, it: usize| mean(samples[it].iter().map(|it| it.reward));
        let gain = over(&|it| reward(policy, it) - reward(reference, it));
        let kl = over(&|it| mean(policy[it].iter().map(super::Drawn::kl)));
        // The optimum at β = ∞ is the reference.
        let base = over(&|it| mean(rewards[it].iter().copied()));
        let mut below = (0.0, base);
        for tilted in &along {
            let above = (over(&|it| tilted[it].1), over(&|it| tilted[it].0));
            if kl <= above.0 {
                let part = ((kl - below.0) / (above.0 - below.0)).max(0.0);
                let possible = below.1 + part * (above.1 - below.1) - base;
                return (possible > 0.0).then_some(gain / possible);
            }
            below = above;
        }
        None
    };
    let everyone: Vec<usize> = (0..rewards.len()).collect();
    let found = share(everyone.iter().collect())?;
    let all = resampled(&everyone, seed, |prompts| Some(share(prompts)));
    let known: Vec<f64> = all.iter().copied().flatten().collect();
    // Those without a value are the ones of largest KL.
    let is_known = known.len() as f64 >= 0.975 * all.len() as f64;
    is_known.then(|| Interval::of_resamples(found, known))
}

/// Reward, KL and effective sample size of one prompt.
fn tilt(rewards: &[f64], beta: f64) -> (f64, f64, f64) {
    let largest = rewards.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> =
        rewards.iter().map(|reward| ((reward - largest) / beta).exp()).collect();
    let total: f64 = weights.iter().sum();
    let reward: f64 =
        weights.iter().zip(rewards).map(|(weight, reward)| weight * reward).sum::<f64>() / total;
    let log_normalizer = (total / rewards.len() as f64).ln() + largest / beta;
    let squares: f64 = weights.iter().map(|weight| weight * weight).sum();
    (reward, reward / beta - log_normalizer, total * total / squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_equally_likely_outcomes_tilt_to_the_logistic_function() {
        // π_ref = (½, ½), r = (1, 0), β = ½: π*(1) = σ(2).
        let rewards: Vec<Vec<f64>> =
            (0..3).map(|_| (0..1000).map(|it| f64::from(it % 2)).collect()).collect();
        let point = optimum(&rewards, 0.5, 0);
        let p = 1.0 / (1.0 + (-2.0f64).exp());
        let kl = p * (2.0 * p).ln() + (1.0 - p) * (2.0 * (1.0 - p)).ln();
        assert!((point.reward.mean - p).abs() < 1e-12);
        assert!((point.kl.mean - kl).abs() < 1e-12);
    }

    #[test]
    fn a_policy_that_is_the_optimum_has_all_of_its_gain_and_half_the_gain_is_half() {
        use crate::evaluation::Drawn;
        // Prompts of the two outcomes above, some easier than others; the policy draws them in the shares of π* at
        // β = ½ and has its KL.
        let ease = |prompt: usize| (prompt % 5) as f64;
        let rewards: Vec<Vec<f64>> = (0..40)
            .map(|prompt| (0..1000).map(|it| ease(prompt) + f64::from(it % 2)).collect())
            .collect();
        let p = 1.0 / (1.0 + (-2.0f64).exp());
        let kl = p * (2.0 * p).ln() + (1.0 - p) * (2.0 * (1.0 - p)).ln();
        let policy = |share: f64, kl: f64| -> Samples {
            let reward = |prompt| ease(prompt) + 0.5 + share * (p - 0.5);
            let drawn = |prompt| Drawn { reward: reward(prompt), log_ratio: kl, token_kl: None };
            (0..40).map(|prompt| vec![drawn(prompt); 2]).collect()
        };
        let share =
            |of: f64, kl: f64| share_of_gain(&policy(of, kl), &policy(0.0, 0.0), &rewards, 0);
        // The curve is linear between its points, which are 3/4 of a β apart.
        for of in [1.0, 0.5, -0.25] {
            let found = share(of, kl).unwrap();
            assert!((found.mean - of).abs() < 0.01, "{found} and {of}");
            assert!(found.high - found.low < 1e-9, "all prompts are alike: {found}");
        }
        // Half of the prompts lie beyond the curve, and the mean just within it: resamples that have no value are not
        // left out in silence.
        let last = 0.69;
        let mut unsure = policy(1.0, last);
        unsure.iter_mut().step_by(2).flatten().for_each(|it| it.log_ratio += 0.4);
        unsure.iter_mut().skip(1).step_by(2).flatten().for_each(|it| it.log_ratio -= 0.4);
        assert_eq!(share_of_gain(&unsure, &policy(0.0, 0.0), &rewards, 0), None);
        assert!(share(1.0, last).is_some());
        // Two outcomes allow no more than log 2.
        assert_eq!(share(1.0, 0.7), None);
    }

    #[test]
    fn a_large_beta_stays_at_the_reference_and_a_small_one_takes_the_best_sample() {
        let rewards = [vec![0.0, 1.0, 5.0, 2.0]];
        let loose = optimum(&rewards, 1e6, 0);
        assert!((loose.reward.mean - 2.0).abs() < 1e-5 && loose.kl.mean.abs() < 1e-6);
        assert!((loose.effective_sample_size - 4.0).abs() < 1e-5);
        let tight = optimum(&rewards, 1e-3, 0);
        assert!((tight.reward.mean - 5.0).abs() < 1e-9);
        // All mass on one of four samples: KL = log 4, the Best-of-4 bound's limit.
        assert!((tight.kl.mean - 4f64.ln()).abs() < 1e-9);
    }
}
