//! The vocabulary head: the log-probability of one target token per position, in chunks.
//!
//! `log_prob[n] = z[n, y_n] − log Σ_v exp z[n, v]`,  `z = hidden · weightᵀ / τ`
//!
//! At most 64 MiB of logits are held at a time. The forward pass walks over chunks of positions and keeps one
//! log-sum-exp per position. The backward pass computes a chunk's logits again and turns them into
//! `(onehot − softmax) · gradient / τ` in place.
//!
//! A second operation compares two models: KL(p ‖ q) of the next token, over the whole vocabulary.
//!
//! The logits are f32 whatever the type of the weights.
//!
//! A backend may bring its own kernel by implementing [`HeadKernel`]; the default bodies use every backend's
//! own operations. Flex has a kernel for f32, which walks over tiles of the vocabulary.

#![cfg_attr(
    feature = "tch",
    allow(deprecated, reason = "burn 0.22 has it, without a successor here")
)]

mod plain;
#[cfg(feature = "flex")]
mod tiles;

#[cfg(feature = "flex")]
use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Dispatch, backend_extension};
#[cfg(feature = "flex")]
use burn::tensor::DType;
use burn::tensor::{Int, Tensor};

use self::plain::{backward, divergences, forward};
#[cfg(feature = "gpu-kernels")]
pub(super) use self::plain::{chunks_of, rows};
#[cfg(feature = "gpu-kernels")]
use crate::kernels::gpu;
use crate::kernels::product::ProductOps;

/// Log-probabilities of `targets` under `softmax(hidden · weightᵀ / temperature)`, `[tokens]`.
///
/// - `hidden`: `[tokens, width]`, already normalised
/// - `weight`: `[vocabulary, width]`
/// - `targets`: `[tokens]`
pub fn token_log_probs(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    targets: Tensor<1, Int>,
    temperature: f64,
) -> Tensor<1> {
    let log_probs = <Dispatch as HeadOps>::head_log_probs(
        hidden.into_dispatch(),
        weight.into_dispatch(),
        targets.into_dispatch(),
        1.0 / temperature,
    );
    Tensor::from_dispatch(log_probs)
}

/// KL(p ‖ q) = Σ_v p_v (log p_v − log q_v) in nats of the next token at every position, `[tokens]`, where p and q are
/// the softmax of the logits of `ours` and `theirs` divided by `temperature`.
///
/// # Panics
/// If the two have other positions or another vocabulary.
pub fn token_divergences(
    ours: Predictor<Tensor<2>>,
    theirs: Predictor<Tensor<2>>,
    temperature: f64,
) -> Tensor<1> {
    assert_eq!(ours.hidden.dims()[0], theirs.hidden.dims()[0], "the same positions");
    assert_eq!(ours.weight.dims()[0], theirs.weight.dims()[0], "the same vocabulary");
    let divergences = <Dispatch as HeadOps>::head_divergences(
        ours.hidden.into_dispatch(),
        ours.weight.into_dispatch(),
        theirs.hidden.into_dispatch(),
        theirs.weight.into_dispatch(),
        1.0 / temperature,
    );
    Tensor::from_dispatch(divergences)
}

/// What a model's next tokens are predicted from.
#[derive(Clone, Debug)]
pub struct Predictor<T> {
    /// Hidden states, already normalised, `[tokens, width]`.
    pub hidden: T,
    /// The head, `[vocabulary, width]`.
    pub weight: T,
}

/// The head's operations as burn dispatches them.
#[backend_extension(
    Flex: cfg(feature = "flex"),
    LibTorch: cfg(feature = "tch"),
    Cube: cfg(feature = "gpu"),
    Remote: cfg(feature = "remote"),
    Autodiff
)]
pub trait HeadOps: ProductOps {
    /// Log-probability of each target, `[tokens]`.
    fn head_log_probs(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        inverse_temperature: f64,
    ) -> FloatTensor<Self> {
        forward::<Self>(&hidden, &weight, &targets, inverse_temperature).0
    }

