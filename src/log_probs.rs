//! The log-probabilities of completions, the prompt encoded once for all of a group.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Device, Tensor};

use crate::data::{GroupBatch, TokenGroup};
use crate::model::Decoder;
use crate::model::vocabulary_head::token_log_probs;

/// A policy assigns log-probabilities to the completions of a batch of groups.
pub trait Policy: Module + ModuleDisplay {
    /// Σ log π(token | earlier) over the tokens of each completion, logits divided by
    /// `temperature`, `[groups, K]`.
    fn log_probs(&self, batch: &GroupBatch, temperature: f64) -> Tensor<2>;
}

impl Policy for Decoder {
    fn log_probs(&self, batch: &GroupBatch, temperature: f64) -> Tensor<2> {
        if batch.num_scored.iter().all(|&scored| scored == 0) {
            return Tensor::zeros([batch.num_groups, batch.num_completions], &self.device());
        }
        sum_by_completion(scored_log_probs(self, batch, temperature), batch)
    }
}

/// Log-probability of every scored token of a batch, of which there must be one, `[scored]`.
pub fn scored_log_probs(decoder: &Decoder, batch: &GroupBatch, temperature: f64) -> Tensor<1> {
    let hidden = decoder.hidden(batch.tokens.clone(), batch.positions.clone(), &batch.mask);
    let [groups, row, width] = hidden.dims();
    let predicting = hidden.reshape([groups * row, width]).select(0, batch.predictors.clone());
    token_log_probs(predicting, decoder.head_weight(), batch.targets.clone(), temperature)
}

/// `[scored]` → `[groups, K]`, summed over each completion.
pub fn sum_by_completion(per_token: Tensor<1>, batch: &GroupBatch) -> Tensor<2> {
    let sums = batch.membership.clone().matmul(per_token.unsqueeze_dim(1)); // [groups · K, 1]
    sums.reshape([batch.num_groups, batch.num_completions])
}

/// The log-probability of each token of each completion of each group, without autodiff.
///
/// The first token of a completion after an empty prompt has no predictor and no entry.
/// `progress` hears the number of groups finished.
pub fn token_log_probs_of(
    decoder: &Decoder,
    groups: &[TokenGroup],
    temperature: f64,
    device: &Device,
    mut progress: impl FnMut(usize) -> crate::Result<()>,
) -> crate::Result<Vec<Vec<Vec<f32>>>> {
    let mut scored = vec![Vec::new(); groups.len()];
    for indices in scoring_batches(groups) {
        let batch = GroupBatch::new(indices.iter().map(|&index| &groups[index]), device);
        let any = batch.num_scored.iter().any(|&scored| scored > 0);
        let values = if any { read(scored_log_probs(decoder, &batch, temperature)) } else { Vec::new() };
        let mut values = values.into_iter();
        let mut lengths = batch.num_scored.iter();
        for &index in &indices {
            scored[index] = lengths
                .by_ref()
                .take(batch.num_completions)
                .map(|&len| values.by_ref().take(len).collect())
                .collect();
        }
        progress(indices.len())?;
    }
    Ok(scored)
}

/// The values of a small tensor as f32.
pub(crate) fn read<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data_as::<f32>().try_into_vec().expect("converted to f32")
}

/// Indices of groups that are read together: the same K, similar lengths, a bounded number of
/// tokens in a batch.
pub fn scoring_batches(groups: &[TokenGroup]) -> Vec<Vec<usize>> {
    /// Row elements of a batch; attention scores grow with the row's square, so long rows go alone.
    const TOKENS: usize = 4096;
    let key = |index: usize| (groups[index].completions.len(), groups[index].num_tokens());
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_key(|&index| key(index));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for index in order {
        let (completions, row) = key(index);
        match batches.last_mut() {
            Some(batch) if key(batch[0]).0 == completions && (batch.len() + 1) * row <= TOKENS => {
                batch.push(index)
            }
            _ => batches.push(vec![index]),
        }
    }
    batches
}
