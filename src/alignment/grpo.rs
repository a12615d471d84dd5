//! GRPO: a clipped policy gradient over tokens; the baseline is the group's mean reward, the scale its
//! deviation, and the KL a term of its own.
//!
//!   A_i = (r_i − mean r) / (deviation of r + 10⁻⁴)      ρ_it = π_θ(y_it) / μ(y_it)
//!   loss = −1/K Σ_i 1/n_i Σ_t [min(ρ_it A_i, clip(ρ_it) A_i) − β (e^d_it − d_it − 1)]
//!
//! with d = log π_sft − log π_θ of a token and n_i the number of a completion's tokens. μ is the policy that
//! drew the completions; d counts up to 20, so that e^d stays a number; the deviation is that of a sample (K − 1). Shao et al. 2024, "DeepSeekMath". Without
//! the deviation and with a constant in place of n_i it is Dr. GRPO (Liu et al. 2025, "Understanding
//! R1-Zero-Like Training"), which has no bias to easy or hard prompts and to short or long answers.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::reinforce::{ClipRange, LARGEST_LOG_RATIO};
use super::{Alignment, Divergence, Entry, GroupLogProbs, KlWeight, Takes, TokenLogProbs};
use crate::Error;

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "grpo",
    label: "GRPO",
    about: "a clipped policy gradient over tokens, against the group's mean reward",
    takes: Takes::Rewards,
    divergence: Divergence::Other,
    reads: &[
        "beta_policy",
        "beta_reward",
        "kl_weight",
        "clip_range",
        "clip_range_high",
        "grpo_deviation",
        "grpo_length",
    ],
    forms: &[],
    build: |config| {
        let length = config.grpo_length;
        if !(length >= 0.0 && length.is_finite()) {
            let message = format!(
                "must be 0 (each completion's own length) or a positive number of tokens, found {length}"
            );
            return Err(Error::setting("grpo_length", message));
        }
        Ok(Arc::new(Grpo {
            kl_weight: KlWeight::of(config)?,
            clip: ClipRange::of(config)?,
            by_deviation: config.grpo_deviation,
            length,
        }))
    },
};

/// Added to the deviation of rewards, as TRL does.
const DEVIATION_FLOOR: f64 = 1e-4;

/// The clipped policy gradient over tokens of groups with rewards, any K ≥ 2.
#[derive(Clone, Debug)]
struct Grpo {
    kl_weight: f64,
    clip: ClipRange,
    /// Whether advantages are divided by the deviation of their group's rewards.
    by_deviation: bool,
    /// What sums over tokens are divided by; 0: by each completion's own number of tokens.
    length: f64,
}

impl Alignment for Grpo {
    fn loss(&self, log_probs: &GroupLogProbs, rewards: &Tensor<2>) -> Tensor<1> {
        let tokens = log_probs.tokens.as_ref().expect("the objective asked for tokens");
        let TokenLogProbs { policy, reference, proposal, mask, .. } = tokens;
        let advantages = self.advantages(rewards.clone()).unsqueeze_dim::<3>(2); // [groups, K, 1]
        let advantages = advantages.expand(policy.dims()); //                    [groups, K, T]
        let log_ratios = policy.clone() - proposal.clone();
        let mut gain = self.clip.surrogate(log_ratios, advantages);
        if self.kl_weight != 0.0 {
            let difference = (reference.clone() - policy.clone()).clamp_max(LARGEST_LOG_RATIO);
            let kl = difference.clone().exp() - difference - 1.0;
            gain = gain - kl * self.kl_weight;
        }
        let sums = (gain * mask.clone()).sum_dim(2); //                          [groups, K, 1]
        let lengths = match self.length {
            0.0 => mask.clone().sum_dim(2),
            length => mask.clone().sum_dim(2).full_like(length),
        };
        -(sums / lengths).mean() //                                              [1]
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

    fn needs_tokens(&self) -> bool {
        true
    }
}

impl Grpo {
    /// The advantage of each completion, `[groups, K]`.
    fn advantages(&self, rewards: Tensor<2>) -> Tensor<2> {
        // Less the first, so that equal rewards are exactly 0: divided by 10⁻⁴, a rounding error would count.
        let rewards = rewards.clone() - rewards.narrow(1, 0, 1);
        let centred = rewards.clone() - rewards.clone().mean_dim(1);
        match self.by_deviation {
            true => {
                let [_, num_completions] = rewards.dims();
                let variance =
                    centred.clone().square().sum_dim(1) * (1.0 / (num_completions - 1) as f64);
                centred / (variance.sqrt() + DEVIATION_FLOOR)
            }
            false => centred,
        }
    }
}
