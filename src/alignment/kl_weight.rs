//! The weight of the KL in objectives of reinforcement learning, as settings write it.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::ObjectiveConfig;
use crate::{Error, Result};

/// The weight β of the KL from the reference, in nats of reward: a number, or the word `target`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum KlWeight {
    /// β_π β_r, the weight whose optimum is the target of all other objectives with these numbers.
    Target,
    /// A number from 0; with 0 there is no KL and no reference.
    Number(f64),
}

/// The word for [`KlWeight::Target`].
const TARGET: &str = "target";

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
                let message = format!("must be a number from 0 or \"{TARGET}\", found {weight}");
                Err(Error::setting("kl_weight", message))
            }
        }
    }
}

impl Serialize for KlWeight {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Target => to.serialize_str(TARGET),
            Self::Number(weight) => to.serialize_f64(*weight),
        }
    }
}

impl<'de> Deserialize<'de> for KlWeight {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(f64),
            Word(String),
        }
        match Written::deserialize(from)? {
            Written::Number(weight) => Ok(Self::Number(weight)),
            Written::Word(word) if word == TARGET => Ok(Self::Target),
            Written::Word(word) => {
                Err(de::Error::custom(format!("expected a number or \"{TARGET}\", found `{word}`")))
            }
        }
    }
}
