//! Rows of an embedding.

use burn::nn::Embedding;
#[cfg(feature = "flex")]
use burn::tensor::DType;
use burn::tensor::{Int, Tensor};

/// The rows that `indices` name, `[batch, row]` → `[batch, row, width]`; the kernel's are f32 also
/// where the embedding is kept in bf16, and so is all that follows.
pub fn embed(embedding: &Embedding, indices: Tensor<2, Int>) -> Tensor<3> {
    #[cfg(feature = "flex")]
    {
        let weight = embedding.weight.val();
        if crate::device::has_kernels(&weight.device())
            && matches!(weight.dtype(), DType::F32 | DType::BF16)
        {
            return fused::embed(weight, indices);
        }
    }
    embedding.forward(indices)
}

#[cfg(feature = "flex")]
mod fused {
    use std::sync::Arc;

    use burn::backend::TensorMetadata;
    use burn::backend::flex::FlexTensor;
    use burn::tensor::{DType, Int, Shape, Tensor};
    use half::bf16;

    use crate::kernels::flex::{contiguous, index_values, of_type, tensor, values, zeros};
    use crate::kernels::operation::{Operation, apply};
    use crate::kernels::vector::add;

    pub fn embed(weight: Tensor<2>, indices: Tensor<2, Int>) -> Tensor<3> {
        let shape = indices.dims();
        apply(Rows { indices: Arc::new(index_values(indices)), shape }, [weight.into_dispatch()])
    }

    /// The rows of a weight to take.
    #[derive(Clone, Debug)]
    struct Rows {
        indices: Arc<Vec<usize>>,
        /// Of the indices.
        shape: [usize; 2],
    }

    impl Operation<1> for Rows {
        /// The shape and the type of the weight.
        type Saved = (Shape, DType);

        fn forward(&self, [weight]: [FlexTensor; 1]) -> FlexTensor {
            let weight = contiguous(weight);
            let width = weight.shape()[1];
            let shape = Shape::from([self.shape[0], self.shape[1], width]);
            let mut out = Vec::with_capacity(shape.num_elements());
            let rows = self.indices.iter().map(|index| index * width..(index + 1) * width);
            match weight.as_slice::<bf16>() {
                Some(narrow) => {
                    rows.for_each(|row| out.extend(narrow[row].iter().map(|entry| entry.to_f32())));
                }
                None => rows.for_each(|row| out.extend_from_slice(&values(&weight)[row])),
            }
            tensor(out, shape)
        }

        fn forward_saving(
            &self,
            [weight]: [FlexTensor; 1],
            _: [bool; 1],
        ) -> (FlexTensor, (Shape, DType)) {
            let saved = (weight.shape(), weight.dtype());
            (self.forward([weight]), saved)
        }

        fn backward(
            &self,
            (shape, dtype): (Shape, DType),
            grad: FlexTensor,
            _: [bool; 1],
        ) -> [Option<FlexTensor>; 1] {
            let grad = contiguous(grad);
            let width = shape[1];
            let mut sums = zeros(shape.num_elements());
            // In the order of the tokens, so that a row's sum is always the same.
            for (index, grad) in self.indices.iter().zip(values(&grad).chunks_exact(width)) {
                add(&mut sums[index * width..][..width], grad);
            }
            [Some(of_type(tensor(sums, shape), dtype))]
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::nn::EmbeddingConfig;
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn rows_and_the_sums_of_their_gradients_are_those_of_burns_own() {
        let device = Device::flex().autodiff();
        let embedding = EmbeddingConfig::new(40, 7).init(&device);
        let ids: Vec<i64> = (0..60).map(|it| it * it % 37).collect(); // many more than once
        let run = |function: &dyn Fn(Tensor<2, Int>) -> Tensor<3>| {
            let out = function(Tensor::from_data(TensorData::new(ids.clone(), [3, 20]), &device));
            let weights: Vec<f32> = (0..420).map(|it| (it as f32).sin()).collect();
            let weights = Tensor::from_data(TensorData::new(weights, [3, 20, 7]), &device);
            let gradients = (out.clone() * weights).sum().backward();
            (out.inner().to_data(), embedding.weight.val().grad(&gradients).unwrap())
        };
        let (out, gradient) = run(&|ids| embed(&embedding, ids));
        let (plain_out, plain_gradient) = run(&|ids| embedding.forward(ids));
        assert_eq!(out, plain_out);
        assert!((gradient - plain_gradient).abs().max().into_scalar::<f32>() < 1e-6);
    }
}
