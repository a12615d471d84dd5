//! Jeffreys' divergence between the policy and the reward-tilted target, over each group.
//!
//!   q = softmax(β_π h)      p = softmax(r / β_r)      loss = KL(q ‖ p) + KL(p ‖ q)
//!
//! What EXO and DPO minimise, added. Han et al. 2024, f-PO, one of its divergences.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::divergence::{forward_kl, reverse_kl};
use super::{Alignment, Divergence, Entry, GroupLogProbs, Takes, check_beta};

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "jeffreys-rw",
    label: "Jeffreys-rw",
    about: "the reverse and the forward KL to the reward-tilted target, added",
    takes: Takes::Rewards,
    divergence: Divergence::Between,
    reads: &["beta_policy", "beta_reward"],
    forms: &[],
    build: |config| {
        check_beta("beta_policy", config.beta_policy)?;
        check_beta("beta_reward", config.beta_reward)?;
        let (beta_policy, beta_reward) = (config.beta_policy, config.beta_reward);
        Ok(Arc::new(JeffreysRw { beta_policy, beta_reward }))
    },
};

/// The divergence over groups with rewards, any K ≥ 2.
#[derive(Clone, Debug)]
struct JeffreysRw {
    beta_policy: f64,
    beta_reward: f64,
}

impl Alignment for JeffreysRw {
    fn loss(&self, log_probs: &GroupLogProbs, rewards: &Tensor<2>) -> Tensor<1> {
        let log_q = log_probs.log_policy(self.beta_policy); //            [groups, K]
        let log_p = log_probs.log_target(rewards, self.beta_reward); // [groups, K]
        let reverse = reverse_kl(log_q.clone(), log_p.clone());
        (reverse + forward_kl(log_q, log_p)).mean() // [1]
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
