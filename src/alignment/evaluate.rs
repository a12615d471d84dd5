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

/// Loss and gradient of one group in f64.
///
/// `policy` and `reference` hold the log-probability of each of the group's K completions,
/// `rewards` their rewards; it may be empty for an objective that does not read rewards.
///
/// # Errors
/// [`Error::Usage`] when the lengths differ, a number is not finite, or the objective refuses
/// groups of that size; [`Error::Numeric`] when the result is not finite.
pub fn evaluate(
    objective: &dyn Alignment,
    policy: &[f64],
    reference: &[f64],
    rewards: &[f64],
) -> Result<LossAndGradient> {
    let num_completions = policy.len();
    objective.check(num_completions)?;
    check_values("policy", policy, num_completions)?;
    check_values("reference", reference, num_completions)?;
    if objective.needs_rewards() || !rewards.is_empty() {
        check_values("rewards", rewards, num_completions)?;
    }

    let device = cpu()?;
    let row = |values: &[f64]| {
        let data = TensorData::new(values.to_vec(), [1, values.len()]);
        Tensor::<2>::from_data(data, (&device, DType::F64))
    };
    let policy = row(policy).require_grad();
    let rewards = if rewards.is_empty() { policy.zeros_like() } else { row(rewards) };
    let log_probs = GroupLogProbs { policy: policy.clone(), reference: row(reference) };

    let loss = objective.loss(&log_probs, &rewards);
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
