//! The learning rate as a function of the step.

use burn::optim::LearningRate;
use burn::optim::lr_scheduler::{LrScheduler, LrSchedulerRecord};

/// Warm-up to the base rate, then constant or a cosine down to zero at the last step.
///
/// `step` counts from 0. During warm-up the rate is `base · (step + 1) / warmup`, so that the first
/// step already learns; after it the cosine is `base · ½(1 + cos(π · t))` with t the share of the
/// remaining steps that lie behind.
#[derive(Clone, Debug)]
pub struct Schedule {
    base: f64,
    warmup: usize,
    total: usize,
    cosine: bool,
    next: usize,
}

impl Schedule {
    /// The rate stays at `base` after `warmup` steps.
    pub fn constant(base: f64, warmup: usize) -> Self {
        Self { base, warmup, total: 0, cosine: false, next: 0 }
    }

    /// The rate falls to zero over `total` steps, of which the first `warmup` rise.
    pub fn cosine(base: f64, warmup: usize, total: usize) -> Self {
        Self { base, warmup, total, cosine: true, next: 0 }
    }

    /// Continues with step `next`.
    pub fn starting_at(mut self, next: usize) -> Self {
        self.next = next;
        self
    }

    /// The rate of `step`.
    pub fn rate(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.base * (step + 1) as f64 / self.warmup as f64;
        }
        if !self.cosine {
            return self.base;
        }
        let remaining = self.total.saturating_sub(self.warmup).max(1);
        let share = ((step - self.warmup) as f64 / remaining as f64).min(1.0);
        self.base * 0.5 * (1.0 + (std::f64::consts::PI * share).cos())
    }
}

impl LrScheduler for Schedule {
    fn step(&mut self) -> LearningRate {
        let rate = self.rate(self.next);
        self.next += 1;
        rate
    }

    /// Nothing: the step number stands in the checkpoint, and the rate follows from it.
    fn to_record(&self) -> LrSchedulerRecord {
        LrSchedulerRecord::default()
    }

    fn load_record(&mut self, _: LrSchedulerRecord) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosine_starts_at_the_base_and_ends_just_above_zero() {
        let schedule = Schedule::cosine(2.0, 0, 10);
        assert_eq!(schedule.rate(0), 2.0);
        assert!((schedule.rate(5) - 1.0).abs() < 1e-12);
        assert!(schedule.rate(9) > 0.0 && schedule.rate(9) < 0.06);
    }

    #[test]
    fn warm_up_rises_to_the_base_and_the_first_step_learns() {
        let schedule = Schedule::constant(1.0, 4);
        let rates: Vec<f64> = (0..6).map(|step| schedule.rate(step)).collect();
        assert_eq!(rates, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn a_schedule_continues_where_it_stopped() {
        let mut whole = Schedule::cosine(1.0, 2, 8);
        let rates: Vec<f64> = (0..8).map(|_| whole.step()).collect();
        let mut rest = Schedule::cosine(1.0, 2, 8).starting_at(5);
        assert_eq!(rest.step(), rates[5]);
    }
}
