//! How many prompts, samples and repetitions tell a difference, from the spread of a pilot.
//!
//! The difference of two frontiers is a function of the mean reward and KL of each checkpoint. To first order it is a
//! mean over samples of
//!
//!   z = Σ over checkpoints  ∂G/∂r · reward + ∂G/∂k · KL
//!
//! so that one analysis of variance says how much of its error comes from which prompts were asked and how much from
//! what was drawn for each. Sample s of a prompt is drawn with the same random numbers from every policy, and what the
//! policies share in it cancels in z, as it does in the difference. What repetitions of the whole protocol (other
//! seeds) differ by beyond that is the share of training.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};

use super::Samples;
use super::frontier::Frontiers;
use crate::statistics::{mean, student_quantile, variance};

/// The parts of the variance of a difference between two frontiers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct VarianceComponents {
    /// Variance between prompts, of a prompt whose answers were all known.
    pub prompts: f64,
    /// Variance between the samples of a prompt; none where there is one sample of each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<f64>,
    /// Variance between repetitions beyond what prompts and samples explain; none of a single one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repetitions: Option<f64>,
    /// The sizes that it was measured with.
    pub measured_with: Sizes,
}

/// The size of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Held-out prompts of a repetition.
    pub prompts: usize,
    /// Samples of each.
    pub samples: usize,
    /// Repetitions of the whole protocol, each with prompts of its own.
    pub repetitions: usize,
}

/// Two frontiers of one repetition, with the reference that both start at.
#[derive(Clone, Debug)]
pub struct Pilot<'a> {
    /// The checkpoints of the one.
    pub ours: Vec<&'a Samples>,
    /// The checkpoints of the other.
    pub theirs: Vec<&'a Samples>,
    /// The reference.
    pub reference: &'a Samples,
}

