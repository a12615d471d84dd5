//! SimPO: log-probs per token in place of log-ratios, with a margin γ, and no reference.
//!
//!   a = log π_θ(y | x) / n      loss = −log σ(β_π (a_chosen − a_rejected) − γ)
//!
//! n is a completion's number of tokens. Nothing holds the policy near where it began; the paper's β is 2 to
//! 2.5. Meng et al. 2024, "SimPO: Simple Preference Optimization with a Reference-Free Reward", Eq. 6.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{Alignment, Divergence, Entry, GroupLogProbs, Takes, check_beta, log_sigmoid, pair};
use crate::Error;

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "simpo",
    label: "SimPO",
    about: "the likelihood of the chosen winning by log-probs per token, without a reference",
    takes: Takes::Pairs,
    divergence: Divergence::Other,
    reads: &["beta_policy", "gamma"],
    forms: &[],
    build: |config| {
        check_beta("beta_policy", config.beta_policy)?;
        if !config.gamma.is_finite() || config.gamma < 0.0 {
            let message = format!("must be 0 or a positive number, found {}", config.gamma);
            return Err(Error::setting("gamma", message));
        }
        Ok(Arc::new(SimPo { beta_policy: config.beta_policy, gamma: config.gamma }))
    },
};

/// The loss over pairs, the first completion chosen.
#[derive(Clone, Debug)]
struct SimPo {
    beta_policy: f64,
    /// The margin by which the chosen completion is to win.
    gamma: f64,
}

impl Alignment for SimPo {
    fn loss(&self, log_probs: &GroupLogProbs, _rewards: &Tensor<2>) -> Tensor<1> {
        let [chosen, rejected] = pair(self.scores(log_probs)); //               [groups, 1] each
        -log_sigmoid((chosen - rejected) * self.beta_policy - self.gamma).mean() // [1]
    }

    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn beta_policy(&self) -> f64 {
        self.beta_policy
    }

    fn scores(&self, log_probs: &GroupLogProbs) -> Tensor<2> {
        log_probs.mean_log_probs()
    }

    fn needs_num_tokens(&self) -> bool {
        true
    }

    fn needs_reference(&self) -> bool {
        false
    }
}
