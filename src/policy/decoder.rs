//! The decoder as a policy.

use burn::tensor::Tensor;

use super::Policy;
use crate::data::GroupBatch;
use crate::deferred::Deferred;
use crate::kernels::vocabulary_head::token_log_probs;
use crate::model::{Decoder, ValueHead};

impl Policy for Decoder {
    fn log_probs(&self, batch: &GroupBatch, temperature: f64) -> Tensor<2> {
        if batch.num_scored.iter().all(|&scored| scored == 0) {
            // Of no token, whatever the weights are: zeros that a backward pass reaches.
            let nothing = self.head_weight().slice([0..1, 0..1]).mul_scalar(0.0);
            return nothing.expand([batch.num_groups, batch.num_completions]);
        }
        sum_by_completion(scored_log_probs(self, batch, temperature), batch)
    }

    fn token_log_probs(&self, batch: &GroupBatch, temperature: f64) -> Tensor<3> {
        if batch.num_scored.iter().all(|&scored| scored == 0) {
            return self.log_probs(batch, temperature).unsqueeze_dim(2);
        }
        by_completion(scored_log_probs(self, batch, temperature), batch)
    }

    fn token_log_probs_and_values(
        &self,
        batch: &GroupBatch,
        temperature: f64,
        head: &ValueHead,
    ) -> [Tensor<3>; 2] {
        if batch.num_scored.iter().all(|&scored| scored == 0) {
            let log_probs = self.token_log_probs(batch, temperature);
            return [log_probs.clone(), log_probs];
        }
        let hidden = predicting(self, batch);
        let (weight, targets) = (self.head_weight(), batch.targets.clone());
        let log_probs = token_log_probs(hidden.clone(), weight, targets, temperature);
        [log_probs, head.values(hidden)].map(|per_token| by_completion(per_token, batch))
    }

    fn deferred(&self) -> Option<&Deferred> {
        Decoder::deferred(self)
    }
}

/// The hidden states that predict the scored tokens of a batch, of which there must be one, `[scored, hidden]`.
pub(super) fn predicting(decoder: &Decoder, batch: &GroupBatch) -> Tensor<2> {
    decoder.hidden_at(
        batch.tokens.clone(),
        batch.positions.clone(),
        &batch.attention,
        &batch.predictors,
    )
}

/// The value of every scored token of a batch, of which there must be one, `[scored]`.
pub(super) fn scored_values(decoder: &Decoder, head: &ValueHead, batch: &GroupBatch) -> Tensor<1> {
    head.values(predicting(decoder, batch))
}

/// Log-probability of every scored token of a batch, of which there must be one, `[scored]`.
pub fn scored_log_probs(decoder: &Decoder, batch: &GroupBatch, temperature: f64) -> Tensor<1> {
    let hidden = predicting(decoder, batch);
    token_log_probs(hidden, decoder.head_weight(), batch.targets.clone(), temperature)
}

/// `[scored]` → `[groups, K]`, summed over each completion.
pub fn sum_by_completion(per_token: Tensor<1>, batch: &GroupBatch) -> Tensor<2> {
    let [completions, longest] = batch.scored_of_completion.dims();
    let sums = by_completion(per_token, batch).reshape([completions, longest]).sum_dim(1); // [groups · K, 1]
    sums.reshape([batch.num_groups, batch.num_completions])
}

/// `[scored]` → `[groups, K, longest]`; zeros stand past the end of a completion.
pub fn by_completion(per_token: Tensor<1>, batch: &GroupBatch) -> Tensor<3> {
    let [completions, longest] = batch.scored_of_completion.dims();
    let places = batch.scored_of_completion.clone().reshape([completions * longest]);
    // Past the end of a completion stands a zero, which is appended for that.
    let none = Tensor::zeros([1], &per_token.device());
    let padded = Tensor::cat(vec![per_token, none], 0).select(0, places);
    padded.reshape([batch.num_groups, batch.num_completions, longest])
}
