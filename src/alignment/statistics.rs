//! Statistics of an objective during training, computed in f64 on the host.

use burn::tensor::Tensor;

use super::{Alignment, GroupLogProbs};

/// See [`Alignment::statistics`].
pub(super) fn statistics<A: Alignment + ?Sized>(
    objective: &A,
    log_probs: &GroupLogProbs,
    rewards: &Tensor<2>,
) -> Vec<(&'static str, f64)> {
    let beta = objective.beta_policy();
    let log_ratios = rows(log_probs.log_ratios());
    let rewards_of = match objective.needs_rewards() {
        true => rows(rewards.clone()),
        false => vec![vec![1.0, 0.0]; log_ratios.len()], // the first is chosen
    };
    let policy = rows(log_probs.policy.clone());
    let of_policy = || policy.iter().zip(&rewards_of);
    let log_q: Vec<_> = log_ratios.iter().map(|h| log_softmax(h, beta)).collect();
    let ordered = || log_ratios.iter().zip(&rewards_of);

    let mut statistics = vec![
        ("accuracy", mean(ordered().map(|(h, r)| accuracy(h, r)))),
        ("reward_margin", mean(ordered().map(|(h, r)| beta * (h[best(r)] - h[worst(r)])))),
        ("log_prob_chosen", mean(of_policy().map(|(log_prob, r)| log_prob[best(r)]))),
        ("log_prob_rejected", mean(of_policy().map(|(log_prob, r)| log_prob[worst(r)]))),
        ("entropy_q", mean(log_q.iter().map(|q| -expectation(q, |i| q[i])))),
    ];
    if let Some(log_p) = objective.log_target(rewards).map(rows) {
        let kl = log_q.iter().zip(&log_p).map(|(q, p)| expectation(q, |i| q[i] - p[i]));
        statistics.push(("kl", mean(kl)));
    }
    statistics
}

/// `[groups, K]` as f64.
fn rows(tensor: Tensor<2>) -> Vec<Vec<f64>> {
    let [_, width] = tensor.dims();
    let values: Vec<f64> = tensor.into_data().iter::<f64>().collect();
    values.chunks(width).map(<[f64]>::to_vec).collect()
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

fn log_softmax(values: &[f64], scale: f64) -> Vec<f64> {
    let max = values.iter().map(|value| value * scale).fold(f64::NEG_INFINITY, f64::max);
    let log_sum = values.iter().map(|value| (value * scale - max).exp()).sum::<f64>().ln();
    values.iter().map(|value| value * scale - max - log_sum).collect()
}

/// Σ q_i f(i).
fn expectation(log_q: &[f64], f: impl Fn(usize) -> f64) -> f64 {
    log_q.iter().enumerate().map(|(i, log_q)| log_q.exp() * f(i)).sum()
}

/// Share of the pairs ordered by reward that the log-ratios order alike; ties count one half.
fn accuracy(log_ratios: &[f64], rewards: &[f64]) -> f64 {
    let (mut agreeing, mut pairs) = (0.0, 0.0);
    for (i, better) in rewards.iter().enumerate() {
        for (j, _) in rewards.iter().enumerate().filter(|(_, worse)| better > worse) {
            pairs += 1.0;
            agreeing += match log_ratios[i] - log_ratios[j] {
                difference if difference > 0.0 => 1.0,
                0.0 => 0.5,
                _ => 0.0,
            };
        }
    }
    if pairs == 0.0 { 0.5 } else { agreeing / pairs }
}

/// The completion of the highest reward.
fn best(rewards: &[f64]) -> usize {
    (0..rewards.len()).max_by(|a, b| rewards[*a].total_cmp(&rewards[*b])).unwrap_or(0)
}

/// The completion of the lowest reward.
fn worst(rewards: &[f64]) -> usize {
    (0..rewards.len()).min_by(|a, b| rewards[*a].total_cmp(&rewards[*b])).unwrap_or(0)
}
