//! DPO on ranked lists: the likelihood of the whole order under Plackett–Luce.
//!
//!   loss = −Σ_i [ β_π h_i − log Σ_{j: r_j ≤ r_i} exp(β_π h_j) ]
//!
//! Only the order of the rewards counts: the best completion is to win against all, the second best against
//! all but the best, and so on. Completions of equal reward are not ordered among themselves: each is
//! compared with all of no higher reward. For K = 2 this is [`Dpo`](super::Dpo).
//!
//! Rafailov et al. 2023, "Direct Preference Optimization", appendix A.3.

use std::sync::Arc;

use burn::tensor::Tensor;

use super::{Alignment, Divergence, Entry, GroupLogProbs, Takes, check_beta};

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "dpo-list",
    label: "DPO-list",
    about: "the likelihood of the order by reward under Plackett–Luce",
    takes: Takes::Rewards,
    divergence: Divergence::Other,
    reads: &["beta_policy"],
    forms: &[],
    build: |config| {
        check_beta("beta_policy", config.beta_policy)?;
        Ok(Arc::new(DpoList { beta_policy: config.beta_policy }))
    },
};

/// The likelihood of an order over groups with rewards, any K ≥ 2.
#[derive(Clone, Debug)]
struct DpoList {
    beta_policy: f64,
}

impl Alignment for DpoList {
    fn loss(&self, log_probs: &GroupLogProbs, rewards: &Tensor<2>) -> Tensor<1> {
        let scores = log_probs.log_ratios() * self.beta_policy; //            [groups, K]
        let [groups, k] = scores.dims();
        let of_i = |table: &Tensor<2>| table.clone().unsqueeze_dim::<3>(2).expand([groups, k, k]);
        let of_j = |table: &Tensor<2>| table.clone().unsqueeze_dim::<3>(1).expand([groups, k, k]);
        let better = of_j(rewards).greater(of_i(rewards)); //                 [groups, i, j]
        // Relative to the largest that counts, which is i itself or one that i is compared with.
        let compared = of_j(&scores).mask_fill(better, NONE); //              [groups, i, j]
        let largest = compared.clone().detach().max_dim(2); //                [groups, i, 1]
        let sum = (compared - largest.clone()).exp().sum_dim(2).log() + largest;
        let log_likelihood = scores - sum.squeeze_dim::<2>(2); //             [groups, K]
        -log_likelihood.sum_dim(1).mean() //                                  [1]
    }

    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    fn beta_policy(&self) -> f64 {
        self.beta_policy
    }
}

/// A score that counts for nothing in a sum of exponentials.
const NONE: f32 = -1e30;
