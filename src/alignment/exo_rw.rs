//! EXO with rewards: the reverse KL from the policy to the reward-tilted target, over each group.
//!
//!   q = softmax(β_π h)      p = softmax(r / β_r)      loss = KL(q ‖ p) = Σ q_i (log q_i − log p_i)
//!
//!   ∂loss/∂(β_π h_i) = q_i [(log q_i − log p_i) − KL(q ‖ p)]
//!
//! Ji et al. 2024, the EXO objective with a reward model. Mode-seeking where
//! [`DpoRw`](super::DpoRw) is mass-covering.

use std::sync::Arc;

use burn::config::Config;
use burn::tensor::Tensor;

use super::divergence::reverse_kl;
use super::objective::DEFAULTS;
use super::{Alignment, Divergence, Entry, GroupLogProbs, Takes, check_beta};
use crate::Result;

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "exo-rw",
    label: "EXO-rw",
    about: "the reverse KL to the reward-tilted target",
    takes: Takes::Rewards,
    divergence: Divergence::Reverse,
    reads: &["beta_policy", "beta_reward"],
    forms: &[],
    build: |config| {
        let own = ExoRwConfig { beta_policy: config.beta_policy, beta_reward: config.beta_reward };
        Ok(Arc::new(own.init()?))
    },
};

/// Configuration of [`ExoRw`].
#[derive(Config, Debug)]
pub struct ExoRwConfig {
    /// Sharpness of the policy side, β_π > 0.
    #[config(default = "DEFAULTS.beta_policy")]
    pub beta_policy: f64,
    /// Temperature of the rewards, β_r > 0.
    #[config(default = "DEFAULTS.beta_reward")]
    pub beta_reward: f64,
}

impl ExoRwConfig {
    /// The objective.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) when a β is not positive and finite.
    pub fn init(&self) -> Result<ExoRw> {
        check_beta("beta_policy", self.beta_policy)?;
        check_beta("beta_reward", self.beta_reward)?;
        Ok(ExoRw { beta_policy: self.beta_policy, beta_reward: self.beta_reward })
    }
}

/// KL(q ‖ p) over groups with rewards, any K ≥ 2.
#[derive(Clone, Debug)]
pub struct ExoRw {
    beta_policy: f64,
    beta_reward: f64,
}

impl Alignment for ExoRw {
    fn loss(&self, log_probs: &GroupLogProbs, rewards: &Tensor<2>) -> Tensor<1> {
        let log_q = log_probs.log_policy(self.beta_policy); //            [groups, K]
        let log_p = log_probs.log_target(rewards, self.beta_reward); // [groups, K]
        reverse_kl(log_q, log_p).mean() // [1]
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
