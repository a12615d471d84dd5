//! NCA on pairs: each completion is told from the reference's own by itself, so that the likelihood of the
//! chosen one does not fall with the rejected one's.
//!
//!   loss = −log σ(β_π h_chosen) − ½ log σ(−β_π h_chosen) − ½ log σ(−β_π h_rejected)
//!
//! Chen et al. 2024, "Noise Contrastive Alignment of Language Models with Explicit Rewards".

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{Alignment, Divergence, Entry, GroupLogProbs, Takes, check_beta, log_sigmoid, pair};

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "nca-pair",
    label: "NCA",
    about: "the likelihood of each completion against noise, so that the chosen one does not fall",
    takes: Takes::Pairs,
    divergence: Divergence::Other,
    reads: &["beta_policy"],
    forms: &[],
    build: |config| {
        check_beta("beta_policy", config.beta_policy)?;
        Ok(Arc::new(NcaPair { beta_policy: config.beta_policy }))
    },
};

/// The noise-contrastive loss over pairs, the first completion chosen.
#[derive(Clone, Debug)]
struct NcaPair {
    beta_policy: f64,
}

impl Alignment for NcaPair {
    fn loss(&self, log_probs: &GroupLogProbs, _rewards: &Tensor<2>) -> Tensor<1> {
        let [chosen, rejected] = pair(log_probs.log_ratios() * self.beta_policy); // [groups, 1] each
        let noise = log_sigmoid(-chosen.clone()) + log_sigmoid(-rejected);
        -(log_sigmoid(chosen) + noise * 0.5).mean() //                        [1]
    }

    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn beta_policy(&self) -> f64 {
        self.beta_policy
    }
}
