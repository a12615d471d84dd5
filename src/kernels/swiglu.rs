//! The gated activation of the feed-forward part, `swiglu(g, u) = g σ(g) u`. The backward passes
//! compute σ again from the saved inputs and hold nothing else.

use burn::tensor::Tensor;
use burn::tensor::activation::silu;

/// `silu(gate) · up`, both of one shape.
pub fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if super::takes(&gate) {
        return fused::swiglu(gate, up);
    }
    #[cfg(feature = "gpu-kernels")]
    if super::gpu::takes(&gate) {
        return super::gpu::activation::swiglu(gate, up);
    }
    plain_swiglu(gate, up)
}

fn plain_swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    silu(gate) * up
}

#[cfg(feature = "flex")]
pub(super) use fused::{backward, of_tensors};

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::TensorMetadata;
    use burn::backend::flex::FlexTensor;
    use burn::tensor::Tensor;
    use rayon::prelude::*;

    use crate::kernels::flex::{TASK, changed, contiguous, tensor, values, zeros};
    use crate::kernels::operation::{Operation, apply};
    use crate::kernels::vector::{sigmoid, widest};

    pub fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
        apply(Swiglu, [gate.into_dispatch(), up.into_dispatch()])
    }

    #[derive(Clone, Debug)]
    struct Swiglu;

    impl Operation<2> for Swiglu {
        /// The inputs.
        type Saved = [FlexTensor; 2];

        fn forward(&self, [gate, up]: [FlexTensor; 2]) -> FlexTensor {
            let up = contiguous(up);
            let up = values(&up);
            changed(gate, |gate| {
                gate.par_chunks_mut(TASK).zip(up.par_chunks(TASK)).for_each(|(gate, up)| {
                    widest!({
                        for (gate, &up) in gate.iter_mut().zip(up) {
                            *gate = *gate * sigmoid(*gate) * up;
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
            inputs: [FlexTensor; 2],
            grad: FlexTensor,
            _: [bool; 2],
        ) -> [Option<FlexTensor>; 2] {
            backward(inputs, grad).map(Some)
        }
    }

    /// `silu(gate) · up`.
    pub fn of_tensors(inputs: [FlexTensor; 2]) -> FlexTensor {
        Swiglu.forward(inputs)
    }

    /// The gradients of the gate and of the other factor.
    pub fn backward(inputs: [FlexTensor; 2], grad: FlexTensor) -> [FlexTensor; 2] {
        let [gate, up] = inputs.map(contiguous);
        let mut gate_grad = zeros(gate.shape().num_elements());
        let up_grad = changed(grad, |grad| {
            let inputs = values(&gate).par_chunks(TASK).zip(values(&up).par_chunks(TASK));
            let outputs = gate_grad.par_chunks_mut(TASK).zip(grad.par_chunks_mut(TASK));
            outputs.zip(inputs).for_each(|((gate_grad, grad), (gate, up))| {
                widest!({
                    let outputs = gate_grad.iter_mut().zip(grad);
                    for ((gate_grad, grad), (&gate, &up)) in outputs.zip(gate.iter().zip(up)) {
                        let open = sigmoid(gate);
                        *gate_grad = *grad * up * open * (1.0 + gate * (1.0 - open));
                        *grad *= gate * open;
                    }
                });
            });
        });
        [tensor(gate_grad, gate.shape()), up_grad]
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::kernels::waves::waves;

    /// Values from −12 to 12 in an order of their own.
    fn spread(shape: [usize; 2], turn: f32, device: &Device) -> Tensor<2> {
        waves(shape, turn, device) * 12.0
    }

    /// Outputs and gradients of the inputs, of a function and its plain form.
    fn compare(
        function: impl Fn(Tensor<2>, Tensor<2>) -> Tensor<2>,
        plain: impl Fn(Tensor<2>, Tensor<2>) -> Tensor<2>,
    ) {
        let device = Device::flex().autodiff();
        // Rows that are no multiple of a vector, and more elements than one task takes.
        let shape = [301, 67];
        let run = |function: &dyn Fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
            let a = spread(shape, 0.7, &device).require_grad();
            let b = spread(shape, 1.3, &device).require_grad();
            let out = function(a.clone(), b.clone());
            let gradients = (out.clone() * spread(shape, 2.1, &device)).sum().backward();
            [out.inner(), a.grad(&gradients).unwrap(), b.grad(&gradients).unwrap()]
        };
        for (ours, plain) in run(&function).into_iter().zip(run(&plain)) {
            // Products of three or four f32 factors of size up to 12.
            let allowed = plain.clone().abs() * 2e-6 + 2e-5;
            let outside = (ours - plain).abs().greater(allowed).int().sum();
            assert_eq!(outside.into_scalar::<i64>(), 0);
        }
    }

    #[test]
    fn swiglu_and_its_gradients_are_those_of_the_plain_form() {
        compare(swiglu, plain_swiglu);
    }

    #[test]
    fn an_input_used_again_keeps_its_values() {
        let device = Device::flex();
        let x = spread([3, 5], 0.7, &device);
        let before = x.to_data();
        let turned = swiglu(x.clone().transpose(), x.clone().transpose());
        let difference = turned - swiglu(x.clone(), x.clone()).transpose();
        assert_eq!(x.to_data(), before);
        assert_eq!(difference.abs().max().into_scalar::<f32>(), 0.0);
    }
}