    /// Divergence of the next token at each position, `[tokens]`.
    fn head_divergences(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        their_hidden: FloatTensor<Self>,
        their_weight: FloatTensor<Self>,
        inverse_temperature: f64,
    ) -> FloatTensor<Self> {
        let ours = Predictor { hidden, weight };
        let theirs = Predictor { hidden: their_hidden, weight: their_weight };
        divergences::<Self>(&ours, &theirs, inverse_temperature)
    }
}

/// What a backend may have a kernel for; the default bodies are the plain form.
pub trait HeadKernel: ProductOps {
    /// Log-probabilities and log-sum-exps, each `[tokens]`.
    fn head_forward(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        inverse_temperature: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        forward::<Self>(&hidden, &weight, &targets, inverse_temperature)
    }

    /// Gradients with respect to `hidden` and `weight`, where they are wanted.
    fn head_backward(
        saved: Saved<FloatTensor<Self>, IntTensor<Self>>,
        grad: FloatTensor<Self>,
        for_hidden: bool,
        for_weight: bool,
    ) -> (Option<FloatTensor<Self>>, Option<FloatTensor<Self>>) {
        backward::<Self>(saved, grad, for_hidden, for_weight)
    }
}

#[cfg(feature = "flex")]
impl HeadKernel for Flex {
    fn head_forward(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        inverse_temperature: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if hidden.dtype() == DType::F32 {
            tiles::forward(hidden, weight, targets, inverse_temperature)
        } else {
            forward::<Self>(&hidden, &weight, &targets, inverse_temperature)
        }
    }

    fn head_backward(
        saved: Saved<FloatTensor<Self>, IntTensor<Self>>,
        grad: FloatTensor<Self>,
        for_hidden: bool,
        for_weight: bool,
    ) -> (Option<FloatTensor<Self>>, Option<FloatTensor<Self>>) {
        if saved.hidden.dtype() == DType::F32 {
            let Saved { hidden, weight, targets, log_sums, inverse_temperature } = saved;
            let (hidden, weight) = tiles::backward(
                hidden,
                weight,
                targets,
                log_sums,
                inverse_temperature,
                grad,
                for_weight,
            );
            (Some(hidden), weight)
        } else {
            backward::<Self>(saved, grad, for_hidden, for_weight)
        }
    }
}

#[cfg(feature = "flex")]
impl HeadOps for Flex {
    fn head_log_probs(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        inverse_temperature: f64,
    ) -> FloatTensor<Self> {
        Self::head_forward(hidden, weight, targets, inverse_temperature).0
    }

    fn head_divergences(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        their_hidden: FloatTensor<Self>,
        their_weight: FloatTensor<Self>,
        inverse_temperature: f64,
    ) -> FloatTensor<Self> {
        let ours = Predictor { hidden, weight };
        let theirs = Predictor { hidden: their_hidden, weight: their_weight };
        if ours.hidden.dtype() == DType::F32 && theirs.hidden.dtype() == DType::F32 {
            tiles::divergences(ours, theirs, inverse_temperature)
        } else {
            divergences::<Self>(&ours, &theirs, inverse_temperature)
        }
    }
}

#[cfg(feature = "tch")]
impl HeadKernel for burn::backend::LibTorch {}

#[cfg(feature = "tch")]
impl HeadOps for burn::backend::LibTorch {}

#[cfg(all(feature = "gpu", not(feature = "gpu-kernels")))]
impl HeadKernel for burn::backend::Cube {}

#[cfg(all(feature = "gpu", not(feature = "gpu-kernels")))]
impl HeadOps for burn::backend::Cube {}

#[cfg(feature = "gpu-kernels")]
impl HeadKernel for burn_cubecl::CubeBackend {
    fn head_forward(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        inverse_temperature: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        if gpu::takes_on(&hidden.device) {
            gpu::head::forward(&hidden, &weight, targets, inverse_temperature)
        } else {
            forward::<Self>(&hidden, &weight, &targets, inverse_temperature)
        }
    }

    fn head_backward(
        saved: Saved<FloatTensor<Self>, IntTensor<Self>>,
        grad: FloatTensor<Self>,
        for_hidden: bool,
        for_weight: bool,
    ) -> (Option<FloatTensor<Self>>, Option<FloatTensor<Self>>) {
        if gpu::takes_on(&saved.hidden.device) {
            gpu::head::backward(saved, grad, for_hidden, for_weight)
        } else {
            backward::<Self>(saved, grad, for_hidden, for_weight)
        }
    }
}

