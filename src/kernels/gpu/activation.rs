//! Activations of the feed-forward part: a unit for every entry. The backward passes compute them again.

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

/// `silu(gate) · up`, both of one shape and type.
pub fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    let out = <Dispatch as ActivationOps>::gated(gate.into_dispatch(), up.into_dispatch());
    Tensor::from_dispatch(out)
}

/// GELU by the error function, or by tanh.
pub fn gelu<const D: usize>(x: Tensor<D>, by_tanh: bool) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as ActivationOps>::curved(x.into_dispatch(), by_tanh))
}

/// The activations as burn dispatches them.
#[backend_extension(Cube, Autodiff)]
pub trait ActivationOps: Backend {
    /// As [`swiglu`] says.
    fn gated(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;

    /// As [`gelu`] says.
    fn curved(x: FloatTensor<Self>, by_tanh: bool) -> FloatTensor<Self>;
}

/// Their backward passes.
#[backend_extension(Cube)]
pub trait ActivationGradients: Backend {
    /// The gradients of gate and up.
    fn gated_gradients(
        gate: FloatTensor<Self>,
        up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradient of x.
    fn curved_gradient(
        x: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        by_tanh: bool,
    ) -> FloatTensor<Self>;
}

impl ActivationOps for CubeBackend {
    fn gated(gate: CubeTensor, up: CubeTensor) -> CubeTensor {
        let [gate, up] = [gate, up].map(into_contiguous);
        let (client, out) = (gate.client.clone(), empty_like(&gate));
        let (count, dim) = by_entry(gate.shape().num_elements());
        let dtype = dtype_to_storage_type(gate.dtype);
        let [gate, up, to] = [gate, up, out.clone()].map(CubeTensor::into_tensor_arg);
        kernel::gated::launch(&client, count, dim, gate, up, to, dtype);
        out
    }

    fn curved(x: CubeTensor, by_tanh: bool) -> CubeTensor {
        let x = into_contiguous(x);
        let (client, out) = (x.client.clone(), empty_like(&x));
        let (count, dim) = by_entry(x.shape().num_elements());
        let dtype = dtype_to_storage_type(x.dtype);
        let [x, to] = [x, out.clone()].map(CubeTensor::into_tensor_arg);
        kernel::curved::launch(&client, count, dim, x, to, by_tanh, dtype);
        out
    }
}

impl ActivationGradients for CubeBackend {
    fn gated_gradients(
        gate: CubeTensor,
        up: CubeTensor,
        grad: CubeTensor,
    ) -> (CubeTensor, CubeTensor) {
        let [gate, up, grad] = [gate, up, grad].map(into_contiguous);
        let (client, of_gate, of_up) = (gate.client.clone(), empty_like(&gate), empty_like(&gate));
        let (count, dim) = by_entry(gate.shape().num_elements());
        let dtype = dtype_to_storage_type(gate.dtype);
        let [gate, up, grad, to_gate, to_up] =
            [gate, up, grad, of_gate.clone(), of_up.clone()].map(CubeTensor::into_tensor_arg);
        kernel::gated_gradients::launch(&client, count, dim, gate, up, grad, to_gate, to_up, dtype);
        (of_gate, of_up)
    }

