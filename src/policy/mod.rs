//! Policies: they assign log-probabilities to the completions of a batch of groups.
//!
//! | room | what |
//! |---|---|
//! | `decoder` | the transformer as a policy, each prompt encoded once for all of its completions |
//! | `table` | policies whose completions can be listed, so that every probability is known |
//! | `reading` | many groups in batches: log-probs of every token, and how far completions are from a reference, without autodiff |
//!
//! Invariant: nothing here knows what the log-probabilities are wanted for.

mod decoder;
mod reading;
mod table;

use burn::module::{Module, ModuleDisplay};
use burn::tensor::Tensor;

use crate::data::GroupBatch;
use crate::deferred::Deferred;
use crate::model::ValueHead;

pub use decoder::{by_completion, scored_log_probs, sum_by_completion};
pub use reading::{
    Distance, GroupPart, Predictions, check_tokens, not_finite, read_in_batches,
    token_log_probs_of, token_values_of,
};
pub(crate) use reading::{NOT_FINITE, to_f32};
pub use table::{Listed, Table};

/// A policy assigns log-probabilities to the completions of a batch of groups.
pub trait Policy: Module + ModuleDisplay {
    /// Σ log π(token | earlier) over the tokens of each completion, logits divided by
    /// `temperature`, `[groups, K]`.
    fn log_probs(&self, batch: &GroupBatch, temperature: f64) -> Tensor<2>;

    /// log π(token | earlier) of every scored token of each completion, `[groups, K, longest]`; zeros stand
    /// past the end of a completion.
    fn token_log_probs(&self, batch: &GroupBatch, temperature: f64) -> Tensor<3>;

    /// The same, and the value of every token that `head` reads off the hidden state before it, which predicts
    /// the token, `[groups, K, longest]` each.
    fn token_log_probs_and_values(
        &self,
        batch: &GroupBatch,
        temperature: f64,
        head: &ValueHead,
    ) -> [Tensor<3>; 2];

    /// Where parts of the backward pass are left that are computed again, if there are such.
    fn deferred(&self) -> Option<&Deferred> {
        None
    }
}
