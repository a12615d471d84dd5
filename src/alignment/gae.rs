//! How the rewards of completions are credited to their tokens: generalised advantage estimation.
//!
//!   r_t = −β (log μ_t − log π_sft,t), and the completion's reward on top at its last token
//!   δ_t = r_t + V_{t+1} − V_t      A_t = δ_t + λ A_{t+1}      G_t = A_t + V_t
//!
//! V_t is the value before token t is seen, and 0 past the end; nothing is discounted. Then advantages are
//! whitened: less their mean and over their deviation, both over all tokens that are given. Returns G are of
//! the advantages before that. Schulman et al. 2016, "High-Dimensional Continuous Control Using Generalized
//! Advantage Estimation"; the weight β that follows a KL is from Ziegler et al. 2019, "Fine-Tuning Language
//! Models from Human Preferences".

/// How the rewards of completions are credited to their tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gae {
    /// How far rewards reach back past the values, λ: from 0 (one token) to 1 (the whole completion).
    pub lambda: f64,
    /// The weight β of the KL in the first rewards.
    pub kl_weight: f64,
    /// The KL from the reference, in nats a completion, that β is led by; 0: β stays.
    pub kl_target: f64,
    /// Completions over which β may change by a fifth.
    pub kl_horizon: f64,
}

/// A completion as it was drawn.
#[derive(Clone, Debug, Default)]
pub struct Drawn {
    /// log μ − log π_sft of each token.
    pub log_ratios: Vec<f64>,
    /// The value of each token before it is seen.
    pub values: Vec<f64>,
    /// The reward.
    pub reward: f64,
}

/// What the tokens of a completion are credited with.
#[derive(Clone, Debug, PartialEq)]
pub struct Credit {
    /// How much better than expected each token was.
    pub advantages: Vec<f64>,
    /// What the value of each token should have been.
    pub returns: Vec<f64>,
}

/// Added to the variance of advantages, as TRL does.
const VARIANCE_FLOOR: f64 = 1e-8;
/// The largest relative error of the KL that β follows.
const LARGEST_ERROR: f64 = 0.2;

impl Gae {
    /// Advantages, whitened over all tokens of `completions`, and returns. A lone token's advantage is 0.
    pub fn credit(&self, kl_weight: f64, completions: &[Drawn]) -> Vec<Credit> {
        let mut credits: Vec<Credit> =
            completions.iter().map(|drawn| self.unwhitened(kl_weight, drawn)).collect();
        whiten(credits.iter_mut().flat_map(|credit| &mut credit.advantages).collect());
        credits
    }

    /// Advantages as they are, and returns, of one completion.
    pub fn unwhitened(&self, kl_weight: f64, drawn: &Drawn) -> Credit {
        let Drawn { log_ratios, values, reward } = drawn;
        let mut advantages = vec![0.0; values.len()];
        let (mut after, mut next_value) = (0.0, 0.0);
        for t in (0..values.len()).rev() {
            let at_end = if t + 1 == values.len() { *reward } else { 0.0 };
            let token_reward = at_end - kl_weight * log_ratios[t];
            after = token_reward + next_value - values[t] + self.lambda * after;
            next_value = values[t];
            advantages[t] = after;
        }
        let returns = advantages.iter().zip(values).map(|(advantage, value)| advantage + value);
        Credit { returns: returns.collect(), advantages }
    }

    /// The weight β after rewards with the weight `kl_weight` of so many completions, whose mean KL was `kl`.
    pub fn next_kl_weight(&self, kl_weight: f64, kl: f64, completions: usize) -> f64 {
        if self.kl_target == 0.0 {
            return kl_weight;
        }
        let error = (kl / self.kl_target - 1.0).clamp(-LARGEST_ERROR, LARGEST_ERROR);
        // Of a horizon shorter than a round, a fifth: β never turns negative.
        kl_weight * (1.0 + error * (completions as f64 / self.kl_horizon).min(1.0))
    }
}

/// Less the mean, and over the deviation of a sample.
fn whiten(numbers: Vec<&mut f64>) {
    let count = numbers.len() as f64;
    let mean = numbers.iter().map(|number| **number).sum::<f64>() / count;
    let squares: f64 = numbers.iter().map(|number| (**number - mean).powi(2)).sum();
    let variance = squares / (count - 1.0).max(1.0);
    for number in numbers {
        *number = (*number - mean) / (variance + VARIANCE_FLOOR).sqrt();
    }
}
