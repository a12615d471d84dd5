//! NLL: the likelihood of the best completion, per token. With a weight it keeps the log-probs of chosen
//! completions from falling beside any other objective.
//!
//!   loss = −log π_θ(y_best | x) / n_best
//!
//! n is the number of tokens. The best completion is the chosen one, or the first one of the highest reward; a
//! group without a desirable completion, where completions have labels of their own, counts as 0. Pang et al.
//! 2024, "Iterative Reasoning Preference Optimization", where it is the term that is added to DPO (RPO in TRL).

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{Alignment, Divergence, Entry, GroupLogProbs, Takes};

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "nll",
    label: "NLL",
    about: "the likelihood per token of the best completion, without a reference",
    takes: Takes::Rewards,
    divergence: Divergence::Other,
    reads: &[],
    forms: &[],
    build: |config| Ok(Arc::new(Nll { of: Takes::Rewards, beta_policy: config.beta_policy })),
};

/// −log π per token of the best completion of each group.
#[derive(Clone, Debug)]
pub(super) struct Nll {
    /// What tells the best completion.
    pub of: Takes,
    /// The sharpness at which margins are shown.
    pub beta_policy: f64,
}

impl Alignment for Nll {
    fn loss(&self, log_probs: &GroupLogProbs, rewards: &Tensor<2>) -> Tensor<1> {
        let per_token = -log_probs.mean_log_probs(); //                           [groups, K]
        if self.of == Takes::Pairs {
            return per_token.narrow(1, 0, 1).mean(); //                           [1]
        }
        let best = rewards.clone().argmax(1); //                                  [groups, 1]
        let of_best = per_token.gather(1, best.clone());
        match self.of {
            Takes::Labels => {
                let none_desirable = rewards.clone().gather(1, best).lower_equal_elem(0.0);
                of_best.mask_fill(none_desirable, 0.0).mean()
            }
            _ => of_best.mean(),
        }
    }

    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn beta_policy(&self) -> f64 {
        self.beta_policy
    }

    fn needs_rewards(&self) -> bool {
        // Without rewards the first completion is the best.
        self.of == Takes::Labels
    }

    fn needs_num_tokens(&self) -> bool {
        true
    }

    fn needs_reference(&self) -> bool {
        false
    }

    fn fewest_completions(&self) -> usize {
        1
    }
}
