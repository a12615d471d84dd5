//! An objective on given log-probabilities, in f64.
//!
//! [`evaluate`] runs the same [`Alignment::loss`] as training, with autodiff on the CPU, so that a second
//! implementation can be compared with it.

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::{Alignment, GroupLogProbs, TokenLogProbs};
use crate::{Error, Result};

/// The loss of one group and its gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct LossAndGradient {
    /// Loss of the group in nats.
    pub loss: f64,
    /// ∂ loss / ∂ policy log-prob, one per completion.
    pub gradient: Vec<f64>,
    /// The same of every token of every completion, where tokens were given.
    pub token_gradient: Vec<Vec<f64>>,
}

/// The numbers of one group of K completions.
#[derive(Clone, Copy, Debug, Default)]
pub struct GroupNumbers<'a> {
    /// The log-probability of each completion under the policy.
    pub policy: &'a [f64],
    /// The same under the reference; may be empty for an objective that needs none.
    pub reference: &'a [f64],
    /// The reward of each completion; may be empty for an objective that does not read rewards.
    pub rewards: &'a [f64],
    /// The number of tokens of each completion; may be empty for an objective that does not read them.
    pub num_tokens: &'a [f64],
    /// The same under the distribution that they were drawn from; empty: that is the reference.
    pub proposal: &'a [f64],
    /// The log-probs of their tokens; empty for an objective that does not read them.
    pub tokens: TokenNumbers<'a>,
    /// The mean log-ratio of prompts with completions of other prompts, in nats.
    pub mismatched_kl: f64,
}

/// The log-prob of every token of each completion. Where they are given, those of completions are their sums.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenNumbers<'a> {
    /// Under the policy.
    pub policy: &'a [Vec<f64>],
    /// Under the reference; may be empty for an objective that needs none.
    pub reference: &'a [Vec<f64>],
    /// Under the distribution that they were drawn from; empty: that is the reference.
    pub proposal: &'a [Vec<f64>],
}

/// Loss and gradient of one group in f64.
///
/// # Errors
/// [`Error::Usage`] when the lengths differ, a number is not finite or missing, or the objective refuses
/// groups of that size; [`Error::Numeric`] when the result is not finite.
pub fn evaluate(objective: &dyn Alignment, group: &GroupNumbers<'_>) -> Result<LossAndGradient> {
    check(objective, group)?;
    let num_completions = group.policy.len();
    let device = cpu()?;
    let row = |values: &[f64], otherwise: f64| {
        let values =
            if values.is_empty() { vec![otherwise; num_completions] } else { values.to_vec() };
        let data = TensorData::new(values, [1, num_completions]);
        Tensor::<2>::from_data(data, (&device, DType::F64))
    };
    let tokens = objective.needs_tokens().then(|| tokens(&group.tokens, &device));
    let policy = match &tokens {
        // What an objective makes of a completion's sum reaches its tokens.
        Some(tokens) => tokens.policy.clone().sum_dim(2).reshape([1, num_completions]),
        None => row(group.policy, 0.0).require_grad(),
    };
    let log_probs = GroupLogProbs {
        policy: policy.clone(),
        reference: row(group.reference, 0.0),
        proposal: (!group.proposal.is_empty()).then(|| row(group.proposal, 0.0)),
        num_tokens: row(group.num_tokens, 1.0),
        tokens,
        mismatched_kl: group.mismatched_kl,
    };

    let loss = objective.loss(&log_probs, &row(group.rewards, 0.0));
    let gradients = loss.backward();
    let (gradient, token_gradient) = match &log_probs.tokens {
        Some(tokens) => {
            let all = tokens.policy.grad(&gradients).map_or_else(Vec::new, values);
            let longest = all.len() / num_completions;
            let rows = all.chunks(longest.max(1)).zip(group.tokens.policy);
            (Vec::new(), rows.map(|(row, tokens)| row[..tokens.len()].to_vec()).collect())
        }
        None => (policy.grad(&gradients).map_or_else(Vec::new, values), Vec::new()),
    };
    let loss: f64 = values(loss).into_iter().sum();
    let slopes = || gradient.iter().chain(token_gradient.iter().flatten());
    if !loss.is_finite() || slopes().any(|value| !value.is_finite()) {
        let slopes: Vec<&f64> = slopes().collect();
        return Err(Error::Numeric(format!(
            "the loss {loss} or its gradient {slopes:?} is not finite; the numbers are too large for the \
             chosen β"
        )));
    }
    Ok(LossAndGradient { loss, gradient, token_gradient })
}

