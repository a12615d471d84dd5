//! The softmax of attention scores over the keys that each query sees, on GPUs.
//!
//! One launch forward and one backward; no mask of `[row, row]` is made. A plane has one query of one head.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{Int, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::{by_row, empty_like, rows_and_width};

/// The weights of the keys, zeros of those that are not seen, `[batch, heads, row, row]`.
///
/// - `scores`: of the same shape, not scaled
/// - `sight`: of every query, the number of keys at the start of the row that it sees, and the first of the others,
///   which it sees up to itself, `[batch, row, 2]`
pub fn weights(scores: Tensor<4>, sight: Tensor<3, Int>, scale: f64) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as WeightOps>::attention_weights(
        scores.into_dispatch(),
        sight.into_dispatch(),
        scale,
    ))
}

/// The weights as burn dispatches them.
#[backend_extension(Cube, Autodiff)]
pub trait WeightOps: Backend {
    /// As [`weights`] says.
    fn attention_weights(
        scores: FloatTensor<Self>,
        sight: IntTensor<Self>,
        scale: f64,
    ) -> FloatTensor<Self>;
}

/// Their backward pass.
#[backend_extension(Cube)]
pub trait WeightGradients: Backend {
    /// The gradient of the scores from that of the weights.
    fn attention_scores_gradient(
        weights: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        scale: f64,
    ) -> FloatTensor<Self>;
}

impl WeightOps for CubeBackend {
    fn attention_weights(scores: CubeTensor, sight: CubeTensor, scale: f64) -> CubeTensor {
        let [scores, sight] = [scores, sight].map(into_contiguous);
        let (client, out) = (scores.client.clone(), empty_like(&scores));
        let (count, dim) = by_row(&scores, rows_and_width(&scores).0);
        let types = [scores.dtype, sight.dtype].map(dtype_to_storage_type);
        kernel::weights::launch(
            &client,
            count,
            dim,
            scores.into_tensor_arg(),
            sight.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            scale as f32,
            types,
        );
        out
    }
}

impl WeightGradients for CubeBackend {
    fn attention_scores_gradient(weights: CubeTensor, grad: CubeTensor, scale: f64) -> CubeTensor {
        let [weights, grad] = [weights, grad].map(into_contiguous);
        let (client, out) = (weights.client.clone(), empty_like(&weights));
        let (count, dim) = by_row(&weights, rows_and_width(&weights).0);
        let dtype = dtype_to_storage_type(weights.dtype);
        kernel::gradient::launch(
            &client,
            count,
            dim,
            weights.into_tensor_arg(),
            grad.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            scale as f32,
            dtype,
        );
        out
    }
}

impl<B: WeightOps + WeightGradients, C: CheckpointStrategy> WeightOps for Autodiff<B, C> {
    fn attention_weights(
        scores: FloatTensor<Self>,
        sight: IntTensor<Self>,
        scale: f64,
    ) -> FloatTensor<Self> {
        let node = scores.node();
        let weights = B::attention_weights(scores.into_primitive(), sight, scale);
        match WeightsBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((weights.clone(), scale), weights),
            OpsKind::UnTracked(prep) => prep.finish(weights),
        }
    }
}

#[derive(Debug)]
struct WeightsBackward;

impl<B: WeightGradients> Backward<B, 1> for WeightsBackward {
    type State = (FloatTensor<B>, f64);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let [node] = ops.parents;
        let (weights, scale) = ops.state;
        if let Some(node) = node {
            grads.register::<B>(node.id, B::attention_scores_gradient(weights, grad, scale));
        }
    }
}

mod kernel {
    use cubecl::prelude::*;

    /// The query of this plane, counted over heads and rows.
    #[cube]
    fn query() -> usize {
        CUBE_POS * CUBE_DIM_Y as usize + UNIT_POS_Y as usize
    }

    #[cube(launch)]
    pub fn weights<F: Float, I: Int>(
        scores: &Tensor<F>,
        sight: &Tensor<I>,
        out: &mut Tensor<F>,
        scale: f32,
        #[define(F, I)] _types: [ElemType; 2],
    ) {
        let row = scores.shape(3);
        let query = query();
        if query >= scores.shape(0) * scores.shape(1) * row {
            terminate!();
        }
        let unit = UNIT_POS_X as usize;
        let units = CUBE_DIM_X as usize;
        let at = query * row;
        let token = query % row;
        let batch = query / row / scores.shape(1);
        let prompt = usize::cast_from(sight[(batch * row + token) * 2]);
        let first = usize::cast_from(sight[(batch * row + token) * 2 + 1]);

        let mut most = f32::min_value();
        let mut key = unit;
        while key <= token {
            if key < prompt || key >= first {
                most = max(most, f32::cast_from(scores[at + key]));
            }
            key += units;
        }
        let most = plane_max(most);
        let mut sum = 0.0f32;
        let mut key = unit;
        while key <= token {
            if key < prompt || key >= first {
                sum += ((f32::cast_from(scores[at + key]) - most) * scale).exp();
            }
            key += units;
        }
        let inverse = 1.0f32 / plane_sum(sum);
        let mut key = unit;
        while key < row {
            let mut weight = 0.0f32;
            if key <= token && (key < prompt || key >= first) {
                weight = ((f32::cast_from(scores[at + key]) - most) * scale).exp() * inverse;
            }
            out[at + key] = F::cast_from(weight);
            key += units;
        }
    }

    #[cube(launch)]
    pub fn gradient<F: Float>(
        weights: &Tensor<F>,
        grad: &Tensor<F>,
        out: &mut Tensor<F>,
        scale: f32,
        #[define(F)] _dtype: ElemType,
    ) {
        let row = weights.shape(3);
        let query = query();
        if query >= weights.shape(0) * weights.shape(1) * row {
            terminate!();
        }
        let unit = UNIT_POS_X as usize;
        let units = CUBE_DIM_X as usize;
        let at = query * row;
        let token = query % row;
        let mut sum = 0.0f32;
        let mut key = unit;
        while key <= token {
            sum += f32::cast_from(weights[at + key]) * f32::cast_from(grad[at + key]);
            key += units;
        }
        let mean = plane_sum(sum);
        let mut key = unit;
        while key < row {
            let weight = f32::cast_from(weights[at + key]);
            let slope = weight * (f32::cast_from(grad[at + key]) - mean) * scale;
            out[at + key] = F::cast_from(slope);
            key += units;
        }
    }
}
