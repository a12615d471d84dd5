//! The normalisations over the hidden width.

use burn::module::{Module, Param};
use burn::nn::{Initializer, RmsNorm, RmsNormConfig};
use burn::tensor::{Device, Tensor};

use super::config::{DecoderConfig, NormKind};
use super::precision::norm_in_f32;
use crate::kernels::layer_norm::layer_norm;
use crate::kernels::rms_norm::rms_norm;

/// One of them.
#[derive(Module, Debug)]
pub enum Norm {
    /// By mean and variance.
    Layer(LayerNorm),
    /// By the root mean square.
    Rms(RmsNorm),
}

/// `(x − mean) / √(variance + ε) · γ + β`: burn's own module, whose ε a kernel can read.
#[derive(Module, Debug)]
pub struct LayerNorm {
    gamma: Param<Tensor<1>>,
    beta: Param<Tensor<1>>,
    epsilon: f64,
}

impl Norm {
    /// The norm of a model's shape, γ = 1 and β = 0.
    pub fn new(config: &DecoderConfig, device: &Device) -> Self {
        let (width, epsilon) = (config.hidden_size, config.norm_epsilon);
        match config.norm {
            NormKind::Layer => Self::Layer(LayerNorm {
                gamma: Initializer::Ones.init([width], device),
                beta: Initializer::Zeros.init([width], device),
                epsilon,
            }),
            NormKind::Rms => {
                Self::Rms(RmsNormConfig::new(width).with_epsilon(epsilon).init(device))
            }
        }
    }

    /// What it makes of `x`, `[.., width]`; in f32, whatever `x` is in.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        norm_in_f32(x, |x| match self {
            Self::Layer(norm) => layer_norm(x, norm.gamma.val(), norm.beta.val(), norm.epsilon),
            Self::Rms(norm) => rms_norm(norm, x),
        })
    }
}
