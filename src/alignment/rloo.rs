//! RLOO: the policy gradient of reward minus KL, each completion against the mean of the others.
//!
//!   R_i = r_i − β (log μ(y_i) − log π_sft(y_i))      A_i = R_i − mean of R_j over j ≠ i
//!   loss = −1/K Σ min(ρ_i A_i, clip(ρ_i) A_i)        ρ_i = π_θ(y_i) / μ(y_i)
//!
//! μ is the policy that drew the completions. As long as it is the policy itself, ρ = 1 and the gradient is
//! −1/K Σ A_i ∇log π_θ(y_i), REINFORCE with a leave-one-out baseline: (K − 1)/(K β) times it is EXO with
//! rewards at β_π = 1 and β_r = β on the same samples. Ahmadian et al. 2024, "Back to Basics: Revisiting
//! REINFORCE-Style Optimization for Learning from Human Feedback in LLMs"; the clipped ratio of the whole
//! completion, for further steps on the same samples, is TRL's.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::reinforce::{ClipRange, log_proposal};
use super::{Alignment, Divergence, Entry, GroupLogProbs, KlWeight, Takes};

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "rloo",
    label: "RLOO",
    about: "the policy gradient of reward minus KL, against the mean of the other completions",
    takes: Takes::Rewards,
    divergence: Divergence::Other,
    reads: &["beta_policy", "beta_reward", "kl_weight", "clip_range", "clip_range_high"],
    forms: &[],
    build: |config| {
        let (kl_weight, clip) = (KlWeight::of(config)?, ClipRange::of(config)?);
        Ok(Arc::new(Rloo { kl_weight, clip }))
    },
};

/// REINFORCE with a leave-one-out baseline over groups with rewards, any K ≥ 2.
#[derive(Clone, Debug)]
struct Rloo {
    kl_weight: f64,
    clip: ClipRange,
}

impl Alignment for Rloo {
    fn loss(&self, log_probs: &GroupLogProbs, rewards: &Tensor<2>) -> Tensor<1> {
        let proposal = log_proposal(log_probs); //                                [groups, K]
        let penalty = (proposal.clone() - log_probs.reference.clone()) * self.kl_weight;
        let advantages = left_one_out(rewards.clone() - penalty);
        let log_ratios = log_probs.policy.clone() - proposal;
        -self.clip.surrogate(log_ratios, advantages).mean() //                    [1]
    }

    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    /// The policy itself, not a tempered one, is what the samples are weighted for.
    fn beta_policy(&self) -> f64 {
        1.0
    }

    fn needs_reference(&self) -> bool {
        self.kl_weight != 0.0
    }

    fn needs_proposal(&self) -> bool {
        true
    }
}

/// Each number less the mean of the others of its group, `[groups, K]`.
fn left_one_out(values: Tensor<2>) -> Tensor<2> {
    let [_, num_completions] = values.dims();
    let count = num_completions as f64;
    let mean = values.clone().mean_dim(1); // [groups, 1]
    (values - mean) * (count / (count - 1.0))
}
