//! Scales and ticks.

use crate::report::text::number;

/// A linear map from values to places.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub low: f64,
    pub high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// The scale that holds `values`, with a margin of `margin` of their range on both sides, on the
    /// places `from` … `to`. None without a finite value.
    pub fn new(values: impl Iterator<Item = f64>, margin: f64, from: f64, to: f64) -> Option<Self> {
        let (low, high) = values
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        if low > high {
            return None;
        }
        let range = high - low;
        let margin = if range > 0.0 { range * margin } else { low.abs().max(1.0) * 0.5 };
        Some(Self { low: low - margin, high: high + margin, from, to })
    }

    /// The place of a value.
    pub fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Round values within the scale, about `count` of them, and what to write beside them.
    pub fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        let rough = (self.high - self.low) / count.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|factor| factor * power)
            .find(|step| *step >= rough * 0.999)
            .unwrap_or(10.0 * power);
        let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        (first..=last.min(first.saturating_add(50)))
            .map(|index| (index as f64 * step, number(index as f64 * step, decimals)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_scale() {
        let scale = Scale::new([-0.3, 4.1].into_iter(), 0.0, 0.0, 100.0).unwrap();
        let labels: Vec<_> = scale.ticks(5).into_iter().map(|tick| tick.1).collect();
        assert_eq!(labels, ["0", "1", "2", "3", "4"]);
        let scale = Scale::new([0.011, 0.019].into_iter(), 0.0, 0.0, 100.0).unwrap();
        let labels: Vec<_> = scale.ticks(4).into_iter().map(|tick| tick.1).collect();
        assert_eq!(labels, ["0.012", "0.014", "0.016", "0.018"]);
    }

    #[test]
    fn a_single_value_has_a_scale_and_no_value_has_none() {
        let scale = Scale::new([2.0].into_iter(), 0.1, 0.0, 100.0).unwrap();
        assert_eq!(scale.at(2.0), 50.0);
        assert!(!scale.ticks(4).is_empty());
        assert!(Scale::new([f64::NAN].into_iter(), 0.1, 0.0, 1.0).is_none());
    }
}
