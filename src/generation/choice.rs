//! Chooses a token from logits.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::kernels;

/// How a token is chosen from a row of logits.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Divides the logits; 0 takes the largest.
    pub temperature: f64,
    /// Only the `top_k` most probable tokens; 0: all.
    pub top_k: usize,
    /// Only the most probable tokens that together reach `top_p`; 1: all.
    pub top_p: f64,
}

/// A token that was chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Picked {
    /// Its id.
    pub token: u32,
    /// Its log-prob in the distribution it was drawn from.
    pub log_prob: f32,
}

impl Choice {
    /// The token, drawn with the random number that `seed` gives.
    pub fn pick(&self, logits: &[f32], seed: [u8; 32]) -> Picked {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let Some(scale) = self.scale() else {
            let token = logits.iter().position(|&logit| logit == largest).unwrap_or(0) as u32;
            return Picked { token, log_prob: 0.0 };
        };
        let mut weights = kernels::exponentials(logits, largest, scale);
        self.restrict(&mut weights);
        let total: f64 = weights.iter().copied().map(f64::from).sum();
        let (chosen, _) = reached(&weights, uniform(seed) * total);
        // Not from its weight, which may have vanished in f32.
        let log_weight = f64::from(logits[chosen] - largest) * f64::from(scale);
        Picked { token: chosen as u32, log_prob: (log_weight - total.ln()) as f32 }
    }

    /// What logits are multiplied with; none where the largest is taken.
    pub(super) fn scale(&self) -> Option<f32> {
        let scale = (1.0 / self.temperature).min(f32::MAX.into()) as f32;
        (self.temperature != 0.0).then_some(scale)
    }

    /// Whether no token of a vocabulary of this size is left out.
    pub(super) fn takes_all_of(&self, vocabulary: usize) -> bool {
        (self.top_k == 0 || self.top_k >= vocabulary) && self.top_p >= 1.0
    }

    /// Sets the weights of the tokens that top-k and top-p leave out to 0.
    fn restrict(&self, weights: &mut [f32]) {
        if self.takes_all_of(weights.len()) {
            return;
        }
        let all_k = self.top_k == 0 || self.top_k >= weights.len();
        let mut order: Vec<usize> = (0..weights.len()).collect();
        // Equal weights in the order of the vocabulary, so that the set is always the same.
        order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]).then(a.cmp(&b)));
        let mut kept = if all_k { order.len() } else { self.top_k };
        let total: f64 = order[..kept].iter().map(|&token| f64::from(weights[token])).sum();
        let mut reached = 0.0;
        for (rank, &token) in order[..kept].iter().enumerate() {
            reached += f64::from(weights[token]);
            if reached >= self.top_p * total {
                kept = rank + 1;
                break;
            }
        }
        for &token in &order[kept..] {
            weights[token] = 0.0;
        }
    }
}

/// The first weight at which the sum of all up to it exceeds `number`, and what is left of the number before it.
pub(super) fn reached(weights: &[f32], number: f64) -> (usize, f64) {
    let (mut chosen, mut left) = (0, number);
    let mut before = number;
    for (index, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        (chosen, before) = (index, left);
        left -= f64::from(weight);
        if left < 0.0 {
            break;
        }
    }
    (chosen, before)
}

/// A number from [0, 1).
pub(super) fn uniform(seed: [u8; 32]) -> f64 {
    ChaCha12Rng::from_seed(seed).random()
}

