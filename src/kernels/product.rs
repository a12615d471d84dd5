//! Matrix products whose f32 is f32 on every backend.
//!
//! On GPUs with tensor cores burn rounds the factors of an f32 product to TF32, which has 11 bits: log-probs
//! differ from those of other programs in the fourth digit. The product of GPUs here does not.
//! All other backends take burn's own product.

#![cfg_attr(
    feature = "tch",
    allow(deprecated, reason = "burn 0.22 has it, without a successor here")
)]

#[cfg(feature = "gpu")]
mod cube;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{Shape, Tensor};

/// `a · b` of matrices, or of equally many matrices on both sides: `[.., n, k] · [.., k, m]` → `[.., n, m]`.
pub fn multiply<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<D> {
    let product = <Dispatch as ProductOps>::product(a.into_dispatch(), b.into_dispatch());
    Tensor::from_dispatch(product)
}

/// The product as burn dispatches it.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    LibTorch: cfg(feature = "tch"),
    Cube: cfg(feature = "gpu"),
    Remote: cfg(feature = "remote"),
    Autodiff
)]
pub trait ProductOps: Backend {
    /// `a · b`, as [`multiply`] says.
    fn product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(a, b)
    }
}

/// `[.., n, k] · [.., k, m]` → `[.., n, m]`.
#[cfg_attr(not(feature = "gpu"), allow(dead_code, reason = "asked by GPUs alone"))]
fn shape_of_product(a: &Shape, b: &Shape) -> Shape {
    let mut dims = a.to_vec();
    let last = dims.len() - 1;
    dims[last] = b[last];
    Shape::from(dims)
}

#[cfg(feature = "flex")]
impl ProductOps for burn::backend::Flex {}

#[cfg(feature = "tch")]
impl ProductOps for burn::backend::LibTorch {}

#[cfg(feature = "remote")]
impl ProductOps for burn::backend::Remote {}

impl<B: ProductOps, C: CheckpointStrategy> ProductOps for Autodiff<B, C> {
    fn product(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [a.node(), b.node()];
        let tracked = [a.is_tracked(), b.is_tracked()];
        let (a, b) = (a.into_primitive(), b.into_primitive());
        match ProductBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                // Each factor for the gradient of the other.
                let saved = [tracked[1].then(|| a.clone()), tracked[0].then(|| b.clone())];
                prep.finish(saved, B::product(a, b))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::product(a, b)),
        }
    }
}

#[derive(Debug)]
struct ProductBackward;

impl<B: ProductOps> Backward<B, 2> for ProductBackward {
    type State = [Option<FloatTensor<B>>; 2];

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [for_a, for_b] = ops.parents;
        let [a, b] = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        if let Some((node, b)) = for_a.zip(b) {
            grads.register::<B>(node.id, B::product(grad.clone(), B::float_transpose(b)));
        }
        if let Some((node, a)) = for_b.zip(a) {
            grads.register::<B>(node.id, B::product(B::float_transpose(a), grad));
        }
    }
}
