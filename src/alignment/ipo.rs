//! IPO: the difference of the log-ratios is to be 1 / (2 β_π), no more and no less.
//!
//!   loss = (h_chosen / n_chosen − h_rejected / n_rejected − 1 / (2 β_π))²
//!
//! n is a completion's number of tokens. Azar et al. 2023, "A General Theoretical Paradigm to Understand
//! Learning from Human Preferences", Eq. 17, where the log-ratios are sums; their code, and TRL's, averages
//! over tokens. `ipo_average = false` takes the sums.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{Alignment, Divergence, Entry, GroupLogProbs, Takes, check_beta, pair};

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "ipo",
    label: "IPO",
    about: "the squared distance of the log-ratios' difference from 1 / (2 β_π)",
    takes: Takes::Pairs,
    divergence: Divergence::Other,
    reads: &["beta_policy", "ipo_average"],
    forms: &[],
    build: |config| {
        check_beta("beta_policy", config.beta_policy)?;
        Ok(Arc::new(Ipo { beta_policy: config.beta_policy, average: config.ipo_average }))
    },
};

/// The squared distance over pairs, the first completion chosen.
#[derive(Clone, Debug)]
struct Ipo {
    beta_policy: f64,
    /// Whether a log-ratio is the mean over its completion's tokens.
    average: bool,
}

impl Alignment for Ipo {
    fn loss(&self, log_probs: &GroupLogProbs, _rewards: &Tensor<2>) -> Tensor<1> {
        let [chosen, rejected] = pair(self.scores(log_probs)); //      [groups, 1] each
        let distance = chosen - rejected - 0.5 / self.beta_policy;
        distance.powi_scalar(2).mean() //                                 [1]
    }

    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn beta_policy(&self) -> f64 {
        self.beta_policy
    }

    fn scores(&self, log_probs: &GroupLogProbs) -> Tensor<2> {
        match self.average {
            true => log_probs.mean_log_ratios(),
            false => log_probs.log_ratios(),
        }
    }

    fn needs_num_tokens(&self) -> bool {
        self.average
    }
}
