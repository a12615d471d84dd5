//! GELU, x Φ(x) with Φ the normal distribution's function, in both of its forms.
//!
//! The tanh form, `x/2 · (1 + tanh u)` with `u = √(2/π) (x + 0.044715 x³)`, is written as
//! `x · σ(2u)`: the same function. The backward pass computes everything again from the saved input.

use std::f64::consts::FRAC_1_SQRT_2;

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;

/// 2 √(2/π)
const LINEAR: f64 = 1.595_769_121_605_731;
/// 2 √(2/π) · 0.044715
const CUBIC: f64 = LINEAR * 0.044_715;

/// How Φ is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gelu {
    /// By the hyperbolic tangent, nearly.
    Tanh,
    /// By the error function, exactly.
    Erf,
}

/// GELU of every entry.
pub fn gelu<const D: usize>(x: Tensor<D>, form: Gelu) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if super::takes(&x) {
        return fused::gelu(x, form);
    }
    #[cfg(feature = "gpu-kernels")]
    if super::gpu::takes(&x) {
        return super::gpu::activation::gelu(x, form == Gelu::Tanh);
    }
    plain(x, form)
}

fn plain<const D: usize>(x: Tensor<D>, form: Gelu) -> Tensor<D> {
    match form {
        // Not burn's own, whose gradient is that of the tanh form on backends without one.
        Gelu::Erf => x.clone() * ((x * FRAC_1_SQRT_2).erf() + 1.0) * 0.5,
        Gelu::Tanh => {
            let inner = (x.clone() * x.clone() * CUBIC + LINEAR) * x.clone();
            x * sigmoid(inner)
        }
    }
}

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::flex::FlexTensor;
    use burn::tensor::Tensor;
    use rayon::prelude::*;

    use super::{CUBIC, Gelu, LINEAR};
    use crate::kernels::flex::{TASK, changed, contiguous, values};
    use crate::kernels::operation::{Operation, apply};
    use crate::kernels::vector::{exp, sigmoid, widest};

    pub fn gelu<const D: usize>(x: Tensor<D>, form: Gelu) -> Tensor<D> {
        apply(form, [x.into_dispatch()])
    }

    impl Operation<1> for Gelu {
        /// The input.
        type Saved = FlexTensor;

        fn forward(&self, [x]: [FlexTensor; 1]) -> FlexTensor {
            changed(x, |x| {
                x.par_chunks_mut(TASK).for_each(|x| {
                    widest!(match self {
                        Self::Tanh => {
                            for x in x {
                                *x *= gate(*x);
                            }
                        }
                        Self::Erf => {
                            for x in x {
                                *x *= normal(*x).0;
                            }
                        }
                    });
                });
            })
        }

        fn forward_saving(&self, [x]: [FlexTensor; 1], _: [bool; 1]) -> (FlexTensor, FlexTensor) {
            (self.forward([x.clone()]), x)
        }

        fn backward(
            &self,
            x: FlexTensor,
            grad: FlexTensor,
            _: [bool; 1],
        ) -> [Option<FlexTensor>; 1] {
            let x = contiguous(x);
            let grad = changed(grad, |grad| {
                grad.par_chunks_mut(TASK).zip(values(&x).par_chunks(TASK)).for_each(|(grad, x)| {
                    let both = grad.iter_mut().zip(x);
                    widest!(match self {
                        Self::Tanh => {
                            for (grad, &x) in both {
                                *grad *= tanh_slope(x);
                            }
                        }
                        Self::Erf => {
                            for (grad, &x) in both {
                                *grad *= erf_slope(x);
                            }
                        }
                    });
                });
            });
            [Some(grad)]
        }
    }

    /// σ(2u)
    #[inline(always)]
    fn gate(x: f32) -> f32 {
        sigmoid((CUBIC as f32 * x * x + LINEAR as f32) * x)
    }

    #[inline(always)]
    fn tanh_slope(x: f32) -> f32 {
        let open = gate(x);
        let slope = LINEAR as f32 + 3.0 * CUBIC as f32 * x * x;
        open + x * open * (1.0 - open) * slope
    }

    #[inline(always)]
    fn erf_slope(x: f32) -> f32 {
        let (below, density) = normal(x);
        below + x * density
    }

    /// Φ(x) and the density φ(x), the first within 1e-7.
    #[inline(always)]
    pub fn normal(x: f32) -> (f32, f32) {
        /// erfc(z) exp(z²) / t as a polynomial in t = 1 / (1 + z / 2), fitted for z up to 9.5 to
        /// 3e-9 of its value.
        const TAIL: [f32; 11] = [
            0.28208656,
            0.28229755,
            0.24473206,
            0.188_110_9,
            0.04594983,
            0.05633001,
            -0.05484013,
            -0.25530017,
            0.35864774,
            -0.18231899,
            0.03430463,
        ];
        /// 1 / √(2π)
        const PEAK: f32 = 0.398_942_3;
        let power = exp(-0.5 * x * x);
        let t = 1.0 / (1.0 + x.abs() * (0.5 * std::f32::consts::FRAC_1_SQRT_2));
        let mut tail = TAIL[10];
        for &coefficient in TAIL[..10].iter().rev() {
            tail = tail * t + coefficient;
        }
        tail *= 0.5 * t * power;
        (if x > 0.0 { 1.0 - tail } else { tail }, PEAK * power)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::kernels::waves::waves;

    /// Values from −12 to 12 in an order of their own: rows that are no multiple of a vector, and
    /// more elements than one task takes.
    fn spread(turn: f32, device: &Device) -> Tensor<2> {
        waves([301, 67], turn, device) * 12.0
    }

    #[test]
    fn both_forms_and_their_gradients_are_those_of_the_plain_ones() {
        let device = Device::flex().autodiff();
        for form in [Gelu::Tanh, Gelu::Erf] {
            let run = |function: &dyn Fn(Tensor<2>) -> Tensor<2>| {
                let x = spread(0.7, &device).require_grad();
                let out = function(x.clone());
                let gradients = (out.clone() * spread(2.1, &device)).sum().backward();
                [out.inner(), x.grad(&gradients).unwrap()]
            };
            let ours = run(&|x| gelu(x, form));
            for (ours, plain) in ours.into_iter().zip(run(&|x| super::plain(x, form))) {
                // Products of three or four f32 factors of size up to 12.
                let allowed = plain.clone().abs() * 2e-6 + 2e-5;
                let outside = (ours - plain).abs().greater(allowed).int().sum();
                assert_eq!(outside.into_scalar::<i64>(), 0, "{form:?}");
            }
        }
    }

    #[test]
    fn the_normal_distribution_is_within_1e_7_of_its_integral() {
        // Simpson's rule in f64, from −14 on, where nothing is left below.
        let density = |x: f64| (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let step = 1.0 / 64.0;
        let mut below = 0.0;
        for it in -14 * 64..10 * 64 {
            let x = f64::from(it) * step;
            let (ours, peak) = super::fused::normal(x as f32);
            assert!((f64::from(ours) - below).abs() < 1e-7, "Φ({x}): {ours} for {below}");
            assert!((f64::from(peak) - density(x)).abs() < 1e-7, "φ({x}): {peak}");
            below += step / 6.0 * (density(x) + 4.0 * density(x + step / 2.0) + density(x + step));
        }
    }

    #[test]
    fn an_input_used_again_keeps_its_values() {
        let device = Device::flex();
        let x = spread(0.7, &device);
        let before = x.to_data();
        for form in [Gelu::Tanh, Gelu::Erf] {
            let turned = gelu(x.clone().transpose(), form);
            let difference = turned - gelu(x.clone(), form).transpose();
            assert_eq!(x.to_data(), before);
            assert_eq!(difference.abs().max().into_scalar::<f32>(), 0.0);
        }
    }
}
