//! An objective on given log-probabilities, in f64.
//!
//! [`evaluate`] runs the same [`Alignment::loss`] as training, with autodiff on the CPU, so that a second
//! implementation can be compared with it.

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::{Alignment, GroupLogProbs};
use crate::{Error, Result};

/// The loss of one group and its gradient.
#[derive(Clone, Debug, PartialEq)]
pub struct LossAndGradient {
    /// Loss of the group in nats.
    pub loss: f64,
    /// ∂ loss / ∂ policy log-prob, one per completion.
    pub gradient: Vec<f64>,
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
    /// The mean log-ratio of prompts with completions of other prompts, in nats.
    pub mismatched_kl: f64,
}

/// Loss and gradient of one group in f64.
///
/// # Errors
/// [`Error::Usage`] when the lengths differ, a number is not finite or missing, or the objective refuses
/// groups of that size; [`Error::Numeric`] when the result is not finite.
pub fn evaluate(objective: &dyn Alignment, group: &GroupNumbers<'_>) -> Result<LossAndGradient> {
    let GroupNumbers { policy, reference, rewards, num_tokens, mismatched_kl } = *group;
    let num_completions = policy.len();
    objective.check(num_completions)?;
    check_values("policy", policy, num_completions)?;
    objective.check_log_probs(policy)?;
    for (field, values, is_needed) in [
        ("reference", reference, objective.needs_reference()),
        ("rewards", rewards, objective.needs_rewards()),
        ("num_tokens", num_tokens, objective.needs_num_tokens()),
    ] {
        if is_needed || !values.is_empty() {
            check_values(field, values, num_completions)?;
        }
    }
    if let Some(i) = num_tokens.iter().position(|count| *count < 1.0) {
        let message = format!("`num_tokens[{i}]` must be at least 1, found {}", num_tokens[i]);
        return Err(Error::usage(message));
    }
    if !mismatched_kl.is_finite() {
        return Err(Error::usage(format!("`kl` must be finite, found {mismatched_kl}")));
    }

    let device = cpu()?;
    let row = |values: &[f64], otherwise: f64| {
        let values =
            if values.is_empty() { vec![otherwise; num_completions] } else { values.to_vec() };
        let data = TensorData::new(values, [1, num_completions]);
        Tensor::<2>::from_data(data, (&device, DType::F64))
    };
    let policy = row(policy, 0.0).require_grad();
    let log_probs = GroupLogProbs {
        policy: policy.clone(),
        reference: row(reference, 0.0),
        num_tokens: row(num_tokens, 1.0),
        mismatched_kl,
    };

    let loss = objective.loss(&log_probs, &row(rewards, 0.0));
    let gradient = policy.grad(&loss.backward()).map_or_else(Vec::new, values);
    let loss: f64 = values(loss).into_iter().sum();
    if !loss.is_finite() || gradient.iter().any(|value| !value.is_finite()) {
        return Err(Error::Numeric(format!(
            "the loss {loss} or its gradient {gradient:?} is not finite; the numbers are too large for the \
             chosen β"
        )));
    }
    Ok(LossAndGradient { loss, gradient })
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
