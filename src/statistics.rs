//! Means and shares with their intervals: over resamples, by Student, by Wilson.

use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

/// A mean and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// The 2.5 % quantile of resampled means.
    pub low: f64,
    /// The 97.5 % quantile of resampled means.
    pub high: f64,
}

impl std::fmt::Display for Interval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} [{:.3}, {:.3}]", self.mean, self.low, self.high)
    }
}

impl Interval {
    /// `mean` with the 95 % percentile interval of its resampled values.
    pub(crate) fn of_resamples(mean: f64, mut resampled: Vec<f64>) -> Self {
        resampled.sort_by(f64::total_cmp);
        let last = resampled.len().saturating_sub(1) as f64;
        let quantile = |share: f64| resampled[(last * share).round() as usize];
        Self { mean, low: quantile(0.025), high: quantile(0.975) }
    }
}

/// The normal distribution's quantile at 97.5 %: a two-sided test at 5 %.
pub(crate) const Z_SIGNIFICANCE: f64 = 1.959_963_984_540_054;
const RESAMPLES: usize = 2000;

/// The mean of `values` with its 95 % percentile bootstrap interval; `seed` makes it repeatable.
pub fn bootstrap(values: &[f64], seed: u64) -> Interval {
    let mut random = rand_chacha::ChaCha12Rng::seed_from_u64(seed);
    let center = mean(values.iter().copied());
    let means: Vec<f64> = (0..RESAMPLES)
        .map(|_| mean((0..values.len()).map(|_| values[random.random_range(0..values.len())])))
        .collect();
    Interval::of_resamples(center, means)
}

/// What `statistic` comes to over resamples of `items`; resamples for which it has no value are left
/// out.
pub(crate) fn resampled<T, S>(
    items: &[T],
    seed: u64,
    statistic: impl Fn(Vec<&T>) -> Option<S>,
) -> Vec<S> {
    let mut random = rand_chacha::ChaCha12Rng::seed_from_u64(seed);
    (0..RESAMPLES)
        .filter_map(|_| {
            let drawn = items.iter().map(|_| &items[random.random_range(0..items.len())]);
            statistic(drawn.collect())
        })
        .collect()
}

/// Σ a / Σ b over `items` of (a, b), with its 95 % percentile bootstrap interval over items; none
/// where Σ b is 0.
pub(crate) fn bootstrap_ratio(items: &[(f64, f64)], seed: u64) -> Option<Interval> {
    let ratio = |items: Vec<&(f64, f64)>| {
        let (above, below) = items.iter().fold((0.0, 0.0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
        (below > 0.0).then_some(above / below)
    };
    let value = ratio(items.iter().collect())?;
    Some(Interval::of_resamples(value, resampled(items, seed, ratio)))
}

/// The mean of independent repetitions (seeds) with Student's 95 % interval; of one value, the value.
///
/// The values must come from whole repetitions: the interval then holds every source of chance that
/// differs between them.
pub fn student(values: &[f64]) -> Interval {
    let center = mean(values.iter().copied());
    let n = values.len() as f64;
    if values.len() < 2 {
        return Interval { mean: center, low: center, high: center };
    }
    let half = student_quantile(values.len(), 0.975) * (variance(values) / n).sqrt();
    Interval { mean: center, low: center - half, high: center + half }
}

/// The quantile of Student's distribution for the mean of so many values.
pub(crate) fn student_quantile(values: usize, share: f64) -> f64 {
    StudentsT::new(0.0, 1.0, values as f64 - 1.0).map_or(f64::NAN, |t| t.inverse_cdf(share))
}

/// `share` of `trials` with Wilson's 95 % score interval (Wilson 1927).
pub fn wilson(share: f64, trials: f64) -> Interval {
    let square = Z_SIGNIFICANCE * Z_SIGNIFICANCE / trials;
    let center = (share + square / 2.0) / (1.0 + square);
    let half = (square * share * (1.0 - share) + square * square / 4.0).sqrt() / (1.0 + square);
    Interval { mean: share, low: (center - half).max(0.0), high: (center + half).min(1.0) }
}

/// The unbiased variance of several values.
pub(crate) fn variance(values: &[f64]) -> f64 {
    let center = mean(values.iter().copied());
    values.iter().map(|it| (it - center).powi(2)).sum::<f64>() / (values.len() as f64 - 1.0)
}

pub(crate) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0usize);
    for value in values {
        sum += value;
        count += 1;
    }
    sum / count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_mean_has_the_width_the_normal_theory_gives() {
        let values: Vec<f64> = (0..400).map(|it| f64::from(it % 20)).collect();
        let interval = bootstrap(&values, 1);
        let deviation = (values.iter().map(|it| (it - 9.5).powi(2)).sum::<f64>() / 400.0).sqrt();
        let expected = 2.0 * 1.96 * deviation / 20.0;
        // 2000 resamples know a quantile's place to a few percent.
        assert!(((interval.high - interval.low) / expected - 1.0).abs() < 0.1);
        assert!(interval.low < interval.mean && interval.mean < interval.high);
        assert_eq!(interval, bootstrap(&values, 1));
    }

    #[test]
    fn five_repetitions_have_the_interval_that_tables_of_student_give() {
        let interval = student(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        // t(0.975, 4) = 2.776445, standard error √(2.5 / 5).
        let half = 2.776_445 * 0.5f64.sqrt();
        assert_eq!(interval.mean, 3.0);
        assert!(
            (interval.high - 3.0 - half).abs() < 1e-5 && (3.0 - interval.low - half).abs() < 1e-5
        );
        assert_eq!(student(&[2.0]), Interval { mean: 2.0, low: 2.0, high: 2.0 });
    }

    fn near(found: Interval, low: f64, high: f64) {
        assert!((found.low - low).abs() < 1e-12 && (found.high - high).abs() < 1e-12, "{found:?}");
    }

    // statsmodels 0.14, proportion_confint(k, n, method="wilson").
    #[test]
    fn wilson_is_that_of_statsmodels_at_the_ends_too() {
        near(wilson(0.7, 10.0), 0.396_778_147_461_145_4, 0.892_208_732_593_699);
        near(wilson(0.0, 12.0), 0.0, 0.242_494_006_655_240_96);
        near(wilson(1.0, 12.0), 0.757_505_993_344_758_9, 1.0);
        near(wilson(0.55, 100.0), 0.452_446_029_974_421_3, 0.643_854_620_204_880_3);
    }
}
