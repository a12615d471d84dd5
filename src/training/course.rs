//! The course of a training, as the lines of its metrics tell it: the best model so far, whether the
//! drift has used up its budget, whether both sides of pairs fall, whether few samples of a group count.
//!
//! Invariant: the course is a function of the lines alone. A training that goes on from a checkpoint reads
//! its lines again, and is where an uninterrupted one would be.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::falling::Falling;
use super::few::Few;
use crate::config::BestBy;

/// The beginning of the names of validation figures.
pub(super) const PREFIX: &str = "validation/";
/// The drift from the reference and the ends of its 95 % interval.
pub(super) const DRIFT: [&str; 3] = ["kl", "kl_low", "kl_high"];

/// What is concluded from the figures of validation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// The figure that tells the best model.
    pub best: BestBy,
    /// The drift at which the training ends, in nats.
    pub kl_budget: Option<f64>,
}

/// The best model so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestModel {
    /// The steps after which it was the model.
    pub step: usize,
    /// The figure that tells it, with its value.
    pub by: String,
    /// The figure's value.
    pub value: f64,
}

/// The end of a training by its budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drifted {
    /// The steps taken.
    pub step: usize,
    /// KL(π ‖ π_ref), in nats.
    pub kl: f64,
    /// The ends of its 95 % interval.
    pub interval: [f64; 2],
    /// The budget that it reached.
    pub budget: f64,
}

/// Where a training stands.
#[derive(Clone, Debug, Default)]
pub struct Course {
    rules: Rules,
    falling: Falling,
    few: Few,
    /// The best model, where one is kept.
    pub best: Option<BestModel>,
    /// How the training ended, where it ended by its budget.
    pub drifted: Option<Drifted>,
}

/// What a line changed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Noted {
    /// The model of this step is the best so far.
    pub is_best: bool,
    /// How far chosen and rejected have fallen, in nats, where that is to be told.
    pub falls: Option<[f64; 2]>,
    /// The effective sample size of the step's groups, where it is too small and that is to be told.
    pub few: Option<f64>,
}

impl Course {
    /// After the steps of `lines`.
    pub fn after<'a>(rules: Rules, lines: impl Iterator<Item = &'a Value>) -> Self {
        let mut course = Self { rules, ..Self::default() };
        for line in lines {
            course.note(line);
        }
        course
    }

    /// Takes the line of the next step.
    pub fn note(&mut self, line: &Value) -> Noted {
        let step = line["step"].as_u64().unwrap_or_default() as usize;
        let figure = |name: &str| line[format!("{PREFIX}{name}")].as_f64();
        let mut is_best = false;
        if let Some((name, more_is_better)) = self.rules.best.figure()
            && let Some(value) = figure(name)
        {
            is_best = self.best.as_ref().is_none_or(|best| match more_is_better {
                true => value > best.value,
                false => value < best.value,
            });
            if is_best {
                self.best = Some(BestModel { step, by: format!("{PREFIX}{name}"), value });
            }
        }
        if let Some(budget) = self.rules.kl_budget
            && let [Some(kl), Some(low), Some(high)] = DRIFT.map(figure)
            && kl >= budget
        {
            self.drifted = Some(Drifted { step, kl, interval: [low, high], budget });
        }
        Noted { is_best, falls: self.falling.note(line), few: self.few.note(line) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lines(losses: &[Option<f64>]) -> Vec<Value> {
        let line = |(at, loss): (usize, &Option<f64>)| match loss {
            Some(loss) => json!({ "step": at + 1, "validation/loss": loss, "loss": 0.0 }),
            None => json!({ "step": at + 1, "loss": -1.0 }),
        };
        losses.iter().enumerate().map(line).collect()
    }

    fn best(by: BestBy, lines: &[Value]) -> Option<(usize, f64)> {
        let course = Course::after(Rules { best: by, kl_budget: None }, lines.iter());
        course.best.map(|best| (best.step, best.value))
    }

    #[test]
    fn the_best_is_the_first_of_the_lowest_losses_over_the_validation_records() {
        let lines = lines(&[None, Some(0.7), Some(0.5), None, Some(0.5), Some(0.6)]);
        assert_eq!(best(BestBy::Loss, &lines), Some((3, 0.5)));
        assert_eq!(best(BestBy::None, &lines), None);
        assert_eq!(best(BestBy::Accuracy, &lines), None);
        let mut course = Course::after(Rules { best: BestBy::Loss, kl_budget: None }, [].iter());
        let found: Vec<bool> = lines.iter().map(|line| course.note(line).is_best).collect();
        assert_eq!(found, [false, true, true, false, false, false]);
    }

    #[test]
    fn more_accuracy_and_more_margin_are_better() {
        let line = |step: usize, value: f64| json!({ "step": step, "validation/accuracy": value, "validation/reward_margin": -value });
        let lines = [line(1, 0.5), line(2, 0.75), line(3, 0.25)];
        assert_eq!(best(BestBy::Accuracy, &lines), Some((2, 0.75)));
        assert_eq!(best(BestBy::Reward, &lines), Some((3, -0.25)));
    }

    #[test]
    fn a_training_ends_where_the_mean_drift_reaches_its_budget() {
        let line = |step: usize, kl: f64| {
            json!({
                "step": step, "validation/kl": kl, "validation/kl_low": kl - 1.0,
                "validation/kl_high": kl + 1.0,
            })
        };
        let rules = Rules { kl_budget: Some(2.0), ..Rules::default() };
        let mut course = Course::after(rules, [line(1, 1.5)].iter());
        assert_eq!(course.drifted, None, "the interval reaches it, the mean does not");
        course.note(&line(2, 2.0));
        let expected = Drifted { step: 2, kl: 2.0, interval: [1.0, 3.0], budget: 2.0 };
        assert_eq!(course.drifted, Some(expected));
        let course = Course::after(Rules::default(), [line(1, 1e9)].iter());
        assert_eq!(course.drifted, None, "no budget");
    }
}
