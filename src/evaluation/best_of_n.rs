//! Best-of-N: draw N completions of the reference and keep the one with the highest reward.
//!
//! Best-of-N needs no training. Where rewards have no ties, its KL to the reference is known in closed form:
//! log N − (N − 1)/N (Beirami et al. 2024 show that this is a bound otherwise). The expected best of N, from
//! M samples of a prompt sorted by reward, is
//!
//!   Σ_i r_(i) · C(i−1, N−1) / C(M, N)
//!
//! which is unbiased for every N ≤ M.

use serde::{Deserialize, Serialize};

use crate::statistics::{Interval, bootstrap};

/// Reward and KL of Best-of-N.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestOfN {
    /// N.
    pub num_candidates: usize,
    /// Mean reward of the best.
    pub reward: Interval,
    /// KL(Best-of-N ‖ π_ref) in nats, estimated from the same samples: below the bound where several
    /// samples share a reward.
    pub kl: Interval,
    /// log N − (N − 1)/N.
    pub kl_bound: f64,
    /// Samples of each prompt.
    pub samples_per_prompt: usize,
}

/// Best-of-`num_candidates`, from the rewards of many samples of the reference for each prompt.
///
/// # Panics
/// If a prompt has fewer samples than candidates.
pub fn best_of_n(rewards: &[Vec<f64>], num_candidates: usize, seed: u64) -> BestOfN {
    let n = num_candidates as f64;
    let (best, kls): (Vec<f64>, Vec<f64>) =
        rewards.iter().map(|rewards| best_of_prompt(rewards, num_candidates)).unzip();
    BestOfN {
        num_candidates,
        reward: bootstrap(&best, seed),
        kl: bootstrap(&kls, seed),
        kl_bound: n.ln() - (n - 1.0) / n,
        samples_per_prompt: rewards.iter().map(Vec::len).min().unwrap_or(0),
    }
}

/// Expected reward and KL of one prompt.
fn best_of_prompt(rewards: &[f64], num_candidates: usize) -> (f64, f64) {
    assert!(
        num_candidates > 0 && num_candidates <= rewards.len(),
        "1 ≤ N ≤ {} samples",
        rewards.len()
    );
    let mut sorted = rewards.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (m, n) = (sorted.len() as f64, num_candidates as f64);
    // C(i−1, N−1) / C(M, N), from the largest down.
    let mut weight = n / m;
    let mut best = 0.0;
    for rank in (1..=sorted.len()).rev() {
        best += weight * sorted[rank - 1];
        let i = rank as f64;
        weight *= if rank > 1 { ((i - n) / (i - 1.0)).max(0.0) } else { 0.0 };
    }
    // Samples of one reward are one level: the best of N lies in it with probability
    // F(r)^N − F(r⁻)^N, and within it is distributed as the reference is.
    let mut kl = 0.0;
    let mut below = 0usize;
    for level in sorted.chunk_by(|a, b| a == b) {
        let upto = below + level.len();
        let share = level.len() as f64 / m;
        let chosen = (upto as f64 / m).powf(n) - (below as f64 / m).powf(n);
        if chosen > 0.0 {
            kl += chosen * (chosen / share).ln();
        }
        below = upto;
    }
    (best, kl)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expected_best_is_the_mean_over_all_subsets() {
        let rewards = [0.3, -1.0, 2.0, 0.7, 0.7];
        for n in 1..=5usize {
            let subsets: Vec<f64> = (0u32..32)
                .filter(|subset| subset.count_ones() as usize == n)
                .map(|subset| {
                    let chosen = (0..5).filter(|it| subset >> it & 1 == 1).map(|it| rewards[it]);
                    chosen.fold(f64::NEG_INFINITY, f64::max)
                })
                .collect();
            let expected = subsets.iter().sum::<f64>() / subsets.len() as f64;
            let (best, _) = best_of_prompt(&rewards, n);
            assert!((best - expected).abs() < 1e-12, "N = {n}: {best} and {expected}");
        }
    }

    #[test]
    fn without_ties_the_kl_tends_to_its_closed_form_and_with_ties_stays_below() {
        let distinct: Vec<Vec<f64>> = vec![(0..4000).map(f64::from).collect()];
        let tied: Vec<Vec<f64>> = vec![(0..4000).map(|it| f64::from(it % 2)).collect()];
        for n in [2, 4, 16] {
            let point = best_of_n(&distinct, n, 0);
            // The estimate is off by about N / M.
            assert!((point.kl.mean - point.kl_bound).abs() < 0.01, "{point:?}");
            let point = best_of_n(&tied, n, 0);
            // Two levels of ½: the better one with probability 1 − 2⁻ᴺ.
            let p = 1.0 - 0.5f64.powi(n as i32);
            let exact = p * (2.0 * p).ln() + (1.0 - p) * (2.0 * (1.0 - p)).ln();
            assert!((point.kl.mean - exact).abs() < 1e-12 && point.kl.mean < point.kl_bound);
        }
        assert!(best_of_n(&distinct, 1, 0).kl.mean.abs() < 1e-12);
        // log 4 − 3/4.
        assert!((best_of_n(&distinct, 4, 0).kl_bound - 0.636_294_361_119_890_6).abs() < 1e-12);
    }
}
