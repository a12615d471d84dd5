//! Rotary positions: a unit for every entry.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::{by_entry, empty_like};

/// Turns the heads of every token.
///
/// - `x`: `[batch, row, heads, head_dim]`
/// - `cos`, `sin`: of each token's angles, `[batch, row, 1, pairs]`, of the type of `x`
pub fn rotate(x: Tensor<4>, cos: Tensor<4>, sin: Tensor<4>, interleaved: bool) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as RotaryOps>::rotate_heads(
        x.into_dispatch(),
        cos.into_dispatch(),
        sin.into_dispatch(),
        1.0,
        interleaved,
    ))
}

/// The turn as burn dispatches it.
#[backend_extension(Cube, Autodiff)]
pub trait RotaryOps: Backend {
    /// As [`rotate`] says, by the angles times `direction`, 1 or −1.
    fn rotate_heads(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        direction: f32,
        interleaved: bool,
    ) -> FloatTensor<Self>;
}

impl RotaryOps for CubeBackend {
    fn rotate_heads(
        x: CubeTensor,
        cos: CubeTensor,
        sin: CubeTensor,
        direction: f32,
        interleaved: bool,
    ) -> CubeTensor {
        let [x, cos, sin] = [x, cos, sin].map(into_contiguous);
        let (client, out) = (x.client.clone(), empty_like(&x));
        let (count, dim) = by_entry(x.shape().num_elements());
        let dtype = dtype_to_storage_type(x.dtype);
        kernel::rotate::launch(
            &client,
            count,
            dim,
            x.into_tensor_arg(),
            cos.into_tensor_arg(),
            sin.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            direction,
            interleaved,
            dtype,
        );
        out
    }
}

impl<B: RotaryOps, C: CheckpointStrategy> RotaryOps for Autodiff<B, C> {
    fn rotate_heads(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        direction: f32,
        interleaved: bool,
    ) -> FloatTensor<Self> {
        let node = x.node();
        let [x, cos, sin] = [x, cos, sin].map(|it| it.into_primitive());
        let out = B::rotate_heads(x, cos.clone(), sin.clone(), direction, interleaved);
        match RotaryBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((cos, sin, direction, interleaved), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

#[derive(Debug)]
struct RotaryBackward;

impl<B: RotaryOps> Backward<B, 1> for RotaryBackward {
    type State = (FloatTensor<B>, FloatTensor<B>, f32, bool);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (cos, sin, direction, interleaved) = ops.state;
        let [node] = ops.parents;
        if let Some(node) = node {
            let turned = B::rotate_heads(grad, cos, sin, -direction, interleaved);
            grads.register::<B>(node.id, turned);
        }
    }
}

#[allow(clippy::manual_is_multiple_of, reason = "a kernel has no `is_multiple_of`")]
mod kernel {
    use cubecl::prelude::*;

    #[cube(launch)]
    pub fn rotate<F: Float>(
        x: &Tensor<F>,
        cos: &Tensor<F>,
        sin: &Tensor<F>,
        out: &mut Tensor<F>,
        direction: f32,
        #[comptime] interleaved: bool,
        #[define(F)] _dtype: ElemType,
    ) {
        let at = ABSOLUTE_POS;
        if at >= out.len() {
            terminate!();
        }
        let pairs = cos.shape(3);
        let width = x.shape(3);
        let heads = x.shape(2);
        let entry = at % width;
        let token = at / width / heads;
        if entry < 2 * pairs {
            let mut pair = entry % pairs;
            let mut is_first = entry < pairs;
            let mut other = at + pairs;
            if comptime!(interleaved) {
                pair = entry / 2;
                is_first = entry % 2 == 0;
                other = at + 1;
                if !is_first {
                    other = at - 1;
                }
            } else if !is_first {
                other = at - pairs;
            }
            let cos = f32::cast_from(cos[token * pairs + pair]);
            let mut sin = f32::cast_from(sin[token * pairs + pair]) * direction;
            if is_first {
                sin = -sin;
            }
            out[at] = F::cast_from(f32::cast_from(x[at]) * cos + f32::cast_from(x[other]) * sin);
        } else {
            out[at] = x[at];
        }
    }
}
