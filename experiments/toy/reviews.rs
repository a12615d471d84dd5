//! Reviews of two sentences. A policy chooses the sentences independently; good reviews do not contradict
//! themselves.
//!
//! π* has two clusters, the warm reviews and the cold ones. A product of two independent choices cannot
//! represent "either kind, but the same kind in both sentences".

use burn::tensor::{Device, Tensor, TensorData};
use exalign::Result;
use serde::{Deserialize, Serialize};

use super::divergence::{Divergence, divergence, log_normalized, rows};
use super::policies::{OBJECTIVES, Problem, Product, fit, plain};

const OPENINGS: [(&str, f64); 6] = [
    ("A warm film.", 0.5),
    ("Fine acting.", 0.25),
    ("A clever plot.", 0.0),
    ("A cold film.", 0.35),
    ("Stiff acting.", 0.1),
    ("A thin plot.", -0.15),
];
const VERDICTS: [(&str, f64); 6] = [
    ("I loved it.", 0.4),
    ("See it.", 0.2),
    ("A joy.", 0.0),
    ("I left.", 0.3),
    ("Skip it.", 0.1),
    ("A bore.", -0.1),
];
/// The first half of either list praises, the second complains.
const PRAISES: usize = 3;

/// β of the policies that are shown.
pub const BETA: f64 = 0.5;
const STEPS: usize = 600;

/// What became of the policies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReviewFits {
    pub openings: Vec<String>,
    pub verdicts: Vec<String>,
    /// Of every opening with every verdict.
    pub rewards: Vec<Vec<f64>>,
    /// β of `policies`.
    pub beta: f64,
    /// π* (`optimum`) and what the objectives ended with.
    pub policies: Vec<ReviewPolicy>,
    /// Reward and KL along β.
    pub frontier: Vec<ReviewLine>,
}

/// A policy over reviews.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReviewPolicy {
    pub policy: String,
    /// The probability of every opening with every verdict.
    pub shares: Vec<Vec<f64>>,
    pub reward: f64,
    /// KL to π_sft, in nats.
    pub kl: f64,
    /// The share of reviews that contradict themselves.
    pub contradictions: f64,
    #[serde(flatten)]
    pub divergence: Divergence,
}

/// A policy's way along β.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReviewLine {
    pub policy: String,
    pub points: Vec<ReviewPoint>,
}

/// A policy at a β: what it earns and what it pays.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReviewPoint {
    pub beta: f64,
    pub reward: f64,
    /// KL to π_sft, in nats.
    pub kl: f64,
}

/// The reward of a review: agreement first, then taste.
fn reward(opening: usize, verdict: usize) -> f64 {
    let agreement = match (opening < PRAISES, verdict < PRAISES) {
        (true, true) => 1.2,
        (false, false) => 0.9,
        _ => -1.5,
    };
    agreement + OPENINGS[opening].1 + VERDICTS[verdict].1
}

/// The rewards of all reviews, those of an opening one after the other.
pub fn all_rewards() -> Vec<f64> {
    let b = VERDICTS.len();
    (0..OPENINGS.len() * b).map(|it| reward(it / b, it % b)).collect()
}

/// Whether each review agrees with itself, in the same order.
pub fn all_agreeing() -> Vec<bool> {
    let b = VERDICTS.len();
    (0..OPENINGS.len() * b).map(|it| (it / b < PRAISES) == (it % b < PRAISES)).collect()
}