#[cfg(feature = "gpu-kernels")]
impl HeadOps for burn_cubecl::CubeBackend {
    fn head_log_probs(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        inverse_temperature: f64,
    ) -> FloatTensor<Self> {
        Self::head_forward(hidden, weight, targets, inverse_temperature).0
    }
}

#[cfg(feature = "remote")]
impl HeadKernel for burn::backend::Remote {}

#[cfg(feature = "remote")]
impl HeadOps for burn::backend::Remote {}

impl<B: HeadKernel + HeadOps, C: CheckpointStrategy> HeadOps for Autodiff<B, C> {
    fn head_log_probs(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
        inverse_temperature: f64,
    ) -> FloatTensor<Self> {
        let nodes = [hidden.node(), weight.node()];
        let (hidden, weight) = (hidden.into_primitive(), weight.into_primitive());
        let (log_probs, log_sums) =
            B::head_forward(hidden.clone(), weight.clone(), targets.clone(), inverse_temperature);
        match HeadBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(
                Saved { hidden, weight, targets, log_sums, inverse_temperature },
                log_probs,
            ),
            OpsKind::UnTracked(prep) => prep.finish(log_probs),
        }
    }
}

#[derive(Debug)]
struct HeadBackward;

/// What the backward pass needs.
#[derive(Clone, Debug)]
pub struct Saved<F, I> {
    /// `[tokens, width]`
    pub hidden: F,
    /// `[vocabulary, width]`
    pub weight: F,
    /// `[tokens]`
    pub targets: I,
    /// `[tokens]`
    pub log_sums: F,
    /// One over the temperature.
    pub inverse_temperature: f64,
}

