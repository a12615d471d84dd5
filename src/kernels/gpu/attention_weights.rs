//! The softmax of attention scores over the keys that each query sees, on GPUs.
//!
//! One launch forward and one backward; no mask of `[row, row]` is made. A plane has one query of one head.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Int, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::{by_row, rows_and_width};

/// The weights of the keys, zeros of those that are not seen, `[batch, kv_heads, queries · row, row]`.
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
        let (scores, sight) = (by_rows(scores), into_contiguous(sight));
        let (client, out) = (scores.client.clone(), rows_like(&scores));
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
        let [weights, grad] = [weights, grad].map(by_rows);
        let (client, out) = (weights.client.clone(), rows_like(&weights));
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

/// The same values, rows at even distances in memory: as products write them, with gaps that align each row.
fn by_rows(x: CubeTensor) -> CubeTensor {
    let (shape, strides) = (x.meta.shape(), x.meta.strides());
    let even = strides[3] == 1
        && strides[1] == shape[2] * strides[2]
        && strides[0] == shape[1] * strides[1];
    if even { x } else { into_contiguous(x) }
}

/// With the gaps that the runtime leaves: products read aligned rows faster.
fn rows_like(x: &CubeTensor) -> CubeTensor {
    by_rows(empty_device_dtype(x.client.clone(), x.device.clone(), x.shape(), x.dtype))
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
        let of_batch = scores.shape(1) * scores.shape(2);
        if query >= scores.shape(0) * of_batch {
            terminate!();
        }
        let unit = UNIT_POS_X as usize;
        let units = CUBE_DIM_X as usize;
        let at = query * scores.stride(2);
        let to = query * out.stride(2);
        let token = query % row;
        let batch = query / of_batch;
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
            out[to + key] = F::cast_from(weight);
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
        if query >= weights.shape(0) * weights.shape(1) * weights.shape(2) {
            terminate!();
        }
        let unit = UNIT_POS_X as usize;
        let units = CUBE_DIM_X as usize;
        let at = query * weights.stride(2);
        let of_grad = query * grad.stride(2);
        let to = query * out.stride(2);
        let token = query % row;
        let mut sum = 0.0f32;
        let mut key = unit;
        while key <= token {
            sum += f32::cast_from(weights[at + key]) * f32::cast_from(grad[of_grad + key]);
            key += units;
        }
        let mean = plane_sum(sum);
        let mut key = unit;
        while key < row {
            let weight = f32::cast_from(weights[at + key]);
            let slope = weight * (f32::cast_from(grad[of_grad + key]) - mean) * scale;
            out[to + key] = F::cast_from(slope);
            key += units;
        }
    }
}
