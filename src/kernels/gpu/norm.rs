//! The norms over the last axis: a plane for every row.
//!
//! With `n = (x − mean) / size`, where the norm by root mean square has no mean, the output is `γ n + β`. Backward,
//! `∂x = (γ grad − mean(γ grad) − n · mean(γ grad · n)) / size`, again without the first mean, `∂γ = Σ grad · n` and
//! `∂β = Σ grad` over the rows.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::sums::SumOps;
use super::{by_row, empty_f32, empty_like, rows_and_width};

/// `x / √(mean x² + ε) · γ` of `x` `[.., width]`, of the type of x.
pub fn rms_norm<const D: usize>(x: Tensor<D>, gamma: Tensor<1>, epsilon: f64) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as NormOps>::by_size(
        x.into_dispatch(),
        gamma.into_dispatch(),
        epsilon as f32,
    ))
}

/// `(x − mean) / √(variance + ε) · γ + β` of `x` `[.., width]`, of the type of x.
pub fn layer_norm<const D: usize>(
    x: Tensor<D>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    epsilon: f64,
) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as NormOps>::by_variance(
        x.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        epsilon as f32,
    ))
}

/// The norms as burn dispatches them.
#[backend_extension(Cube, Autodiff)]
pub trait NormOps: Backend {
    /// As [`rms_norm`] says.
    fn by_size(x: FloatTensor<Self>, gamma: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self>;

    /// As [`layer_norm`] says.
    fn by_variance(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;
}

/// Their backward passes.
#[backend_extension(Cube)]
pub trait NormGradients: Backend {
    /// The gradient of x, and `grad · n` in f32, `[rows, width]`.
    fn norm_gradients(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        epsilon: f32,
        centred: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
}

fn forward(
    x: CubeTensor,
    gamma: CubeTensor,
    beta: CubeTensor,
    epsilon: f32,
    centred: bool,
) -> CubeTensor {
    let [x, gamma, beta] = [x, gamma, beta].map(into_contiguous);
    let (client, out) = (x.client.clone(), empty_like(&x));
    let (count, dim) = by_row(&x, rows_and_width(&x).0);
    let types = [x.dtype, gamma.dtype].map(dtype_to_storage_type);
    let [x, gamma, beta, to] = [x, gamma, beta, out.clone()].map(CubeTensor::into_tensor_arg);
    kernel::normalise::launch(&client, count, dim, x, gamma, beta, to, epsilon, centred, types);
    out
}

impl NormOps for CubeBackend {
    fn by_size(x: CubeTensor, gamma: CubeTensor, epsilon: f32) -> CubeTensor {
        let unread = gamma.clone();
        forward(x, gamma, unread, epsilon, false)
    }

    fn by_variance(x: CubeTensor, gamma: CubeTensor, beta: CubeTensor, epsilon: f32) -> CubeTensor {
        forward(x, gamma, beta, epsilon, true)
    }
}

impl NormGradients for CubeBackend {
    fn norm_gradients(
        x: CubeTensor,
        gamma: CubeTensor,
        grad: CubeTensor,
        epsilon: f32,
        centred: bool,
    ) -> (CubeTensor, CubeTensor) {
        let [x, gamma, grad] = [x, gamma, grad].map(into_contiguous);
        let (rows, width) = rows_and_width(&x);
        let (client, of_x) = (x.client.clone(), empty_like(&x));
        let slopes = empty_f32(&x, Shape::new([rows, width]));
        let (count, dim) = by_row(&x, rows);
        let types = [x.dtype, gamma.dtype].map(dtype_to_storage_type);
        let [x, gamma, grad, to_x, to_slopes] =
            [x, gamma, grad, of_x.clone(), slopes.clone()].map(CubeTensor::into_tensor_arg);
        kernel::gradients::launch(
            &client, count, dim, x, gamma, grad, to_x, to_slopes, epsilon, centred, types,
        );
        (of_x, slopes)
    }
}

impl<B: NormOps + NormGradients + SumOps, C: CheckpointStrategy> NormOps for Autodiff<B, C> {
    fn by_size(x: FloatTensor<Self>, gamma: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self> {
        let nodes = [x.node(), gamma.node()];
        let [x, gamma] = [x, gamma].map(|it| it.into_primitive());
        let out = B::by_size(x.clone(), gamma.clone(), epsilon);
        match NormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, gamma, epsilon), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn by_variance(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), gamma.node(), beta.node()];
        let [x, gamma, beta] = [x, gamma, beta].map(|it| it.into_primitive());
        let out = B::by_variance(x.clone(), gamma.clone(), beta, epsilon);
        match NormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, gamma, epsilon), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

#[derive(Debug)]
struct NormBackward;

impl<B: NormGradients + SumOps, const N: usize> Backward<B, N> for NormBackward {
    type State = (FloatTensor<B>, FloatTensor<B>, f32);

    /// Of x and γ, and with three inputs of β.
    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (x, gamma, epsilon) = ops.state;
        let (shape, dtype) = (gamma.shape(), gamma.dtype());
        let (of_x, slopes) = B::norm_gradients(x, gamma, grad.clone(), epsilon, N == 3);
        let over_rows = |it: FloatTensor<B>| {
            let sum = B::float_reshape(B::sum_over_rows(it), shape.clone());
            if sum.dtype() == dtype { sum } else { B::float_cast(sum, dtype.into()) }
        };
        let mut parents = ops.parents.into_iter().map(|it| it.map(|node| node.id));
        if let Some(node) = parents.next().flatten() {
            grads.register::<B>(node, of_x);
        }
        if let Some(node) = parents.next().flatten() {
            grads.register::<B>(node, over_rows(slopes));
        }
        if let Some(node) = parents.next().flatten() {
            grads.register::<B>(node, over_rows(grad));
        }
    }
}

mod kernel {
    use cubecl::prelude::*;

    /// The row of this plane.
    #[cube]
    fn row() -> usize {
        CUBE_POS * CUBE_DIM_Y as usize + UNIT_POS_Y as usize
    }

    /// The mean of a row, 0 unless it is asked for.
    #[cube]
    fn mean_of<F: Float>(x: &Tensor<F>, at: usize, width: usize, #[comptime] centred: bool) -> f32 {
        let mut sum = 0.0f32;
        if comptime!(centred) {
            let mut entry = UNIT_POS_X as usize;
            while entry < width {
                sum += f32::cast_from(x[at + entry]);
                entry += CUBE_DIM_X as usize;
            }
            sum = plane_sum(sum) / f32::cast_from(width as u32);
        }
        sum
    }

    /// One over the size of a row.
    #[cube]
    fn inverse_size<F: Float>(
        x: &Tensor<F>,
        at: usize,
        width: usize,
        mean: f32,
        epsilon: f32,
    ) -> f32 {
        let mut squares = 0.0f32;
        let mut entry = UNIT_POS_X as usize;
        while entry < width {
            let far = f32::cast_from(x[at + entry]) - mean;
            squares += far * far;
            entry += CUBE_DIM_X as usize;
        }
        1.0f32 / (plane_sum(squares) / f32::cast_from(width as u32) + epsilon).sqrt()
    }

    #[cube(launch)]
    pub fn normalise<F: Float, G: Float>(
        x: &Tensor<F>,
        gamma: &Tensor<G>,
        beta: &Tensor<G>,
        out: &mut Tensor<F>,
        epsilon: f32,
        #[comptime] centred: bool,
        #[define(F, G)] _types: [ElemType; 2],
    ) {
        let width = gamma.len();
        let at = row() * gamma.len();
        if at >= out.len() {
            terminate!();
        }
        let mean = mean_of(x, at, width, centred);
        let inverse = inverse_size(x, at, width, mean, epsilon);
        let mut entry = UNIT_POS_X as usize;
        while entry < width {
            let n = (f32::cast_from(x[at + entry]) - mean) * inverse;
            let mut y = n * f32::cast_from(gamma[entry]);
            if comptime!(centred) {
                y += f32::cast_from(beta[entry]);
            }
            out[at + entry] = F::cast_from(y);
            entry += CUBE_DIM_X as usize;
        }
    }

    #[cube(launch)]
    pub fn gradients<F: Float, G: Float>(
        x: &Tensor<F>,
        gamma: &Tensor<G>,
        grad: &Tensor<F>,
        of_x: &mut Tensor<F>,
        slopes: &mut Tensor<f32>,
        epsilon: f32,
        #[comptime] centred: bool,
        #[define(F, G)] _types: [ElemType; 2],
    ) {
        let width = gamma.len();
        let at = row() * gamma.len();
        if at >= of_x.len() {
            terminate!();
        }
        let unit = UNIT_POS_X as usize;
        let units = CUBE_DIM_X as usize;
        let mean = mean_of(x, at, width, centred);
        let inverse = inverse_size(x, at, width, mean, epsilon);
        let mut plain = 0.0f32;
        let mut along = 0.0f32;
        let mut entry = unit;
        while entry < width {
            let n = (f32::cast_from(x[at + entry]) - mean) * inverse;
            let slope = f32::cast_from(grad[at + entry]);
            let scaled = slope * f32::cast_from(gamma[entry]);
            slopes[at + entry] = slope * n;
            plain += scaled;
            along += scaled * n;
            entry += units;
        }
        let count = f32::cast_from(width as u32);
        let along = plane_sum(along) / count;
        let mut shift = 0.0f32;
        if comptime!(centred) {
            shift = plane_sum(plain) / count;
        }
        let mut entry = unit;
        while entry < width {
            let n = (f32::cast_from(x[at + entry]) - mean) * inverse;
            let scaled = f32::cast_from(grad[at + entry]) * f32::cast_from(gamma[entry]);
            of_x[at + entry] = F::cast_from((scaled - shift - n * along) * inverse);
            entry += units;
        }
    }
}