impl<B: HeadKernel> Backward<B, 2> for HeadBackward {
    type State = Saved<FloatTensor<B>, IntTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [for_hidden, for_weight] = ops.parents;
        let grad = grads.consume::<B>(&ops.node); // [tokens]
        let (hidden_grad, weight_grad) =
            B::head_backward(ops.state, grad, for_hidden.is_some(), for_weight.is_some());
        if let (Some(node), Some(grad)) = (for_hidden, hidden_grad) {
            grads.register::<B>(node.id, grad);
        }
        if let (Some(node), Some(grad)) = (for_weight, weight_grad) {
            grads.register::<B>(node.id, grad);
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::activation::log_softmax;
    use burn::tensor::{DType, Device, TensorData};

    use super::*;
    use crate::kernels::waves::waves;

    fn spread(shape: [usize; 2], turn: f32, device: &Device) -> Tensor<2> {
        waves(shape, turn, device) * 0.5
    }

    #[test]
    fn divergences_are_those_of_the_softmax_over_all_logits() {
        const TOKENS: usize = 300;
        const VOCABULARY: usize = 701;
        let device = Device::flex();
        // Two models may have other widths; the one is further from uniform than the other.
        let of = |width: usize, turn: f32, dtype: DType| Predictor {
            hidden: (spread([TOKENS, width], turn, &device) * 2.0).cast(dtype),
            weight: spread([VOCABULARY, width], turn + 0.4, &device).cast(dtype),
        };
        // f32 sums of 24 products and 701 terms; bf16 logits are rounded to 8 bits, those of both sides here.
        for (dtype, most) in [(DType::F32, 3e-6), (DType::BF16, 3e-2)] {
            let (ours, theirs) = (of(24, 0.7, dtype), of(32, 1.9, dtype));
            let log_probs = |it: &Predictor<Tensor<2>>| {
                let [hidden, weight] =
                    [&it.hidden, &it.weight].map(|it| it.clone().cast(DType::F32));
                log_softmax(hidden.matmul(weight.transpose()) / 0.8, 1)
            };
            let (p, q) = (log_probs(&ours), log_probs(&theirs));
            let expected = (p.clone().exp() * (p - q)).sum_dim(1).reshape([TOKENS]);
            let smallest: f32 = expected.clone().min().into_scalar();
            assert!(smallest > 0.05, "the two differ everywhere: {smallest}");
            let found = token_divergences(ours.clone(), theirs, 0.8).cast(DType::F32);
            let far: f32 = (found - expected).abs().max().into_scalar();
            assert!(far < most, "{dtype:?}: {far}");
            let same: f32 = token_divergences(ours.clone(), ours, 0.8).abs().max().into_scalar();
            assert_eq!(same, 0.0, "of a model from itself");
        }
        // A head of its own is kept as columns; a frozen one may be bf16 beside hidden states of f32.
        let (ours, theirs) = (of(24, 0.7, DType::F32), of(32, 1.9, DType::F32));
        let expected = token_divergences(ours.clone(), theirs.clone(), 0.8);
        let turned = |it: &Predictor<Tensor<2>>| Predictor {
            weight: it.weight.clone().transpose().mul_scalar(1.0).transpose(),
            hidden: it.hidden.clone(),
        };
        let far =
            |found: Tensor<1>| -> f32 { (found - expected.clone()).abs().max().into_scalar() };
        assert!(far(token_divergences(turned(&ours), turned(&theirs), 0.8)) < 3e-6);
        let narrow = |it: Predictor<Tensor<2>>| Predictor {
            weight: it.weight.cast(DType::BF16),
            hidden: it.hidden,
        };
        let rounded = far(token_divergences(narrow(ours), narrow(theirs), 0.8));
        assert!((1e-6..3e-2).contains(&rounded), "{rounded}");
    }

    /// More positions, and more of the vocabulary, than a tile of the kernel or a chunk holds.
    #[test]
    fn log_probs_and_gradients_are_those_of_the_softmax_over_all_logits() {
        const TOKENS: usize = 300;
        const VOCABULARY: usize = 700;
        const WIDTH: usize = 24;
        let device = Device::flex().autodiff();
        // In f32 sums of 24 products and of 700 exponentials; in bf16 each logit is rounded to 8 bits.
        for (dtype, most) in [(DType::F32, 2e-5), (DType::BF16, 2e-2)] {
            let rounded = |it: Tensor<2>| it.cast(dtype).cast(DType::F32).detach();
            let hidden = rounded(spread([TOKENS, WIDTH], 0.7, &device)).require_grad();
            let weight = rounded(spread([VOCABULARY, WIDTH], 1.3, &device)).require_grad();
            let targets: Vec<i64> =
                (0..TOKENS as i64).map(|it| it * 37 % VOCABULARY as i64).collect();
            let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [TOKENS]), &device);
            let shares = spread([TOKENS, 1], 2.1, &device).reshape([TOKENS]);

            let plain = hidden.clone().matmul(weight.clone().transpose()) / 0.8; // [tokens, vocabulary]
            let plain = log_softmax(plain, 1)
                .gather(1, targets.clone().reshape([TOKENS, 1]))
                .reshape([TOKENS]);
            let expected = (plain.clone() * shares.clone()).sum().backward();

            let (own_hidden, own_weight) = (
                hidden.clone().detach().cast(dtype).detach().require_grad(),
                weight.clone().detach().cast(dtype).detach().require_grad(),
            );
            let found = token_log_probs(own_hidden.clone(), own_weight.clone(), targets, 0.8);
            let gradients = (found.clone() * shares).sum().backward();

            let far = |a: Tensor<1>, b: Tensor<1>| -> f32 {
                let scale: f32 = b.clone().abs().max().into_scalar();
                (a.cast(DType::F32) - b).abs().max().into_scalar::<f32>() / scale
            };
            let flat = |it: Tensor<2>| {
                let len: usize = it.dims().iter().product();
                it.cast(DType::F32).reshape([len])
            };
            let of = |leaf: &Tensor<2>, from| flat(leaf.grad(from).unwrap());
            assert!(far(found.inner(), plain.inner()) < most, "{dtype:?} log-probs");
            for (own, whole) in [(&own_hidden, &hidden), (&own_weight, &weight)] {
                let (own, whole) = (of(own, &gradients), of(whole, &expected));
                let far = far(own, whole);
                assert!(far < 3.0 * most, "{dtype:?} gradients: {far}");
            }
        }
    }
}
