//! Rotary positions in the rotate-half convention of Hugging Face checkpoints.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::config::{RotaryConfig, RotaryScaling};

/// Cosines and sines of a batch's angles, each `[batch, 1, row, head_dim / 2]`.
#[derive(Clone, Debug)]
pub struct Angles {
    cos: Tensor<4>,
    sin: Tensor<4>,
}

impl Angles {
    /// Angles of `positions` `[batch, row]` for heads of width `head_dim`.
    pub fn new(config: &RotaryConfig, head_dim: usize, positions: &Tensor<2, Int>) -> Self {
        let device: Device = positions.device();
        let [batch, row] = positions.dims();
        let frequencies: Vec<f32> =
            frequencies(config, head_dim).iter().map(|&frequency| frequency as f32).collect();
        let half = frequencies.len();
        let frequencies = Tensor::<1>::from_data(TensorData::new(frequencies, [half]), &device)
            .reshape([1, 1, 1, half]);
        let angles = positions.clone().float().reshape([batch, 1, row, 1]) * frequencies;
        Self { cos: angles.clone().cos(), sin: angles.sin() }
    }

    /// Rotates `x` `[batch, heads, row, head_dim]`: `(a, b) → (a cos − b sin, b cos + a sin)` for
    /// the two halves a and b of each head.
    pub fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        let [.., head_dim] = x.dims();
        let a = x.clone().slice_dim(3, 0..head_dim / 2);
        let b = x.slice_dim(3, head_dim / 2..head_dim);
        let left = a.clone() * self.cos.clone() - b.clone() * self.sin.clone();
        let right = b * self.cos.clone() + a * self.sin.clone();
        Tensor::cat(vec![left, right], 3)
    }
}

/// Angular frequencies of the pairs, highest first.
fn frequencies(config: &RotaryConfig, head_dim: usize) -> Vec<f64> {
    (0..head_dim / 2)
        .map(|pair| config.base.powf(-2.0 * pair as f64 / head_dim as f64))
        .map(|frequency| match config.scaling {
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
        })
        .collect()
}
