//! Alignment: an objective over the log-probs of groups, with the reference read as data.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;

use super::step::{MicroLoss, Trainable};
use crate::alignment::{Alignment, GroupLogProbs, TokenLogProbs, TokenValues};
use crate::data::GroupBatch;
use crate::model::ValueHead;
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
    /// What was made of the values of the policy that drew, for an objective that
    /// [learns them](Alignment::gae).
    pub values: Option<GivenValues>,
}

/// Numbers of single tokens that values and the policy learn from, `[groups, K, longest]`; zeros stand past the
/// end of a completion.
#[derive(Clone, Debug)]
pub struct GivenValues {
    /// The values of the policy that drew.
    pub old: Tensor<3>,
    /// How much better than expected each token was.
    pub advantages: Tensor<3>,
    /// What the values should have been.
    pub returns: Tensor<3>,
    /// Tokens of a group, as a mean over the whole step.
    pub tokens_per_group: f64,
}

/// A policy being aligned by an objective.
#[derive(Module, Debug)]
pub struct Aligner<P: Module> {
    /// The policy.
    pub policy: P,
    /// Reads a value of each token off the policy's states, where the objective learns them.
    pub value: Option<ValueHead>,
    #[module(skip)]
    objective: Arc<dyn Alignment>,
    temperature: f64,
}

impl<P: Policy> Aligner<P> {
    /// Aligns `policy` by `objective`, log-probs taken at `temperature`.
    pub fn new(policy: P, objective: Arc<dyn Alignment>, temperature: f64) -> Self {
        Self { policy, value: None, objective, temperature }
    }

    /// With a head that learns values.
    pub fn with_value(self, head: ValueHead) -> Self {
        Self { value: Some(head), ..self }
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
        let Some(GivenTokens { reference, proposal, values }) = batch.tokens.clone() else {
            return (self.policy.log_probs(&batch.groups, self.temperature), None);
        };
        let (policy, new) = match &self.value {
            None => (self.policy.token_log_probs(&batch.groups, self.temperature), None),
            Some(head) => {
                let temperature = self.temperature;
                let [policy, values] =
                    self.policy.token_log_probs_and_values(&batch.groups, temperature, head);
                (policy, Some(values))
            }
        };
        let values = new.zip(values).map(|(new, given)| {
            let GivenValues { old, advantages, returns, tokens_per_group } = given;
            TokenValues { new, old, advantages, returns, tokens_per_group }
        });
        let sums = policy.clone().sum_dim(2).squeeze_dim(2);
        let mask = batch.groups.token_mask().cast(reference.dtype());
        (sums, Some(TokenLogProbs { policy, reference, proposal, mask, values }))
    }
}
