//! Win rates: how often one policy's answers are better than another's.
//!
//! A tie counts half. The interval is Wilson's score interval at that rate, with as many trials as
//! comparisons. Its coverage is close to nominal without ties. With ties the interval is wider than needed,
//! since a half varies less than a coin.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{BothOrders, Verdict};
use crate::statistics::{Interval, Z_SIGNIFICANCE, bootstrap_ratio, wilson};

/// The normal distribution's quantile at 80 %: the power of a test.
const Z_POWER: f64 = 0.841_621_233_572_914;

/// How often the first of two policies wins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WinRate {
    /// Share won, ties as half, with Wilson's interval over comparisons as if they were independent.
    pub rate: Interval,
    /// The same share, with Wilson's interval as if all comparisons of a prompt said the same: over
    /// (Σ m)² / Σ m² trials, m the comparisons of each prompt. It is `rate` where no prompt recurs.
    pub rate_over_prompts: Interval,
    /// The same share, with a bootstrap interval that resamples prompts.
    pub rate_bootstrap: Interval,
    /// Comparisons won.
    pub wins: usize,
    /// Comparisons on which the two are as good, or that the order decided.
    pub ties: usize,
    /// Comparisons lost.
    pub losses: usize,
    /// Ties because the two orders gave different verdicts.
    pub order_dependent: usize,
    /// Comparisons without a verdict in one order or both; they count nowhere else.
    pub no_verdict: usize,
    /// Different prompts among the comparisons that count.
    pub num_prompts: usize,
    /// See [`prompts_to_tell_apart`].
    pub prompts_to_tell_apart: Option<usize>,
}

impl WinRate {
    /// From comparisons, each with what tells its prompt from others; none where no comparison has a
    /// verdict.
    pub fn new<K: Ord>(asked: &[(K, BothOrders)], seed: u64) -> Option<Self> {
        // Score and number of the verdicts on each prompt.
        let mut prompts: BTreeMap<&K, (f64, f64)> = BTreeMap::new();
        let count = |verdict| asked.iter().filter(|it| it.1.verdict() == verdict).count();
        for (prompt, both) in asked {
            if let Some(verdict) = both.verdict() {
                let (score, trials) = prompts.entry(prompt).or_default();
                *score += verdict.score();
                *trials += 1.0;
            }
        }
        let prompts: Vec<(f64, f64)> = prompts.into_values().collect();
        let trials: f64 = prompts.iter().map(|it| it.1).sum();
        let score: f64 = prompts.iter().map(|it| it.0).sum();
        let squares: f64 = prompts.iter().map(|it| it.1 * it.1).sum();
        let scores: Vec<f64> = prompts.iter().map(|(score, trials)| score / trials).collect();
        Some(Self {
            rate_bootstrap: bootstrap_ratio(&prompts, seed)?,
            rate: wilson(score / trials, trials),
            rate_over_prompts: wilson(score / trials, trials * trials / squares),
            wins: count(Some(Verdict::A)),
            ties: count(Some(Verdict::Tie)),
            losses: count(Some(Verdict::B)),
            order_dependent: asked.iter().filter(|it| it.1.is_order_dependent()).count(),
            no_verdict: count(None),
            num_prompts: prompts.len(),
            prompts_to_tell_apart: prompts_to_tell_apart(&scores),
        })
    }
}

/// Prompts on which a two-sided test at 5 % tells two policies apart with 80 % power, if they differ
/// as they do in `scores`: the mean score of each prompt, 1 for won, 0 for lost, ½ for tied.
///
///   n = (z₀.₉₇₅ √m + z₀.₈ √(m − d²))² / d²      d = E\[s\] − ½,   m = E\[(s − ½)²\]
///
/// For scores of 0, ½ and 1 it is Connor's size of a paired comparison (Connor 1987), of which ties
/// are the concordant pairs. None where the two have won as much as each other.
pub fn prompts_to_tell_apart(scores: &[f64]) -> Option<usize> {
    let n = scores.len() as f64;
    let difference = scores.iter().map(|it| it - 0.5).sum::<f64>() / n;
    let moment = scores.iter().map(|it| (it - 0.5).powi(2)).sum::<f64>() / n;
    let variance = (moment - difference * difference).max(0.0);
    let needed =
        ((Z_SIGNIFICANCE * moment.sqrt() + Z_POWER * variance.sqrt()) / difference).powi(2);
    // Rounding must not make a difference of nothing.
    (difference.abs() > 1e-9).then(|| needed.ceil() as usize)
}

