//! Alignment: an objective over the log-probs of groups, with the reference read as data.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;

use super::step::{MicroLoss, Trainable};
use crate::alignment::{Alignment, GroupLogProbs};
use crate::data::GroupBatch;
use crate::policy::Policy;

/// Groups with what the objective needs to know of them.
#[derive(Clone, Debug)]
pub struct AlignmentBatch {
    /// Prompts and completions.
    pub groups: GroupBatch,
    /// Σ log-prob of each completion under the reference at the same temperature, `[groups, K]`; zeros for
    /// an objective that needs none.
    pub reference: Tensor<2>,
    /// Rewards; for pairs the first completion is the chosen, `[groups, K]`.
    pub rewards: Tensor<2>,
    /// The mean log-ratio of the step's prompts with completions of other prompts, in nats, for an
    /// objective that [needs it](Alignment::needs_mismatched_kl); else 0.
    pub mismatched_kl: f64,
}

/// A policy being aligned by an objective.
#[derive(Module, Debug)]
pub struct Aligner<P: Module> {
    /// The policy.
    pub policy: P,
    #[module(skip)]
    objective: Arc<dyn Alignment>,
    temperature: f64,
}

impl<P: Policy> Aligner<P> {
    /// Aligns `policy` by `objective`, log-probs taken at `temperature`.
    pub fn new(policy: P, objective: Arc<dyn Alignment>, temperature: f64) -> Self {
        Self { policy, objective, temperature }
    }
}

impl<P: Policy + 'static> Trainable for Aligner<P> {
    type Batch = AlignmentBatch;

    fn loss(&self, batch: &AlignmentBatch) -> MicroLoss {
        let log_probs = GroupLogProbs {
            policy: self.policy.log_probs(&batch.groups, self.temperature),
            reference: batch.reference.clone(),
            num_tokens: batch.groups.num_tokens().cast(batch.reference.dtype()),
            mismatched_kl: batch.mismatched_kl,
        };
        let loss = self.objective.loss(&log_probs, &batch.rewards);
        (loss, self.objective.statistics(&log_probs, &batch.rewards))
    }
}
