//! APO-down: both completions become less likely than under the reference, the rejected one more so. For
//! data whose chosen completions are worse than what the model says.
//!
//!   z = β_π (h_chosen − h_rejected)      loss = σ(β_π h_chosen) + 1 − σ(z)
//!
//! D'Oosterlinck et al. 2024, "Anchored Preference Optimization and Contrastive Revisions", Eq. 8.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{
    Alignment, Divergence, Entry, GroupLogProbs, Takes, check_beta, margin, pair, sigmoid,
};

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "apo-down",
    label: "APO-down",
    about: "the chosen down and the rejected further down",
    takes: Takes::Pairs,
    divergence: Divergence::Other,
    reads: &["beta_policy"],
    forms: &[],
    build: |config| {
        check_beta("beta_policy", config.beta_policy)?;
        Ok(Arc::new(ApoDown { beta_policy: config.beta_policy }))
    },
};

/// The anchored loss over pairs, the first completion chosen.
#[derive(Clone, Debug)]
struct ApoDown {
    beta_policy: f64,
}

impl Alignment for ApoDown {
    fn loss(&self, log_probs: &GroupLogProbs, _rewards: &Tensor<2>) -> Tensor<1> {
        let z = margin(log_probs, self.beta_policy); //                       [groups, 1]
        let [chosen, _] = pair(log_probs.log_ratios() * self.beta_policy); // [groups, 1]
        (sigmoid(chosen) + sigmoid(-z)).mean() //                             [1]
    }

    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn beta_policy(&self) -> f64 {
        self.beta_policy
    }
}
