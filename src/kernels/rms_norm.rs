//! The root-mean-square norm over the last axis, `x / √(mean x² + ε) · γ`.

use burn::nn::RmsNorm;
use burn::tensor::Tensor;

/// What `norm` makes of `x`, `[.., width]`.
pub fn rms_norm<const D: usize>(norm: &RmsNorm, x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if super::takes(&x) {
        return fused::rms_norm(x, norm.gamma.val(), norm.epsilon);
    }
    #[cfg(feature = "gpu-kernels")]
    if super::gpu::takes(&x) {
        return super::gpu::norm::rms_norm(x, norm.gamma.val(), norm.epsilon);
    }
    norm.forward(x)
}

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::TensorMetadata;
    use burn::backend::flex::FlexTensor;
    use burn::tensor::Tensor;
    use rayon::prelude::*;

    use crate::kernels::flex::{changed, contiguous, rows_and_width, task_of_rows, tensor, values};
    use crate::kernels::operation::{Operation, apply};
    use crate::kernels::vector::{dot, total_of, widest};

    pub fn rms_norm<const D: usize>(x: Tensor<D>, gamma: Tensor<1>, epsilon: f64) -> Tensor<D> {
        apply(RmsNorm { epsilon }, [x.into_dispatch(), gamma.into_dispatch()])
    }

    #[derive(Clone, Debug)]
    struct RmsNorm {
        epsilon: f64,
    }

    impl Operation<2> for RmsNorm {
        /// The inputs.
        type Saved = [FlexTensor; 2];

        fn forward(&self, [x, gamma]: [FlexTensor; 2]) -> FlexTensor {
            let gamma = contiguous(gamma);
            let (_, width) = rows_and_width(&x);
            changed(x, |x| {
                x.par_chunks_mut(task_of_rows(width)).for_each(|rows| {
                    widest!({
                        for x in rows.chunks_exact_mut(width) {
                            let inverse = inverse_size(x, self.epsilon);
                            for (x, &gamma) in x.iter_mut().zip(values(&gamma)) {
                                *x *= inverse * gamma;
                            }
                        }
                    });
                });
            })
        }

        fn forward_saving(
            &self,
            inputs: [FlexTensor; 2],
            _: [bool; 2],
        ) -> (FlexTensor, [FlexTensor; 2]) {
            (self.forward(inputs.clone()), inputs)
        }

        fn backward(
            &self,
            [x, gamma]: [FlexTensor; 2],
            grad: FlexTensor,
            [_, for_gamma]: [bool; 2],
        ) -> [Option<FlexTensor>; 2] {
            let (x_grad, gamma_grad) = rms_backward(x, gamma, self.epsilon, grad, for_gamma);
            [Some(x_grad), gamma_grad]
        }
    }

    /// With `n = x / size`: `∂γ = Σ grad · n` over the rows, and
    /// `∂x = (γ grad − n · mean(γ grad · n)) / size`.
    fn rms_backward(
        x: FlexTensor,
        gamma: FlexTensor,
        epsilon: f64,
        grad: FlexTensor,
        for_gamma: bool,
    ) -> (FlexTensor, Option<FlexTensor>) {
        let (x, gamma) = (contiguous(x), contiguous(gamma));
        let (_, width) = rows_and_width(&x);
        let mut shares = Vec::new();
        let x_grad = changed(grad, |grad| {
            let tasks = grad
                .par_chunks_mut(task_of_rows(width))
                .zip(values(&x).par_chunks(task_of_rows(width)));
            tasks
                .map(|(grad, x)| {
                    widest!(rows_backward(grad, x, values(&gamma), epsilon, for_gamma))
                })
                .collect_into_vec(&mut shares);
        });
        let gamma_grad = for_gamma.then(|| tensor(total_of(width, &shares), gamma.shape()));
        (x_grad, gamma_grad)
    }

    /// Turns `grad` into the gradient of `x`; returns the rows' share of that of γ, nothing where it is not
    /// wanted.
    #[inline(always)]
    fn rows_backward(
        grad: &mut [f32],
        x: &[f32],
        gamma: &[f32],
        epsilon: f64,
        for_gamma: bool,
    ) -> Vec<f32> {
        let width = gamma.len();
        let mut share = vec![0.0; if for_gamma { width } else { 0 }];
        let mut weighted = vec![0.0; width];
        for (grad, x) in grad.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let inverse = inverse_size(x, epsilon);
            for (i, share) in share.iter_mut().enumerate() {
                *share += grad[i] * x[i] * inverse;
            }
            for (i, weighted) in weighted.iter_mut().enumerate() {
                *weighted = grad[i] * gamma[i];
            }
            let along = dot(&weighted, x) * inverse * inverse / width as f32;
            for (i, grad) in grad.iter_mut().enumerate() {
                *grad = (weighted[i] - x[i] * along) * inverse;
            }
        }
        share
    }

    /// 1 / √(mean x² + ε)
    #[inline(always)]
    fn inverse_size(x: &[f32], epsilon: f64) -> f32 {
        1.0 / (dot(x, x) / x.len() as f32 + epsilon as f32).sqrt()
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::module::Param;
    use burn::nn::RmsNormConfig;
    use burn::tensor::Device;

    use super::*;
    use crate::kernels::waves::waves;

    fn spread<const D: usize>(shape: [usize; D], turn: f32, device: &Device) -> Tensor<D> {
        waves(shape, turn, device) * 3.0
    }

    #[test]
    fn the_norm_and_its_gradients_are_those_of_burns_module() {
        let device = Device::flex().autodiff();
        let shape = [2, 301, 67];
        let mut norm = RmsNormConfig::new(67).with_epsilon(1e-2).init(&device);
        norm.gamma = Param::from_tensor(spread([67], 0.3, &device).require_grad());
        let run = |function: &dyn Fn(Tensor<3>) -> Tensor<3>| {
            let x = spread(shape, 0.7, &device).require_grad();
            let out = function(x.clone());
            let gradients = (out.clone() * spread(shape, 2.1, &device)).sum().backward();
            let gamma = norm.gamma.val().grad(&gradients).unwrap();
            (out.inner(), x.grad(&gradients).unwrap(), gamma)
        };
        let (out, x, gamma) = run(&|x| rms_norm(&norm, x));
        let (plain_out, plain_x, plain_gamma) = run(&|x| norm.forward(x));
        // Entries of size 1 to 10, of sums over 67.
        assert!((out - plain_out).abs().max().into_scalar::<f32>() < 1e-5);
        assert!((x - plain_x).abs().max().into_scalar::<f32>() < 1e-5);
        // Sums over 602 rows.
        assert!((gamma - plain_gamma).abs().max().into_scalar::<f32>() < 1e-3);
    }
}
