//! What a batch of groups is for an objective.

use burn::tensor::Tensor;
use burn::tensor::activation::log_softmax;

/// What a batch of groups is for an objective: Σ log-prob over each completion's tokens at temperature τ,
/// under policy and reference, and how many tokens these are.
///
/// Completions may come from any distribution μ. Expectations under the tempered policy and under the target
/// are then estimated with the weights w_i = log π_sft(y_i) − log μ(y_i), normalised over each group:
///
///   log q_i = β_π h_i + w_i − logsumexp      log p_i = r_i/β_r + w_i − logsumexp
///
/// All tensors live on the same device; only those of the policy are tracked by autodiff.
#[derive(Clone, Debug)]
pub struct GroupLogProbs {
    /// log π_θ(y_i | x), `[groups, K]`.
    pub policy: Tensor<2>,
    /// log π_sft(y_i | x), `[groups, K]`; zeros for an objective that needs no reference.
    pub reference: Tensor<2>,
    /// log μ(y_i | x) under the distribution that the completions were drawn from, `[groups, K]`; none:
    /// they were drawn from π_sft.
    pub proposal: Option<Tensor<2>>,
    /// Tokens of each completion, `[groups, K]`; only means over tokens read them.
    pub num_tokens: Tensor<2>,
    /// The log-probs of single tokens, for an objective that
    /// [needs them](super::Alignment::needs_tokens).
    pub tokens: Option<TokenLogProbs>,
    /// The mean log-ratio of prompts with completions of other prompts, in nats: an estimate of
    /// KL(π_θ ‖ π_sft). Only objectives that [need it](super::Alignment::needs_mismatched_kl) read it; else 0.
    pub mismatched_kl: f64,
}

/// Log-probs of single tokens, `[groups, K, longest]`; zeros stand past the end of a completion.
#[derive(Clone, Debug)]
pub struct TokenLogProbs {
    /// log π_θ(y_t | x, y_<t).
    pub policy: Tensor<3>,
    /// The same under π_sft; zeros for an objective that needs no reference.
    pub reference: Tensor<3>,
    /// The same under the distribution that the completions were drawn from.
    pub proposal: Tensor<3>,
    /// 1 for a token, 0 past the end.
    pub mask: Tensor<3>,
    /// Their values, for an objective that [learns them](super::Alignment::gae).
    pub values: Option<TokenValues>,
}

/// Values of single tokens, each before the token is seen, and what is made of them, `[groups, K, longest]`.
#[derive(Clone, Debug)]
pub struct TokenValues {
    /// By the policy that learns, tracked by autodiff.
    pub new: Tensor<3>,
    /// By the policy when the completions were drawn.
    pub old: Tensor<3>,
    /// How much better than expected each token was.
    pub advantages: Tensor<3>,
    /// What the values should have been.
    pub returns: Tensor<3>,
    /// Tokens of a group, as a mean over the whole step that these groups are of.
    pub tokens_per_group: f64,
}

impl TokenValues {
    /// The part of a mean over all tokens of a step that these groups have, times their share of its groups,
    /// `[1]`; the mean itself where they are the whole step.
    pub(super) fn mean(&self, numbers: Tensor<3>, tokens: &TokenLogProbs) -> Tensor<1> {
        let [num_groups, _, _] = numbers.dims();
        let count = num_groups as f64 * self.tokens_per_group;
        // Multiplied, since burn divides by numbers in f32 on the way back.
        (numbers * tokens.mask.clone()).sum() * (1.0 / count.max(1.0))
    }
}

impl GroupLogProbs {
    /// Log-probs under policy and reference, `[groups, K]` each, of completions of one token that were drawn
    /// from the reference.
    pub fn new(policy: Tensor<2>, reference: Tensor<2>) -> Self {
        let num_tokens = reference.ones_like();
        let single = |table: &Tensor<2>| table.clone().unsqueeze_dim(2); // [groups, K, 1]
        let tokens = TokenLogProbs {
            policy: single(&policy),
            reference: single(&reference),
            proposal: single(&reference),
            mask: single(&num_tokens),
            values: None,
        };
        let tokens = Some(tokens);
        Self { policy, reference, num_tokens, proposal: None, tokens, mismatched_kl: 0.0 }
    }

    /// h_i = log π_θ(y_i | x) − log π_sft(y_i | x), `[groups, K]`.
    pub fn log_ratios(&self) -> Tensor<2> {
        self.policy.clone() - self.reference.clone()
    }

    /// h_i over the number of tokens, `[groups, K]`.
    pub fn mean_log_ratios(&self) -> Tensor<2> {
        self.log_ratios() / self.num_tokens.clone()
    }

    /// log π_θ(y_i | x) over the number of tokens, `[groups, K]`.
    pub fn mean_log_probs(&self) -> Tensor<2> {
        self.policy.clone() / self.num_tokens.clone()
    }

    /// w_i = log π_sft(y_i | x) − log μ(y_i | x), `[groups, K]`; none: all are 0.
    pub fn log_weights(&self) -> Option<Tensor<2>> {
        self.proposal.clone().map(|proposal| self.reference.clone() - proposal)
    }

    /// log q of each group, the policy tempered by β_π, `[groups, K]`.
    pub fn log_policy(&self, beta_policy: f64) -> Tensor<2> {
        self.normalised(self.log_ratios() * beta_policy)
    }

    /// log p of each group, the reference tilted by rewards `[groups, K]`, `[groups, K]`.
    pub fn log_target(&self, rewards: &Tensor<2>, beta_reward: f64) -> Tensor<2> {
        self.normalised(rewards.clone() / beta_reward)
    }

    /// log of exp(exponents) relative to the reference, normalised over each group, `[groups, K]`.
    fn normalised(&self, exponents: Tensor<2>) -> Tensor<2> {
        match self.log_weights() {
            Some(weights) => log_softmax(exponents + weights, 1),
            None => log_softmax(exponents, 1),
        }
    }
}
