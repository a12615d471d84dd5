//! An objective that only tests have: what a program adds to the table shows everywhere.

use std::sync::Arc;

use burn::tensor::Tensor;
use exalign::alignment::{Alignment, Divergence, Entry, GroupLogProbs, Takes};

/// The entry of [`Squares`], to be [registered](exalign::alignment::register).
pub static SQUARES: Entry = Entry {
    name: "squares",
    label: "Squares",
    about: "the squared distance of β_π h from the rewards",
    takes: Takes::Rewards,
    divergence: Divergence::Reverse,
    reads: &["beta_policy"],
    forms: &[],
    build: |config| Ok(Arc::new(Squares { beta_policy: config.beta_policy })),
};

/// Σ (β_π h_i − r_i)², mean over the groups.
#[derive(Debug)]
struct Squares {
    beta_policy: f64,
}

impl Alignment for Squares {
    fn loss(&self, log_probs: &GroupLogProbs, rewards: &Tensor<2>) -> Tensor<1> {
        let distance = log_probs.log_ratios() * self.beta_policy - rewards.clone(); // [groups, K]
        distance.powi_scalar(2).sum_dim(1).mean() //                                   [1]
    }

    fn entry(&self) -> &'static Entry {
        &SQUARES
    }

    fn beta_policy(&self) -> f64 {
        self.beta_policy
    }
}
