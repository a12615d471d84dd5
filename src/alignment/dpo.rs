//! DPO: the likelihood of the chosen completion winning under Bradley–Terry.
//!
//!   z = β_π (h_chosen − h_rejected)      loss = −log σ(z)      dloss/dz = −σ(−z)
//!
//! Rafailov et al. 2023, Eq. 7.

use burn::config::Config;
use burn::tensor::Tensor;

use super::{Alignment, GroupLogProbs, ObjectiveConfig, check_beta, log_sigmoid, margin};
use crate::Result;

/// Configuration of [`Dpo`].
#[derive(Config, Debug)]
pub struct DpoConfig {
    /// Sharpness of the policy side, β_π > 0.
    #[config(default = 0.1)]
    pub beta_policy: f64,
}

impl From<&ObjectiveConfig> for DpoConfig {
    fn from(config: &ObjectiveConfig) -> Self {
        Self { beta_policy: config.beta_policy }
    }
}

impl DpoConfig {
    /// The objective.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) when β_π is not positive and finite.
    pub fn init(&self) -> Result<Dpo> {
        check_beta("beta_policy", self.beta_policy)?;
        Ok(Dpo { beta_policy: self.beta_policy })
    }
}

/// −log σ(z) over pairs, the first completion chosen.
#[derive(Clone, Debug)]
pub struct Dpo {
    beta_policy: f64,
}

impl Alignment for Dpo {
    fn loss(&self, log_probs: &GroupLogProbs, _rewards: &Tensor<2>) -> Tensor<1> {
        let z = margin(log_probs, self.beta_policy); // [groups, 1]
        -log_sigmoid(z).mean() //                       [1]
    }

    fn name(&self) -> &'static str {
        "dpo"
    }

    fn beta_policy(&self) -> f64 {
        self.beta_policy
    }

    fn needs_rewards(&self) -> bool {
        false
    }

    fn log_target(&self, _rewards: &Tensor<2>) -> Option<Tensor<2>> {
        None
    }
}
