//! Adam, in one pass over the parameters where the device has a kernel for that, and with weight decay.

#[cfg(any(feature = "flex", feature = "gpu-kernels"))]
use burn::optim::AdaptiveMomentumState;
use burn::optim::{
    Adam, AdamConfig, AdamState, AdamW, AdamWConfig, AdamWState, LearningRate, Optimizer,
};
use burn::tensor::{Device, Tensor};

#[cfg(any(feature = "flex", feature = "gpu-kernels"))]
use crate::kernels;
#[cfg(feature = "flex")]
use crate::kernels::update::AdamStep;

/// Adam without weight decay; its state is that of burn's [`Adam`], which serves the devices without
/// a kernel.
#[derive(Clone)]
#[cfg_attr(not(feature = "flex"), allow(dead_code, reason = "read by the kernel alone"))]
pub struct FusedAdam {
    betas: [f32; 2],
    epsilon: f32,
    plain: Adam,
}

impl FusedAdam {
    /// Adam with β₁, β₂ and ε.
    pub fn new(betas: [f32; 2], epsilon: f32) -> Self {
        let [beta_1, beta_2] = betas;
        let config = AdamConfig::new().with_beta_1(beta_1).with_beta_2(beta_2);
        Self { betas, epsilon, plain: config.with_epsilon(epsilon).build() }
    }
}

impl Optimizer for FusedAdam {
    type State<const D: usize> = AdamState<D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        parameter: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamState<D>>,
    ) -> (Tensor<D>, Option<AdamState<D>>) {
        #[cfg(feature = "flex")]
        if kernels::takes(&parameter) && kernels::takes(&gradient) {
            let (time, moments) = match state {
                Some(AdamState { momentum }) => {
                    (momentum.time + 1, [momentum.moment_1, momentum.moment_2])
                }
                None => (1, [parameter.zeros_like(), parameter.zeros_like()]),
            };
            let step = AdamStep { rate, betas: self.betas, epsilon: self.epsilon, time };
            let (parameter, moments) = kernels::update::adam(step, parameter, gradient, moments);
            let [first, second] = moments;
            let momentum = AdaptiveMomentumState::new(time, first, second);
            return (parameter, Some(AdamState::new(momentum)));
        }
        #[cfg(feature = "gpu-kernels")]
        if kernels::gpu::takes(&parameter) && parameter.dtype() == burn::tensor::DType::F32 {
            let (time, moments) = match state {
                Some(AdamState { momentum }) => {
                    (momentum.time + 1, [momentum.moment_1, momentum.moment_2])
                }
                None => (1, [parameter.zeros_like(), parameter.zeros_like()]),
            };
            let [left_1, left_2] = self.betas.map(|beta| 1.0 - beta.powi(time as i32));
            let factors = kernels::gpu::adam::Factors {
                betas: self.betas,
                rate: rate as f32,
                correction: left_2.sqrt() / left_1,
                epsilon: self.epsilon * left_2.sqrt(),
            };
            let (parameter, [first, second]) =
                kernels::gpu::adam::adam(factors, parameter, gradient, moments);
            let momentum = AdaptiveMomentumState::new(time, first, second);
            return (parameter, Some(AdamState::new(momentum)));
        }
        self.plain.step(rate, parameter, gradient, state)
    }

    fn to_device<const D: usize>(state: AdamState<D>, device: &Device) -> AdamState<D> {
        Adam::to_device(state, device)
    }
}

/// Adam with decoupled weight decay of matrices, the factors of adapters among them. Parameters of one
/// dimension do not decay: biases, and the scales and shifts of norms. transformers' `Trainer` decides the same
/// by their names.
#[derive(Clone)]
pub struct DecayedMatrices {
    matrices: AdamW,
    vectors: AdamW,
}

impl DecayedMatrices {
    /// Adam as `config` says, with a weight decay.
    pub fn new(config: AdamWConfig, weight_decay: f32) -> Self {
        let of = |weight_decay| config.clone().with_weight_decay(weight_decay).build();
        Self { matrices: of(weight_decay), vectors: of(0.0) }
    }
}

impl Optimizer for DecayedMatrices {
    type State<const D: usize> = AdamWState<D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        parameter: Tensor<D>,
        gradient: Tensor<D>,
        state: Option<AdamWState<D>>,
    ) -> (Tensor<D>, Option<AdamWState<D>>) {
        let own = if D > 1 { &self.matrices } else { &self.vectors };
        own.step(rate, parameter, gradient, state)
    }

    fn to_device<const D: usize>(state: AdamWState<D>, device: &Device) -> AdamWState<D> {
        AdamW::to_device(state, device)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    #[test]
    fn five_updates_are_those_of_burns_adam() {
        let device = Device::flex();
        let spread = |turn: f32| -> Tensor<2> {
            let values: Vec<f32> = (0..300 * 67).map(|it| (it as f32 * turn).sin()).collect();
            Tensor::from_data(TensorData::new(values, [300, 67]), &device)
        };
        let ours = FusedAdam::new([0.9, 0.95], 1e-8);
        let plain = ours.plain.clone();
        let (mut a, mut b) = ((spread(0.7), None), (spread(0.7), None));
        for step in 0..5 {
            let gradient = spread(0.3 + step as f32);
            a = ours.step(1e-2, a.0, gradient.clone(), a.1);
            b = plain.step(1e-2, b.0, gradient, b.1);
        }
        // Five f32 roundings of numbers of size 1.
        assert!((a.0 - b.0).abs().max().into_scalar::<f32>() < 1e-6);
        let (a, b) = (a.1.unwrap().momentum, b.1.unwrap().momentum);
        assert_eq!(a.time, b.time);
        assert!((a.moment_2 - b.moment_2).abs().max().into_scalar::<f32>() < 1e-6);
    }
}
