//! Products of a few rows with a weight. Sampling one text at a time consists of such products.
//!
//! Such a product reads every weight once and computes little, so it takes as long as the memory takes to
//! deliver the weights. A general product would run on one core and pack the weight first. A core reads at several
//! places at once, far apart, because memory delivers more to several streams than to one.

use std::ops::Range;

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::DType;
use half::bf16;
use rayon::prelude::*;

use super::flex::{contiguous, rows_and_width, values};
use super::vector::{from_bf16, sum2, sums2, total_of, widest};

/// Most rows that are multiplied so; with more, the blocks of a general product pay.
pub const MOST: usize = 4;

/// Runs of inputs that are summed apart.
const RUNS: usize = 8;
/// Places that a core reads at. Of inputs, the products of so many are added at once, so that the sums pass through the
/// caches once for all of them.
const STREAMS: usize = 4;
/// Outputs of a task where the weight's columns are contiguous.
const COLUMNS: usize = 1024;
/// Outputs of a task where its rows are: so many that reading on within a row is most of the reading.
const OUTPUTS: usize = 8192;

/// An entry of a weight.
trait Entry: Copy + Send + Sync {
    fn wide(self) -> f32;
}

impl Entry for f32 {
    #[inline(always)]
    fn wide(self) -> f32 {
        self
    }
}

impl Entry for bf16 {
    #[inline(always)]
    fn wide(self) -> f32 {
        from_bf16(self)
    }
}

/// `x · weight` of every pair, `[.., inputs] · [inputs, outputs]`, row by row; `x` contiguous and in
/// f32, the weights in f32 or bf16.
pub fn multiply(pairs: impl IntoIterator<Item = (FlexTensor, FlexTensor)>) -> Vec<Vec<f32>> {
    let products: Vec<Product> =
        pairs.into_iter().map(|(x, weight)| Product::new(x, weight)).collect();
    let tasks: Vec<(&Product, usize)> =
        products.iter().flat_map(|it| (0..it.pieces()).map(move |piece| (it, piece))).collect();
    let pieces: Vec<Vec<f32>> =
        tasks.into_par_iter().map(|(product, piece)| product.piece(piece)).collect();
    let mut pieces = pieces.into_iter();
    products.iter().map(|it| it.join(pieces.by_ref().take(it.pieces()).collect())).collect()
}

/// A product, and how it is cut into tasks.
struct Product {
    x: FlexTensor,
    weight: FlexTensor,
    cut: Cut,
    rows: usize,
    inputs: usize,
    outputs: usize,
}

enum Cut {
    /// The weight's columns are contiguous: a dot product each, a task some of them.
    Columns,
    /// Its rows are contiguous and long: a task has some of the outputs.
    Outputs,
    /// Its rows are contiguous and short: a task has some of the inputs.
    Inputs,
}

impl Product {
    fn new(x: FlexTensor, weight: FlexTensor) -> Self {
        let (rows, inputs) = rows_and_width(&x);
        let outputs = weight.shape()[1];
        let strides = weight.layout().strides();
        let by_columns = strides[0] == 1 && strides[1] == inputs as isize;
        let weight = if by_columns { weight } else { contiguous(weight) };
        let cut = match outputs {
            _ if by_columns => Cut::Columns,
            outputs if outputs > 2 * OUTPUTS => Cut::Outputs,
            _ => Cut::Inputs,
        };
        Self { x, weight, cut, rows, inputs, outputs }
    }

    fn pieces(&self) -> usize {
        match self.cut {
            Cut::Columns => self.outputs.div_ceil(COLUMNS),
            Cut::Outputs => self.outputs.div_ceil(OUTPUTS),
            Cut::Inputs => self.inputs.div_ceil(self.run()),
        }
    }

    /// Inputs of a task.
    fn run(&self) -> usize {
        self.inputs.div_ceil(RUNS).max(1)
    }

    fn piece(&self, piece: usize) -> Vec<f32> {
        let start = self.weight.layout().start_offset();
        let entries = start..start + self.inputs * self.outputs;
        match self.weight.dtype() {
            DType::BF16 => self.piece_of(&self.weight.storage::<bf16>()[entries], piece),
            _ => self.piece_of(&self.weight.storage::<f32>()[entries], piece),
        }
    }

    /// `[outputs of the piece, rows]` of columns, and `[rows, outputs of the piece]` else.
    fn piece_of(&self, weight: &[impl Entry], piece: usize) -> Vec<f32> {
        let some = |total: usize, each: usize| piece * each..(piece * each + each).min(total);
        let (rows, inputs, outputs) = (self.rows, self.inputs, self.outputs);
        let x = Rows { values: values(&self.x), rows, inputs };
        match self.cut {
            Cut::Columns => {
                let columns = some(outputs, COLUMNS);
                dots(x, &weight[columns.start * inputs..columns.end * inputs])
            }
            Cut::Outputs => {
                let columns = some(outputs, OUTPUTS);
                let weight = weight.chunks_exact(outputs).map(|it| &it[columns.clone()]);
                widest!(accumulate(x, weight, 0..inputs, columns.len()))
            }
            Cut::Inputs => {
                let from = some(inputs, self.run());
                let weight = weight[from.start * outputs..].chunks_exact(outputs);
                widest!(accumulate(x, weight, from, outputs))
            }
        }
    }

