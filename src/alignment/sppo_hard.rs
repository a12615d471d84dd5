//! SPPO with hard labels: the chosen log-ratio is to be 1 / (2 β_π), the rejected one its negative.
//!
//!   loss = (h_chosen − 1/(2 β_π))² + (h_rejected + 1/(2 β_π))²
//!
//! Wu et al. 2024, "Self-Play Preference Optimization for Language Model Alignment", Eq. 4.7 with the winner's
//! probability 1 and the loser's 0.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{Alignment, Divergence, Entry, GroupLogProbs, Takes, check_beta, pair};

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "sppo-hard",
    label: "SPPO-hard",
    about: "the squared distance of each log-ratio from ± 1 / (2 β_π)",
    takes: Takes::Pairs,
    divergence: Divergence::Other,
    reads: &["beta_policy"],
    forms: &[],
    build: |config| {
        check_beta("beta_policy", config.beta_policy)?;
        Ok(Arc::new(SppoHard { beta_policy: config.beta_policy }))
    },
};

/// The squared distances over pairs, the first completion chosen.
#[derive(Clone, Debug)]
struct SppoHard {
    beta_policy: f64,
}

impl Alignment for SppoHard {
    fn loss(&self, log_probs: &GroupLogProbs, _rewards: &Tensor<2>) -> Tensor<1> {
        let [chosen, rejected] = pair(log_probs.log_ratios()); //             [groups, 1] each
        let wanted = 0.5 / self.beta_policy;
        ((chosen - wanted).powi_scalar(2) + (rejected + wanted).powi_scalar(2)).mean() // [1]
    }

    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn beta_policy(&self) -> f64 {
        self.beta_policy
    }
}