/// Fits both objectives at every β, all at once: each β is a prompt of its own.
pub fn fits(device: &Device) -> Result<ReviewFits> {
    let (a, b) = (OPENINGS.len(), VERDICTS.len());
    let rewards = all_rewards();
    // From 16 down to 0.15, through BETA.
    let betas: Vec<f64> = (-20..=7).map(|it| BETA * 0.84f64.powi(it)).collect();
    let tilted: Vec<f64> =
        betas.iter().flat_map(|beta| rewards.iter().map(move |it| it / beta)).collect();
    let shape = [betas.len(), a * b];
    let problem = Problem {
        reference: Tensor::full(shape, -((a * b) as f64).ln(), device),
        rewards: Tensor::from_data(TensorData::new(tilted, shape), device),
    };
    let uniform = log_normalized(&vec![0.0; a * b]);
    let optima: Vec<Vec<f64>> = betas
        .iter()
        .map(|beta| log_normalized(&rewards.iter().map(|it| it / beta).collect::<Vec<_>>()))
        .collect();

    let mut all = vec![("optimum".to_owned(), optima.clone())];
    for objective in OBJECTIVES {
        let policy = Product::new(betas.len(), [a, b], device);
        let fitted = fit(policy, &plain(objective)?, &problem, STEPS, || problem.whole())?;
        all.push((objective.to_string(), rows(&fitted)));
    }
    let earned =
        |logs: &[f64]| -> f64 { logs.iter().zip(&rewards).map(|(p, r)| p.exp() * r).sum() };
    let shown = betas.iter().position(|beta| *beta == BETA).unwrap_or(0);
    let policies = all.iter().map(|(policy, rows)| {
        let logs = &rows[shown];
        let shares: Vec<Vec<f64>> =
            logs.chunks(b).map(|row| row.iter().map(|it| it.exp()).collect()).collect();
        ReviewPolicy {
            policy: policy.clone(),
            reward: earned(logs),
            kl: divergence(logs, &uniform),
            contradictions: contradictions(&shares),
            divergence: Divergence::new(logs, &optima[shown]),
            shares,
        }
    });
    let frontier = all.iter().map(|(policy, rows)| ReviewLine {
        policy: policy.clone(),
        points: betas
            .iter()
            .zip(rows)
            .map(|(&beta, logs)| ReviewPoint {
                beta,
                reward: earned(logs),
                kl: divergence(logs, &uniform),
            })
            .collect(),
    });
    let names = |of: [(&str, f64); 6]| of.map(|it| it.0.to_owned()).to_vec();
    Ok(ReviewFits {
        openings: names(OPENINGS),
        verdicts: names(VERDICTS),
        rewards: rewards.chunks(b).map(<[f64]>::to_vec).collect(),
        beta: BETA,
        policies: policies.collect(),
        frontier: frontier.collect(),
    })
}

fn contradictions(shares: &[Vec<f64>]) -> f64 {
    let mut sum = 0.0;
    for (opening, row) in shares.iter().enumerate() {
        for (verdict, share) in row.iter().enumerate() {
            if (opening < PRAISES) != (verdict < PRAISES) {
                sum += share;
            }
        }
    }
    sum
}

impl ReviewFits {
    /// A policy at the β that is shown.
    pub fn of(&self, policy: &str) -> Option<&ReviewPolicy> {
        self.policies.iter().find(|it| it.policy == policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(reviews: &'a ReviewFits, policy: &str) -> &'a [ReviewPoint] {
        &reviews.frontier.iter().find(|it| it.policy == policy).unwrap().points
    }

    #[test]
    fn dpo_contradicts_itself_where_exo_makes_up_its_mind() {
        let reviews = fits(&Device::flex().autodiff()).unwrap();
        let [optimum, exo, dpo] = ["optimum", "exo-rw", "dpo-rw"].map(|it| reviews.of(it).unwrap());
        assert!(optimum.contradictions < 0.01, "{}", optimum.contradictions);
        assert!(exo.contradictions < 0.02, "{}", exo.contradictions);
        assert!(dpo.contradictions > 0.3, "{}", dpo.contradictions);
        assert!(exo.divergence.reverse_kl < dpo.divergence.reverse_kl);
        assert!(dpo.divergence.forward_kl < exo.divergence.forward_kl);
        // The forward KL to a product is least at the product of π*'s marginals.
        let row =
            |shares: &[Vec<f64>]| -> Vec<f64> { shares.iter().map(|it| it.iter().sum()).collect() };
        for (found, expected) in row(&dpo.shares).iter().zip(row(&optimum.shares)) {
            assert!((found - expected).abs() < 1e-4, "{found} and {expected}");
        }
    }

    #[test]
    fn nothing_is_above_the_exact_frontier_and_exo_is_above_dpo() {
        let reviews = fits(&Device::flex().autodiff()).unwrap();
        let optimum = line(&reviews, "optimum");
        // Of all policies π* has the most reward − β·KL, at its β.
        for policy in ["exo-rw", "dpo-rw"] {
            for (best, found) in optimum.iter().zip(line(&reviews, policy)) {
                let value = |it: &ReviewPoint| it.reward - it.beta * it.kl;
                assert!(value(found) <= value(best) + 1e-6, "{policy}: {found:?} and {best:?}");
            }
        }
        // EXO maximises just that among products; at no β is DPO's product better.
        for (exo, dpo) in line(&reviews, "exo-rw").iter().zip(line(&reviews, "dpo-rw")) {
            let value = |it: &ReviewPoint| it.reward - it.beta * it.kl;
            assert!(value(exo) >= value(dpo) - 1e-4, "{exo:?} and {dpo:?}");
        }
    }
}
