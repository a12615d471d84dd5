//! An objective on given log-probabilities, in f64.
//!
//! [`evaluate`] runs the same [`Alignment::loss`] as training, with autodiff on the CPU, so that a second
//! implementation can be compared with it.

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::{Alignment, Drawn, Gae, GroupLogProbs, TokenLogProbs, TokenValues};
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
    /// ∂ loss / ∂ new value of every token of every completion, where the objective learns values.
    pub value_gradient: Vec<Vec<f64>>,
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
    /// The value of every token when it was drawn; empty for an objective that learns no values.
    pub values: &'a [Vec<f64>],
    /// The same by the policy; empty: they are as they were.
    pub new_values: &'a [Vec<f64>],
}

impl<'a> TokenNumbers<'a> {
    /// Under the distribution that they were drawn from.
    fn proposal(&self) -> &'a [Vec<f64>] {
        if self.proposal.is_empty() { self.reference } else { self.proposal }
    }
}

/// Loss and gradient of one group in f64. Advantages of tokens, where the objective has them, are whitened over
/// this group; a training whitens them over its round.
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
    let tokens = objective.needs_tokens().then(|| tokens(group, objective.gae(), &device));
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
    let by_token = |tracked: &Tensor<3>| {
        let all = tracked.grad(&gradients).map_or_else(Vec::new, values);
        let longest = all.len() / num_completions;
        let rows = all.chunks(longest.max(1)).zip(group.tokens.policy);
        rows.map(|(row, tokens)| row[..tokens.len()].to_vec()).collect::<Vec<_>>()
    };
    let tokens = log_probs.tokens.as_ref();
    let token_gradient = tokens.map_or_else(Vec::new, |tokens| by_token(&tokens.policy));
    let learned = tokens.and_then(|tokens| tokens.values.as_ref());
    let value_gradient = learned.map_or_else(Vec::new, |learned| by_token(&learned.new));
    let gradient = match tokens {
        Some(_) => Vec::new(),
        None => policy.grad(&gradients).map_or_else(Vec::new, values),
    };
    let loss: f64 = values(loss).into_iter().sum();
    let of_tokens = || token_gradient.iter().chain(&value_gradient).flatten();
    let slopes = || gradient.iter().chain(of_tokens());
    if !loss.is_finite() || slopes().any(|value| !value.is_finite()) {
        let slopes: Vec<&f64> = slopes().collect();
        return Err(Error::Numeric(format!(
            "the loss {loss} or its gradient {slopes:?} is not finite; the numbers are too large for the \
             chosen β"
        )));
    }
    Ok(LossAndGradient { loss, gradient, token_gradient, value_gradient })
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
        ("values", tokens.values, objective.gae().is_some()),
        ("new_values", tokens.new_values, false),
    ] {
        if !is_needed && lists.is_empty() {
            continue;
        }
        if lists.len() != num_completions {
            return Err(Error::usage(format!(
                "`{field}`: {} reads a number for every token: expected {num_completions} lists, such as \
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

/// The log-probs of tokens as tensors, those of the policy tracked; with their values for an objective with `gae`.
fn tokens(group: &GroupNumbers<'_>, gae: Option<&Gae>, device: &Device) -> TokenLogProbs {
    let numbers = &group.tokens;
    let longest = numbers.policy.iter().map(Vec::len).max().unwrap_or(0);
    let table = |lists: &[Vec<f64>]| {
        let place = |i: usize, t: usize| lists.get(i).and_then(|list| list.get(t)).copied();
        let places = (0..numbers.policy.len()).flat_map(|i| (0..longest).map(move |t| (i, t)));
        let values: Vec<f64> = places.map(|(i, t)| place(i, t).unwrap_or(0.0)).collect();
        let data = TensorData::new(values, [1, numbers.policy.len(), longest]);
        Tensor::<3>::from_data(data, (device, DType::F64))
    };
    let ones: Vec<Vec<f64>> = numbers.policy.iter().map(|list| vec![1.0; list.len()]).collect();
    TokenLogProbs {
        policy: table(numbers.policy).require_grad(),
        reference: table(numbers.reference),
        proposal: table(numbers.proposal()),
        mask: table(&ones),
        values: gae.map(|gae| {
            let credits = gae.credit(gae.kl_weight, &drawn(group));
            let (advantages, returns): (Vec<_>, Vec<_>) =
                credits.into_iter().map(|it| (it.advantages, it.returns)).unzip();
            let new =
                if numbers.new_values.is_empty() { numbers.values } else { numbers.new_values };
            TokenValues {
                new: table(new).require_grad(),
                old: table(numbers.values),
                advantages: table(&advantages),
                returns: table(&returns),
                tokens_per_group: numbers.policy.iter().map(Vec::len).sum::<usize>() as f64,
            }
        }),
    }
}

/// The completions of a group as they were drawn.
fn drawn(group: &GroupNumbers<'_>) -> Vec<Drawn> {
    let TokenNumbers { reference, values, .. } = group.tokens;
    let log_ratios = |i: usize| match reference.get(i) {
        None => vec![0.0; values[i].len()], // the KL has no weight
        Some(reference) => {
            let pairs = group.tokens.proposal()[i].iter().zip(reference);
            pairs.map(|(proposal, reference)| proposal - reference).collect()
        }
    };
    let of = |(i, &reward): (usize, &f64)| Drawn {
        log_ratios: log_ratios(i),
        values: values[i].clone(),
        reward,
    };
    group.rewards.iter().enumerate().map(of).collect()
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
