//! Claims about the objectives: their numbers, their invariances, what they tend to, and where they
//! stay finite.

mod configuration;
mod extremes;
mod gaussian;
mod goldens;
mod invariances;
mod limit;
mod numbers;
mod ppo;
mod published;
mod sampled;
mod statistics;
mod tabular;

use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use burn::train::TrainStep;
use exalign::alignment::{
    Alignment, GroupLogProbs, GroupNumbers, KlWeight, Labels, LossAndGradient, ObjectiveConfig,
    ObjectiveName, Statistic, TokenNumbers, evaluate, objectives,
};
use exalign::data::{GroupBatch, TokenGroup};
use exalign::model::Precision;
use exalign::policy::{Listed, Policy, Table};
use exalign::training::{Aligner, AlignmentBatch, GivenTokens, Micro, Step, StepOutput, Trainee};
use proptest::prelude::*;
use serde_json::Value;

use crate::support::skipped::or_skip;
use goldens::cases;
use tabular::TabularPolicy;

/// f64 throughout: both sides are good to about 1e-14 of the largest log-probability difference.
const DOUBLE: f64 = 1e-12;

fn device() -> Device {
    Device::flex().autodiff()
}

fn matrix_of(values: &[f64], k: usize, dtype: DType) -> Tensor<2> {
    let data = TensorData::new(values.to_vec(), [values.len() / k, k]);
    Tensor::from_data(data, (&device(), dtype))
}

/// `[groups, K]` in f64.
fn matrix(values: &[f64], k: usize) -> Tensor<2> {
    matrix_of(values, k, DType::F64)
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// One group, evaluated as `exalign loss` does, its completions of 3, 4, .. tokens.
fn one_group(
    objective: &dyn Alignment,
    policy: &[f64],
    reference: &[f64],
    rewards: &[f64],
) -> exalign::Result<LossAndGradient> {
    let num_tokens: Vec<f64> = (0..policy.len()).map(|i| 3.0 + i as f64).collect();
    // Completions of one token where tokens are read, drawn from the reference where that is asked for.
    let (of_policy, of_reference) = (singles(policy), singles(reference));
    let group = GroupNumbers {
        policy,
        reference,
        rewards,
        num_tokens: &num_tokens,
        proposal: if objective.needs_proposal() { reference } else { &[] },
        tokens: TokenNumbers {
            policy: &of_policy,
            reference: &of_reference,
            proposal: &of_reference,
            ..TokenNumbers::default()
        },
        mismatched_kl: 0.0,
    };
    let mut found = evaluate(objective, &group)?;
    if objective.needs_tokens() {
        found.gradient = found.token_gradient.concat();
    }
    Ok(found)
}

fn scalar(tensor: Tensor<1>) -> f64 {
    numbers(tensor)[0]
}

fn named(name: &str) -> ObjectiveConfig {
    ObjectiveConfig { name: name.parse().unwrap(), ..ObjectiveConfig::default() }
}

/// Every objective, the authors' labels included, but ppo, whose tokens have values.
fn all_objectives(beta_policy: f64, beta_reward: f64, epsilon: f64) -> Vec<ObjectiveConfig> {
    let numbers =
        ObjectiveConfig { beta_policy, beta_reward, epsilon, ..ObjectiveConfig::default() };
    let mut all = Vec::new();
    for name in objectives().into_iter().filter(|it| it.name != "ppo") {
        let plain = ObjectiveConfig { name, ..numbers.clone() };
        for form in name.entry().forms {
            let mut config = plain.clone();
            (form.set)(&mut config);
            all.push(config);
        }
        all.push(plain);
    }
    all
}

/// The objectives of the two papers, whose closed forms are known here.
fn classic_objectives(beta_policy: f64, beta_reward: f64, epsilon: f64) -> Vec<ObjectiveConfig> {
    let mut all = all_objectives(beta_policy, beta_reward, epsilon);
    all.retain(|it| ["exo-pref", "exo-rw", "dpo", "dpo-rw"].contains(&it.name.name));
    all
}

fn rewarded() -> [&'static str; 2] {
    ["exo-rw", "dpo-rw"]
}

/// Loss and ∂loss/∂h of groups with log-ratios `h`.
fn run(
    objective: &dyn Alignment,
    h: &[f64],
    rewards: &[f64],
    k: usize,
    dtype: DType,
) -> (f64, Vec<f64>) {
    let policy = matrix_of(h, k, dtype).require_grad();
    let log_probs = GroupLogProbs::new(policy.clone(), policy.zeros_like());
    let loss = objective.loss(&log_probs, &matrix_of(rewards, k, dtype));
    assert_eq!(loss.dtype(), dtype);
    let gradient = policy.grad(&loss.backward()).unwrap();
    (scalar(loss), numbers(gradient))
}

fn run64(objective: &dyn Alignment, h: &[f64], rewards: &[f64], k: usize) -> (f64, Vec<f64>) {
    run(objective, h, rewards, k, DType::F64)
}

/// Completions of one token.
fn singles(log_probs: &[f64]) -> Vec<Vec<f64>> {
    log_probs.iter().map(|&log_prob| vec![log_prob]).collect()
}

fn assert_close(found: f64, expected: f64, tolerance: f64, what: &str) {
    let difference = (found - expected).abs();
    assert!(
        difference <= tolerance * expected.abs().max(1.0),
        "{what}: found {found}, expected {expected}, off by {difference:e}"
    );
}

fn assert_all_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        assert_close(found, expected, tolerance, &format!("{what} [{i}]"));
    }
}

