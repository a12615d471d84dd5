//! DPO: the likelihood of the chosen completion winning under Bradley–Terry.
//!
//!   z = β_π (h_chosen − h_rejected)      loss = −log σ(z)      dloss/dz = −σ(−z)
//!
//! Rafailov et al. 2023, Eq. 7.

use std::sync::Arc;

use burn::config::Config;
use burn::tensor::Tensor;

use super::objective::DEFAULTS;
use super::{Alignment, Divergence, Entry, GroupLogProbs, Takes, check_beta, log_sigmoid, margin};
use crate::Result;

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "dpo",
    label: "DPO",
    about: "the likelihood of the chosen completion winning under Bradley–Terry",
    takes: Takes::Pairs,
    divergence: Divergence::Forward,
    reads: &["beta_policy"],
    forms: &[],
    build: |config| {
        let own = DpoConfig { beta_policy: config.beta_policy };
        Ok(Arc::new(own.init()?))
    },
};

/// Configuration of [`Dpo`].
#[derive(Config, Debug)]
pub struct DpoConfig {
    /// Sharpness of the policy side, β_π > 0.
    #[config(default = "DEFAULTS.beta_policy")]
    pub beta_policy: f64,
}

impl DpoConfig {
    /// The objective.
    ///
    /// # Errors
    /// [`Error::Setting`](crate::Error::Setting) when β_π is not positive and finite.
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

    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn beta_policy(&self) -> f64 {
        self.beta_policy
    }
}
