//! The weight of the KL in objectives of reinforcement learning, as settings write it.

use serde::{Deserialize, Serialize};

use super::ObjectiveConfig;
use crate::{Error, Result};

/// The weight β of the KL from the reference, in nats of reward: a number, or the word `target`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KlWeight {
    /// β_π β_r, the weight whose optimum is the target of all other objectives with these numbers.
    Target,
    /// A number from 0; with 0 there is no KL and no reference.
    #[serde(untagged)]
    Number(f64),
}

impl KlWeight {
    /// The number.
    ///
    /// # Errors
    /// [`Error::Setting`] when it is negative or not finite.
    pub(super) fn of(config: &ObjectiveConfig) -> Result<f64> {
        match config.kl_weight {
            Self::Target => {
                super::check_beta("beta_policy", config.beta_policy)?;
                super::check_beta("beta_reward", config.beta_reward)?;
                Ok(config.beta_policy * config.beta_reward)
            }
            Self::Number(weight) if weight >= 0.0 && weight.is_finite() => Ok(weight),
            Self::Number(weight) => {
                let message = format!("must be a number from 0 or \"target\", found {weight}");
                Err(Error::setting("kl_weight", message))
            }
        }
    }
}
