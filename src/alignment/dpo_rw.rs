//! DPO with rewards: the forward cross-entropy from the reward-tilted target to the policy, over
//! each group.
//!
//!   q = softmax(β_π h)      p = softmax(r / β_r)      loss = −Σ p_i log q_i
//!
//!   ∂loss/∂(β_π h_i) = q_i − p_i
//!
//! Ji et al. 2024, the generalisation of DPO to K rewarded completions. Mass-covering where
//! [`ExoRw`](super::ExoRw) is mode-seeking.

use std::sync::Arc;

use burn::config::Config;
use burn::tensor::Tensor;

use super::divergence::cross_entropy;
use super::objective::DEFAULTS;
use super::{Alignment, Divergence, Entry, GroupLogProbs, Takes, check_beta};
use crate::Result;

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "dpo-rw",
    label: "DPO-rw",
    about: "the forward cross-entropy from the reward-tilted target",
    takes: Takes::Rewards,
    divergence: Divergence::Forward,
    reads: &["beta_policy", "beta_reward"],
    forms: &[],
    build: |config| {
        let own = DpoRwConfig { beta_policy: config.beta_policy, beta_reward: config.beta_reward };
        Ok(Arc::new(own.init()?))
    },
};

/// Configuration of [`DpoRw`].
#[derive(Config, Debug)]
pub struct DpoRwConfig {
    /// Sharpness of the policy side, β_π > 0.
    #[config(default = "DEFAULTS.beta_policy")]
    pub beta_policy: f64,
    /// Temperature of the rewards, β_r > 0.
    #[config(default = "DEFAULTS.beta_reward")]
    pub beta_reward: f64,
}

impl DpoRwConfig {
    /// The objective.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) when a β is not positive and finite.
    pub fn init(&self) -> Result<DpoRw> {
        check_beta("beta_policy", self.beta_policy)?;
        check_beta("beta_reward", self.beta_reward)?;
        Ok(DpoRw { beta_policy: self.beta_policy, beta_reward: self.beta_reward })
    }
}

/// −Σ p log q over groups with rewards, any K ≥ 2.
#[derive(Clone, Debug)]
pub struct DpoRw {
    beta_policy: f64,
    beta_reward: f64,
}

impl Alignment for DpoRw {
    fn loss(&self, log_probs: &GroupLogProbs, rewards: &Tensor<2>) -> Tensor<1> {
        let log_q = log_probs.log_policy(self.beta_policy); //            [groups, K]
        let log_p = log_probs.log_target(rewards, self.beta_reward); // [groups, K]
        cross_entropy(log_q, log_p).mean() // [1]
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
