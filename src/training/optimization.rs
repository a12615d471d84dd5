//! How weights are updated: the optimizer and its schedule.

use burn::optim::{AdamWConfig, ModuleOptimizer};

use super::adam::{DecayedMatrices, FusedAdam};
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
    /// Decoupled weight decay of matrices; 0 is plain Adam. Biases and the parameters of norms do not decay.
    pub weight_decay: f64,
    /// Largest global norm of a gradient; 0 does not clip.
    pub clip_norm: f64,
}

impl Optimization {
    /// The optimizer, as new.
    pub(super) fn optimizer(&self) -> ModuleOptimizer {
        let [beta_1, beta_2] = self.betas.map(|beta| beta as f32);
        if self.weight_decay > 0.0 {
            let adam = AdamWConfig::new()
                .with_beta_1(beta_1)
                .with_beta_2(beta_2)
                .with_epsilon(self.epsilon as f32);
            DecayedMatrices::new(adam, self.weight_decay as f32).into()
        } else {
            FusedAdam::new([beta_1, beta_2], self.epsilon as f32).into()
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::nn::{LayerNormConfig, LinearConfig};
    use burn::optim::GradientsParams;
    use burn::tensor::{Device, Tensor};

    use super::*;

    #[test]
    fn matrices_decay_and_biases_and_norms_do_not() {
        let optimization = Optimization {
            schedule: Schedule::constant(0.1, 0),
            betas: [0.9, 0.95],
            epsilon: 1e-8,
            weight_decay: 0.5,
            clip_norm: 0.0,
        };
        let device = Device::flex().autodiff();
        let before = (LinearConfig::new(3, 2).init(&device), LayerNormConfig::new(2).init(&device));
        // Gradients of zero, so that nothing but the decay moves a parameter.
        let loss =
            before.1.forward(before.0.forward(Tensor::<2>::ones([1, 3], &device))).sum() * 0.0;
        let gradients = GradientsParams::from_grads(loss.backward(), &before);
        let mut optimizer = optimization.optimizer();
        let after = optimizer.step(0.1, before.clone(), gradients);
        let moved = |one: f32, other: Tensor<2>, before: Tensor<2>| -> f32 {
            (other - before * one).abs().max().into_scalar()
        };
        // 1 − rate · decay, and a rounding of f32.
        assert!(moved(0.95, after.0.weight.val(), before.0.weight.val()) < 1e-6);
        let bias = |linear: &burn::nn::Linear| linear.bias.as_ref().unwrap().val().unsqueeze();
        assert_eq!(moved(1.0, bias(&after.0), bias(&before.0)), 0.0);
        let gamma = |norm: &burn::nn::LayerNorm| norm.gamma.val().unsqueeze();
        assert_eq!(moved(1.0, gamma(&after.1), gamma(&before.1)), 0.0);
    }
}
