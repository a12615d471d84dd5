//! Robust DPO: an unbiased estimate of DPO's loss under the true labels, from labels of which a share s is wrong.
//!
//!   z = β_π (h_chosen − h_rejected)      loss = [−(1−s) log σ(z) + s log σ(−z)] / (1 − 2s)
//!
//! s is `objective.label_smoothing`. Chowdhury et al. 2024, "Provably Robust DPO: Aligning Language Models with
//! Noisy Feedback", Eq. 10.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{
    Alignment, Divergence, Entry, GroupLogProbs, Takes, check_beta, check_smoothing, log_sigmoid,
    margin,
};

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "robust-dpo",
    label: "Robust DPO",
    about: "an unbiased estimate of DPO's loss where labels are wrong with a known probability",
    takes: Takes::Pairs,
    divergence: Divergence::Other,
    reads: &["beta_policy", "label_smoothing"],
    forms: &[],
    build: |config| {
        check_beta("beta_policy", config.beta_policy)?;
        check_smoothing(config.label_smoothing)?;
        Ok(Arc::new(RobustDpo {
            beta_policy: config.beta_policy,
            smoothing: config.label_smoothing,
        }))
    },
};

/// The debiased loss over pairs, the first completion chosen.
#[derive(Clone, Debug)]
struct RobustDpo {
    beta_policy: f64,
    /// The share of labels that are wrong.
    smoothing: f64,
}

impl Alignment for RobustDpo {
    fn loss(&self, log_probs: &GroupLogProbs, _rewards: &Tensor<2>) -> Tensor<1> {
        let z = margin(log_probs, self.beta_policy); //                   [groups, 1]
        let unbiased = 1.0 - 2.0 * self.smoothing;
        let clean = log_sigmoid(z.clone()) * ((1.0 - self.smoothing) / unbiased);
        let flipped = log_sigmoid(-z) * (self.smoothing / unbiased);
        (flipped - clean).mean() //                                       [1]
    }

    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn beta_policy(&self) -> f64 {
        self.beta_policy
    }
}
