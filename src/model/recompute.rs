//! Blocks whose activations are not kept: the backward pass computes each block again.

use burn::module::Module;
use burn::tensor::{Int, Tensor};

use super::decoder::Block;
use super::rotary::Angles;
use crate::deferred::{Deferred, backward_from};
use crate::kernels::linear::Dropout;
use crate::layout::AttentionLayout;

/// What all blocks read beside the residual stream.
#[derive(Clone)]
pub(super) struct Reading {
    pub angles: Option<Angles>,
    pub layout: AttentionLayout,
    /// Flat indices of the tokens that are wanted of the last block, `[wanted]`.
    pub wanted: Option<Tensor<1, Int>>,
}

impl Reading {
    /// The same without autodiff.
    fn inner(&self) -> Self {
        Self {
            angles: self.angles.clone().map(Angles::inner),
            layout: self.layout.clone().inner(),
            wanted: self.wanted.clone().map(Tensor::inner),
        }
    }

    fn block(&self, blocks: &[Block], index: usize, x: Tensor<3>) -> Tensor<3> {
        let wanted = self.wanted.as_ref().filter(|_| index + 1 == blocks.len());
        blocks[index].forward(x, self.angles.as_ref(), &self.layout, wanted).0
    }
}

/// What the blocks make of `x`, as a leaf of the backward pass; the inputs of the blocks are kept and nothing
/// else.
pub(super) fn read(
    blocks: &[Block],
    x: Tensor<3>,
    reading: Reading,
    deferred: &Deferred,
) -> Tensor<3> {
    let (tracked, dropout) = (blocks.to_vec(), Dropout::current());
    // What has no history frees its memory at once.
    let (plain, plain_reading) = (blocks.to_vec().valid(), reading.inner());
    let mut inputs = Vec::with_capacity(blocks.len());
    let mut state = x.clone().inner();
    for index in 0..blocks.len() {
        let next = plain_reading.block(&plain, index, state.clone());
        inputs.push(std::mem::replace(&mut state, next));
    }
    deferred.leaf(Tensor::from_inner(state), move |mut gradient, emit| {
        for index in (0..tracked.len()).rev() {
            let input = inputs.pop().expect("an input a block");
            // The first one has the embedding as its history.
            let input = match index {
                0 => x.clone(),
                _ => Tensor::from_inner(input).require_grad(),
            };
            let again = || reading.block(&tracked, index, input.clone());
            let output = Dropout::during(dropout, again);
            let gradients = backward_from(output, gradient.clone());
            if index > 0 {
                let of_input = input.grad(&gradients).expect("a leaf that the block reads");
                gradient = Tensor::from_inner(of_input);
            }
            emit(gradients);
        }
    })
}
