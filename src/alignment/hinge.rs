//! Hinge: the margin is to be 1 at least.
//!
//!   z = β_π (h_chosen − h_rejected)      loss = max(0, 1 − z)
//!
//! Zhao et al. 2023, "SLiC-HF", with the reference normalisation of Liu et al. 2023, "Statistical Rejection
//! Sampling Improves Preference Optimization" (RSO), where β_π is the reciprocal of their margin.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{Alignment, Divergence, Entry, GroupLogProbs, Takes, check_beta, margin};
use burn::tensor::activation::relu;

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "hinge",
    label: "Hinge",
    about: "the hinge loss of the margin, as in SLiC and RSO",
    takes: Takes::Pairs,
    divergence: Divergence::Other,
    reads: &["beta_policy"],
    forms: &[],
    build: |config| {
        check_beta("beta_policy", config.beta_policy)?;
        Ok(Arc::new(Hinge { beta_policy: config.beta_policy }))
    },
};

/// The hinge loss over pairs, the first completion chosen.
#[derive(Clone, Debug)]
struct Hinge {
    beta_policy: f64,
}

impl Alignment for Hinge {
    fn loss(&self, log_probs: &GroupLogProbs, _rewards: &Tensor<2>) -> Tensor<1> {
        let z = margin(log_probs, self.beta_policy); //                   [groups, 1]
        relu(-z + 1.0).mean() //                                          [1]
    }

    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn beta_policy(&self) -> f64 {
        self.beta_policy
    }
}
