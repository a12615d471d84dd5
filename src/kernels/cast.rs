//! bf16 copies of f32 tensors, on all cores. Gradients come back in f32.

use burn::tensor::{DType, Tensor};

/// `x` in bf16.
pub fn to_bf16<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if super::takes(&x) {
        return fused::to_bf16(x);
    }
    x.cast(DType::BF16)
}

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::autodiff::checkpoint::base::Checkpointer;
    use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::flex::FlexTensor;
    use burn::backend::tensor::FloatTensor;
    use burn::backend::{Autodiff, Backend, Dispatch, Flex, backend_extension};
    use burn::tensor::{DType, Tensor};

    use crate::kernels::flex::{of_type, widened};

    pub fn to_bf16<const D: usize>(x: Tensor<D>) -> Tensor<D> {
        Tensor::from_dispatch(<Dispatch as CastOps>::to_bf16(x.into_dispatch()))
    }

    #[backend_extension(Flex, Autodiff)]
    pub trait CastOps: Backend {
        fn to_bf16(x: FloatTensor<Self>) -> FloatTensor<Self>;
    }

    impl CastOps for Flex {
        fn to_bf16(x: FlexTensor) -> FlexTensor {
            of_type(x, DType::BF16)
        }
    }

    impl<C: CheckpointStrategy> CastOps for Autodiff<Flex, C> {
        fn to_bf16(x: FloatTensor<Self>) -> FloatTensor<Self> {
            let nodes = [x.node()];
            let out = Flex::to_bf16(x.into_primitive());
            match CastBackward.prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep.finish((), out),
                OpsKind::UnTracked(prep) => prep.finish(out),
            }
        }
    }

    #[derive(Debug)]
    struct CastBackward;

    impl Backward<Flex, 1> for CastBackward {
        type State = ();

        fn backward(self, ops: Ops<(), 1>, grads: &mut Gradients, _: &mut Checkpointer) {
            let grad = grads.consume::<Flex>(&ops.node);
            let [Some(node)] = ops.parents else { return };
            grads.register::<Flex>(node.id, widened(grad));
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn values_and_gradients_are_those_of_burns_own_cast() {
        let device = Device::flex().autodiff();
        let values: Vec<f32> = (0..301 * 67).map(|it| (it as f32 * 0.7).sin()).collect();
        let run = |cast: &dyn Fn(Tensor<2>) -> Tensor<2>| {
            let x = Tensor::<2>::from_data(TensorData::new(values.clone(), [67, 301]), &device);
            let x = x.require_grad();
            let out = cast(x.clone().transpose());
            let gradients = (out.clone() * out.clone()).sum().backward();
            (out.inner().to_data(), x.grad(&gradients).unwrap().to_data())
        };
        assert_eq!(run(&to_bf16), run(&|x| x.cast(DType::BF16)));
    }
}
