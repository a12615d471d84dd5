//! KTO: each completion is desirable or not by itself; no pairs are needed.
//!
//!   loss_i = w_D (1 − σ(β_π (h_i − z₀)))    for a desirable completion, r_i > 0
//!   loss_i = w_U (1 − σ(β_π (z₀ − h_i)))    for another
//!
//! z₀ is an estimate of KL(π_θ ‖ π_sft), the same for all completions of a step, at least 0, and constant for
//! the gradient: the mean log-ratio of prompts with completions of other prompts. The weights even out how
//! many completions of both kinds there are. The loss is the mean over groups of the mean over their completions.
//!
//! Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic Optimization", Eq. 7 and 8.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{Alignment, Divergence, Entry, GroupLogProbs, Takes, check_beta, sigmoid};

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "kto",
    label: "KTO",
    about: "the value of each completion, desirable or not, by itself",
    takes: Takes::Labels,
    divergence: Divergence::Other,
    reads: &["beta_policy", "desirable_weight", "undesirable_weight"],
    forms: &[],
    build: |config| {
        check_beta("beta_policy", config.beta_policy)?;
        check_beta("desirable_weight", config.desirable_weight)?;
        check_beta("undesirable_weight", config.undesirable_weight)?;
        Ok(Arc::new(Kto {
            beta_policy: config.beta_policy,
            desirable_weight: config.desirable_weight,
            undesirable_weight: config.undesirable_weight,
        }))
    },
};

/// The mean value lost over completions, any K ≥ 1.
#[derive(Clone, Debug)]
struct Kto {
    beta_policy: f64,
    desirable_weight: f64,
    undesirable_weight: f64,
}

impl Alignment for Kto {
    fn loss(&self, log_probs: &GroupLogProbs, rewards: &Tensor<2>) -> Tensor<1> {
        let baseline = self.beta_policy * log_probs.mismatched_kl.max(0.0);
        let gain = log_probs.log_ratios() * self.beta_policy - baseline; //   [groups, K]
        let desirable = sigmoid(-gain.clone()) * self.desirable_weight;
        let undesirable = sigmoid(gain) * self.undesirable_weight;
        undesirable.mask_where(rewards.clone().greater_elem(0.0), desirable).mean() // [1]
    }

    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn beta_policy(&self) -> f64 {
        self.beta_policy
    }

    fn needs_mismatched_kl(&self) -> bool {
        true
    }
}
