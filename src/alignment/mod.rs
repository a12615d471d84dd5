//! Objectives: what a policy minimises over groups of completions.
//!
//! Invariant: an objective sees log-probabilities and rewards, never a model, a token or a file.
//! All arithmetic is in log space, in the float type of the tensors it is given, on their device.
//!
//! An objective is one file, declared below, with its `Config`, its struct, `impl Alignment` and its
//! [`Entry`], and one line in the table in `objective.rs`. Everything that tells objectives apart (the
//! command line, comparisons, reports, the parity tests) asks the table. A program adds objectives of its
//! own by [`register`].
//!
//! ```
//! use exalign::alignment::{ObjectiveConfig, evaluate};
//!
//! let config = ObjectiveConfig { name: "exo-rw".parse()?, ..ObjectiveConfig::default() };
//! let objective = config.init()?;
//! let (policy, reference) = ([-3.0, -5.0, -4.0], [-4.0, -4.5, -4.0]);
//! let group = evaluate(&*objective, &policy, &reference, &[0.9, 0.1, 0.4])?;
//! assert!(group.loss > 0.0 && group.gradient[0] < 0.0); // the best completion is pushed up
//! # Ok::<(), exalign::Error>(())
//! ```
//!
//! Sources: Ji et al. 2024, "Towards Efficient Exact Optimization of Language Model Alignment";
//! Rafailov et al. 2023, "Direct Preference Optimization".

mod dpo;
mod dpo_rw;
mod evaluate;
mod exo_pref;
mod exo_rw;
mod objective;
mod statistics;

use std::fmt::Debug;

use burn::tensor::{Tensor, activation};

use crate::{Error, Result};

pub use dpo::{Dpo, DpoConfig};
pub use dpo_rw::{DpoRw, DpoRwConfig};
pub use evaluate::{LossAndGradient, evaluate};
pub use exo_pref::{ExoPref, ExoPrefConfig, Labels};
pub use exo_rw::{ExoRw, ExoRwConfig};
pub use objective::{
    Divergence, Entry, Form, ObjectiveConfig, ObjectiveName, Takes, objective_names, objectives,
    register,
};

/// The two sides of a batch of groups: Σ log-prob over each completion's tokens at temperature τ.
///
/// Both tensors live on the same device; only `policy` is tracked by autodiff.
#[derive(Clone, Debug)]
pub struct GroupLogProbs {
    /// log π_θ(y_i | x), `[groups, K]`.
    pub policy: Tensor<2>,
    /// log π_sft(y_i | x), `[groups, K]`.
    pub reference: Tensor<2>,
}

impl GroupLogProbs {
    /// h_i = log π_θ(y_i | x) − log π_sft(y_i | x), `[groups, K]`.
    pub fn log_ratios(&self) -> Tensor<2> {
        self.policy.clone() - self.reference.clone()
    }
}

/// An objective over groups of completions.
pub trait Alignment: Debug + Send + Sync {
    /// Mean loss over the groups, `[1]`.
    ///
    /// `rewards` is `[groups, K]`. The pair objectives do not read it: K is 2, and the first
    /// completion is the chosen one.
    ///
    /// # Panics
    /// When the groups have a size that [`check`](Self::check) refuses.
    fn loss(&self, log_probs: &GroupLogProbs, rewards: &Tensor<2>) -> Tensor<1>;

    /// Its entry in the table.
    fn entry(&self) -> &'static Entry;

