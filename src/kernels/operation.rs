//! An operation of ours with its gradients, as burn's autodiff takes it.

use std::fmt::Debug;
use std::marker::PhantomData;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, ExtensionType, Flex, backend_extension};
use burn::tensor::Tensor;

/// An operation on N tensors, which holds whatever else it depends on.
pub trait Operation<const N: usize>: Clone + Debug + Send + 'static {
    /// What the gradients are computed from.
    type Saved: Clone + Debug + Send + 'static;

    /// The output.
    fn forward(&self, inputs: [FlexTensor; N]) -> FlexTensor;

    /// The output, and what the gradients of those inputs that are `tracked` are computed from.
    fn forward_saving(
        &self,
        inputs: [FlexTensor; N],
        tracked: [bool; N],
    ) -> (FlexTensor, Self::Saved);

    /// The gradients of the inputs from that of the output; those that are not `wanted` are not read.
    fn backward(
        &self,
        saved: Self::Saved,
        grad: FlexTensor,
        wanted: [bool; N],
    ) -> [Option<FlexTensor>; N];
}

/// What `operation` makes of `inputs`.
pub fn apply<O: Operation<N>, const N: usize, const D: usize>(
    operation: O,
    inputs: [FloatTensor<Dispatch>; N],
) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as Operations>::apply(operation, inputs.into()))
}

/// The inputs of an operation in a form that burn dispatches.
#[derive(ExtensionType)]
pub enum Inputs<B: Backend> {
    /// One tensor.
    One(FloatTensor<B>),
    /// Two.
    Two(FloatTensor<B>, FloatTensor<B>),
    /// Three.
    Three(FloatTensor<B>, FloatTensor<B>, FloatTensor<B>),
    /// Four.
    Four(FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>),
    /// Five.
    Five(FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, FloatTensor<B>),
}

impl<B: Backend, const N: usize> From<[FloatTensor<B>; N]> for Inputs<B> {
    fn from(inputs: [FloatTensor<B>; N]) -> Self {
        let mut inputs = inputs.into_iter();
        let mut next = || inputs.next().expect("N of them");
        match N {
            1 => Self::One(next()),
            2 => Self::Two(next(), next()),
            3 => Self::Three(next(), next(), next()),
            4 => Self::Four(next(), next(), next(), next()),
            5 => Self::Five(next(), next(), next(), next(), next()),
            _ => unreachable!("an operation has one to five inputs"),
        }
    }
}

impl<B: Backend, const N: usize> From<Inputs<B>> for [FloatTensor<B>; N] {
    fn from(inputs: Inputs<B>) -> Self {
        let inputs = match inputs {
            Inputs::One(a) => vec![a],
            Inputs::Two(a, b) => vec![a, b],
            Inputs::Three(a, b, c) => vec![a, b, c],
            Inputs::Four(a, b, c, d) => vec![a, b, c, d],
            Inputs::Five(a, b, c, d, e) => vec![a, b, c, d, e],
        };
        inputs.try_into().expect("`apply` takes N inputs")
    }
}

/// The backends that operations of ours run on.
#[backend_extension(Flex, Autodiff)]
pub trait Operations: Backend {
    /// What `operation` makes of its N inputs.
    fn apply<O: Operation<N>, const N: usize>(
        operation: O,
        #[extension_type] inputs: Inputs<Self>,
    ) -> FloatTensor<Self>;
}

impl Operations for Flex {
    fn apply<O: Operation<N>, const N: usize>(operation: O, inputs: Inputs<Self>) -> FlexTensor {
        operation.forward(inputs.into())
    }
}

impl<C: CheckpointStrategy> Operations for Autodiff<Flex, C> {
    fn apply<O: Operation<N>, const N: usize>(
        operation: O,
        inputs: Inputs<Self>,
    ) -> FloatTensor<Self> {
        let inputs: [FloatTensor<Self>; N] = inputs.into();
        let nodes = inputs.each_ref().map(|input| input.node());
        let tracked = inputs.each_ref().map(|input| input.is_tracked());
        let inputs = inputs.map(|input| input.into_primitive());
        match BackwardOf(PhantomData::<O>).prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (out, saved) = operation.forward_saving(inputs, tracked);
                prep.finish((operation, saved), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(operation.forward(inputs)),
        }
    }
}

#[derive(Debug)]
struct BackwardOf<O>(PhantomData<O>);

impl<O: Operation<N>, const N: usize> Backward<Flex, N> for BackwardOf<O> {
    type State = (O, O::Saved);

    fn backward(self, ops: Ops<Self::State, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<Flex>(&ops.node);
        let (operation, saved) = ops.state;
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let gradients = operation.backward(saved, grad, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some((node, gradient)) = parent.zip(gradient) {
                grads.register::<Flex>(node.id, gradient);
            }
        }
    }
}
