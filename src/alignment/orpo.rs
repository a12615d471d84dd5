//! ORPO: the likelihood of the chosen completion, and its odds against the rejected one's, with no reference.
//!
//!   a = log π_θ(y | x) / n      odds = [a_chosen − log(1 − e^a_chosen)] − [a_rejected − log(1 − e^a_rejected)]
//!   loss = −a_chosen − β_π log σ(odds)
//!
//! n is a completion's number of tokens, β_π the paper's λ. Hong et al. 2024, "ORPO: Monolithic Preference
//! Optimization without Reference Model", Eq. 6 and 7. TRL's likelihood term counts the prompt's tokens as
//! well; here, as in the paper, it is of the completion alone.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{Alignment, Divergence, Entry, GroupLogProbs, Takes, check_beta, log_sigmoid, pair};
use crate::{Error, Result};

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "orpo",
    label: "ORPO",
    about: "the likelihood of the chosen and the odds of it against the rejected, without a reference",
    takes: Takes::Pairs,
    divergence: Divergence::Other,
    reads: &["beta_policy"],
    forms: &[],
    build: |config| {
        check_beta("beta_policy", config.beta_policy)?;
        Ok(Arc::new(Orpo { beta_policy: config.beta_policy }))
    },
};

/// Likelihood and odds over pairs, the first completion chosen.
#[derive(Clone, Debug)]
struct Orpo {
    beta_policy: f64,
}

impl Alignment for Orpo {
    fn loss(&self, log_probs: &GroupLogProbs, _rewards: &Tensor<2>) -> Tensor<1> {
        // A completion of probability 1 in this float type is taken as a little less likely.
        let a = self.scores(log_probs).clamp_max(-1e-20); //                  [groups, 2]
        let [chosen, _] = pair(a.clone());
        let [for_chosen, for_rejected] = pair(a.clone() - log_complement(a)); // log-odds, [groups, 1]
        let odds = log_sigmoid(for_chosen - for_rejected);
        -(chosen + odds * self.beta_policy).mean() //                         [1]
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

    fn check_log_probs(&self, policy: &[f64]) -> Result<()> {
        match policy.iter().find(|&&log_prob| log_prob >= 0.0) {
            None => Ok(()),
            Some(found) => Err(Error::usage(format!(
                "orpo takes the odds of a completion, p / (1 − p): expected log-probs below 0 in `policy`, \
                 found {found}"
            ))),
        }
    }
}

/// log(1 − e^a) for a < 0. 1 − e^a is taken as tanh(−a/2) (1 + e^a), which does not cancel where a is
/// near 0.
fn log_complement(a: Tensor<2>) -> Tensor<2> {
    (a.clone() * -0.5).tanh().log() + a.exp().log1p()
}