impl VarianceComponents {
    /// Of the mean difference at the same KL, from one or several repetitions; none where none of them can be
    /// compared, or one has fewer than two prompts.
    pub fn of(repetitions: &[Pilot<'_>]) -> Option<Self> {
        let measured: Vec<Measured> = repetitions.iter().filter_map(Measured::of).collect();
        let first = measured.first()?;
        let sizes = Sizes {
            prompts: measured.iter().map(|it| it.prompts).min()?,
            samples: measured.iter().map(|it| it.samples).min()?,
            repetitions: measured.len(),
        };
        let average = |of: fn(&Measured) -> f64| mean(measured.iter().map(of));
        let samples = first.within.map(|_| average(|it| it.within.unwrap_or(0.0)));
        let mut components = Self {
            prompts: average(|it| it.between).max(0.0),
            samples,
            repetitions: None,
            measured_with: sizes,
        };
        if measured.len() > 1 {
            let explained = components.of_one(sizes.prompts, sizes.samples);
            let gains: Vec<f64> = measured.iter().map(|it| it.gain).collect();
            components.repetitions = Some((variance(&gains) - explained).max(0.0));
        }
        Some(components)
    }

    /// Variance of the difference in one repetition by its prompts and samples.
    fn of_one(&self, prompts: usize, samples: usize) -> f64 {
        (self.prompts + self.samples.unwrap_or(0.0) / samples as f64) / prompts as f64
    }

    /// The standard error of the difference. Of one repetition it is that over prompts, which says nothing of another
    /// training.
    pub fn standard_error(&self, sizes: Sizes) -> f64 {
        let one = self.of_one(sizes.prompts, sizes.samples);
        match sizes.repetitions {
            1 => one.sqrt(),
            many => ((one + self.repetitions.unwrap_or(0.0)) / many as f64).sqrt(),
        }
    }

    /// The smallest difference that a two-sided test at 5 % finds with probability `power`.
    pub fn detectable(&self, sizes: Sizes, power: f64) -> f64 {
        errors_needed(sizes.repetitions, power) * self.standard_error(sizes)
    }

    /// The fewest prompts that tell `difference` with probability `power`; none where no number does, since trainings
    /// differ by more.
    pub fn prompts_needed(
        &self,
        difference: f64,
        power: f64,
        samples: usize,
        repetitions: usize,
    ) -> Option<usize> {
        let allowed = (difference / errors_needed(repetitions, power)).powi(2);
        let (allowed, of_training) = match repetitions {
            1 => (allowed, 0.0),
            many => (allowed * many as f64, self.repetitions.unwrap_or(0.0)),
        };
        let left = allowed - of_training;
        (left > 0.0).then(|| (self.of_one(1, samples) / left).ceil().max(2.0) as usize)
    }
}

/// The standard errors that a difference must have to be found: of the normal distribution for one repetition, whose
/// interval is over prompts, and of Student's for several.
fn errors_needed(repetitions: usize, power: f64) -> f64 {
    let quantile = |share: f64| match repetitions {
        1 => Normal::standard().inverse_cdf(share),
        many => student_quantile(many, share),
    };
    quantile(0.975) + quantile(power)
}

/// What one repetition came to.
struct Measured {
    gain: f64,
    /// Variance between prompts; an estimate of none may be negative.
    between: f64,
    /// Variance between samples of a prompt.
    within: Option<f64>,
    prompts: usize,
    samples: usize,
}

impl Measured {
    fn of(pilot: &Pilot<'_>) -> Option<Self> {
        let frontiers = Frontiers::new(&pilot.ours, &pilot.theirs, pilot.reference)?;
        let (gain, slopes) = frontiers.gain_and_slopes();
        let reference = std::iter::once(&pilot.reference);
        let all = || reference.clone().chain(&pilot.ours).chain(&pilot.theirs);
        let (prompts, samples) =
            (pilot.reference.len(), all().flat_map(|it| it.iter()).map(Vec::len).min()?);
        if prompts < 2 || samples == 0 {
            return None;
        }
        let influence = |prompt: usize, sample: usize| -> f64 {
            let of = |(samples, [by_reward, by_kl]): (&&Samples, &[f64; 2])| {
                let drawn = &samples[prompt][sample];
                by_reward * drawn.reward + by_kl * drawn.kl()
            };
            all().zip(&slopes).map(of).sum()
        };
        let table: Vec<Vec<f64>> = (0..prompts)
            .map(|prompt| (0..samples).map(|sample| influence(prompt, sample)).collect())
            .collect();
        let means: Vec<f64> = table.iter().map(|it| mean(it.iter().copied())).collect();
        let of_means = variance(&means);
        let within = (samples > 1).then(|| mean(table.iter().map(|it| variance(it))));
        let between = of_means - within.unwrap_or(0.0) / samples as f64;
        Some(Self { gain, between, within, prompts, samples })
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha12Rng;
    use rand_distr::StandardNormal;

    use super::*;
    use crate::evaluation::{Drawn, frontier_gain};

    /// One checkpoint each at KL 1, at which ours earns `1 + prompt + sample` more, deviations as given.
    fn pilot(
        prompts: usize,
        samples: usize,
        [between, within, training]: [f64; 3],
        seed: u64,
    ) -> [Samples; 3] {
        let mut random = ChaCha12Rng::seed_from_u64(seed);
        let mut normal = move || -> f64 { random.sample(StandardNormal) };
        let shift = 1.0 + training * normal();
        let mut ours = Samples::new();
        let mut theirs = Samples::new();
        for _ in 0..prompts {
            let of_prompt = between * normal();
            // What both share: prompts are easy or hard.
            let shared = 3.0 * normal();
            let draw = |reward| Drawn { reward, log_ratio: 1.0, token_kl: None };
            let both: Vec<[f64; 2]> = (0..samples)
                .map(|_| [shared + shift + of_prompt + within * normal(), shared])
                .collect();
            ours.push(both.iter().map(|it| draw(it[0])).collect());
            theirs.push(both.iter().map(|it| draw(it[1])).collect());
        }
        let reference =
            theirs.iter().map(|it| it.iter().map(|d| Drawn { log_ratio: 0.0, ..*d }).collect());
        [ours, theirs.clone(), reference.collect()]
    }

    fn spread(pilots: &[[Samples; 3]]) -> VarianceComponents {
        let pilots: Vec<Pilot<'_>> = pilots
            .iter()
            .map(|[ours, theirs, reference]| Pilot {
                ours: vec![ours],
                theirs: vec![theirs],
                reference,
            })
            .collect();
        VarianceComponents::of(&pilots).unwrap()
    }

    #[test]
    fn the_parts_of_a_known_spread_are_found() {
        // The mean over KLs of a triangle is half its height: the parts are a fourth of those of the rewards.
        let found = spread(&[pilot(4000, 4, [0.6, 1.2, 0.0], 1)]);
        let near = |found: f64, expected: f64| {
            assert!((found / expected - 1.0).abs() < 0.1, "{found} and {expected}");
        };
        near(found.prompts, 0.09);
        near(found.samples.unwrap(), 0.36);
        assert_eq!(found.repetitions, None);
        let sizes = Sizes { prompts: 4000, samples: 4, repetitions: 1 };
        assert_eq!(found.measured_with, sizes);
        near(found.standard_error(sizes), ((0.09 + 0.36 / 4.0) / 4000.0f64).sqrt());
        // z₀.₉₇₅ + z₀.₈.
        near(found.detectable(sizes, 0.8) / found.standard_error(sizes), 1.959_964 + 0.841_621);
        // Trainings that differ by 0.4, of which a half is left; 600 of them know the variance to 6 %.
        let pilots: Vec<_> = (0..600).map(|seed| pilot(100, 2, [0.6, 1.2, 0.4], seed)).collect();
        let found = spread(&pilots).repetitions.unwrap();
        assert!((found / 0.04 - 1.0).abs() < 0.18, "{found}");
    }

    #[test]
    fn one_sample_of_each_prompt_tells_no_parts_and_one_prompt_tells_nothing() {
        let found = spread(&[pilot(4000, 1, [0.6, 1.2, 0.0], 1)]);
        assert_eq!(found.samples, None);
        assert!((found.prompts / 0.45 - 1.0).abs() < 0.1, "{found:?}");
        let [ours, theirs, reference] = pilot(1, 4, [0.6, 1.2, 0.0], 1);
        let one = Pilot { ours: vec![&ours], theirs: vec![&theirs], reference: &reference };
        assert_eq!(VarianceComponents::of(&[one]), None);
        // Samples of a prompt that agree leave nothing to prompts or samples but what differs between prompts.
        let found = spread(&[pilot(4000, 4, [0.6, 0.0, 0.0], 1)]);
        assert!(found.samples.unwrap() < 1e-12 && (found.prompts / 0.09 - 1.0).abs() < 0.1);
    }

    #[test]
    fn the_error_is_the_one_that_fresh_pilots_show() {
        let deviations = [0.5, 1.0, 0.0];
        let gains: Vec<f64> = (0..400)
            .map(|seed| {
                let [ours, theirs, reference] = pilot(30, 2, deviations, 1000 + seed);
                frontier_gain(&[&ours], &[&theirs], &reference, 0).unwrap().mean_gain.mean
            })
            .collect();
        let expected = spread(&[pilot(3000, 2, deviations, 5)]).standard_error(Sizes {
            prompts: 30,
            samples: 2,
            repetitions: 1,
        });
        let found = variance(&gains).sqrt();
        assert!((found / expected - 1.0).abs() < 0.12, "{found} and {expected}");
    }

    #[test]
    fn as_many_prompts_as_are_asked_for_tell_the_difference_and_fewer_do_not() {
        let spread = VarianceComponents {
            prompts: 0.09,
            samples: Some(0.36),
            repetitions: Some(0.01),
            measured_with: Sizes { prompts: 50, samples: 2, repetitions: 3 },
        };
        for (samples, repetitions) in [(1, 1), (4, 1), (2, 8), (8, 20)] {
            let needed = spread.prompts_needed(0.15, 0.8, samples, repetitions).unwrap();
            let with = |prompts| spread.detectable(Sizes { prompts, samples, repetitions }, 0.8);
            assert!(with(needed) <= 0.15 && with(needed - 1) > 0.15, "{needed}");
        }
        // t(0.975, 2) + t(0.8, 2) = 4.3027 + 1.0607 deviations of √(0.01 / 3) are 0.31.
        assert_eq!(spread.prompts_needed(0.3, 0.8, 1000, 3), None);
        assert!(spread.prompts_needed(0.35, 0.8, 1000, 3).is_some());
    }
}
