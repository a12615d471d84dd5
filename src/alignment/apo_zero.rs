//! APO-zero: the chosen completion becomes likelier than under the reference, the rejected one less likely,
//! each by itself. For data whose chosen completions are better than what the model says.
//!
//!   loss = 1 − σ(β_π h_chosen) + σ(β_π h_rejected)
//!
//! D'Oosterlinck et al. 2024, "Anchored Preference Optimization and Contrastive Revisions", Eq. 7.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{Alignment, Divergence, Entry, GroupLogProbs, Takes, check_beta, pair, sigmoid};

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "apo-zero",
    label: "APO-zero",
    about: "the chosen up and the rejected down, each by itself",
    takes: Takes::Pairs,
    divergence: Divergence::Other,
    reads: &["beta_policy"],
    forms: &[],
    build: |config| {
        check_beta("beta_policy", config.beta_policy)?;
        Ok(Arc::new(ApoZero { beta_policy: config.beta_policy }))
    },
};

/// The anchored loss over pairs, the first completion chosen.
#[derive(Clone, Debug)]
struct ApoZero {
    beta_policy: f64,
}

impl Alignment for ApoZero {
    fn loss(&self, log_probs: &GroupLogProbs, _rewards: &Tensor<2>) -> Tensor<1> {
        let [chosen, rejected] = pair(log_probs.log_ratios() * self.beta_policy); // [groups, 1] each
        (sigmoid(-chosen) + sigmoid(rejected)).mean() //                      [1]
    }

    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn beta_policy(&self) -> f64 {
        self.beta_policy
    }
}
