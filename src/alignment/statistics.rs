//! Statistics of an objective during training, computed in f64 on the host.

use burn::tensor::Tensor;

use super::{Alignment, GroupLogProbs, Takes};

/// A figure to watch: a mean over groups, or over completions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Statistic {
    /// Its name in `metrics.jsonl`.
    pub name: &'static str,
    /// The mean.
    pub mean: f64,
    /// How many numbers it is a mean over, for each group of the batch: 1 where each group is one. The figure of a
    /// step weighs those of its batches by that.
    pub per_group: f64,
}

impl Statistic {
    /// A mean over all groups of the batch.
    pub fn new(name: &'static str, mean: f64) -> Self {
        Self { name, mean, per_group: 1.0 }
    }
}

/// See [`Alignment::statistics`].
pub(super) fn statistics<A: Alignment + ?Sized>(
    objective: &A,
    log_probs: &GroupLogProbs,
    rewards: &Tensor<2>,
) -> Vec<Statistic> {
    let (beta, takes) = (objective.beta_policy(), objective.entry().takes);
    let scores = rows(objective.scores(log_probs));
    let rewards_of = match takes {
        Takes::Pairs => vec![vec![1.0, 0.0]; scores.len()], // the first is chosen
        Takes::Rewards | Takes::Labels => rows(rewards.clone()),
    };
    let baseline = log_probs.mismatched_kl.max(0.0);
    let weights = objective.reads_proposal().then(|| log_probs.log_weights()).flatten().map(rows);
    let log_q: Vec<Vec<f64>> = match &weights {
        None => scores.iter().map(|row| log_softmax(row.iter().map(|s| s * beta))).collect(),
        Some(weights) => scores
            .iter()
            .zip(weights)
            .map(|(row, w)| log_softmax(row.iter().zip(w).map(|(s, w)| s * beta + w)))
            .collect(),
    };
    // A policy that is the reference still has log-ratios of a rounding.
    let policy = rows(log_probs.policy.clone());
    let settled: Vec<Vec<f64>> = scores
        .iter()
        .zip(&policy)
        .map(|(scores, all)| scores.iter().zip(all).map(|(h, l)| settled(*h, *l)).collect())
        .collect();
    let is_still = settled.iter().flatten().all(|h| *h == 0.0);
    let baseline_of_labels = if is_still { 0.0 } else { baseline };
    let accuracy = |(scores, r): (&Vec<f64>, &Vec<f64>)| match takes {
        Takes::Labels => label_accuracy(scores, r, baseline_of_labels),
        Takes::Pairs | Takes::Rewards => accuracy(scores, r),
    };
    let accuracy = mean(settled.iter().zip(&rewards_of).map(accuracy));
    let per_group = match takes {
        Takes::Labels => rewards.dims()[1] as f64, // each completion is one
        Takes::Pairs | Takes::Rewards => 1.0,
    };
    let mut statistics = vec![Statistic { name: "accuracy", mean: accuracy, per_group }];
    let tables = [&scores, &policy, &rows(log_probs.num_tokens.clone())];
    match takes {
        Takes::Labels => statistics.extend(by_label(tables, &rewards_of, beta)),
        Takes::Pairs | Takes::Rewards => statistics.extend(by_rank(tables, &rewards_of, beta)),
    }
    let entropy = mean(log_q.iter().map(|q| -expectation(q, |i| q[i])));
    statistics.push(Statistic::new("entropy_q", entropy));
    if objective.needs_mismatched_kl() {
        statistics.push(Statistic::new("kl", baseline));
    } else if let Some(log_p) = objective.log_target(log_probs, rewards).map(rows) {
        let kl = log_q.iter().zip(&log_p).map(|(q, p)| expectation(q, |i| q[i] - p[i]));
        statistics.push(Statistic::new("kl", mean(kl)));
    }
    // One completion is compared with none.
    if weights.is_some() && scores.iter().all(|row| row.len() > 1) {
        let size = log_q.iter().map(|q| 1.0 / expectation(q, |i| q[i].exp()));
        statistics.push(Statistic::new("effective_sample_size", mean(size)));
    }
    statistics
}

/// The figures of a side of the comparison, the chosen one's names first.
const SIDES: [[&str; 2]; 3] = [
    ["rewards/chosen", "rewards/rejected"],
    ["logps/chosen", "logps/rejected"],
    ["length/chosen", "length/rejected"],
];

