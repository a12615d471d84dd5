//! EXO on preferences: the reverse KL from the policy to the smoothed preference, over each pair.
//!
//!   z = β_π (h_chosen − h_rejected)
//!   loss = σ(z) [log σ(z) − log(1−ε)] + σ(−z) [log σ(−z) − log ε]
//!
//!   dloss/dz = σ(z) σ(−z) (z − z*),   z* = logit(1−ε)
//!
//! Ji et al. 2024, the EXO objective with human preferences.

use std::sync::Arc;

use burn::config::Config;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::objective::DEFAULTS;
use super::{
    Alignment, Divergence, Entry, Form, GroupLogProbs, Takes, check_beta, log_sigmoid, margin,
};
use crate::{Error, Result};

/// The labels of a pair, which are the target of the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Labels {
    /// log p = (log(1−ε), log ε), as in the paper.
    #[default]
    Paper,
    /// log p = (0, −10), as in the authors' code. Not normalised: the gradient is that of
    /// ε = 1/(1 + e¹⁰) ≈ 4.54e-5 and the minimum is −log(1 + e⁻¹⁰) ≈ −4.54e-5. ε has no effect.
    Official,
}

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "exo-pref",
    label: "EXO-pref",
    about: "the reverse KL to the smoothed preference",
    takes: Takes::Pairs,
    divergence: Divergence::Reverse,
    reads: &["beta_policy", "epsilon", "labels"],
    forms: &[Form {
        name: "exo-pref-official",
        label: "EXO-pref (official labels)",
        set: |config| config.labels = Labels::Official,
    }],
    build: |config| {
        let own = ExoPrefConfig {
            beta_policy: config.beta_policy,
            epsilon: config.epsilon,
            labels: config.labels,
        };
        Ok(Arc::new(own.init()?))
    },
};

/// Configuration of [`ExoPref`].
#[derive(Config, Debug)]
pub struct ExoPrefConfig {
    /// Sharpness of the policy side, β_π > 0.
    #[config(default = "DEFAULTS.beta_policy")]
    pub beta_policy: f64,
    /// Label smoothing, 0 < ε < 1/2.
    #[config(default = "DEFAULTS.epsilon")]
    pub epsilon: f64,
    /// Which labels the policy is compared with.
    #[config(default = "DEFAULTS.labels")]
    pub labels: Labels,
}

impl ExoPrefConfig {
    /// The objective.
    ///
    /// # Errors
    /// [`Error::Setting`] when β_π is not positive and finite, or ε is not between 0 and 1/2.
    pub fn init(&self) -> Result<ExoPref> {
        check_beta("beta_policy", self.beta_policy)?;
        check_epsilon(self.epsilon)?;
        let log_labels = match self.labels {
            Labels::Paper => [(-self.epsilon).ln_1p(), self.epsilon.ln()],
            Labels::Official => [0.0, -10.0],
        };
        Ok(ExoPref { beta_policy: self.beta_policy, log_labels })
    }
}

/// Refuses an ε that is no label smoothing.
pub(super) fn check_epsilon(epsilon: f64) -> Result<()> {
    if epsilon == 0.0 {
        return Err(Error::setting(
            "epsilon",
            "is 0, which makes the reverse KL infinite: the policy gives the rejected \
             completion some probability and the label would give it none; use a small positive \
             value such as 1e-3",
        ));
    }
    if epsilon > 0.0 && epsilon < 0.5 {
        return Ok(());
    }
    let message = format!(
        "is the probability that a label is wrong and must lie between 0 and 0.5, exclusive; found \
         {epsilon}"
    );
    Err(Error::setting("epsilon", message))
}

/// KL of the policy's preference to the smoothed label over pairs, the first completion chosen.
#[derive(Clone, Debug)]
pub struct ExoPref {
    beta_policy: f64,
    /// log p of the chosen and of the rejected completion.
    log_labels: [f64; 2],
}

impl Alignment for ExoPref {
    fn loss(&self, log_probs: &GroupLogProbs, _rewards: &Tensor<2>) -> Tensor<1> {
        let [log_p_chosen, log_p_rejected] = self.log_labels;
        let z = margin(log_probs, self.beta_policy); //   [groups, 1]
        let log_q_chosen = log_sigmoid(z.clone()); //     [groups, 1]
        let log_q_rejected = log_sigmoid(-z); //          [groups, 1]
        let loss = log_q_chosen.clone().exp() * (log_q_chosen - log_p_chosen)
            + log_q_rejected.clone().exp() * (log_q_rejected - log_p_rejected);
        loss.mean() //                                    [1]
    }

    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn beta_policy(&self) -> f64 {
        self.beta_policy
    }

    fn log_target(&self, _: &GroupLogProbs, rewards: &Tensor<2>) -> Option<Tensor<2>> {
        let [groups, _] = rewards.dims();
        let labels = TensorData::new(self.log_labels.to_vec(), [1, 2]);
        let log_p = Tensor::<2>::from_data(labels, (&rewards.device(), rewards.dtype()));
        Some(log_softmax(log_p, 1).expand([groups, 2]))
    }
}
