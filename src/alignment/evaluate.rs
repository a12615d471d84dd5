//! An objective on given log-probabilities, in f64: what `exalign loss` prints.
//!
//! Runs the same [`Alignment::loss`] that training runs, with autodiff on the CPU, so that a second
//! implementation can be checked against it.

use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Alignment, GroupLogProbs};
use crate::{Error, Result};

/// The loss of one group and its gradient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossLine {
    /// The record's `id`, carried through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Value>,
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
) -> Result<LossLine> {
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
    let line = LossLine { id: None, loss: values(loss).into_iter().sum(), gradient };
    if !line.loss.is_finite() || line.gradient.iter().any(|value| !value.is_finite()) {
        return Err(Error::Numeric(format!(
            "the loss {} or its gradient {:?} is not finite; the numbers are too large for the \
             chosen β",
            line.loss, line.gradient
        )));
    }
    Ok(line)
}

/// [`evaluate`] on a line of JSON: `{"policy": [..], "reference": [..], "rewards": [..]}`.
///
/// `rewards` may be absent for an objective that does not read rewards. `source` and `line_number`
/// (from 1) are where the line stands.
///
/// # Errors
/// [`Error::Record`] naming the place, the field and what was expected there.
pub fn evaluate_line(
    objective: &dyn Alignment,
    line: &str,
    source: &Path,
    line_number: usize,
) -> Result<LossLine> {
    let at_line = |error: Error| Error::record(source, line_number, error.to_string());
    let record: Map<String, Value> = serde_json::from_str(line).map_err(|error| {
        Error::record(
            source,
            line_number,
            format!("expected a JSON object with `policy`, `reference` and `rewards`: {error}"),
        )
    })?;
    let policy = numbers(&record, "policy", true).map_err(at_line)?;
    let reference = numbers(&record, "reference", true).map_err(at_line)?;
    let rewards = numbers(&record, "rewards", objective.needs_rewards()).map_err(at_line)?;
    let id = record.get("id").cloned();
    let line = evaluate(objective, &policy, &reference, &rewards).map_err(at_line)?;
    Ok(LossLine { id, ..line })
}

/// The numbers of a field; none when it is absent and not required.
fn numbers(record: &Map<String, Value>, field: &str, required: bool) -> Result<Vec<f64>> {
    let list = match record.get(field) {
        None | Some(Value::Null) if !required => return Ok(Vec::new()),
        None => {
            return Err(Error::usage(format!(
                "`{field}` is missing; a list of numbers, one per completion, is needed"
            )));
        }
        Some(Value::Array(list)) => list,
        Some(other) => {
            return Err(Error::usage(format!(
                "`{field}` must be a list of numbers, found {other}"
            )));
        }
    };
    list.iter()
        .enumerate()
        .map(|(i, value)| {
            value.as_f64().ok_or_else(|| {
                Error::usage(format!("`{field}[{i}]` must be a number, found {value}"))
            })
        })
        .collect()
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
