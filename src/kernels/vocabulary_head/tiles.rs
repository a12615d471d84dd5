//! The vocabulary head in tiles of the vocabulary.
//!
//! A tile is some rows of the weight. Its logits for a run of positions fit the cache of a core, and are
//! still there when their exponentials are summed or turned into gradients. A tile's share of the weight's
//! gradient is written once; the gradients of the hidden states are summed over a fixed number of runs of
//! tiles.

use std::borrow::Cow;

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::DType;
use rayon::prelude::*;

use crate::kernels::flex::{contiguous, indices, of_type, tensor, values, zeros};
use crate::kernels::linear::is_narrow;
use crate::kernels::matrix::{Matrix, Target, multiply_as};
use crate::kernels::vector::{add, exp, max, sum_exp, sum_exp_and_difference, widest};

use super::Predictor;

/// Rows of the weight in a tile.
const TILE: usize = 256;
/// Positions whose logits are held at once.
const POSITIONS: usize = 256;
/// Runs of tiles with gradients of the hidden states of their own.
const RUNS: usize = 8;

/// The arguments of the head: see [`super::token_log_probs`].
pub struct Head<'a> {
    hidden: &'a [f32],
    weight: Rows<'a>,
    /// Of the weight's rows and columns.
    strides: [usize; 2],
    /// None where two heads are compared.
    targets: &'a [usize],
    width: usize,
    vocabulary: usize,
    inverse_temperature: f32,
    /// Whether products are those of bf16.
    is_narrow: bool,
}

/// The weight, which may be bf16.
enum Rows<'a> {
    F32(&'a [f32]),
    Bf16(&'a [half::bf16]),
}

/// Some rows of the weight in f32.
struct Tile<'a> {
    values: Cow<'a, [f32]>,
    rows: usize,
    width: usize,
    strides: [usize; 2],
}

impl Tile<'_> {
    fn matrix(&self) -> Matrix<'_> {
        Matrix::strided(&self.values, [self.rows, self.width], self.strides)
    }
}

/// The head on contiguous hidden states.
fn head<'a>(
    hidden: &'a FlexTensor,
    weight: &'a FlexTensor,
    targets: &'a [usize],
    inverse_temperature: f64,
) -> Head<'a> {
    let start = weight.layout().start_offset();
    let [vocabulary, width] = [0, 1].map(|axis| weight.shape()[axis]);
    Head {
        hidden: values(hidden),
        weight: match weight.dtype() {
            DType::BF16 => Rows::Bf16(&weight.storage()[start..]),
            _ => Rows::F32(&weight.storage()[start..]),
        },
        strides: [0, 1].map(|axis| weight.layout().strides()[axis].unsigned_abs()),
        targets,
        width,
        vocabulary,
        inverse_temperature: inverse_temperature as f32,
        is_narrow: is_narrow(weight.dtype()),
    }
}

/// Log-probabilities and log-sum-exps, each `[tokens]`.
pub fn forward(
    hidden: FlexTensor,
    weight: FlexTensor,
    targets: FlexTensor,
    inverse_temperature: f64,
) -> (FlexTensor, FlexTensor) {
    let (hidden, targets) = (contiguous(hidden), indices(targets));
    let (log_probs, log_sums) = head(&hidden, &weight, &targets, inverse_temperature).forward();
    let tokens = log_probs.len();
    (tensor(log_probs, [tokens]), tensor(log_sums, [tokens]))
}

/// KL(p ‖ q) of the next token at each position, `[tokens]`.
pub fn divergences(
    ours: Predictor<FlexTensor>,
    theirs: Predictor<FlexTensor>,
    inverse_temperature: f64,
) -> FlexTensor {
    let [our_hidden, their_hidden] = [ours.hidden, theirs.hidden].map(contiguous);
    let ours = head(&our_hidden, &ours.weight, &[], inverse_temperature);
    let theirs = head(&their_hidden, &theirs.weight, &[], inverse_temperature);
    let divergences = ours.divergences(&theirs);
    let tokens = divergences.len();
    tensor(divergences, [tokens])
}

/// Gradients of the hidden states and, if it is wanted, the weight.
pub fn backward(
    hidden: FlexTensor,
    weight: FlexTensor,
    targets: FlexTensor,
    log_sums: FlexTensor,
    inverse_temperature: f64,
    grad: FlexTensor,
    for_weight: bool,
) -> (FlexTensor, Option<FlexTensor>) {
    let (shapes, dtype) = ((hidden.shape(), weight.shape()), weight.dtype());
    let (log_sums, grad) = (contiguous(log_sums), contiguous(grad));
    let (hidden, targets) = (contiguous(hidden), indices(targets));
    let head = head(&hidden, &weight, &targets, inverse_temperature);
    let (hidden, weight) = head.backward(values(&log_sums), values(&grad), for_weight);
    (tensor(hidden, shapes.0), weight.map(|weight| of_type(tensor(weight, shapes.1), dtype)))
}

