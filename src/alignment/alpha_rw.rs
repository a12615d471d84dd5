//! Between EXO and DPO with rewards: the α-divergence from the reward-tilted target, over each group.
//!
//!   q = softmax(β_π h)      p = softmax(r / β_r)      loss = (1 − Σ p_i^α q_i^(1−α)) / (α (1 − α))
//!
//! α = 0 is [`ExoRw`](super::ExoRw), α = 1 is [`DpoRw`](super::DpoRw), whose loss has the entropy of p on
//! top of the divergence. The larger α, the more the policy covers.
//!
//! Han et al. 2024, "f-PO: Generalizing Preference Optimization with f-divergence Minimization".

use std::sync::Arc;

use burn::tensor::Tensor;

use super::divergence::{alpha_divergence, cross_entropy, reverse_kl};
use super::{Alignment, Divergence, Entry, GroupLogProbs, Takes, check_beta};
use crate::{Error, Result};

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "alpha-rw",
    label: "α-rw",
    about: "the α-divergence from the reward-tilted target, between EXO-rw and DPO-rw",
    takes: Takes::Rewards,
    divergence: Divergence::Between,
    reads: &["beta_policy", "beta_reward", "alpha"],
    forms: &[],
    build: |config| {
        check_beta("beta_policy", config.beta_policy)?;
        check_beta("beta_reward", config.beta_reward)?;
        check_alpha(config.alpha)?;
        let (beta_policy, beta_reward) = (config.beta_policy, config.beta_reward);
        Ok(Arc::new(AlphaRw { beta_policy, beta_reward, alpha: config.alpha }))
    },
};

/// Refuses an α outside of the way from EXO to DPO.
pub(super) fn check_alpha(alpha: f64) -> Result<()> {
    match (0.0..=1.0).contains(&alpha) {
        true => Ok(()),
        false => {
            let message = "must lie between 0, which is EXO, and 1, which is DPO";
            Err(Error::setting("alpha", format!("{message}; found {alpha}")))
        }
    }
}

/// The α-divergence with its ends, `[groups, 1]`.
pub(super) fn between(log_q: Tensor<2>, log_p: Tensor<2>, alpha: f64) -> Tensor<2> {
    match alpha {
        0.0 => reverse_kl(log_q, log_p),
        1.0 => cross_entropy(log_q, log_p),
        alpha => alpha_divergence(log_q, log_p, alpha),
    }
}

/// The α-divergence over groups with rewards, any K ≥ 2.
#[derive(Clone, Debug)]
struct AlphaRw {
    beta_policy: f64,
    beta_reward: f64,
    alpha: f64,
}

impl Alignment for AlphaRw {
    fn loss(&self, log_probs: &GroupLogProbs, rewards: &Tensor<2>) -> Tensor<1> {
        let log_q = log_probs.log_policy(self.beta_policy); //            [groups, K]
        let log_p = log_probs.log_target(rewards, self.beta_reward); // [groups, K]
        between(log_q, log_p, self.alpha).mean() // [1]
    }

    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn beta_policy(&self) -> f64 {
        self.beta_policy
    }

    fn reads_proposal(&self) -> bool {
        true
    }

    fn log_target(&self, log_probs: &GroupLogProbs, rewards: &Tensor<2>) -> Option<Tensor<2>> {
        Some(log_probs.log_target(rewards, self.beta_reward))
    }
}
