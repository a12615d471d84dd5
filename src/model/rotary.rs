//! Rotary positions, on the whole of each head or its first part, with both ways of pairing entries.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::config::{RotaryConfig, RotaryScaling, Yarn};
#[cfg(feature = "flex")]
use super::precision::as_type;
#[cfg(feature = "flex")]
use crate::kernels;

/// Cosines and sines of a batch's angles, each `[batch, row, 1, pairs]`.
#[derive(Clone, Debug)]
pub struct Angles {
    cos: Tensor<4>,
    sin: Tensor<4>,
    interleaved: bool,
}

impl Angles {
    /// The same without autodiff.
    pub(super) fn inner(self) -> Self {
        Self { cos: self.cos.inner(), sin: self.sin.inner(), ..self }
    }

    /// Angles of `positions` `[batch, row]`, for queries and keys of type `dtype`.
    pub fn new(config: &RotaryConfig, positions: &Tensor<2, Int>, dtype: DType) -> Self {
        let device: Device = positions.device();
        let [batch, row] = positions.dims();
        let frequencies: Vec<f32> =
            frequencies(config).iter().map(|&frequency| frequency as f32).collect();
        let half = frequencies.len();
        let frequencies = Tensor::<1>::from_data(TensorData::new(frequencies, [half]), &device)
            .reshape([1, 1, 1, half]);
        let angles = positions.clone().float().reshape([batch, row, 1, 1]) * frequencies;
        let scaled = |side: Tensor<4>| match config.scaling.attention_factor() {
            1.0 => side,
            factor => side * factor,
        };
        let (cos, sin) = (scaled(angles.clone().cos()), scaled(angles.sin()));
        Self { cos: cos.cast(dtype), sin: sin.cast(dtype), interleaved: config.interleaved }
    }

    /// Rotates the first `2 · pairs` entries of each head of `x` `[batch, row, heads, head_dim]`:
    /// `(a, b) → (a cos − b sin, b cos + a sin)` for the two entries a and b of each pair.
    pub fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        #[cfg(feature = "flex")]
        if kernels::takes(&x) {
            let [cos, sin] = [&self.cos, &self.sin].map(|it| as_type(it.clone(), DType::F32));
            return kernels::rotary::rotate(x, cos, sin, self.interleaved);
        }
        #[cfg(feature = "gpu-kernels")]
        if kernels::gpu::takes(&x) {
            let [cos, sin] = [&self.cos, &self.sin].map(|it| as_type(it.clone(), x.dtype()));
            return kernels::gpu::rotary::rotate(x, cos, sin, self.interleaved);
        }
        self.rotate_plainly(x)
    }

    fn rotate_plainly(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, row, heads, head_dim] = x.dims();
        let [.., pairs] = self.cos.dims();
        let turned = x.clone().slice_dim(3, 0..2 * pairs);
        let (a, b) = if self.interleaved {
            let by_pair = turned.reshape([batch, row, heads, pairs, 2]);
            let side = |side: usize| by_pair.clone().slice_dim(4, side..side + 1).squeeze_dim(4);
            (side(0), side(1))
        } else {
            (turned.clone().slice_dim(3, 0..pairs), turned.slice_dim(3, pairs..2 * pairs))
        };
        let left = a.clone() * self.cos.clone() - b.clone() * self.sin.clone();
        let right = b * self.cos.clone() + a * self.sin.clone();
        let mut parts = if self.interleaved {
            let by_pair = Tensor::stack::<5>(vec![left, right], 4);
            vec![by_pair.reshape([batch, row, heads, 2 * pairs])]
        } else {
            vec![left, right]
        };
        if 2 * pairs < head_dim {
            parts.push(x.slice_dim(3, 2 * pairs..head_dim));
        }
        Tensor::cat(parts, 3)
    }
}

/// Angular frequencies of the pairs, highest first.
fn frequencies(config: &RotaryConfig) -> Vec<f64> {
    (0..config.width / 2)
        .map(|pair| (pair, config.base.powf(-2.0 * pair as f64 / config.width as f64)))
        .map(|(pair, frequency)| match &config.scaling {
            RotaryScaling::None => frequency,
            RotaryScaling::Linear { factor } => frequency / factor,
            RotaryScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_positions,
            } => {
                let wavelength = 2.0 * std::f64::consts::PI / frequency;
                if wavelength < original_max_positions / high_freq_factor {
                    frequency
                } else if wavelength > original_max_positions / low_freq_factor {
                    frequency / factor
                } else {
                    let ramp = (original_max_positions / wavelength - low_freq_factor)
                        / (high_freq_factor - low_freq_factor);
                    (1.0 - ramp) * frequency / factor + ramp * frequency
                }
            }
            RotaryScaling::Yarn(yarn) => {
                let divided = yarn_ramp(yarn, config, pair);
                frequency / yarn.factor * divided + frequency * (1.0 - divided)
            }
            RotaryScaling::LongRope { factors, .. } => frequency / factors[pair],
        })
        .collect()
}

/// How much of a pair's frequency YaRN divides, 0 to 1.
///
/// The ramp runs over the pairs between those that turn `beta_fast` and `beta_slow` times within
/// the pretraining's context.
fn yarn_ramp(yarn: &Yarn, config: &RotaryConfig, pair: usize) -> f64 {
    let width = config.width as f64;
    let pair_of_turns = |turns: f64| {
        let wavelength = yarn.original_max_positions / (turns * 2.0 * std::f64::consts::PI);
        width * wavelength.ln() / (2.0 * config.base.ln())
    };
    let (mut first, mut last) = (pair_of_turns(yarn.beta_fast), pair_of_turns(yarn.beta_slow));
    if yarn.truncate {
        (first, last) = (first.floor(), last.ceil());
    }
    (first, last) = (first.max(0.0), last.min(width - 1.0));
    if first == last {
        // As published, so that the ramp has a slope.
        last += 0.001;
    }
    ((pair as f64 - first) / (last - first)).clamp(0.0, 1.0)
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_turns_and_turns_back_as_the_plain_form() {
        let device = Device::flex().autodiff();
        let [batch, row, heads, head_dim] = [2, 9, 3, 10];
        let values: Vec<f32> =
            (0..batch * row * heads * head_dim).map(|it| (it as f32 * 0.7).sin()).collect();
        let positions = Tensor::<1, Int>::arange(0..18, &device).reshape([batch, row]);
        for interleaved in [false, true] {
            let config =
                RotaryConfig { base: 1e4, width: 6, interleaved, scaling: RotaryScaling::None };
            let angles = Angles::new(&config, &positions, DType::F32);
            let run = |rotate: &dyn Fn(Tensor<4>) -> Tensor<4>| {
                let shape = [batch, row, heads, head_dim];
                let data = TensorData::new(values.clone(), shape);
                let x = Tensor::<4>::from_data(data, &device).require_grad();
                let out = rotate(x.clone());
                let weights = out.clone().detach().sin();
                let gradients = (out.clone() * weights).sum().backward();
                (out.inner(), x.grad(&gradients).unwrap())
            };
            let (out, grad) = run(&|x| angles.rotate(x));
            let (plain_out, plain_grad) = run(&|x| angles.rotate_plainly(x));
            // Two products of entries up to 1.
            assert!((out - plain_out).abs().max().into_scalar::<f32>() < 1e-6);
            assert!((grad - plain_grad).abs().max().into_scalar::<f32>() < 1e-6);
        }
    }
}
