//! A warning sign: the log-probs of chosen and of rejected completions both fall.
//!
//! The margin between the two may grow meanwhile, so that loss and accuracy look well, while probability
//! moves to completions that are in neither set (Pal et al. 2024, "Smaug"; Rafailov et al. 2024, "From r
//! to Q*").

use std::collections::VecDeque;

use serde_json::Value;

/// Steps that are compared: the first so many with the latest so many.
const WINDOW: usize = 20;
/// The smallest fall that counts, in nats: completions are e times less likely.
const LEAST: f64 = 1.0;
/// The smallest fall that counts, in standard errors of the difference: batches differ.
const STANDARD_ERRORS: f64 = 3.0;
/// The figures of a step that are watched.
const SIDES: [&str; 2] = ["logps/chosen", "logps/rejected"];

/// Watches both sides over a training, step by step.
#[derive(Clone, Debug, Default)]
pub(super) struct Falling {
    first: [Vec<f64>; 2],
    latest: [VecDeque<f64>; 2],
    is_told: bool,
}

impl Falling {
    /// Takes a step's line. The falls of the chosen and of the rejected, in nats, the first time that
    /// both are clear; none for lines without log-probs of pairs.
    pub fn note(&mut self, line: &Value) -> Option<[f64; 2]> {
        let [Some(chosen), Some(rejected)] = SIDES.map(|side| line[side].as_f64()) else {
            return None;
        };
        let mut falls = [0.0; 2];
        let mut are_clear = !self.is_told;
        for (side, value) in [chosen, rejected].into_iter().enumerate() {
            let (first, latest) = (&mut self.first[side], &mut self.latest[side]);
            if first.len() < WINDOW {
                first.push(value);
                are_clear = false;
                continue;
            }
            latest.push_back(value);
            if latest.len() > WINDOW {
                latest.pop_front();
            }
            let (before, now) = (Moments::of(first), Moments::of(latest.make_contiguous()));
            falls[side] = before.mean - now.mean;
            let error = (before.squared_error + now.squared_error).sqrt();
            let is_clear = falls[side] > LEAST && falls[side] > STANDARD_ERRORS * error;
            are_clear &= latest.len() == WINDOW && is_clear;
        }
        self.is_told |= are_clear;
        are_clear.then_some(falls)
    }
}

/// The mean of some values and the square of its standard error.
struct Moments {
    mean: f64,
    squared_error: f64,
}

impl Moments {
    fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        Self { mean, squared_error: squares / (count - 1.0).max(1.0) / count }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The steps at which the warning comes, from 1, where the sides are `sides(step)`.
    fn told(steps: usize, sides: impl Fn(usize) -> [f64; 2]) -> Vec<usize> {
        let mut falling = Falling::default();
        let line = |step| {
            let [chosen, rejected] = sides(step);
            json!({ SIDES[0]: chosen, SIDES[1]: rejected })
        };
        (1..=steps).filter(|&step| falling.note(&line(step)).is_some()).collect()
    }

    /// Differences between batches, of both sides alike, as longer completions make them.
    fn noise(step: usize) -> f64 {
        ((step * step * 7919) as f64).sin() * 10.0
    }

    #[test]
    fn both_sides_falling_is_told_once_and_as_soon_as_it_is_clear() {
        let found = told(400, |step| [-50.0 - 0.2 * step as f64, -60.0 - 0.5 * step as f64]);
        assert_eq!(found, [2 * WINDOW], "without noise, at the first two whole windows");
        let found = told(400, |step| {
            [-50.0 - 0.1 * step as f64 + noise(step), -60.0 - 0.1 * step as f64 + noise(step)]
        });
        assert_eq!(found.len(), 1);
        assert!(found[0] > 2 * WINDOW, "within the noise nothing is clear: {found:?}");
    }

    #[test]
    fn one_side_falling_or_noise_alone_or_a_tiny_fall_is_not_told() {
        assert!(told(400, |step| [-50.0 + noise(step), -60.0 - step as f64]).is_empty());
        assert!(told(400, |step| [-50.0 - step as f64, -60.0 + noise(step)]).is_empty());
        assert!(told(2000, |step| [-50.0 + noise(step), -60.0 + noise(step)]).is_empty());
        assert!(told(400, |step| [-50.0 - 0.002 * step as f64, -60.0 - step as f64]).is_empty());
    }

    #[test]
    fn the_falls_are_told_in_nats_and_lines_of_other_trainings_are_passed_over() {
        let mut falling = Falling::default();
        for step in 0..2 * WINDOW {
            assert_eq!(falling.note(&json!({ "loss": 1.0 })), None);
            let drop = if step < WINDOW { 0.0 } else { 2.0 };
            let line = json!({ SIDES[0]: -10.0 - drop, SIDES[1]: -10.0 - 2.0 * drop });
            let expected = (step + 1 == 2 * WINDOW).then_some([2.0, 4.0]);
            assert_eq!(falling.note(&line), expected);
        }
    }
}