/// Refuses what the objective cannot be computed of.
fn check(objective: &dyn Alignment, group: &GroupNumbers<'_>) -> Result<()> {
    let num_completions = group.policy.len();
    objective.check(num_completions)?;
    check_values("policy", group.policy, num_completions)?;
    objective.check_log_probs(group.policy)?;
    for (field, values, is_needed) in [
        ("reference", group.reference, objective.needs_reference()),
        ("rewards", group.rewards, objective.needs_rewards()),
        ("num_tokens", group.num_tokens, objective.needs_num_tokens()),
        ("proposal", group.proposal, objective.needs_proposal()),
    ] {
        if is_needed || !values.is_empty() {
            check_values(field, values, num_completions)?;
        }
    }
    if objective.needs_tokens() {
        check_tokens(objective, &group.tokens, num_completions)?;
    }
    if let Some(i) = group.num_tokens.iter().position(|count| *count < 1.0) {
        let message =
            format!("`num_tokens[{i}]` must be at least 1, found {}", group.num_tokens[i]);
        return Err(Error::usage(message));
    }
    if !group.mismatched_kl.is_finite() {
        return Err(Error::usage(format!("`kl` must be finite, found {}", group.mismatched_kl)));
    }
    Ok(())
}

/// Refuses lists of tokens that are missing or of different lengths.
fn check_tokens(
    objective: &dyn Alignment,
    tokens: &TokenNumbers<'_>,
    num_completions: usize,
) -> Result<()> {
    for (field, lists, is_needed) in [
        ("policy", tokens.policy, true),
        ("reference", tokens.reference, objective.needs_reference()),
        ("proposal", tokens.proposal, objective.needs_proposal()),
    ] {
        if !is_needed && lists.is_empty() {
            continue;
        }
        if lists.len() != num_completions {
            return Err(Error::usage(format!(
                "`{field}`: {} reads the log-prob of every token: expected {num_completions} lists, such as \
                 [[-1.5, -0.2], [-3.1]], found {}",
                objective.name(),
                lists.len()
            )));
        }
        let lengths = lists.iter().zip(tokens.policy).enumerate();
        for (i, (list, policy)) in lengths {
            if list.is_empty() || list.len() != policy.len() {
                return Err(Error::usage(format!(
                    "`{field}[{i}]` must have one number or more, as many as `policy[{i}]`, found {}",
                    list.len()
                )));
            }
        }
    }
    Ok(())
}

/// The log-probs of tokens as tensors, those of the policy tracked.
fn tokens(numbers: &TokenNumbers<'_>, device: &Device) -> TokenLogProbs {
    let count = numbers.policy.len();
    let longest = numbers.policy.iter().map(Vec::len).max().unwrap_or(0);
    let table = |lists: &dyn Fn(usize, usize) -> f64| {
        let values: Vec<f64> = (0..count)
            .flat_map(|i| (0..longest).map(move |t| (i, t)))
            .map(|(i, t)| lists(i, t))
            .collect();
        let data = TensorData::new(values, [1, count, longest]);
        Tensor::<3>::from_data(data, (device, DType::F64))
    };
    let of = |lists: &[Vec<f64>]| {
        table(&|i, t| lists.get(i).and_then(|list| list.get(t)).copied().unwrap_or(0.0))
    };
    TokenLogProbs {
        policy: of(numbers.policy).require_grad(),
        reference: of(numbers.reference),
        proposal: of(if numbers.proposal.is_empty() {
            numbers.reference
        } else {
            numbers.proposal
        }),
        mask: table(&|i, t| f64::from(u8::from(t < numbers.policy[i].len()))),
    }
}

fn check_values(field: &str, values: &[f64], num_completions: usize) -> Result<()> {
    if values.len() != num_completions {
        return Err(Error::usage(format!(
            "`{field}` must have one number for each of the {num_completions} completions in \
             `policy`, found {}",
            values.len()
        )));
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(i) => Err(Error::usage(format!("`{field}[{i}]` must be finite, found {}", values[i]))),
        None => Ok(()),
    }
}

/// The values of an f64 tensor. A tensor that has lost digits on the way is a bug worth stopping at.
fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    assert_eq!(tensor.dtype(), DType::F64, "the objective left f64");
    tensor.into_data().iter::<f64>().collect()
}

/// A CPU device with autodiff that computes in f64.
fn cpu() -> Result<Device> {
    #[cfg(feature = "flex")]
    let device = Device::flex();
    #[cfg(all(not(feature = "flex"), feature = "tch"))]
    let device = Device::libtorch();
    #[cfg(not(any(feature = "flex", feature = "tch")))]
    let device = Device::default();
    if !device.supports_dtype(DType::F64) {
        return Err(Error::usage(
            "no compiled-in device computes in f64; build with the feature `flex`",
        ));
    }
    Ok(device.autodiff())
}
