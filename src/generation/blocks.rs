//! Draws tokens from logits that stay on their device: what is read back of a row are the sums of its blocks, and the
//! logits of the one block that the token is in, not one number for every token of the vocabulary.
//!
//! The random number and the order of the tokens are those of [`Choice::pick`], so that the token is too, but where the
//! number falls within a rounding of the border between two tokens.

use burn::tensor::{DType, Int, Tensor, TensorData};

use super::choice::{Choice, Picked, reached, uniform};
use crate::kernels;
use crate::model::weights::all_finite;
use crate::policy::to_f32;

/// Tokens of a block: of 50,000 logits some 450 numbers are read.
const BLOCK: usize = 256;

/// Whether tokens can be drawn so: from the whole vocabulary, at a temperature.
pub fn takes(choice: &Choice, vocabulary: usize) -> bool {
    choice.scale().is_some() && choice.takes_all_of(vocabulary)
}

/// A token for each of `draws`, the number of its row and its seed; none where the row is no distribution.
///
/// - `logits`: `[rows, vocabulary]`
pub fn pick(
    logits: Tensor<2>,
    choice: &Choice,
    draws: &[(usize, [u8; 32])],
) -> Vec<Option<Picked>> {
    let scale = choice.scale().expect("`takes` was asked");
    let blocks = logits.dims()[1].div_ceil(BLOCK);
    let told = to_f32(sums(logits.clone(), scale)); // [rows, 2 + blocks]
    let chosen: Vec<Option<Chosen>> = draws
        .iter()
        .map(|&(row, seed)| {
            let of_row = &told[row * (blocks + 2)..][..blocks + 2];
            all_finite(of_row).then(|| Chosen::new(of_row[0], &of_row[2..], seed))
        })
        .collect();
    let at: Vec<i64> = (draws.iter().zip(&chosen))
        .map(|((row, _), chosen)| (row * blocks + chosen.as_ref().map_or(0, |it| it.block)) as i64)
        .collect();
    let at = Tensor::<1, Int>::from_data(TensorData::new(at, [draws.len()]), &logits.device());
    let of_blocks = to_f32(chosen_blocks(logits, at)); // [draws, BLOCK]
    let of_blocks = of_blocks.chunks_exact(BLOCK);
    chosen.into_iter().zip(of_blocks).map(|(it, logits)| Some(it?.token(logits, scale))).collect()
}

/// Of every row the largest and the smallest logit, then the sum of the weights of every block, `[rows, 2 + blocks]`.
fn sums(logits: Tensor<2>, scale: f32) -> Tensor<2> {
    #[cfg(feature = "gpu-kernels")]
    if kernels::gpu::takes(&logits) {
        return kernels::gpu::draw::block_sums(logits, BLOCK, scale);
    }
    let logits = logits.cast(DType::F32);
    let (largest, smallest) = (logits.clone().max_dim(1), logits.clone().min_dim(1));
    let logits = in_blocks(logits);
    let [rows, padded] = logits.dims();
    let weights = ((logits - largest.clone()) * scale).exp();
    let sums = weights.reshape([rows, padded / BLOCK, BLOCK]).sum_dim(2).squeeze_dim(2);
    Tensor::cat(vec![largest, smallest, sums], 1)
}

/// The logits of a block of every draw, `[draws, BLOCK]`.
///
/// - `at`: of every draw its row times the blocks of a row, plus the number of its block
fn chosen_blocks(logits: Tensor<2>, at: Tensor<1, Int>) -> Tensor<2> {
    #[cfg(feature = "gpu-kernels")]
    if kernels::gpu::takes(&logits) {
        return kernels::gpu::draw::blocks(logits, at, BLOCK);
    }
    let logits = in_blocks(logits.cast(DType::F32));
    let [rows, padded] = logits.dims();
    logits.reshape([rows * (padded / BLOCK), BLOCK]).select(0, at)
}