    /// The name on the command line and in records.
    fn name(&self) -> &'static str {
        self.entry().name
    }

    /// β_π, the sharpness of the policy side q = softmax(β_π h).
    fn beta_policy(&self) -> f64;

    /// Whether the objective reads rewards. One that does not takes pairs, chosen first.
    fn needs_rewards(&self) -> bool {
        self.entry().takes == Takes::Rewards
    }

    /// log p over each group, `[groups, K]`, for rewards `[groups, K]`; none when the target puts
    /// all its mass on one completion.
    fn log_target(&self, rewards: &Tensor<2>) -> Option<Tensor<2>>;

    /// Refuses groups of a size the objective is not defined for.
    ///
    /// # Errors
    /// [`Error::Usage`]: fewer than two completions, or other than two for a pair objective.
    fn check(&self, num_completions: usize) -> Result<()> {
        let name = self.name();
        match num_completions {
            0 | 1 => Err(Error::usage(format!(
                "{name} compares completions of one prompt and needs at least 2 in a group, found \
                 {num_completions}; sample more completions or drop the group"
            ))),
            3.. if !self.needs_rewards() => Err(Error::usage(format!(
                "{name} is defined for pairs (chosen, rejected), found a group of \
                 {num_completions}; use {} with rewards, or make pairs with `exalign pairs`",
                objective_names(|other| {
                    other.takes == Takes::Rewards && other.divergence == self.entry().divergence
                }),
            ))),
            _ => Ok(()),
        }
    }

    /// Statistics to watch during training, as means over the groups, in a fixed order:
    ///
    /// - `accuracy`: share of the completion pairs, ordered by reward, that h orders alike (a tie
    ///   in h, or a group without an ordered pair, counts one half)
    /// - `reward_margin`: β_π (h_best − h_worst), best and worst by reward
    /// - `log_prob_chosen`, `log_prob_rejected`: Σ log π of the best and of the worst completion; both
    ///   may fall while the margin grows
    /// - `entropy_q`: −Σ q log q in nats
    /// - `kl`: KL(q ‖ p) in nats, where there is a [target](Self::log_target)
    fn statistics(
        &self,
        log_probs: &GroupLogProbs,
        rewards: &Tensor<2>,
    ) -> Vec<(&'static str, f64)> {
        statistics::statistics(self, log_probs, rewards)
    }
}

/// KL(q ‖ p) of each group, `[groups, 1]`, from normalised `log_q` and constant `log_p`,
/// `[groups, K]`.
///
/// Because Σ ∂q_i = 0, the derivative is Σ (log q_i − log p_i − c) ∂q_i for any constant c; the
/// differences are detached and c is the likeliest completion's. Differentiating log q_i as well
/// would add Σ q_i ∂log q_i, which is zero only up to rounding: noise that outgrows the gradient
/// once q is nearly one-hot or log p reaches thousands.
fn kl_divergence(log_q: Tensor<2>, log_p: Tensor<2>) -> Tensor<2> {
    let likeliest = log_q.clone().detach().argmax(1); //           [groups, 1]
    let difference = (log_q.clone() - log_p).detach(); //          [groups, K]
    let anchor = difference.clone().gather(1, likeliest); //       [groups, 1]
    (log_q.exp() * (difference - anchor.clone())).sum_dim(1) + anchor
}

/// z = β_π (h_chosen − h_rejected), `[groups, 1]`, of pairs `[groups, 2]`.
///
/// # Panics
/// When the groups are not pairs: the objective's `check` comes first.
fn margin(log_probs: &GroupLogProbs, beta_policy: f64) -> Tensor<2> {
    let log_ratios = log_probs.log_ratios();
    let [_, num_completions] = log_ratios.dims();
    assert_eq!(num_completions, 2, "a pair objective was given groups that are no pairs");
    let chosen = log_ratios.clone().narrow(1, 0, 1); //            [groups, 1]
    let rejected = log_ratios.narrow(1, 1, 1); //                  [groups, 1]
    (chosen - rejected) * beta_policy
}

/// log σ(z), with the derivative σ(−z), `[groups, 1]`.
///
/// The derivative is put in place of the one burn would take: most backends compute
/// 1 − 1/(1 + e^−z), which has lost all digits of σ(−z) for z > 16 in f32.
fn log_sigmoid(z: Tensor<2>) -> Tensor<2> {
    let point = z.clone().detach();
    let slope = activation::log_sigmoid(-point.clone()).exp();
    activation::log_sigmoid(point.clone()) + slope * (z - point) // z − point is 0
}

/// A β that divides or multiplies: positive and finite, in f32 as well.
fn check_beta(name: &str, value: f64) -> Result<()> {
    if value > 0.0 && (value as f32).is_normal() {
        return Ok(());
    }
    let message =
        format!("must be a positive finite number (within the range of f32), found {value}");
    Err(Error::setting(name, message))
}