    fn curved_gradient(x: CubeTensor, grad: CubeTensor, by_tanh: bool) -> CubeTensor {
        let [x, grad] = [x, grad].map(into_contiguous);
        let (client, out) = (x.client.clone(), empty_like(&x));
        let (count, dim) = by_entry(x.shape().num_elements());
        let dtype = dtype_to_storage_type(x.dtype);
        let [x, grad, to] = [x, grad, out.clone()].map(CubeTensor::into_tensor_arg);
        kernel::curved_gradient::launch(&client, count, dim, x, grad, to, by_tanh, dtype);
        out
    }
}

impl<B: ActivationOps + ActivationGradients, C: CheckpointStrategy> ActivationOps
    for Autodiff<B, C>
{
    fn gated(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let nodes = [gate.node(), up.node()];
        let [gate, up] = [gate, up].map(|it| it.into_primitive());
        let out = B::gated(gate.clone(), up.clone());
        match GatedBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((gate, up), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn curved(x: FloatTensor<Self>, by_tanh: bool) -> FloatTensor<Self> {
        let node = x.node();
        let x = x.into_primitive();
        let out = B::curved(x.clone(), by_tanh);
        match CurvedBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((x, by_tanh), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

#[derive(Debug)]
struct GatedBackward;

impl<B: ActivationGradients> Backward<B, 2> for GatedBackward {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (gate, up) = ops.state;
        let gradients: [FloatTensor<B>; 2] = B::gated_gradients(gate, up, grad).into();
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct CurvedBackward;

impl<B: ActivationGradients> Backward<B, 1> for CurvedBackward {
    type State = (FloatTensor<B>, bool);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (x, by_tanh) = ops.state;
        let [node] = ops.parents;
        if let Some(node) = node {
            grads.register::<B>(node.id, B::curved_gradient(x, grad, by_tanh));
        }
    }
}

#[allow(unstable_name_collisions, reason = "f32::erf is cubecl's")]
mod kernel {
    use cubecl::prelude::*;

    /// √½
    const ROOT_HALF: f32 = std::f32::consts::FRAC_1_SQRT_2;
    /// √(2/π)
    const ROOT: f32 = 0.797_884_6;
    const CUBE: f32 = 0.044_715;
    /// Three times the product of both.
    const SLOPE: f32 = 0.107_032_23;
    /// 1/√(2π)
    const DENSITY: f32 = 0.398_942_3;
    const MINUS_HALF: f32 = -0.5;

    #[cube]
    fn sigmoid(x: f32) -> f32 {
        1.0 / (1.0 + (-x).exp())
    }

    #[cube(launch)]
    pub fn gated<F: Float>(
        gate: &Tensor<F>,
        up: &Tensor<F>,
        out: &mut Tensor<F>,
        #[define(F)] _dtype: ElemType,
    ) {
        let at = ABSOLUTE_POS;
        if at >= out.len() {
            terminate!();
        }
        let g = f32::cast_from(gate[at]);
        out[at] = F::cast_from(g * sigmoid(g) * f32::cast_from(up[at]));
    }

    #[cube(launch)]
    pub fn gated_gradients<F: Float>(
        gate: &Tensor<F>,
        up: &Tensor<F>,
        grad: &Tensor<F>,
        of_gate: &mut Tensor<F>,
        of_up: &mut Tensor<F>,
        #[define(F)] _dtype: ElemType,
    ) {
        let at = ABSOLUTE_POS;
        if at >= of_up.len() {
            terminate!();
        }
        let g = f32::cast_from(gate[at]);
        let slope = f32::cast_from(grad[at]);
        let s = sigmoid(g);
        of_up[at] = F::cast_from(slope * g * s);
        of_gate[at] = F::cast_from(slope * f32::cast_from(up[at]) * s * (1.0 + g * (1.0 - s)));
    }

    #[cube(launch)]
    pub fn curved<F: Float>(
        input: &Tensor<F>,
        out: &mut Tensor<F>,
        #[comptime] by_tanh: bool,
        #[define(F)] _dtype: ElemType,
    ) {
        let at = ABSOLUTE_POS;
        if at >= out.len() {
            terminate!();
        }
        let x = f32::cast_from(input[at]);
        if comptime!(by_tanh) {
            let t = (ROOT * (x + CUBE * x * x * x)).tanh();
            out[at] = F::cast_from(0.5 * x * (1.0 + t));
        } else {
            out[at] = F::cast_from(0.5 * x * (1.0 + f32::erf(x * ROOT_HALF)));
        }
    }

    #[cube(launch)]
    pub fn curved_gradient<F: Float>(
        input: &Tensor<F>,
        grad: &Tensor<F>,
        out: &mut Tensor<F>,
        #[comptime] by_tanh: bool,
        #[define(F)] _dtype: ElemType,
    ) {
        let at = ABSOLUTE_POS;
        if at >= out.len() {
            terminate!();
        }
        let x = f32::cast_from(input[at]);
        let slope = f32::cast_from(grad[at]);
        if comptime!(by_tanh) {
            let t = (ROOT * (x + CUBE * x * x * x)).tanh();
            let inner = ROOT + SLOPE * x * x;
            out[at] = F::cast_from(slope * 0.5 * (1.0 + t + x * (1.0 - t * t) * inner));
        } else {
            // The normal distribution and its density.
            let below = 0.5 * (1.0 + f32::erf(x * ROOT_HALF));
            let density = DENSITY * (x * x * MINUS_HALF).exp();
            out[at] = F::cast_from(slope * (below + x * density));
        }
    }
}
