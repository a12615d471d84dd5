//! A bias, added to every row.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::CubeBackend;

use super::sums::SumOps;

/// `x + bias`, `[rows, width]` and `[width]`.
pub fn biased(x: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    Tensor::from_dispatch(<Dispatch as BiasOps>::biased(x.into_dispatch(), bias.into_dispatch()))
}

/// The sum as burn dispatches it.
#[backend_extension(Cube, Autodiff)]
pub trait BiasOps: Backend {
    /// As [`biased`] says.
    fn biased(x: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let width = bias.shape().num_elements();
        Self::float_add(x, Self::float_reshape(bias, Shape::new([1, width])))
    }
}

impl BiasOps for CubeBackend {}

impl<B: BiasOps + SumOps, C: CheckpointStrategy> BiasOps for Autodiff<B, C> {
    fn biased(x: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [x.node(), bias.node()];
        let (x, bias) = (x.into_primitive(), bias.into_primitive());
        let dtype = bias.dtype();
        let out = B::biased(x, bias);
        match BiasBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(dtype, out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

#[derive(Debug)]
struct BiasBackward;

impl<B: SumOps> Backward<B, 2> for BiasBackward {
    /// The bias's type.
    type State = DType;

    fn backward(self, ops: Ops<DType, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let [for_x, for_bias] = ops.parents;
        if let Some(node) = for_bias {
            let sum = B::sum_over_rows(grad.clone());
            grads.register::<B>(node.id, B::float_cast(sum, ops.state.into()));
        }
        if let Some(node) = for_x {
            grads.register::<B>(node.id, grad);
        }
    }
}
