//! A table of logits and a fixed π_sft over the same completions of one prompt, in f64.

use burn::tensor::{Gradients, Int, Tensor, TensorData};
use exalign::alignment::GroupLogProbs;
use exalign::policy::{Listed, Table};

use super::{device, matrix, numbers};

/// π_θ = softmax(θ) and π_sft.
pub struct TabularPolicy {
    policy: Table,
    reference: Table,
}

impl TabularPolicy {
    pub fn new(logits: &[f64], reference: &[f64]) -> Self {
        let log_reference: Vec<f64> = reference.iter().map(|p| p.ln()).collect();
        Self {
            policy: Table::new(matrix(logits, logits.len())),
            reference: Table::new(matrix(&log_reference, reference.len())),
        }
    }

    /// Both sides of groups of completions, given by their numbers: `[groups, K]`.
    pub fn log_probs(&self, groups: &[Vec<usize>]) -> GroupLogProbs {
        let (num_groups, k) = (groups.len(), groups[0].len());
        let completions: Vec<i64> = groups.iter().flatten().map(|&i| i as i64).collect();
        let completions =
            Tensor::<2, Int>::from_data(TensorData::new(completions, [num_groups, k]), &device());
        let prompts = Tensor::<1, Int>::zeros([num_groups], &device());
        let of = |it: &Table| it.log_probs_of(prompts.clone(), completions.clone(), 1.0);
        GroupLogProbs::new(of(&self.policy), of(&self.reference).detach())
    }

    /// ∂/∂θ.
    pub fn gradient(&self, gradients: &Gradients) -> Vec<f64> {
        numbers(self.policy.parameters().grad(gradients).unwrap())
    }
}