/// What a tile knows of a position.
#[derive(Clone, Copy)]
struct Part {
    max: f32,
    /// Σ exp(z − max)
    sum: f32,
    /// The target's logit, where it is in the tile.
    target: Option<f32>,
}

/// What a tile knows of a position in two heads, with z of ours and u of theirs.
#[derive(Clone, Copy)]
struct TwoParts {
    max: f32,
    /// Σ exp(z − max)
    sum: f32,
    /// Σ exp(z − max) (z − u)
    difference: f32,
    their_max: f32,
    /// Σ exp(u − their max)
    their_sum: f32,
}

impl Head<'_> {
    fn tokens(&self) -> usize {
        self.hidden.len() / self.width.max(1)
    }

    /// The first row of every tile.
    fn tiles(&self) -> Vec<usize> {
        (0..self.vocabulary).step_by(TILE).collect()
    }

    /// Rows `first..` of the weight, as many as a tile has. Of a bf16 weight they are copies: all of it in f32
    /// would take twice its memory.
    fn tile(&self, first: usize) -> Tile<'_> {
        let (rows, width) = (TILE.min(self.vocabulary - first), self.width);
        let [row_stride, column_stride] = self.strides;
        let start = first * row_stride;
        match self.weight {
            Rows::F32(weight) => {
                Tile { values: Cow::Borrowed(&weight[start..]), rows, width, strides: self.strides }
            }
            Rows::Bf16(weight) => {
                let mut values = Vec::with_capacity(rows * width);
                for row in 0..rows {
                    let row = &weight[start + row * row_stride..];
                    match column_stride {
                        1 => values.extend(row[..width].iter().map(|entry| entry.to_f32())),
                        _ => {
                            let entries = row.iter().step_by(column_stride).take(width);
                            values.extend(entries.map(|entry| entry.to_f32()));
                        }
                    }
                }
                Tile { values: Cow::Owned(values), rows, width, strides: [width, 1] }
            }
        }
    }

    fn positions(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let tokens = self.tokens();
        (0..tokens).step_by(POSITIONS).map(move |start| start..(start + POSITIONS).min(tokens))
    }

    /// Logits of some positions over a tile, the temperature left out, `[positions, tile]`.
    fn logits(&self, positions: &std::ops::Range<usize>, first: usize, into: &mut Vec<f32>) {
        let tile = self.tile(first);
        into.resize(positions.len() * tile.rows, 0.0);
        let target = Target::set(into, tile.rows);
        self.multiply(target, self.hidden_rows(positions), tile.matrix().transposed());
    }

    fn multiply(&self, target: Target<'_>, a: Matrix<'_>, b: Matrix<'_>) {
        multiply_as(self.is_narrow, target, a, b);
    }

    fn hidden_rows(&self, positions: &std::ops::Range<usize>) -> Matrix<'_> {
        let from = &self.hidden[positions.start * self.width..];
        Matrix::rows(from, positions.len(), self.width, self.width)
    }

    fn forward(&self) -> (Vec<f32>, Vec<f32>) {
        let parts: Vec<Vec<Part>> = self
            .tiles()
            .into_par_iter()
            .map_init(Vec::new, |logits, first| {
                let mut parts = Vec::with_capacity(self.tokens());
                for positions in self.positions() {
                    self.logits(&positions, first, logits);
                    let rows = logits.len() / positions.len();
                    let of_target = self.targets[positions].iter();
                    widest!({
                        for (logits, &target) in logits.chunks_exact(rows).zip(of_target) {
                            parts.push(self.part(logits, target, first));
                        }
                    });
                }
                parts
            })
            .collect();
        (0..self.tokens())
            .map(|token| {
                let of_token = || parts.iter().map(|tile| tile[token]);
                let most = of_token().map(|it| it.max).fold(f32::NEG_INFINITY, f32::max);
                let sum: f64 =
                    of_token().map(|it| f64::from(it.sum) * f64::from(it.max - most).exp()).sum();
                let log_sum = f64::from(most) + sum.ln();
                let target = of_token().find_map(|it| it.target).unwrap_or(f32::NAN);
                ((f64::from(target) - log_sum) as f32, log_sum as f32)
            })
            .unzip()
    }

    /// Σ p (z − u) − log Σ exp z + log Σ exp u, which is Σ p (log p − log q).
    fn divergences(&self, theirs: &Self) -> Vec<f32> {
        let parts: Vec<Vec<TwoParts>> = self
            .tiles()
            .into_par_iter()
            .map_init(<[Vec<f32>; 2]>::default, |[ours, their], first| {
                let mut parts = Vec::with_capacity(self.tokens());
                for positions in self.positions() {
                    self.logits(&positions, first, ours);
                    theirs.logits(&positions, first, their);
                    let rows = ours.len() / positions.len();
                    widest!({
                        for (ours, their) in ours.chunks_exact(rows).zip(their.chunks_exact(rows)) {
                            parts.push(self.two_parts(ours, their));
                        }
                    });
                }
                parts
            })
            .collect();
        let divergence = |token: usize| {
            let of_token = || parts.iter().map(|tile| tile[token]);
            let most = of_token().map(|it| it.max).fold(f32::NEG_INFINITY, f32::max);
            let their_most = of_token().map(|it| it.their_max).fold(f32::NEG_INFINITY, f32::max);
            let (mut sum, mut their_sum, mut difference) = (0.0, 0.0, 0.0);
            for it in of_token() {
                let share = f64::from(it.max - most).exp();
                sum += share * f64::from(it.sum);
                difference += share * f64::from(it.difference);
                their_sum += f64::from(it.their_max - their_most).exp() * f64::from(it.their_sum);
            }
            let log_sums =
                [f64::from(most) + f64::ln(sum), f64::from(their_most) + f64::ln(their_sum)];
            (difference / sum - log_sums[0] + log_sums[1]) as f32
        };
        (0..self.tokens()).map(divergence).collect()
    }

    #[inline(always)]
    fn two_parts(&self, ours: &[f32], theirs: &[f32]) -> TwoParts {
        let scale = self.inverse_temperature;
        let (max_of_ours, their_max) = (max(ours) * scale, max(theirs) * scale);
        let (sum, difference) = sum_exp_and_difference(ours, theirs, scale, max_of_ours);
        let their_sum = sum_exp(theirs, scale, their_max);
        TwoParts { max: max_of_ours, sum, difference, their_max, their_sum }
    }

    #[inline(always)]
    fn part(&self, logits: &[f32], target: usize, first: usize) -> Part {
        let scale = self.inverse_temperature;
        let max = max(logits) * scale;
        Part {
            max,
            sum: sum_exp(logits, scale, max),
            target: target.checked_sub(first).and_then(|at| logits.get(at)).map(|it| it * scale),
        }
    }

    fn backward(
        &self,
        log_sums: &[f32],
        grad: &[f32],
        for_weight: bool,
    ) -> (Vec<f32>, Option<Vec<f32>>) {
        let tile = TILE * self.width;
        let mut weight_grad = zeros(if for_weight { self.vocabulary * self.width } else { 0 });
        let mut sinks: Vec<Option<&mut [f32]>> = weight_grad.chunks_mut(tile).map(Some).collect();
        let tiles = self.tiles();
        sinks.resize_with(tiles.len(), || None);
        let run = tiles.len().div_ceil(RUNS);
        let sums: Vec<Vec<f32>> = tiles
            .par_chunks(run)
            .zip(sinks.par_chunks_mut(run))
            .map(|(tiles, sinks)| {
                let mut hidden_grad = vec![0.0; self.tokens() * self.width];
                let mut logits = Vec::new();
                for (&first, sink) in tiles.iter().zip(sinks) {
                    for positions in self.positions() {
                        self.logits(&positions, first, &mut logits);
                        self.slopes(&positions, first, log_sums, grad, &mut logits);
                        self.push(
                            &positions,
                            first,
                            &logits,
                            &mut hidden_grad,
                            sink.as_deref_mut(),
                        );
                    }
                }
                hidden_grad
            })
            .collect();
        drop(sinks);
        let mut sums = sums.into_iter();
        let mut hidden_grad = sums.next().unwrap_or_default();
        sums.for_each(|sum| widest!(add(&mut hidden_grad, &sum)));
        (hidden_grad, for_weight.then_some(weight_grad))
    }

    /// Logits → their gradients, `(onehot − softmax) · grad / τ`.
    fn slopes(
        &self,
        positions: &std::ops::Range<usize>,
        first: usize,
        log_sums: &[f32],
        grad: &[f32],
        logits: &mut [f32],
    ) {
        let rows = logits.len() / positions.len();
        widest!({
            for (logits, token) in logits.chunks_exact_mut(rows).zip(positions.clone()) {
                let scale = grad[token] * self.inverse_temperature;
                for logit in logits.iter_mut() {
                    *logit = exp(*logit * self.inverse_temperature - log_sums[token]) * -scale;
                }
                let target = self.targets[token].checked_sub(first);
                if let Some(target) = target.and_then(|at| logits.get_mut(at)) {
                    *target += scale;
                }
            }
        });
    }

    /// Gradients of some positions' logits over a tile → those of hidden states and weight.
    fn push(
        &self,
        positions: &std::ops::Range<usize>,
        first: usize,
        slopes: &[f32],
        hidden_grad: &mut [f32],
        weight_grad: Option<&mut [f32]>,
    ) {
        let tile = self.tile(first);
        let slopes = Matrix::rows(slopes, positions.len(), tile.rows, tile.rows);
        let from = positions.start * self.width;
        self.multiply(Target::add(&mut hidden_grad[from..], self.width), slopes, tile.matrix());
        if let Some(weight_grad) = weight_grad {
            let hidden = self.hidden_rows(positions);
            self.multiply(Target::add(weight_grad, self.width), slopes.transposed(), hidden);
        }
    }
}
