//! DPO on log-ratios per token (length-normalised DPO).
//!
//!   loss = −log σ(β_π (h_chosen / n_chosen − h_rejected / n_rejected))
//!
//! n is a completion's number of tokens; since a mean is smaller than a sum, β_π is larger than DPO's: 5 in
//! Lambert et al. 2024, "Tülu 3: Pushing Frontiers in Open Language Model Post-Training", Eq. 6.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{Alignment, Divergence, Entry, GroupLogProbs, Takes, check_beta, log_sigmoid, pair};

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "dpo-norm",
    label: "DPO-norm",
    about: "DPO on log-ratios per token, so that length does not count",
    takes: Takes::Pairs,
    divergence: Divergence::Other,
    reads: &["beta_policy"],
    forms: &[],
    build: |config| {
        check_beta("beta_policy", config.beta_policy)?;
        Ok(Arc::new(DpoNorm { beta_policy: config.beta_policy }))
    },
};

/// DPO on means over tokens, over pairs, the first completion chosen.
#[derive(Clone, Debug)]
struct DpoNorm {
    beta_policy: f64,
}

impl Alignment for DpoNorm {
    fn loss(&self, log_probs: &GroupLogProbs, _rewards: &Tensor<2>) -> Tensor<1> {
        let [chosen, rejected] = pair(self.scores(log_probs)); //              [groups, 1] each
        -log_sigmoid((chosen - rejected) * self.beta_policy).mean() //        [1]
    }

    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn beta_policy(&self) -> f64 {
        self.beta_policy
    }

    fn scores(&self, log_probs: &GroupLogProbs) -> Tensor<2> {
        log_probs.mean_log_ratios()
    }

    fn needs_num_tokens(&self) -> bool {
        true
    }
}