/// Rows padded to whole blocks.
fn in_blocks(logits: Tensor<2>) -> Tensor<2> {
    let [rows, vocabulary] = logits.dims();
    match vocabulary.next_multiple_of(BLOCK) - vocabulary {
        0 => logits,
        missing => {
            let padding = Tensor::full([rows, missing], f32::NEG_INFINITY, &logits.device());
            Tensor::cat(vec![logits, padding], 1) // [rows, blocks · BLOCK]
        }
    }
}

/// The block that a token is in.
struct Chosen {
    block: usize,
    largest: f32,
    /// Σ of all weights.
    total: f64,
    /// What is left of the random number before the block.
    left: f64,
}

impl Chosen {
    fn new(largest: f32, sums: &[f32], seed: [u8; 32]) -> Self {
        let total: f64 = sums.iter().copied().map(f64::from).sum();
        let (block, left) = reached(sums, uniform(seed) * total);
        Self { block, largest, total, left }
    }

    /// The token, from the logits of its block.
    fn token(self, logits: &[f32], scale: f32) -> Picked {
        let weights = kernels::exponentials(logits, self.largest, scale);
        let (chosen, _) = reached(&weights, self.left);
        let log_weight = f64::from(logits[chosen] - self.largest) * f64::from(scale);
        Picked {
            token: (self.block * BLOCK + chosen) as u32,
            log_prob: (log_weight - self.total.ln()) as f32,
        }
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::generation::choice::seed;

    #[test]
    fn tokens_and_log_probs_are_those_of_whole_rows() {
        // More than a block, no multiple of one and one; weights over ten orders of magnitude.
        same_draws::<{ 3 * BLOCK + 71 }>();
        same_draws::<{ 4 * BLOCK }>();
    }

    fn same_draws<const VOCABULARY: usize>() {
        let rows: Vec<Vec<f32>> = (0..3)
            .map(|row| {
                (0..VOCABULARY).map(|it| 12.0 * ((row * 7 + it * it) as f32).sin()).collect()
            })
            .collect();
        let logits = TensorData::new(rows.concat(), [rows.len(), VOCABULARY]);
        let logits = Tensor::<2>::from_data(logits, &Device::flex());
        for temperature in [0.3, 1.0, 7.0] {
            let choice = Choice { temperature, top_k: 0, top_p: 1.0 };
            assert!(takes(&choice, VOCABULARY));
            let draws: Vec<_> = (0..600).map(|it| (it % 3, seed(5, it as u64, 0, 0))).collect();
            let drawn = pick(logits.clone(), &choice, &draws);
            let mut blocks = std::collections::HashSet::new();
            for (drawn, (row, seed)) in drawn.into_iter().zip(draws) {
                let (drawn, whole) = (drawn.unwrap(), choice.pick(&rows[row], seed));
                assert_eq!(drawn.token, whole.token);
                assert!((drawn.log_prob - whole.log_prob).abs() < 1e-5, "{drawn:?} {whole:?}");
                blocks.insert(drawn.token as usize / BLOCK);
            }
            assert_eq!(blocks.len(), 4);
        }
    }

    #[test]
    fn a_row_that_is_no_distribution_gives_no_token_and_others_theirs() {
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = vec![0.5; 2 * 300];
            values[300 + 280] = broken;
            let logits = Tensor::<2>::from_data(TensorData::new(values, [2, 300]), &Device::flex());
            let choice = Choice { temperature: 1.0, top_k: 0, top_p: 1.0 };
            let drawn = pick(logits, &choice, &[(1, [1; 32]), (0, [1; 32])]);
            assert!(drawn[0].is_none() && drawn[1].is_some(), "{broken}: {drawn:?}");
        }
    }

    #[test]
    fn what_leaves_tokens_out_is_drawn_from_whole_rows() {
        let choice = |temperature, top_k, top_p| Choice { temperature, top_k, top_p };
        assert!(!takes(&choice(0.0, 0, 1.0), 9) && !takes(&choice(1.0, 3, 1.0), 9));
        assert!(!takes(&choice(1.0, 0, 0.9), 9) && takes(&choice(1.0, 9, 1.0), 9));
    }
}
