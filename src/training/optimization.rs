//! How weights are updated: the optimizer and its schedule.

use burn::optim::{AdamWConfig, ModuleOptimizer};

use super::adam::FusedAdam;
use super::schedule::Schedule;

/// How weights are updated.
#[derive(Clone, Debug)]
pub struct Optimization {
    /// The learning rate by step.
    pub schedule: Schedule,
    /// Adam's β₁ and β₂.
    pub betas: [f64; 2],
    /// Adam's ε.
    pub epsilon: f64,
    /// Decoupled weight decay; 0 is plain Adam.
    pub weight_decay: f64,
    /// Largest global norm of a gradient; 0 does not clip.
    pub clip_norm: f64,
}

impl Optimization {
    /// The optimizer, as new.
    pub(super) fn optimizer(&self) -> ModuleOptimizer {
        let [beta_1, beta_2] = self.betas.map(|beta| beta as f32);
        if self.weight_decay > 0.0 {
            AdamWConfig::new()
                .with_beta_1(beta_1)
                .with_beta_2(beta_2)
                .with_epsilon(self.epsilon as f32)
                .with_weight_decay(self.weight_decay as f32)
                .init()
        } else {
            FusedAdam::new([beta_1, beta_2], self.epsilon as f32).into()
        }
    }
}