/// Softmax in log space, of one group.
fn log_softmax_of(values: &[f64], scale: f64) -> Vec<f64> {
    let max = values.iter().map(|v| v * scale).fold(f64::NEG_INFINITY, f64::max);
    let log_sum = values.iter().map(|v| (v * scale - max).exp()).sum::<f64>().ln();
    values.iter().map(|v| v * scale - max - log_sum).collect()
}

fn log_sigmoid_of(z: f64) -> f64 {
    z.min(0.0) - (-z.abs()).exp().ln_1p()
}

/// Loss and ∂loss/∂h of one group by the closed forms of the papers.
fn closed_form(config: &ObjectiveConfig, h: &[f64], rewards: &[f64]) -> (f64, Vec<f64>) {
    let beta = config.beta_policy;
    let log_q = log_softmax_of(h, beta);
    let log_p = log_softmax_of(rewards, 1.0 / config.beta_reward);
    let z = beta * (h[0] - h[1]);
    let (log_w, log_l) = (log_sigmoid_of(z), log_sigmoid_of(-z));
    let pair = |slope: f64| vec![beta * slope, -beta * slope];
    match (config.name.name, config.labels) {
        ("exo-rw", _) => {
            let terms = || log_q.iter().zip(&log_p);
            let kl: f64 = terms().map(|(q, p)| q.exp() * (q - p)).sum();
            (kl, terms().map(|(q, p)| beta * q.exp() * (q - p - kl)).collect())
        }
        ("dpo-rw", _) => {
            let terms = || log_q.iter().zip(&log_p);
            let cross_entropy: f64 = terms().map(|(q, p)| -p.exp() * q).sum();
            (cross_entropy, terms().map(|(q, p)| beta * (q.exp() - p.exp())).collect())
        }
        ("exo-pref", labels) => {
            let (label_w, label_l) = match labels {
                Labels::Paper => ((-config.epsilon).ln_1p(), config.epsilon.ln()),
                Labels::Official => (0.0, -10.0),
            };
            let loss = log_w.exp() * (log_w - label_w) + log_l.exp() * (log_l - label_l);
            (loss, pair((log_w + log_l).exp() * (z - (label_w - label_l))))
        }
        ("dpo", _) => (-log_w, pair(-log_l.exp())),
        (other, _) => panic!("no closed form of {other}"),
    }
}

/// The groups a case's pair objectives see: the higher reward first; where each entry came from.
fn chosen_first(h: &[f64], rewards: &[f64]) -> (Vec<f64>, Vec<usize>) {
    let mut order: Vec<usize> = (0..h.len()).collect();
    for pair in order.chunks_mut(2) {
        if rewards[pair[0]] < rewards[pair[1]] {
            pair.swap(0, 1);
        }
    }
    (order.iter().map(|&i| h[i]).collect(), order)
}

/// Loss and ∂loss/∂h in the order of `h`, pairs chosen by reward.
fn run_ordered(config: &ObjectiveConfig, h: &[f64], rewards: &[f64], k: usize) -> (f64, Vec<f64>) {
    let objective = config.init().unwrap();
    if objective.needs_rewards() {
        return run64(&*objective, h, rewards, k);
    }
    let (ordered, order) = chosen_first(h, rewards);
    let (loss, ordered_gradient) = run64(&*objective, &ordered, rewards, k);
    let mut gradient = vec![0.0; h.len()];
    for (value, place) in ordered_gradient.into_iter().zip(order) {
        gradient[place] = value;
    }
    (loss, gradient)
}

fn config_of(objective: &str, beta_policy: f64, beta_reward: f64, epsilon: f64) -> ObjectiveConfig {
    let (name, labels) = match objective {
        "exo-pref official" => ("exo-pref", Labels::Official),
        name => (name, Labels::Paper),
    };
    ObjectiveConfig { beta_policy, beta_reward, epsilon, labels, ..named(name) }
}
