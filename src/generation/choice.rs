//! Choosing a token from logits.

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

impl Choice {
    /// The token, drawn with the random number that `seed` gives.
    pub fn pick(&self, logits: &[f32], seed: [u8; 32]) -> u32 {
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if self.temperature == 0.0 {
            return logits.iter().position(|&logit| logit == largest).unwrap_or(0) as u32;
        }
        let scale = (1.0 / self.temperature).min(f32::MAX.into()) as f32;
        let mut weights = kernels::exponentials(logits, largest, scale);
        self.restrict(&mut weights);
        let total: f64 = weights.iter().copied().map(f64::from).sum();
        let mut left = ChaCha12Rng::from_seed(seed).random::<f64>() * total;
        let mut chosen = 0;
        for (token, &weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
            chosen = token;
            left -= f64::from(weight);
            if left < 0.0 {
                break;
            }
        }
        chosen as u32
    }

    /// Sets the weights of the tokens that top-k and top-p leave out to 0.
    fn restrict(&self, weights: &mut [f32]) {
        let all_k = self.top_k == 0 || self.top_k >= weights.len();
        if all_k && self.top_p >= 1.0 {
            return;
        }
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

/// The seed of one token: of the run, the prompt, the sample and the position.
pub(super) fn seed(run: u64, prompt: u64, sample: usize, step: usize) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for part in [run, prompt, sample as u64, step as u64] {
        hasher.update(&part.to_le_bytes());
    }
    hasher.finalize().into()
}

/// The log-probability of `token` under softmax(logits / temperature), in f64.
pub fn token_log_prob(logits: &[f32], token: u32, temperature: f64) -> f64 {
    let scaled = |logit: f32| f64::from(logit) / temperature;
    let largest = logits.iter().copied().map(scaled).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|&logit| (scaled(logit) - largest).exp()).sum();
    scaled(logits[token as usize]) - largest - sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [0.0, 1.0, -1.0, 2.0, 0.5];

    fn frequencies(choice: &Choice, draws: usize) -> [f64; 5] {
        let mut counts = [0.0; 5];
        for draw in 0..draws {
            counts[choice.pick(&LOGITS, seed(3, draw as u64, 0, 0)) as usize] += 1.0 / draws as f64;
        }
        counts
    }

    #[test]
    fn samples_follow_the_distribution_at_the_temperature() {
        let choice = Choice { temperature: 0.7, top_k: 0, top_p: 1.0 };
        let drawn = frequencies(&choice, 20_000);
        for (token, frequency) in drawn.iter().enumerate() {
            let expected = token_log_prob(&LOGITS, token as u32, 0.7).exp();
            // Four standard deviations of 20 000 draws.
            let tolerance = 4.0 * (expected * (1.0 - expected) / 20_000.0).sqrt();
            assert!((frequency - expected).abs() < tolerance, "{token}: {frequency} {expected}");
        }
    }

    #[test]
    fn top_k_and_top_p_leave_out_the_improbable() {
        let top_k = frequencies(&Choice { temperature: 1.0, top_k: 2, top_p: 1.0 }, 2_000);
        assert_eq!([top_k[0], top_k[2], top_k[4]], [0.0; 3]);
        // Probabilities: 0.57, 0.21, 0.13, 0.08, 0.03 of tokens 3, 1, 4, 0, 2.
        let top_p = frequencies(&Choice { temperature: 1.0, top_k: 0, top_p: 0.85 }, 2_000);
        assert!(top_p[4] > 0.0 && top_p[0] == 0.0 && top_p[2] == 0.0);
    }

    #[test]
    fn temperature_zero_takes_the_most_probable() {
        for temperature in [0.0, 1e-60] {
            let greedy = Choice { temperature, top_k: 0, top_p: 1.0 };
            assert_eq!(greedy.pick(&LOGITS, [0; 32]), 3);
        }
    }
}
