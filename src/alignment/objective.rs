//! Every objective under one type, chosen by name.

use std::fmt;
use std::str::FromStr;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{
    Alignment, Dpo, DpoConfig, DpoRw, DpoRwConfig, ExoPref, ExoPrefConfig, ExoRw, ExoRwConfig,
    GroupLogProbs, Labels,
};
use crate::{Error, Result};

/// The objective and all its numbers, as in configuration files (`objective.*`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// Which objective.
    pub name: ObjectiveName,
    /// Sharpness of the policy side, β_π > 0.
    pub beta_policy: f64,
    /// Temperature of the rewards, β_r > 0; read by the objectives with rewards.
    pub beta_reward: f64,
    /// Label smoothing, 0 < ε < 1/2; read by exo-pref.
    pub epsilon: f64,
    /// The labels of exo-pref.
    pub labels: Labels,
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self {
            name: ObjectiveName::ExoPref,
            beta_policy: 0.1,
            beta_reward: 0.1,
            epsilon: 1e-3,
            labels: Labels::Paper,
        }
    }
}

/// Lists the objectives once; everything that tells them apart by name follows from the list.
macro_rules! objectives {
    ($($(#[$doc:meta])+ $name:literal $variant:ident $config:ident;)+) => {
        /// The name of an objective, as on the command line.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ObjectiveName {
            $($(#[$doc])+ #[serde(rename = $name)] $variant,)+
        }

        impl ObjectiveName {
            /// All objectives.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name on the command line.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }

        /// Any of the objectives.
        #[derive(Clone, Debug)]
        pub enum Objective {
            $($(#[$doc])+ $variant($variant),)+
        }

        impl ObjectiveConfig {
            /// The objective.
            ///
            /// Only the numbers that the objective reads are checked.
            ///
            /// # Errors
            /// [`Error::Usage`] when a number is out of its range.
            pub fn init(&self) -> Result<Objective> {
                match self.name {
                    $(ObjectiveName::$variant => $config::from(self).init().map(Objective::$variant),)+
                }
            }
        }

        impl Alignment for Objective {
            fn loss(&self, log_probs: &GroupLogProbs, rewards: &Tensor<2>) -> Tensor<1> {
                match self { $(Self::$variant(objective) => objective.loss(log_probs, rewards),)+ }
            }

            fn name(&self) -> &'static str {
                match self { $(Self::$variant(objective) => objective.name(),)+ }
            }

            fn beta_policy(&self) -> f64 {
                match self { $(Self::$variant(objective) => objective.beta_policy(),)+ }
            }

            fn needs_rewards(&self) -> bool {
                match self { $(Self::$variant(objective) => objective.needs_rewards(),)+ }
            }

            fn log_target(&self, rewards: &Tensor<2>) -> Option<Tensor<2>> {
                match self { $(Self::$variant(objective) => objective.log_target(rewards),)+ }
            }

            fn check(&self, num_completions: usize) -> Result<()> {
                match self { $(Self::$variant(objective) => objective.check(num_completions),)+ }
            }

            fn statistics(
                &self,
                log_probs: &GroupLogProbs,
                rewards: &Tensor<2>,
            ) -> Vec<(&'static str, f64)> {
                match self { $(Self::$variant(objective) => objective.statistics(log_probs, rewards),)+ }
            }
        }
    };
}

objectives! {
    /// Reverse KL to the smoothed preference, pairs.
    "exo-pref" ExoPref ExoPrefConfig;
    /// Reverse KL to the reward-tilted target, any K ≥ 2.
    "exo-rw" ExoRw ExoRwConfig;
    /// Bradley–Terry likelihood, pairs.
    "dpo" Dpo DpoConfig;
    /// Forward cross-entropy from the reward-tilted target, any K ≥ 2.
    "dpo-rw" DpoRw DpoRwConfig;
}

impl fmt::Display for ObjectiveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ObjectiveName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|known| known.as_str() == name).ok_or_else(|| {
            let known: Vec<_> = Self::ALL.iter().map(|known| known.as_str()).collect();
            Error::usage(format!("unknown objective `{name}`; one of {}", known.join(", ")))
        })
    }
}
