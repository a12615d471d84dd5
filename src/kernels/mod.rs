//! The operations around a decoder's matrix products, each with its backward pass. On the CPU they are
//! kernels that use all cores and the widest vectors of the processor.
//!
//! | room | operation | its plain form |
//! |---|---|---|
//! | [`attention`] | attention over shared prompts, without the score matrix | masks and softmax |
//! | [`decode`] | attention of new tokens to a shared prompt | masks and softmax |
//! | [`swiglu`] | SiLU·up | burn's own operations |
//! | [`gelu`] | GELU by tanh or by the error function | burn's own operations |
//! | [`rms_norm`] | the root-mean-square norm | burn's own module |
//! | [`layer_norm`] | the norm by mean and variance | burn's own operation |
//! | [`rotary`] | rotary positions | slices and products |
//! | [`embedding`] | rows of an embedding | burn's own module |
//! | [`linear`] | linear layers | burn's own module |
//! | [`packed`] | weights in few bits, and products with them | the weight unpacked |
//! | [`product`] | matrix products whose f32 is f32 | burn's matrix product |
//! | [`cast`] | bf16 copies of weights | burn's own operation |
//! | `skinny` | products of a few rows with a weight | burn's matrix product |
//! | `operation` | an operation with its gradients, as burn's autodiff takes it | |
//! | `flex` | Flex tensors as slices | |
//! | [`update`] | sums and norms of gradients, Adam | burn's own operations |
//! | [`vocabulary_head`] | log-probabilities of targets, the logits never held at once | chunks of positions |
//!
//! A kernel runs on f32 tensors of burn's Flex backend. Every other backend and type uses the plain form;
//! the tests compare the kernel with its plain form. Weights may be bf16: products round their factors to
//! bf16, and all other numbers stay f32.
//!
//! Invariants: work is divided by the shape of the problem, never by the number of threads, and partial
//! sums are added in a fixed order, so the same input gives the same bits on any number of cores. Only
//! `matrix` has `unsafe`.

pub mod attention;
pub mod cast;
pub mod decode;
pub mod embedding;
#[cfg(feature = "flex")]
mod flex;
pub mod gelu;
#[cfg(feature = "gpu-kernels")]
pub mod gpu;
pub mod layer_norm;
pub mod linear;
#[cfg(feature = "flex")]
mod matrix;
#[cfg(feature = "flex")]
mod operation;
pub mod packed;
pub mod product;
pub mod rms_norm;
pub mod rotary;
#[cfg(feature = "flex")]
mod skinny;
pub mod swiglu;
pub mod update;
#[cfg(feature = "flex")]
mod vector;
pub mod vocabulary_head;
#[cfg(all(test, feature = "flex"))]
mod waves;

#[cfg(feature = "flex")]
use burn::tensor::{DType, Tensor};

/// e^(scale · (x − shift)) of every x.
#[cfg(feature = "flex")]
pub(crate) fn exponentials(x: &[f32], shift: f32, scale: f32) -> Vec<f32> {
    let mut out = x.to_vec();
    vector::widest!(for x in &mut out {
        *x = vector::exp(scale * (*x - shift));
    });
    out
}

/// e^(scale · (x − shift)) of every x.
#[cfg(not(feature = "flex"))]
pub(crate) fn exponentials(x: &[f32], shift: f32, scale: f32) -> Vec<f32> {
    x.iter().map(|x| (scale * (x - shift)).exp()).collect()
}

/// Whether a kernel takes `x`.
#[cfg(feature = "flex")]
pub(crate) fn takes<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && crate::device::has_kernels(&x.device())
}