/// The seed of one token: of the run, the prompt, the sample and the position.
pub(super) fn seed(run: u64, prompt: u64, sample: usize, step: usize) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in [run, prompt, sample as u64, step as u64] {
        hasher.update(&part.to_le_bytes());
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [0.0, 1.0, -1.0, 2.0, 0.5];

    fn frequencies(choice: &Choice, draws: usize) -> [f64; 5] {
        let mut counts = [0.0; 5];
        for draw in 0..draws {
            counts[choice.pick(&LOGITS, seed(3, draw as u64, 0, 0)).token as usize] +=
                1.0 / draws as f64;
        }
        counts
    }

    #[test]
    fn samples_follow_the_distribution_at_the_temperature() {
        let choice = Choice { temperature: 0.7, top_k: 0, top_p: 1.0 };
        let drawn = frequencies(&choice, 20_000);
        for (token, frequency) in drawn.iter().enumerate() {
            let weight = |logit: f32| (f64::from(logit) / 0.7).exp();
            let expected = weight(LOGITS[token]) / LOGITS.map(weight).iter().sum::<f64>();
            // Four standard deviations of 20 000 draws.
            let tolerance = 4.0 * (expected * (1.0 - expected) / 20_000.0).sqrt();
            assert!((frequency - expected).abs() < tolerance, "{token}: {frequency} {expected}");
        }
    }

    /// Completions that were drawn before are drawn again, by the versions to come as well.
    #[test]
    fn the_draws_of_a_seed_are_the_ones_they_have_always_been() {
        let choice = Choice { temperature: 1.0, top_k: 0, top_p: 1.0 };
        let drawn =
            |run, prompt, sample, step| choice.pick(&LOGITS, seed(run, prompt, sample, step)).token;
        let by_prompt: Vec<u32> = (0..12).map(|it| drawn(3, it, 0, 0)).collect();
        assert_eq!(by_prompt, [4, 4, 3, 2, 3, 3, 1, 3, 3, 1, 4, 3]);
        let by_sample: Vec<u32> = (0..12).map(|it| drawn(3, 0, it, 0)).collect();
        assert_eq!(by_sample, [4, 4, 3, 4, 3, 1, 3, 3, 4, 3, 3, 0]);
        assert_eq!(seed(3, 1, 4, 1)[..8], [81, 185, 70, 146, 113, 233, 147, 189]);
    }

    #[test]
    fn every_run_prompt_sample_and_position_has_a_seed_of_its_own() {
        // Each number in each place, large ones as well: none is cut, left out or mixed with another.
        let numbers = [0, 1, 2, 256, 1 << 32, u64::MAX];
        let mut seeds = std::collections::HashSet::new();
        for run in numbers {
            for prompt in numbers {
                for sample in numbers {
                    for step in numbers {
                        seeds.insert(seed(run, prompt, sample as usize, step as usize));
                    }
                }
            }
        }
        assert_eq!(seeds.len(), numbers.len().pow(4));
        assert_eq!(seed(1, 2, 3, 4), seed(1, 2, 3, 4));
    }

    /// The tokens that are left of weights 2, 8, 1, 4, 1, whose sum is 16.
    fn left(top_k: usize, top_p: f64) -> Vec<usize> {
        let mut weights = [2.0, 8.0, 1.0, 4.0, 1.0];
        Choice { temperature: 1.0, top_k, top_p }.restrict(&mut weights);
        (0..5).filter(|&token| weights[token] > 0.0).collect()
    }

    #[test]
    fn top_k_keeps_exactly_k_and_of_equal_ones_the_first() {
        assert_eq!(left(1, 1.0), [1]);
        assert_eq!(left(2, 1.0), [1, 3]);
        assert_eq!(left(4, 1.0), [0, 1, 2, 3]);
        for all in [0, 5, 9] {
            assert_eq!(left(all, 1.0), [0, 1, 2, 3, 4]);
        }
    }

    #[test]
    fn top_p_keeps_the_fewest_that_reach_it_and_counts_within_top_k() {
        for (top_p, expected) in [
            (1e-9, &[1][..]),
            (0.5, &[1]), // 8 of 16 are enough
            (0.501, &[1, 3]),
            (0.75, &[1, 3]),
            (0.751, &[0, 1, 3]),
            (0.9375, &[0, 1, 2, 3]), // of two equal ones the first
            (0.938, &[0, 1, 2, 3, 4]),
        ] {
            assert_eq!(left(0, top_p), expected, "{top_p}");
        }
        // Of the two that top-k leaves, 8 of 12 are two thirds.
        assert_eq!(left(2, 0.66), [1]);
        assert_eq!(left(2, 0.67), [1, 3]);
    }

    #[test]
    fn temperature_zero_takes_the_most_probable() {
        for temperature in [0.0, 1e-60] {
            let greedy = Choice { temperature, top_k: 0, top_p: 1.0 };
            assert_eq!(greedy.pick(&LOGITS, [0; 32]), Picked { token: 3, log_prob: 0.0 });
        }
    }
}
