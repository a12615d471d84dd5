//! A policy over completions that can be listed: a table of logits.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};
use exalign::alignment::GroupLogProbs;

use super::{device, matrix};

/// π_θ = softmax(θ / τ) and a fixed π_sft over the same completions of one prompt.
pub struct TabularPolicy {
    /// θ, `[1, completions]`.
    pub logits: Tensor<2>,
    /// log π_sft, `[1, completions]`.
    pub reference: Tensor<2>,
    pub temperature: f64,
}

impl TabularPolicy {
    pub fn new(logits: &[f64], reference: &[f64]) -> Self {
        let log_reference: Vec<f64> = reference.iter().map(|p| p.ln()).collect();
        Self {
            logits: matrix(logits, logits.len()).require_grad(),
            reference: matrix(&log_reference, reference.len()),
            temperature: 1.0,
        }
    }

    /// Both sides of groups of completions, given by their numbers: `[groups, K]`.
    pub fn log_probs(&self, groups: &[Vec<usize>]) -> GroupLogProbs {
        let (num_groups, k) = (groups.len(), groups[0].len());
        let indices: Vec<i64> = groups.iter().flatten().map(|&i| i as i64).collect();
        let indices =
            Tensor::<2, Int>::from_data(TensorData::new(indices, [num_groups, k]), &device());
        let pick = |log_probs: Tensor<2>| {
            let [_, completions] = log_probs.dims();
            log_probs.expand([num_groups, completions]).gather(1, indices.clone())
        };
        GroupLogProbs {
            policy: pick(log_softmax(self.logits.clone() / self.temperature, 1)),
            reference: pick(self.reference.clone()),
        }
    }
}
