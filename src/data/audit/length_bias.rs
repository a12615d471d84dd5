//! Length bias: how far "the longer answer wins" explains the labels.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Kind;
use crate::data::TokenGroup;
use crate::statistics::{Interval, bootstrap, wilson};

/// What lengths in tokens say about labels.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LengthBias {
    /// Pairs: how often the chosen side is the longer one, of those of unequal lengths, with the 95 %
    /// Wilson interval.
    pub longer_wins: Option<Interval>,
    /// Pairs of equal lengths.
    pub equal_lengths: usize,
    /// How well the length tells the label: of two differences in length, one of a pair as it is
    /// and one of a pair turned round (of two texts, one of each label), how often the first is the
    /// larger. 0.5 is not at all, 1 perfectly.
    pub auc: Option<f64>,
    /// Groups: mean over groups of Spearman's correlation of reward and length, with its bootstrap
    /// interval.
    pub correlation: Option<Interval>,
}

/// Lengths and labels.
#[derive(Debug, Default)]
pub(super) struct Samples {
    /// Length of the chosen side less that of the rejected.
    differences: Counts,
    /// Lengths of texts by label.
    by_label: [Counts; 2],
    correlations: Vec<f64>,
}

/// Lengths or differences of lengths, and how many there are of each.
type Counts = BTreeMap<i64, usize>;

impl Samples {
    pub fn add(&mut self, kind: Kind, tokens: &TokenGroup) {
        let lengths: Vec<i64> = tokens.completions.iter().map(|it| it.len() as i64).collect();
        match (kind, lengths.as_slice(), tokens.rewards.as_slice()) {
            (Kind::LabelledTexts, [length], [label]) => {
                *self.by_label[usize::from(*label == 1.0)].entry(*length).or_default() += 1;
            }
            (_, [one, two], [first, second]) if first != second => {
                let difference = if first > second { one - two } else { two - one };
                *self.differences.entry(difference).or_default() += 1;
            }
            (_, lengths, rewards) if lengths.len() > 2 && lengths.len() == rewards.len() => {
                let lengths: Vec<f64> = lengths.iter().map(|length| *length as f64).collect();
                self.correlations.extend(spearman(&lengths, rewards));
            }
            _ => {}
        }
    }

    /// The estimates, if there is anything to estimate from.
    pub fn estimate(self) -> Option<LengthBias> {
        let equal = self.differences.get(&0).copied().unwrap_or(0);
        let unequal = size(&self.differences) - equal;
        let longer: usize = self.differences.range(1..).map(|(_, count)| count).sum();
        let turned: Counts = self.differences.iter().map(|(it, count)| (-it, *count)).collect();
        let [negative, positive] = &self.by_label;
        let auc = match self.differences.is_empty() {
            false => auc(&self.differences, &turned),
            true => auc(positive, negative),
        };
        let bias = LengthBias {
            longer_wins: (unequal > 0)
                .then(|| wilson(longer as f64 / unequal as f64, unequal as f64)),
            equal_lengths: equal,
            auc,
            correlation: (!self.correlations.is_empty()).then(|| bootstrap(&self.correlations, 0)),
        };
        (bias.auc.is_some() || bias.correlation.is_some()).then_some(bias)
    }
}

/// How often a value of `ones` is larger than one of `others`, ties as half (Mann and Whitney
/// 1947); none without both.
fn auc(ones: &Counts, others: &Counts) -> Option<f64> {
    if ones.is_empty() || others.is_empty() {
        return None;
    }
    let (mut wins, mut below, mut rest) = (0.0, 0, others.iter().peekable());
    for (one, count) in ones {
        while let Some((_, count)) = rest.next_if(|(other, _)| *other < one) {
            below += count;
        }
        let tied = others.get(one).copied().unwrap_or(0);
        wins += *count as f64 * (below as f64 + tied as f64 / 2.0);
    }
    Some(wins / (size(ones) as f64 * size(others) as f64))
}

fn size(counts: &Counts) -> usize {
    counts.values().sum()
}

/// Spearman's correlation; none where either does not vary.
fn spearman(one: &[f64], two: &[f64]) -> Option<f64> {
    let (one, two) = (ranks(one), ranks(two));
    let mean = (one.len() as f64 + 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum()
    };
    let spread = (product(&one, &one) * product(&two, &two)).sqrt();
    (spread > 0.0).then(|| product(&one, &two) / spread)
}

/// Ranks from 1, equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut place = 0.0;
    for equal in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let shared = place + (equal.len() as f64 + 1.0) / 2.0;
        equal.iter().for_each(|&it| ranks[it] = shared);
        place += equal.len() as f64;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_auc_and_correlation_are_those_of_their_definitions() {
        assert_eq!(ranks(&[5.0, 1.0, 5.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        let (ones, others) = ([3, 1, 2, 2], [2, 0, 2, 5]);
        let counts = |values: &[i64]| {
            let mut counts = Counts::new();
            values.iter().for_each(|value| *counts.entry(*value).or_default() += 1);
            counts
        };
        let pairs = ones.iter().flat_map(|a| others.iter().map(move |b| (a, b)));
        let wins: f64 = pairs
            .map(|(a, b)| {
                if a > b {
                    1.0
                } else if a == b {
                    0.5
                } else {
                    0.0
                }
            })
            .sum();
        assert_eq!(auc(&counts(&ones), &counts(&others)).unwrap(), wins / 16.0);
        assert_eq!(auc(&counts(&[]), &counts(&others)), None);
        assert!((spearman(&[1.0, 2.0, 9.0], &[0.1, 0.2, 0.3]).unwrap() - 1.0).abs() < 1e-12);
        // 1 − 6 Σd² / (n (n² − 1)) with d = (1, −1, 0).
        assert!((spearman(&[1.0, 2.0, 3.0], &[2.0, 1.0, 3.0]).unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
    }
}
