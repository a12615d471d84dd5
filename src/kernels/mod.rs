//! The operations around a decoder's matrix products, each with its backward pass; on the CPU as
//! kernels on all cores and in the widest vectors the processor has.
//!
//! | room | what | its plain form |
//! |---|---|---|
//! | [`attention`] | attention over shared prompts, no scores held | masks and softmax |
//! | [`decode`] | attention of new tokens to a shared prompt | masks and softmax |
//! | [`swiglu`] | SiLU·up | burn's own operations |
//! | [`gelu`] | GELU by tanh or by the error function | burn's own operations |
//! | [`rms_norm`] | the root-mean-square norm | burn's own module |
//! | [`layer_norm`] | the norm by mean and variance | burn's own operation |
//! | [`rotary`] | rotary positions | slices and products |
//! | [`embedding`] | rows of an embedding | burn's own module |
//! | [`linear`] | linear layers | burn's own module |
//! | [`cast`] | bf16 copies of weights | burn's own operation |
//! | `skinny` | a few rows times a weight | burn's matrix product |
//! | [`update`] | sums and norms of gradients, Adam | burn's own operations |
//! | [`vocabulary_head`] | log-probabilities of targets, the logits never held at once | chunks of positions |
//!
//! A kernel runs where a tensor is f32 and on burn's Flex backend; every other backend and type
//! takes the plain form, which is also what the kernel's tests compare it with. Weights may be bf16:
//! what is computed with them stays f32, apart from the factors of products.
//!
//! Invariants: work is cut by the shape of the problem, never by the number of threads, and partial
//! sums are added in a fixed order, so that the same input gives the same bits on any number of
//! cores. `unsafe` stands in `matrix` alone.

pub mod attention;
pub mod cast;
pub mod decode;
pub mod embedding;
#[cfg(feature = "flex")]
mod flex;
pub mod gelu;
pub mod layer_norm;
pub mod linear;
#[cfg(feature = "flex")]
mod matrix;
pub mod rms_norm;
pub mod rotary;
#[cfg(feature = "flex")]
mod skinny;
pub mod swiglu;
pub mod update;
#[cfg(feature = "flex")]
mod vector;
pub mod vocabulary_head;

#[cfg(feature = "flex")]
use burn::tensor::{DType, Tensor};

/// e^(scale · (x − shift)) of every x.
#[cfg(feature = "flex")]
pub(crate) fn exponentials(x: &[f32], shift: f32, scale: f32) -> Vec<f32> {
    let mut out = x.to_vec();
    vector::widest(|| out.iter_mut().for_each(|x| *x = vector::exp(scale * (*x - shift))));
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
