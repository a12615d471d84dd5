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
//! use exalign::alignment::{GroupNumbers, ObjectiveConfig, evaluate};
//!
//! let config = ObjectiveConfig { name: "exo-rw".parse()?, ..ObjectiveConfig::default() };
//! let objective = config.init()?;
//! let group = GroupNumbers {
//!     policy: &[-3.0, -5.0, -4.0],
//!     reference: &[-4.0, -4.5, -4.0],
//!     rewards: &[0.9, 0.1, 0.4],
//!     ..GroupNumbers::default()
//! };
//! let group = evaluate(&*objective, &group)?;
//! assert!(group.loss > 0.0 && group.gradient[0] < 0.0); // the best completion is pushed up
//! # Ok::<(), exalign::Error>(())
//! ```
//!
//! Sources: Ji et al. 2024, "Towards Efficient Exact Optimization of Language Model Alignment";
//! Rafailov et al. 2023, "Direct Preference Optimization".

mod alpha_pref;
mod alpha_rw;
mod apo_down;
mod apo_zero;
mod cdpo;
mod divergence;
mod dpo;
mod dpo_list;
mod dpo_norm;
mod dpo_rw;
mod evaluate;
mod exo_pref;
mod exo_rw;
mod gae;
mod grpo;
mod hinge;
mod ipo;
mod jeffreys_rw;
mod js_rw;
mod kl_weight;
mod kto;
mod log_probs;
mod nca_pair;
mod nll;
mod objective;
mod orpo;
mod ppo;
mod reinforce;
mod rloo;
mod robust_dpo;
mod simpo;
mod sppo_hard;
mod statistics;
mod sum;

use std::fmt::Debug;

use burn::tensor::{Tensor, activation};

use crate::{Error, Result};

pub use dpo::{Dpo, DpoConfig};
pub use dpo_rw::{DpoRw, DpoRwConfig};
pub use evaluate::{GroupNumbers, LossAndGradient, TokenNumbers, evaluate};
pub use exo_pref::{ExoPref, ExoPrefConfig, Labels};
pub use exo_rw::{ExoRw, ExoRwConfig};
pub use gae::{Credit, Drawn, Gae};
pub use kl_weight::KlWeight;
pub use log_probs::{GroupLogProbs, TokenLogProbs, TokenValues};
pub use objective::{
    Divergence, Entry, Form, ObjectiveConfig, ObjectiveName, Takes, objective_names, objectives,
    register,
};
pub use statistics::Statistic;
pub(crate) use statistics::{best, worst};

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
        self.entry().takes != Takes::Pairs
    }

    /// Whether the objective reads log-probs under the reference.
    fn needs_reference(&self) -> bool {
        true
    }

    /// Whether the objective reads numbers of tokens.
    fn needs_num_tokens(&self) -> bool {
        false
    }

    /// Whether the objective reads the log-ratio of prompts with completions of other prompts.
    fn needs_mismatched_kl(&self) -> bool {
        false
    }

    /// Whether the objective weighs completions by the distribution μ that they were drawn from, where that
    /// is not π_sft.
    fn reads_proposal(&self) -> bool {
        self.needs_proposal()
    }

    /// Whether it learns only from completions with their log-probs under that distribution.
    fn needs_proposal(&self) -> bool {
        false
    }

    /// Whether the objective reads log-probs of single tokens.
    fn needs_tokens(&self) -> bool {
        false
    }

    /// How rewards are credited to tokens, for an objective that learns a value of each token with the policy;
    /// else none.
    fn gae(&self) -> Option<&Gae> {
        None
    }

    /// The smallest number of completions of a group.
    fn fewest_completions(&self) -> usize {
        if self.entry().takes == Takes::Labels { 1 } else { 2 }
    }

    /// What the objective compares completions by, before β_π: h, or means over tokens, `[groups, K]`.
    fn scores(&self, log_probs: &GroupLogProbs) -> Tensor<2> {
        log_probs.log_ratios()
    }

    /// log p over each group, `[groups, K]`, for rewards `[groups, K]`; none when the objective has no
    /// target, or one that puts all its mass on one completion.
    fn log_target(&self, _: &GroupLogProbs, _rewards: &Tensor<2>) -> Option<Tensor<2>> {
        None
    }

    /// Refuses log-probs of a group that the objective is not defined for.
    ///
    /// # Errors
    /// [`Error::Usage`].
    fn check_log_probs(&self, _policy: &[f64]) -> Result<()> {
        Ok(())
    }

    /// Refuses groups of a size the objective is not defined for.
    ///
    /// # Errors
    /// [`Error::Usage`]: too few completions, or other than two for a pair objective.
    fn check(&self, num_completions: usize) -> Result<()> {
        let name = self.name();
        let fewest = self.fewest_completions();
        match num_completions {
            found if found < fewest => Err(Error::usage(format!(
                "{name} compares completions of one prompt and needs at least {fewest} in a group, found \
                 {found}; sample more completions or drop the group"
            ))),
            3.. if self.entry().takes == Takes::Pairs => Err(Error::usage(format!(
                "{name} is defined for pairs (chosen, rejected), found a group of \
                 {num_completions}; {}make pairs with `exalign pairs`",
                instead_on_rewards(self.entry())
            ))),
            _ => Ok(()),
        }
    }

    /// Statistics to watch during training, as means over the groups or, where completions have labels of their
    /// own, over completions, in a fixed order:
    ///
    /// - `accuracy`: share of the completion pairs, ordered by reward, that the [scores](Self::scores) s order
    ///   alike (a tie in s, or a group without an ordered pair, counts one half)
    /// - `reward_margin`: β_π (s_best − s_worst), best and worst by reward
    /// - `rewards/chosen`, `rewards/rejected`: β_π s of the best and of the worst completion
    /// - `logps/chosen`, `logps/rejected`: Σ log π of the best and of the worst completion; both may fall
    ///   while the margin grows
    /// - `length/chosen`, `length/rejected`: tokens of the best and of the worst completion
    /// - `entropy_q`: −Σ q log q in nats
    /// - `kl`: KL(q ‖ p) in nats, where there is a [target](Self::log_target); the estimate of
    ///   KL(π_θ ‖ π_sft) where the objective reads one
    /// - `effective_sample_size`: 1 / Σ q², from 1 to K, where completions are weighted by the distribution
    ///   they were drawn from
    ///
    /// Where completions have labels of their own, `accuracy` is the share of completions whose h is on its
    /// label's side of that estimate, chosen and rejected are the desirable and the other completions of the
    /// batch, and there is no margin.
    fn statistics(&self, log_probs: &GroupLogProbs, rewards: &Tensor<2>) -> Vec<Statistic> {
        statistics::statistics(self, log_probs, rewards)
    }
}

