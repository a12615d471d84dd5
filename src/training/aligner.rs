//! Alignment: an objective over the log-probs of groups, with the reference read as data.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Tensor;

use super::step::{MicroLoss, Trainable};
use crate::alignment::{Alignment, GroupLogProbs, TokenLogProbs, TokenValues};
use crate::data::GroupBatch;
use crate::deferred::{Deferred, backward_from};
use crate::kernels::linear::Dropout;
use crate::model::ValueHead;
use crate::policy::Policy;

/// Groups with what the objective needs to know of them.
#[derive(Clone, Debug)]
pub struct AlignmentBatch {
    /// Prompts and completions.
    pub groups: GroupBatch,
    /// The same in parts, each with some of the completions of every group, whose activations are in memory one
    /// part after the other; none: all are at once.
    pub parts: Vec<GroupBatch>,
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
    #[module(skip)]
    deferred: Deferred,
}

impl<P: Policy> Aligner<P> {
    /// Aligns `policy` by `objective`, log-probs taken at `temperature`.
    pub fn new(policy: P, objective: Arc<dyn Alignment>, temperature: f64) -> Self {
        let deferred = policy.deferred().cloned().unwrap_or_default();
        Self { policy, value: None, objective, temperature, deferred }
    }

    /// With a head that learns values.
    pub fn with_value(self, head: ValueHead) -> Self {
        Self { value: Some(head), ..self }
    }
}

impl<P: Policy + 'static> Trainable for Aligner<P> {
    type Batch = AlignmentBatch;

    fn deferred(&self) -> Option<&Deferred> {
        Some(&self.deferred)
    }

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

impl<P: Policy + 'static> Aligner<P> {
    /// The log-probs of completions, and of their tokens where those are wanted.
    fn log_probs(&self, batch: &AlignmentBatch) -> (Tensor<2>, Option<TokenLogProbs>) {
        let temperature = self.temperature;
        let Some(GivenTokens { reference, proposal, values }) = batch.tokens.clone() else {
            let read = move |policy: &P, _: Option<&ValueHead>, groups: &GroupBatch| {
                vec![policy.log_probs(groups, temperature).unsqueeze_dim(2)]
            };
            return (self.in_parts(batch, 1, read).squeeze_dim(2), None);
        };
        let longest = reference.dims()[2];
        let read = move |policy: &P, head: Option<&ValueHead>, groups: &GroupBatch| match head {
            None => vec![policy.token_log_probs(groups, temperature)],
            Some(head) => policy.token_log_probs_and_values(groups, temperature, head).to_vec(),
        };
        let read = self.in_parts(batch, longest, read); // [groups, K, longest], values behind log-probs
        let policy = read.clone().narrow(2, 0, longest);
        let new = self.value.as_ref().map(|_| read.narrow(2, longest, longest));
        let values = new.zip(values).map(|(new, given)| {
            let GivenValues { old, advantages, returns, tokens_per_group } = given;
            TokenValues { new, old, advantages, returns, tokens_per_group }
        });
        let sums = policy.clone().sum_dim(2).squeeze_dim(2);
        let mask = batch.groups.token_mask().cast(reference.dtype());
        (sums, Some(TokenLogProbs { policy, reference, proposal, mask, values }))
    }

    /// What `read` makes of all groups: tables `[groups, K, longest]` one behind the other. Where the batch has
    /// parts, the backward pass reads each again, so that the activations of one are in memory at a time.
    fn in_parts(
        &self,
        batch: &AlignmentBatch,
        longest: usize,
        read: impl Fn(&P, Option<&ValueHead>, &GroupBatch) -> Vec<Tensor<3>> + Send + 'static,
    ) -> Tensor<3> {
        let read = move |policy: &P, head: Option<&ValueHead>, groups: &GroupBatch| {
            let tables = read(policy, head, groups).into_iter();
            joined(tables.map(|table| padded(table, longest)).collect(), 2)
        };
        let (policy, head) = (self.policy.clone(), self.value.clone());
        if batch.parts.is_empty() {
            return read(&policy, head.as_ref(), &batch.groups);
        }
        if !batch.rewards.device().is_autodiff() {
            let parts = batch.parts.iter().map(|part| read(&policy, head.as_ref(), part));
            return joined(parts.collect(), 1);
        }
        let (plain, plain_head) = (policy.valid(), head.as_ref().map(|head| head.valid()));
        let dropout = Dropout::current();
        let dropout_of = move |number| dropout.map(|dropout| dropout.part(number));
        let parts = (0..).zip(batch.parts.iter().cloned().map(GroupBatch::inner));
        let read_plain = |part| read(&plain, plain_head.as_ref(), &part);
        let tables =
            parts.map(|(number, part)| Dropout::during(dropout_of(number), || read_plain(part)));
        let tables = tables.collect();
        let (parts, deferred) = (batch.parts.clone(), self.deferred.clone());
        self.deferred.leaf(Tensor::from_inner(joined(tables, 1)), move |gradient, emit| {
            let mut first = 0;
            for (number, part) in (0..).zip(parts) {
                let again = || read(&policy, head.as_ref(), &part);
                let table = Dropout::during(dropout_of(number), again);
                let of_part = gradient.clone().narrow(1, first, part.num_completions);
                let gradients = backward_from(table, of_part);
                deferred.resume(&gradients, emit);
                emit(gradients);
                first += part.num_completions;
            }
        })
    }
}

/// Tables side by side along an axis.
fn joined(mut tables: Vec<Tensor<3>>, axis: usize) -> Tensor<3> {
    match tables.len() {
        1 => tables.remove(0),
        _ => Tensor::cat(tables, axis),
    }
}

/// A table with zeros behind its rows, up to a length.
fn padded(table: Tensor<3>, longest: usize) -> Tensor<3> {
    let [groups, completions, own] = table.dims();
    if own == longest {
        return table;
    }
    let shape = [groups, completions, longest - own];
    let zeros = Tensor::zeros(shape, (&table.device(), table.dtype()));
    Tensor::cat(vec![table, zeros], 2)
}
