//! Divergences between two listed distributions, in f64.

use exalign::policy::Listed;
use serde::{Deserialize, Serialize};

/// How a policy differs from π*.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// KL(π ‖ π*) in nats: what EXO and reinforcement learning minimise.
    pub reverse_kl: f64,
    /// KL(π* ‖ π) in nats: what DPO minimises.
    pub forward_kl: f64,
    /// The policy's mass where π* has none: outside the likeliest completions that hold 99 % of it.
    pub stray_mass: f64,
}

/// The share of π* that counts as where it is.
const SUPPORT: f64 = 0.99;

impl Divergence {
    /// Of log-probabilities over the same completions.
    pub fn new(policy: &[f64], optimum: &[f64]) -> Self {
        let mut order: Vec<usize> = (0..optimum.len()).collect();
        order.sort_by(|a, b| optimum[*b].total_cmp(&optimum[*a]));
        let (mut held, mut stray_mass) = (0.0, 0.0);
        for index in order {
            if held >= SUPPORT {
                stray_mass += policy[index].exp();
            }
            held += optimum[index].exp();
        }
        Self {
            reverse_kl: divergence(policy, optimum),
            forward_kl: divergence(optimum, policy),
            stray_mass,
        }
    }
}

/// KL(p ‖ q) in nats, of log-probabilities.
pub fn divergence(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum()
}

/// exp of values, normalised, in logs.
pub fn log_normalized(values: &[f64]) -> Vec<f64> {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = values.iter().map(|it| (it - largest).exp()).sum::<f64>().ln();
    values.iter().map(|it| it - largest - log_sum).collect()
}

/// The log-probabilities of each prompt's completions.
pub fn rows(policy: &impl Listed) -> Vec<Vec<f64>> {
    let all = policy.log_probs_of_all(1.0);
    let [_, completions] = all.dims();
    let values: Vec<f64> = all.into_data().iter::<f64>().collect();
    // Normalised once more: a device that computes in f32 leaves a rounding error in the sum.
    values.chunks(completions).map(log_normalized).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_strays_as_far_as_it_leaves_where_the_optimum_is() {
        let logs = |shares: [f64; 3]| shares.map(f64::ln);
        let optimum = logs([0.6, 0.395, 0.005]);
        let same = Divergence::new(&optimum, &optimum);
        assert_eq!((same.reverse_kl, same.forward_kl), (0.0, 0.0));
        assert!((same.stray_mass - 0.005).abs() < 1e-15);
        let other = Divergence::new(&logs([0.2, 0.3, 0.5]), &optimum);
        assert!((other.stray_mass - 0.5).abs() < 1e-15);
        let reverse = 0.2 * (0.2f64 / 0.6).ln() + 0.3 * (0.3f64 / 0.395).ln() + 0.5 * 100f64.ln();
        assert!((other.reverse_kl - reverse).abs() < 1e-12);
    }

    #[test]
    fn large_values_are_normalised_without_overflow() {
        let logs = log_normalized(&[1000.0, 1000.0]);
        assert!(logs.iter().all(|it| (it - 0.5f64.ln()).abs() < 1e-12));
    }
}
