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
    use burn::backend::autodiff::checkpoint::base::Checkpointer;
    use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
    use burn::backend::autodiff::grads::Gradients;
    use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
    use burn::backend::flex::FlexTensor;
    use burn::backend::tensor::{FloatTensor, IntTensor};
    use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
    use burn::tensor::{DType, Int, Shape, Tensor};
    use half::bf16;

    use crate::kernels::flex::{contiguous, indices as read, of_type, tensor, values, zeros};
    use crate::kernels::vector::add;

    pub fn embed(weight: Tensor<2>, indices: Tensor<2, Int>) -> Tensor<3> {
        let (weight, indices) = (weight.into_dispatch(), indices.into_dispatch());
        Tensor::from_dispatch(<Dispatch as EmbeddingOps>::embed(weight, indices))
    }

    #[backend_extension(Flex, Autodiff)]
    pub trait EmbeddingOps: Backend {
        fn embed(weight: FloatTensor<Self>, indices: IntTensor<Self>) -> FloatTensor<Self>;
    }

    impl EmbeddingOps for Flex {
        fn embed(weight: FlexTensor, indices: FlexTensor) -> FlexTensor {
            let weight = contiguous(weight);
            let width = weight.shape()[1];
            let shape = Shape::from([indices.shape()[0], indices.shape()[1], width]);
            let mut out = Vec::with_capacity(shape.num_elements());
            let of = |index: usize| index * width..(index + 1) * width;
            match weight.as_slice::<bf16>() {
                Some(narrow) => read(indices)
                    .into_iter()
                    .for_each(|it| out.extend(narrow[of(it)].iter().map(|it| it.to_f32()))),
                None => read(indices)
                    .into_iter()
                    .for_each(|it| out.extend_from_slice(&values(&weight)[of(it)])),
            }
            tensor(out, shape)
        }
    }

    impl<C: CheckpointStrategy> EmbeddingOps for Autodiff<Flex, C> {
        fn embed(weight: FloatTensor<Self>, indices: IntTensor<Self>) -> FloatTensor<Self> {
            let nodes = [weight.node()];
            let weight = weight.into_primitive();
            let saved = (indices.clone(), weight.shape(), weight.dtype());
            let out = Flex::embed(weight, indices);
            match EmbedBackward.prepare::<C>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep.finish(saved, out),
                OpsKind::UnTracked(prep) => prep.finish(out),
            }
        }
    }

    #[derive(Debug)]
    struct EmbedBackward;

    impl Backward<Flex, 1> for EmbedBackward {
        type State = (FlexTensor, Shape, DType);

        fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
            let grad = contiguous(grads.consume::<Flex>(&ops.node));
            let (indices, shape, dtype) = ops.state;
            let [Some(node)] = ops.parents else { return };
            let width = shape[1];
            let mut sums = zeros(shape.num_elements());
            // In the order of the tokens, so that a row's sum is always the same.
            for (index, grad) in read(indices).into_iter().zip(values(&grad).chunks_exact(width)) {
                add(&mut sums[index * width..][..width], grad);
            }
            grads.register::<Flex>(node.id, of_type(tensor(sums, shape), dtype));
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
