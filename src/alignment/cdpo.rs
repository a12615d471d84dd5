//! cDPO: DPO where a label is wrong with probability s (conservative DPO).
//!
//!   z = β_π (h_chosen − h_rejected)      loss = −(1−s) log σ(z) − s log σ(−z)
//!
//! The margin that it wants is finite: z = logit(1−s). s is `objective.label_smoothing`. Mitchell 2023, "A note
//! on DPO with noisy preferences & relationship to IPO".

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{
    Alignment, Divergence, Entry, GroupLogProbs, Takes, check_beta, check_smoothing, log_sigmoid,
    margin,
};

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "cdpo",
    label: "cDPO",
    about: "the likelihood of labels that are wrong with a known probability",
    takes: Takes::Pairs,
    divergence: Divergence::Other,
    reads: &["beta_policy", "label_smoothing"],
    forms: &[],
    build: |config| {
        check_beta("beta_policy", config.beta_policy)?;
        check_smoothing(config.label_smoothing)?;
        Ok(Arc::new(CDpo { beta_policy: config.beta_policy, smoothing: config.label_smoothing }))
    },
};

/// The cross-entropy from the smoothed label over pairs, the first completion chosen.
#[derive(Clone, Debug)]
struct CDpo {
    beta_policy: f64,
    /// The probability that a label is wrong.
    smoothing: f64,
}

impl Alignment for CDpo {
    fn loss(&self, log_probs: &GroupLogProbs, _rewards: &Tensor<2>) -> Tensor<1> {
        let z = margin(log_probs, self.beta_policy); //                   [groups, 1]
        let right = log_sigmoid(z.clone()) * (1.0 - self.smoothing);
        let wrong = log_sigmoid(-z) * self.smoothing;
        -(right + wrong).mean() //                                        [1]
    }

    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn beta_policy(&self) -> f64 {
        self.beta_policy
    }
}
