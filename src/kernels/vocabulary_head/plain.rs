//! The vocabulary head in chunks of positions, in every backend's own operations.

use burn::backend::TensorMetadata;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::tensor::{DType, IndexingUpdateOp, Shape, Slice};

use super::{Predictor, Saved};
use crate::kernels::product::ProductOps;

/// Elements of a chunk's logits; 16 Mi f32 are 64 MiB. Few in unit tests, which see several chunks so.
const CHUNK_ELEMENTS: usize = if cfg!(test) { 1 << 14 } else { 1 << 24 };

/// Ranges of positions whose logits fit a chunk.
fn chunks(tokens: usize, vocabulary: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    chunks_of(CHUNK_ELEMENTS, tokens, vocabulary)
}

/// Ranges of positions that have at most so many logits, and at least one position.
pub fn chunks_of(
    elements: usize,
    tokens: usize,
    vocabulary: usize,
) -> impl Iterator<Item = std::ops::Range<usize>> {
    let size = (elements / vocabulary.max(1)).max(1);
    (0..tokens).step_by(size).map(move |start| start..(start + size).min(tokens))
}

/// Those rows of a matrix.
pub fn rows<B: ProductOps>(
    tensor: &FloatTensor<B>,
    range: &std::ops::Range<usize>,
) -> FloatTensor<B> {
    B::float_slice(tensor.clone(), &[Slice::from(range.clone())])
}

/// Log-probabilities and log-sum-exps, each `[tokens]`.
pub fn forward<B: ProductOps>(
    hidden: &FloatTensor<B>,
    weight: &FloatTensor<B>,
    targets: &IntTensor<B>,
    inverse_temperature: f64,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let (tokens, vocabulary) = (hidden.shape()[0], weight.shape()[0]);
    let (mut log_probs, mut log_sums) = (Vec::new(), Vec::new());
    for range in chunks(tokens, vocabulary) {
        let len = range.len();
        let column = Shape::new([len, 1]);
        let logits = logits::<B>(rows::<B>(hidden, &range), weight, inverse_temperature); // [chunk, vocabulary]
        let chosen = B::int_reshape(B::int_slice(targets.clone(), &[Slice::from(range)]), column);
        let picked = B::float_gather(1, logits.clone(), chosen); // [chunk, 1]
        let max = B::float_max_dim(logits.clone(), 1); //            [chunk, 1]
        let sum = B::float_sum_dim(B::float_exp(B::float_sub(logits, max.clone())), 1);
        let log_sum = B::float_add(B::float_log(sum), max); //       [chunk, 1]
        log_probs.push(B::float_reshape(B::float_sub(picked, log_sum.clone()), Shape::new([len])));
        log_sums.push(B::float_reshape(log_sum, Shape::new([len])));
    }
    (B::float_cat(log_probs, 0), B::float_cat(log_sums, 0))
}

/// KL(p ‖ q) of the next token at each position, `[tokens]`.
pub fn divergences<B: ProductOps>(
    ours: &Predictor<FloatTensor<B>>,
    theirs: &Predictor<FloatTensor<B>>,
    inverse_temperature: f64,
) -> FloatTensor<B> {
    let (tokens, vocabulary) = (ours.hidden.shape()[0], ours.weight.shape()[0]);
    let of_chunk = |range: std::ops::Range<usize>| {
        let len = Shape::new([range.len()]);
        let log_probs = |it: &Predictor<FloatTensor<B>>| {
            let logits =
                logits::<B>(rows::<B>(&it.hidden, &range), &it.weight, inverse_temperature);
            let shifted = B::float_sub(logits.clone(), B::float_max_dim(logits, 1));
            let log_sum = B::float_log(B::float_sum_dim(B::float_exp(shifted.clone()), 1));
            B::float_sub(shifted, log_sum) // [chunk, vocabulary]
        };
        let (ours, theirs) = (log_probs(ours), log_probs(theirs));
        let terms = B::float_mul(B::float_exp(ours.clone()), B::float_sub(ours, theirs));
        B::float_reshape(B::float_sum_dim(terms, 1), len)
    };
    B::float_cat(chunks(tokens, vocabulary).map(of_chunk).collect(), 0)
}

/// Gradients with respect to `hidden` and `weight`.
pub fn backward<B: ProductOps>(
    saved: Saved<FloatTensor<B>, IntTensor<B>>,
    grad: FloatTensor<B>,
    for_hidden: bool,
    for_weight: bool,
) -> (Option<FloatTensor<B>>, Option<FloatTensor<B>>) {
    let Saved { hidden, weight, targets, log_sums, inverse_temperature } = saved;
    let (tokens, vocabulary) = (hidden.shape()[0], weight.shape()[0]);
    let mut hidden_grads = Vec::new();
    let mut weight_grad: Option<FloatTensor<B>> = None;
    for range in chunks(tokens, vocabulary) {
        let column = Shape::new([range.len(), 1]);
        let hidden_rows = rows::<B>(&hidden, &range);
        let logits = logits::<B>(hidden_rows.clone(), &weight, inverse_temperature);
        let log_sum = B::float_reshape(rows::<B>(&log_sums, &range), column.clone());
        let scale = B::float_mul_scalar(
            B::float_reshape(rows::<B>(&grad, &range), column.clone()),
            inverse_temperature.into(),
        ); // [chunk, 1]
        let softmax = B::float_exp(B::float_sub(logits, log_sum));
        let pushed = B::float_mul(softmax, B::float_neg(scale.clone()));
        let chosen = B::int_reshape(B::int_slice(targets.clone(), &[Slice::from(range)]), column);
        let logits_grad = B::float_scatter(1, pushed, chosen, scale, IndexingUpdateOp::Add); // [chunk, vocabulary]
        let logits_grad = as_type::<B>(logits_grad, hidden_rows.dtype());
        if for_weight {
            let share = B::product(B::float_transpose(logits_grad.clone()), hidden_rows);
            weight_grad = Some(match weight_grad {
                Some(sum) => B::float_add(sum, share),
                None => share,
            });
        }
        if for_hidden {
            hidden_grads.push(B::product(logits_grad, weight.clone()));
        }
    }
    (for_hidden.then(|| B::float_cat(hidden_grads, 0)), weight_grad)
}

fn as_type<B: ProductOps>(tensor: FloatTensor<B>, dtype: DType) -> FloatTensor<B> {
    if tensor.dtype() == dtype { tensor } else { B::float_cast(tensor, dtype.into()) }
}

/// Scaled logits, f32.
fn logits<B: ProductOps>(
    hidden: FloatTensor<B>,
    weight: &FloatTensor<B>,
    inverse_temperature: f64,
) -> FloatTensor<B> {
    let logits = B::product(hidden, B::float_transpose(weight.clone()));
    let logits = as_type::<B>(logits, DType::F32);
    if inverse_temperature == 1.0 {
        logits
    } else {
        B::float_mul_scalar(logits, inverse_temperature.into())
    }
}
