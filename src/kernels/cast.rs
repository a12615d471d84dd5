//! bf16 copies of f32 tensors and back, on all cores. Gradients come back in the type of what was cast.

use burn::tensor::{DType, Tensor};

/// `x` in bf16.
pub fn to_bf16<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if super::takes(&x) {
        return fused::to_bf16(x);
    }
    x.cast(DType::BF16)
}

/// `x` in f32, without a history.
pub fn to_f32<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(feature = "flex")]
    if x.dtype() == DType::BF16 && crate::device::has_kernels(&x.device()) {
        return fused::to_f32(x);
    }
    x.cast(DType::F32)
}

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::Flex;
    use burn::backend::flex::FlexTensor;
    use burn::tensor::{DType, Tensor};

    use crate::kernels::flex::{of_type, primitive, widened};
    use crate::kernels::operation::{Operation, apply};

    pub fn to_bf16<const D: usize>(x: Tensor<D>) -> Tensor<D> {
        apply(Cast, [x.into_dispatch()])
    }

    pub fn to_f32<const D: usize>(x: Tensor<D>) -> Tensor<D> {
        Tensor::from_primitive::<Flex>(widened(primitive(x)))
    }

    #[derive(Clone, Debug)]
    struct Cast;

    impl Operation<1> for Cast {
        type Saved = ();

        fn forward(&self, [x]: [FlexTensor; 1]) -> FlexTensor {
            of_type(x, DType::BF16)
        }

        fn forward_saving(&self, inputs: [FlexTensor; 1], _: [bool; 1]) -> (FlexTensor, ()) {
            (self.forward(inputs), ())
        }

        fn backward(&self, (): (), grad: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
            [Some(widened(grad))]
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