/// What to use in place of a pair objective where there are rewards: the objectives on rewards with its
/// divergence; nothing where it has none.
fn instead_on_rewards(pairs: &Entry) -> String {
    if pairs.divergence == Divergence::Other {
        return String::new();
    }
    let alike =
        |other: &Entry| other.takes == Takes::Rewards && other.divergence == pairs.divergence;
    format!("use {} with rewards, or ", objective_names(alike))
}

/// z = β_π (h_chosen − h_rejected), `[groups, 1]`, of pairs `[groups, 2]`.
///
/// # Panics
/// When the groups are not pairs: the objective's `check` comes first.
fn margin(log_probs: &GroupLogProbs, beta_policy: f64) -> Tensor<2> {
    let [chosen, rejected] = pair(log_probs.log_ratios());
    (chosen - rejected) * beta_policy
}

/// What belongs to the chosen and to the rejected completion of pairs `[groups, 2]`, `[groups, 1]` each.
///
/// # Panics
/// As [`margin`].
fn pair(table: Tensor<2>) -> [Tensor<2>; 2] {
    let [_, num_completions] = table.dims();
    assert_eq!(num_completions, 2, "a pair objective was given groups that are no pairs");
    [table.clone().narrow(1, 0, 1), table.narrow(1, 1, 1)]
}

/// σ(z), with the derivative σ(z) σ(−z), which keeps its digits for any z.
fn sigmoid(z: Tensor<2>) -> Tensor<2> {
    log_sigmoid(z).exp()
}

/// log σ(z), with the derivative σ(−z).
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

/// The share of labels that are wrong: less than half of them.
fn check_smoothing(value: f64) -> Result<()> {
    if (0.0..0.5).contains(&value) {
        return Ok(());
    }
    let message = format!(
        "is the probability that a label is wrong and must be 0 or more and below 0.5, found {value}"
    );
    Err(Error::setting("label_smoothing", message))
}
