//! Statistics of an objective during training, computed in f64 on the host.

use burn::tensor::Tensor;

use super::{Alignment, GroupLogProbs, Takes};

/// See [`Alignment::statistics`].
pub(super) fn statistics<A: Alignment + ?Sized>(
    objective: &A,
    log_probs: &GroupLogProbs,
    rewards: &Tensor<2>,
) -> Vec<(&'static str, f64)> {
    let (beta, takes) = (objective.beta_policy(), objective.entry().takes);
    let log_ratios = rows(log_probs.log_ratios());
    let rewards_of = match takes {
        Takes::Pairs => vec![vec![1.0, 0.0]; log_ratios.len()], // the first is chosen
        Takes::Rewards | Takes::Labels => rows(rewards.clone()),
    };
    let baseline = log_probs.mismatched_kl.max(0.0);
    let log_q: Vec<_> = log_ratios.iter().map(|h| log_softmax(h, beta)).collect();
    let accuracy = |(h, r): (&Vec<f64>, &Vec<f64>)| match takes {
        Takes::Labels => label_accuracy(h, r, baseline),
        Takes::Pairs | Takes::Rewards => accuracy(h, r),
    };
    let mut statistics = vec![("accuracy", mean(log_ratios.iter().zip(&rewards_of).map(accuracy)))];
    if log_ratios.first().is_some_and(|h| h.len() > 1) {
        let policy = rows(log_probs.policy.clone());
        let lengths = rows(log_probs.num_tokens.clone());
        let of = |table: &[Vec<f64>], which: fn(&[f64]) -> usize| {
            mean(table.iter().zip(&rewards_of).map(|(row, r)| row[which(r)]))
        };
        let [chosen, rejected] = [best, worst].map(|which| beta * of(&log_ratios, which));
        statistics.extend([
            ("reward_margin", chosen - rejected),
            ("rewards/chosen", chosen),
            ("rewards/rejected", rejected),
            ("logps/chosen", of(&policy, best)),
            ("logps/rejected", of(&policy, worst)),
            ("length/chosen", of(&lengths, best)),
            ("length/rejected", of(&lengths, worst)),
        ]);
    }
    statistics.push(("entropy_q", mean(log_q.iter().map(|q| -expectation(q, |i| q[i])))));
    if objective.needs_mismatched_kl() {
        statistics.push(("kl", baseline));
    } else if let Some(log_p) = objective.log_target(rewards).map(rows) {
        let kl = log_q.iter().zip(&log_p).map(|(q, p)| expectation(q, |i| q[i] - p[i]));
        statistics.push(("kl", mean(kl)));
    }
    statistics
}

/// Share of the completions whose log-ratio is on the side of the baseline where its label is.
fn label_accuracy(log_ratios: &[f64], labels: &[f64], baseline: f64) -> f64 {
    let is_right = |(h, label): (&f64, &f64)| match h - baseline {
        0.0 => 0.5,
        gain => f64::from(u8::from((gain > 0.0) == (*label > 0.0))),
    };
    mean(log_ratios.iter().zip(labels).map(is_right))
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
