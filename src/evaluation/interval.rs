//! Means with bootstrap intervals.

use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::mean;

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

const RESAMPLES: usize = 2000;

/// The mean of `values` with its 95 % percentile bootstrap interval; `seed` makes it repeatable.
pub fn bootstrap(values: &[f64], seed: u64) -> Interval {
    let mut random = rand_chacha::ChaCha12Rng::seed_from_u64(seed);
    let center = mean(values.iter().copied());
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| mean((0..values.len()).map(|_| values[random.random_range(0..values.len())])))
        .collect();
    means.sort_by(f64::total_cmp);
    let quantile = |share: f64| means[((RESAMPLES - 1) as f64 * share).round() as usize];
    Interval { mean: center, low: quantile(0.025), high: quantile(0.975) }
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
}
