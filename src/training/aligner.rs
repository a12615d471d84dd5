//! Alignment: an objective over the log-probs of groups, with the reference read as data.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;

use super::step::{MicroLoss, Trainable};
use crate::alignment::{Alignment, GroupLogProbs, TokenLogProbs};
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
    /// The same under the distribution that the completions were drawn from, `[groups, K]`; none: the
    /// reference.
    pub proposal: Option<Tensor<2>>,
    /// The log-probs of single tokens under both, for an objective that
    /// [needs them](Alignment::needs_tokens).
    pub tokens: Option<GivenTokens>,
    /// Rewards; for pairs the first completion is the chosen, `[groups, K]`.
    pub rewards: Tensor<2>,
    /// The mean log-ratio of the step's prompts with completions of other prompts, in nats, for an
    /// objective that [needs it](Alignment::needs_mismatched_kl); else 0.
    pub mismatched_kl: f64,
}

/// Log-probs of single tokens that do not change while training, `[groups, K, longest]`; zeros stand past the
/// end of a completion.
#[derive(Clone, Debug)]
pub struct GivenTokens {
    /// Under the reference; zeros for an objective that needs none.
    pub reference: Tensor<3>,
    /// Under the distribution that the completions were drawn from.
    pub proposal: Tensor<3>,
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
        let (policy, tokens) = self.log_probs(batch);
        let log_probs = GroupLogProbs {
            policy,
            reference: batch.reference.clone(),
            proposal: batch.proposal.clone(),
            num_tokens: batch.groups.num_tokens().cast(batch.reference.dtype()),
            tokens,
            mismatched_kl: batch.mismatched_kl,
        };
        let loss = self.objective.loss(&log_probs, &batch.rewards);
        (loss, self.objective.statistics(&log_probs, &batch.rewards))
    }
}

impl<P: Policy> Aligner<P> {
    /// The log-probs of completions, and of their tokens where those are wanted.
    fn log_probs(&self, batch: &AlignmentBatch) -> (Tensor<2>, Option<TokenLogProbs>) {
        let Some(GivenTokens { reference, proposal }) = batch.tokens.clone() else {
            return (self.policy.log_probs(&batch.groups, self.temperature), None);
        };
        let policy = self.policy.token_log_probs(&batch.groups, self.temperature);
        let sums = policy.clone().sum_dim(2).squeeze_dim(2);
        let mask = batch.groups.token_mask().cast(reference.dtype());
        (sums, Some(TokenLogProbs { policy, reference, proposal, mask }))
    }
}