#[cfg(test)]
mod tests {
    use super::Verdict::{A, B, Tie};
    use super::*;

    fn near(found: Interval, low: f64, high: f64) {
        assert!((found.low - low).abs() < 1e-12 && (found.high - high).abs() < 1e-12, "{found:?}");
    }

    fn both(verdict: Verdict) -> BothOrders {
        BothOrders::unordered(Some(verdict))
    }

    /// Each on a prompt of its own.
    fn counted(wins: usize, ties: usize, losses: usize) -> WinRate {
        let verdicts = [(A, wins), (Tie, ties), (B, losses)];
        let all = verdicts.into_iter().flat_map(|(it, count)| vec![both(it); count]);
        WinRate::new(&all.enumerate().collect::<Vec<_>>(), 1).unwrap()
    }

    // The same formula in NumPy at (12 + 5 / 2) / 25.
    #[test]
    fn ties_count_half() {
        let rate = counted(12, 5, 8);
        assert_eq!((rate.wins, rate.ties, rate.losses, rate.num_prompts), (12, 5, 8, 25));
        assert!((rate.rate.mean - 0.58).abs() < 1e-12);
        near(rate.rate, 0.388_903_024_240_018_64, 0.749_786_215_609_733_5);
        assert_eq!(rate.rate, rate.rate_over_prompts);
        // The deviation of a mean of 25 scores: √(0.1896) / 5.
        let width = rate.rate_bootstrap.high - rate.rate_bootstrap.low;
        let normal = 2.0 * Z_SIGNIFICANCE * (13.25f64 / 25.0 - 0.58 * 0.58).sqrt() / 5.0;
        assert!((width / normal - 1.0).abs() < 0.12, "{width} and {normal}");
    }

    #[test]
    fn a_prompt_that_recurs_is_no_new_evidence() {
        let asked =
            [(0, A), (0, A), (0, B), (1, A), (1, A), (2, Tie)].map(|(at, it)| (at, both(it)));
        let rate = WinRate::new(&asked, 0).unwrap();
        assert_eq!(rate.rate.mean, 0.75);
        // NumPy, at 0.75 of 36 / 14 trials.
        near(rate.rate_over_prompts, 0.233_170_653_377_730_3, 0.967_318_487_799_705_6);
        assert!(rate.rate.low > rate.rate_over_prompts.low);
        let thrice: Vec<_> =
            (0..3).flat_map(|_| (0..20).map(|it| (it, both(Verdict::ALL[it % 3])))).collect();
        let (once, thrice) =
            (WinRate::new(&thrice[..20], 4).unwrap(), WinRate::new(&thrice, 4).unwrap());
        assert_eq!(once.rate_over_prompts, thrice.rate_over_prompts);
        let width = |it: Interval| it.high - it.low;
        assert!((width(once.rate_bootstrap) - width(thrice.rate_bootstrap)).abs() < 1e-9);
        assert_eq!(once.prompts_to_tell_apart, thrice.prompts_to_tell_apart);
    }

    #[test]
    fn comparisons_without_a_verdict_are_counted_and_left_out() {
        let asked = [
            (0, both(A)),
            (1, BothOrders { forward: Some(A), backward: Some(B) }),
            (2, BothOrders { forward: Some(B), backward: None }),
            (3, BothOrders::unordered(None)),
        ];
        let rate = WinRate::new(&asked, 0).unwrap();
        assert_eq!((rate.wins, rate.ties, rate.losses), (1, 1, 0));
        assert_eq!((rate.order_dependent, rate.no_verdict, rate.num_prompts), (1, 2, 2));
        assert_eq!(rate.rate.mean, 0.75);
        assert_eq!(WinRate::new(&asked[3..], 0), None);
    }

    // Connor's formula in NumPy; a score test of 200000 draws of 155 multinomial prompts with
    // (.5, .2, .3) has power 0.802, of 194 with (.6, 0, .4) 0.805.
    #[test]
    fn the_prompts_needed_are_connors() {
        assert_eq!(counted(60, 0, 40).prompts_to_tell_apart, Some(194));
        assert_eq!(counted(50, 20, 30).prompts_to_tell_apart, Some(155));
        assert_eq!(counted(30, 20, 50).prompts_to_tell_apart, Some(155));
        assert_eq!(counted(12, 5, 8).prompts_to_tell_apart, Some(243));
        assert_eq!(counted(10, 0, 0).prompts_to_tell_apart, Some(4));
        assert_eq!(counted(7, 3, 7).prompts_to_tell_apart, None);
    }
}