    /// The product, `[rows, outputs]`.
    fn join(&self, pieces: Vec<Vec<f32>>) -> Vec<f32> {
        let rows = self.rows;
        match self.cut {
            Cut::Inputs => total_of(rows * self.outputs, &pieces),
            Cut::Columns | Cut::Outputs if rows == 1 => pieces.concat(),
            Cut::Outputs => {
                let row = |row: usize| {
                    let part =
                        move |it: &Vec<f32>| row * it.len() / rows..(row + 1) * it.len() / rows;
                    pieces.iter().flat_map(move |it| &it[part(it)])
                };
                (0..rows).flat_map(row).copied().collect()
            }
            Cut::Columns => {
                let row = |row| pieces.iter().flatten().skip(row).step_by(rows);
                (0..rows).flat_map(row).copied().collect()
            }
        }
    }
}

/// The left factor as a slice.
#[derive(Clone, Copy)]
struct Rows<'a> {
    values: &'a [f32],
    rows: usize,
    inputs: usize,
}

/// The products of every row with every column.
fn dots(x: Rows<'_>, columns: &[impl Entry]) -> Vec<f32> {
    let count = columns.len() / x.inputs;
    let stream = count / STREAMS;
    let mut out = vec![0.0; count * x.rows];
    widest!({
        let column = |index: usize| &columns[index * x.inputs..][..x.inputs];
        for index in 0..stream {
            let columns: [_; STREAMS] = std::array::from_fn(|it| column(it * stream + index));
            for (row, values) in x.values.chunks_exact(x.inputs).enumerate() {
                let products = sums2(values, columns, |x, weight| x * weight.wide());
                for (it, product) in products.into_iter().enumerate() {
                    out[(it * stream + index) * x.rows + row] = product;
                }
            }
        }
        for index in STREAMS * stream..count {
            for (row, values) in x.values.chunks_exact(x.inputs).enumerate() {
                out[index * x.rows + row] =
                    sum2(values, column(index), |x, weight| x * weight.wide());
            }
        }
    });
    out
}

/// Σ x[row, input] · weight[input] over some inputs, `[rows, outputs]`.
#[inline(always)]
fn accumulate<'a, W: Entry + 'a>(
    x: Rows<'_>,
    weight: impl Iterator<Item = &'a [W]>,
    from: Range<usize>,
    outputs: usize,
) -> Vec<f32> {
    let mut sums = vec![0.0; x.rows * outputs];
    let weight: Vec<&[W]> = weight.take(from.len()).collect();
    let stream = weight.len() / STREAMS;
    let x_of = |row: usize| &x.values[row * x.inputs + from.start..][..weight.len()];
    for index in 0..stream {
        let inputs: [usize; STREAMS] = std::array::from_fn(|it| it * stream + index);
        let [a, b, c, d] = inputs.map(|input| weight[input]);
        for (row, sums) in sums.chunks_exact_mut(outputs).enumerate() {
            let x = inputs.map(|input| x_of(row)[input]);
            let pairs = a.iter().zip(b).zip(c.iter().zip(d));
            for (sum, ((a, b), (c, d))) in sums.iter_mut().zip(pairs) {
                *sum += (x[0] * a.wide() + x[1] * b.wide()) + (x[2] * c.wide() + x[3] * d.wide());
            }
        }
    }
    for input in STREAMS * stream..weight.len() {
        for (row, sums) in sums.chunks_exact_mut(outputs).enumerate() {
            let x = x_of(row)[input];
            for (sum, weight) in sums.iter_mut().zip(weight[input]) {
                *sum += x * weight.wide();
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};

    use super::*;
    use crate::kernels::flex::{primitive, tensor};

    #[test]
    fn skinny_products_are_those_of_the_backend_whatever_the_weights_layout() {
        let device = Device::flex();
        let spread = |shape: [usize; 2], turn: f32| -> Tensor<2> {
            let count = shape[0] * shape[1];
            let values: Vec<f32> = (0..count).map(|it| (it as f32 * turn).sin()).collect();
            Tensor::from_data(TensorData::new(values, shape), &device)
        };
        for rows in 1..=MOST {
            for (inputs, outputs) in [(67, 35), (5, 17001), (600, 33), (3, 2)] {
                let x = spread([rows, inputs], 0.7);
                let by_rows = spread([inputs, outputs], 1.3);
                let by_columns = spread([outputs, inputs], 2.1).transpose();
                let [narrow, narrow_columns] =
                    [&by_rows, &by_columns].map(|it| it.clone().cast(DType::BF16));
                let weights = [by_rows, by_columns, narrow, narrow_columns];
                let pairs = weights.iter().map(|it| (primitive(x.clone()), primitive(it.clone())));
                for (ours, weight) in multiply(pairs).into_iter().zip(weights.clone()) {
                    let ours = tensor(ours, [rows, outputs]);
                    let ours = Tensor::<2>::from_primitive::<burn::backend::Flex>(ours);
                    let plain = x.clone().matmul(weight.cast(DType::F32));
                    // f32 sums of up to 600 products below 1.
                    assert!((ours - plain).abs().max().into_scalar::<f32>() < 1e-4);
                }
            }
        }
    }
}
