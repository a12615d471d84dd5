//! The norm by mean and variance over the last axis, `(x − mean) / √(variance + ε) · γ + β`.

use burn::tensor::Tensor;
use burn::tensor::module;

/// The norm of `x`, `[.., width]`, with `gamma` and `beta`, `[width]`.
pub fn layer_norm<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if super::takes(&x) {
        return fused::layer_norm(x, gamma, beta, epsilon);
    }
    #[cfg(feature = "gpu-kernels")]
    if super::gpu::takes(&x) {
        return super::gpu::norm::layer_norm(x, gamma, beta, epsilon);
    }
    module::layer_norm(x, gamma, Some(beta), epsilon)
}

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::flex::FlexTensor;
    use burn::backend::ops::ModuleOps;
    use burn::backend::{Flex, TensorMetadata};
    use burn::tensor::Tensor;
    use rayon::prelude::*;

    use crate::kernels::flex::{changed, contiguous, rows_and_width, task_of_rows, tensor, values};
    use crate::kernels::operation::{Operation, apply};
    use crate::kernels::vector::{dot, sum2, total_of, widest};

    pub fn layer_norm<const D: usize>(
        x: Tensor<D>,
        gamma: Tensor<1>,
        beta: Tensor<1>,
        epsilon: f64,
    ) -> Tensor<D> {
        let inputs = [x.into_dispatch(), gamma.into_dispatch(), beta.into_dispatch()];
        apply(LayerNorm { epsilon }, inputs)
    }

    #[derive(Clone, Debug)]
    struct LayerNorm {
        epsilon: f64,
    }

    impl Operation<3> for LayerNorm {
        /// x and γ.
        type Saved = [FlexTensor; 2];

        fn forward(&self, [x, gamma, beta]: [FlexTensor; 3]) -> FlexTensor {
            // burn's own is a kernel already; its backward pass is none.
            Flex::layer_norm(x, gamma, Some(beta), self.epsilon)
        }

        fn forward_saving(
            &self,
            [x, gamma, beta]: [FlexTensor; 3],
            _: [bool; 3],
        ) -> (FlexTensor, [FlexTensor; 2]) {
            (self.forward([x.clone(), gamma.clone(), beta]), [x, gamma])
        }

        fn backward(
            &self,
            [x, gamma]: [FlexTensor; 2],
            grad: FlexTensor,
            [_, for_gamma, for_beta]: [bool; 3],
        ) -> [Option<FlexTensor>; 3] {
            let for_weights = for_gamma || for_beta;
            let (x, [gamma, beta]) = layer_backward(x, gamma, self.epsilon, grad, for_weights);
            [Some(x), gamma, beta]
        }
    }

    /// With `n = (x − mean) / size`: `∂β = Σ grad` and `∂γ = Σ grad · n` over the rows, and
    /// `∂x = (w − mean(w) − n · mean(w · n)) / size` for `w = γ grad`. Those of γ and β where they are wanted.
    fn layer_backward(
        x: FlexTensor,
        gamma: FlexTensor,
        epsilon: f64,
        grad: FlexTensor,
        for_weights: bool,
    ) -> (FlexTensor, [Option<FlexTensor>; 2]) {
        let (x, gamma) = (contiguous(x), contiguous(gamma));
        let (_, width) = rows_and_width(&x);
        let mut shares = Vec::new();
        let x_grad = changed(grad, |grad| {
            let task = task_of_rows(width);
            let tasks = grad.par_chunks_mut(task).zip(values(&x).par_chunks(task));
            tasks
                .map(|(grad, x)| {
                    widest!(rows_backward(grad, x, values(&gamma), epsilon, for_weights))
                })
                .collect_into_vec(&mut shares);
        });
        if !for_weights {
            return (x_grad, [None, None]);
        }
        let gamma_grad = total_of(width, shares.iter().map(|(of_gamma, _)| of_gamma));
        let beta_grad = total_of(width, shares.iter().map(|(_, of_beta)| of_beta));
        (x_grad, [gamma_grad, beta_grad].map(|grad| Some(tensor(grad, gamma.shape()))))
    }

    /// Turns `grad` into the gradient of `x`; returns the rows' shares of those of γ and β,
    /// nothing where they are not wanted.
    #[inline(always)]
    fn rows_backward(
        grad: &mut [f32],
        x: &[f32],
        gamma: &[f32],
        epsilon: f64,
        for_weights: bool,
    ) -> (Vec<f32>, Vec<f32>) {
        let width = gamma.len();
        let shares = if for_weights { width } else { 0 };
        let (mut of_gamma, mut of_beta) = (vec![0.0; shares], vec![0.0; shares]);
        let (mut normal, mut weighted) = (vec![0.0; width], vec![0.0; width]);
        for (grad, x) in grad.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let (mean, inverse) = mean_and_inverse(x, epsilon);
            for i in 0..width {
                normal[i] = (x[i] - mean) * inverse;
                weighted[i] = grad[i] * gamma[i];
            }
            for i in 0..shares {
                of_gamma[i] += grad[i] * normal[i];
                of_beta[i] += grad[i];
            }
            let common = sum2(&weighted, &weighted, |w, _| w) / width as f32;
            let along = dot(&weighted, &normal) / width as f32;
            for (i, grad) in grad.iter_mut().enumerate() {
                *grad = (weighted[i] - common - normal[i] * along) * inverse;
            }
        }
        (of_gamma, of_beta)
    }

    /// The mean, and 1 / √(variance + ε), in two passes so that a large mean costs no digits.
    #[inline(always)]
    fn mean_and_inverse(x: &[f32], epsilon: f64) -> (f32, f32) {
        let count = x.len() as f32;
        let mean = sum2(x, x, |x, _| x) / count;
        let variance = sum2(x, x, |x, _| (x - mean) * (x - mean)) / count;
        (mean, 1.0 / (variance + epsilon as f32).sqrt())
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::kernels::waves::waves;

    /// Values from `about` − 3 to `about` + 3 in an order of their own.
    fn spread<const D: usize>(
        shape: [usize; D],
        turn: f32,
        about: f32,
        device: &Device,
    ) -> Tensor<D> {
        waves(shape, turn, device) * 3.0 + about
    }

    #[test]
    fn the_norm_and_its_gradients_are_those_of_burns_own() {
        let device = Device::flex().autodiff();
        let shape = [2, 301, 67];
        let run = |function: &dyn Fn(Tensor<3>, Tensor<1>, Tensor<1>) -> Tensor<3>| {
            let x = spread(shape, 0.7, 0.4, &device).require_grad();
            let gamma = spread([67], 0.3, 0.0, &device).require_grad();
            let beta = spread([67], 0.9, 0.0, &device).require_grad();
            let out = function(x.clone(), gamma.clone(), beta.clone());
            let gradients = (out.clone() * spread(shape, 2.1, 0.0, &device)).sum().backward();
            let of_scales = [gamma, beta].map(|it| it.grad(&gradients).unwrap());
            ([out.inner(), x.grad(&gradients).unwrap()], of_scales)
        };
        let (entries, scales) = run(&|x, gamma, beta| layer_norm(x, gamma, beta, 1e-2));
        let (plain_entries, plain_scales) =
            run(&|x, gamma, beta| module::layer_norm(x, gamma, Some(beta), 1e-2));
        for (ours, plain) in entries.into_iter().zip(plain_entries) {
            // Entries of size 1 to 10, of sums over 67.
            assert!((ours - plain).abs().max().into_scalar::<f32>() < 1e-5);
        }
        for (ours, plain) in scales.into_iter().zip(plain_scales) {
            // Sums over 602 rows.
            assert!((ours - plain).abs().max().into_scalar::<f32>() < 1e-3);
        }
    }

    #[test]
    fn a_large_mean_costs_no_digits() {
        let device = Device::flex();
        let (ones, zeros) = (Tensor::ones([64], &device), Tensor::zeros([64], &device));
        let near = |about| {
            layer_norm(spread([1, 64], 0.7, about, &device), ones.clone(), zeros.clone(), 1e-5)
        };
        // 1000 is a multiple of the spacing of f32 there, 6e-5, which rounds the entries.
        let difference = (near(1000.0) - near(0.0)).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-4, "{difference}");
    }
}
