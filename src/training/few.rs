//! A warning sign: of the completions of a group few count, since the policy has moved away from the distribution
//! that they were drawn from.

use serde_json::Value;

/// The mean effective sample size below which nothing is compared with anything.
const LEAST: f64 = 2.0;
/// Steps in a row that must be below: one of them may be chance.
const STEPS: usize = 3;
/// The figure of a step that is watched.
const FIGURE: &str = "effective_sample_size";

/// Watches the effective sample size over a training, step by step.
#[derive(Clone, Debug, Default)]
pub(super) struct Few {
    below: usize,
    is_told: bool,
}

impl Few {
    /// Takes a step's line. The effective sample size, the first time that it stays too small; none for lines
    /// without one.
    pub fn note(&mut self, line: &Value) -> Option<f64> {
        let size = line[FIGURE].as_f64()?;
        self.below = if size < LEAST { self.below + 1 } else { 0 };
        let is_clear = self.below == STEPS && !self.is_told;
        self.is_told |= is_clear;
        is_clear.then_some(size)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn few_samples_are_told_once_and_not_for_a_single_step() {
        let mut few = Few::default();
        let mut told = |sizes: &[f64]| -> Vec<Option<f64>> {
            sizes.iter().map(|size| few.note(&json!({ FIGURE: size }))).collect()
        };
        assert_eq!(told(&[1.5, 2.0, 1.9, 1.9]), [None; 4]);
        assert_eq!(told(&[1.2, 1.0, 1.0]), [Some(1.2), None, None]);
        assert_eq!(told(&[3.0, 1.0, 1.0, 1.0]), [None; 4], "once");
        assert_eq!(few.note(&json!({ "loss": 1.0 })), None);
    }
}