/// Scores, log-probs and lengths, `[groups, K]`, of the best and of the worst completion of each group.
fn by_rank(tables: [&Vec<Vec<f64>>; 3], rewards: &[Vec<f64>], beta: f64) -> Vec<Statistic> {
    let of = |table: &[Vec<f64>], which: fn(&[f64]) -> usize| {
        mean(table.iter().zip(rewards).map(|(row, r)| row[which(r)]))
    };
    let margin = |(row, r): (&Vec<f64>, &Vec<f64>)| beta * (row[best(r)] - row[worst(r)]);
    let margin = mean(tables[0].iter().zip(rewards).map(margin));
    let sides = SIDES.iter().zip(tables).zip([beta, 1.0, 1.0]);
    let sides = sides.flat_map(|((names, table), scale)| {
        [(names[0], best as fn(&[f64]) -> usize), (names[1], worst)]
            .map(|(name, which)| Statistic::new(name, scale * of(table, which)))
    });
    std::iter::once(Statistic::new("reward_margin", margin)).chain(sides).collect()
}

/// The same of desirable and of other completions, whatever their group.
fn by_label(tables: [&Vec<Vec<f64>>; 3], labels: &[Vec<f64>], beta: f64) -> Vec<Statistic> {
    let (all, num_groups) = (labels.concat(), labels.len() as f64);
    let desirable = all.iter().filter(|label| **label > 0.0).count();
    let counts = [desirable, all.len() - desirable];
    let sides = SIDES.iter().zip(tables).zip([beta, 1.0, 1.0]);
    let sides = sides.flat_map(|((names, table), scale)| {
        [0, 1].map(|side| {
            let is_of_side = |label: f64| (label > 0.0) == (side == 0);
            let values = table.concat().into_iter().zip(&all);
            let sum: f64 = values.filter(|(_, it)| is_of_side(**it)).map(|(value, _)| value).sum();
            let count = counts[side] as f64;
            Statistic {
                name: names[side],
                mean: scale * sum / count,
                per_group: count / num_groups,
            }
        })
    });
    sides.filter(|statistic| statistic.per_group > 0.0).collect()
}

/// A score, 0 where it is no more than the roundings of a log-prob in f32.
fn settled(score: f64, log_prob: f64) -> f64 {
    /// Four units in the last place.
    const ROUNDING: f64 = 5e-7;
    if score.abs() <= ROUNDING * log_prob.abs() { 0.0 } else { score }
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

fn log_softmax(exponents: impl Iterator<Item = f64>) -> Vec<f64> {
    let exponents: Vec<f64> = exponents.collect();
    let max = exponents.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log_sum = exponents.iter().map(|value| (value - max).exp()).sum::<f64>().ln();
    exponents.iter().map(|value| value - max - log_sum).collect()
}

/// Σ q_i f(i).
fn expectation(log_q: &[f64], f: impl Fn(usize) -> f64) -> f64 {
    log_q.iter().enumerate().map(|(i, log_q)| log_q.exp() * f(i)).sum()
}

/// Share of the pairs ordered by reward that the log-ratios order alike; ties count one half.
fn accuracy(log_ratios: &[f64], rewards: &[f64]) -> f64 {
    let (mut agreeing, mut pairs) = (0.0, 0.0);
    for (i, better) in rewards.iter().enumerate() {
        for (j, _) in rewards.iter().enumerate().filter(|&(_, worse)| better > worse) {
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

/// The first completion of the highest reward.
pub(crate) fn best(rewards: &[f64]) -> usize {
    (0..rewards.len()).rev().max_by(|a, b| rewards[*a].total_cmp(&rewards[*b])).unwrap_or(0)
}

/// The first completion of the lowest reward.
pub(crate) fn worst(rewards: &[f64]) -> usize {
    (0..rewards.len()).min_by(|a, b| rewards[*a].total_cmp(&rewards[*b])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_is_the_reference_orders_nothing() {
        // Roundings of a log-prob of 300 nats, and what is more than one.
        let noise = [3e-5, -6e-5].map(|h| settled(h, -300.0));
        assert_eq!((noise, accuracy(&noise, &[1.0, 0.0])), ([0.0; 2], 0.5));
        let learned = [3e-4, -6e-5].map(|h| settled(h, -300.0));
        assert_eq!(accuracy(&learned, &[1.0, 0.0]), 1.0);
        assert_eq!(label_accuracy(&noise, &[1.0, 0.0], 0.0), 0.5);
    }
}
