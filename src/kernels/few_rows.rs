//! Products of a few rows with a weight: what sampling one text at a time consists of.
//!
//! Such a product reads every weight once and does little with it, so it takes as long as the
//! memory needs to deliver them. A general product would run on one core and pack the weight first.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::DType;
use half::bf16;
use rayon::prelude::*;

use super::values::{contiguous, rows_and_width, values};
use super::vector::{sum2, total_of, widest};

/// Most rows that are multiplied so; with more, the blocks of a general product pay.
pub const MOST: usize = 4;

/// Runs of inputs that are summed apart.
const RUNS: usize = 8;
/// Outputs of a task.
const COLUMNS: usize = 1024;

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
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

/// `x · weight`, `[.., inputs] · [inputs, outputs]`, row by row; `x` contiguous, the weight in f32 or
/// bf16.
pub fn multiply(x: &FlexTensor, weight: FlexTensor) -> Vec<f32> {
    let (rows, inputs) = rows_and_width(x);
    let outputs = weight.shape()[1];
    let x = values(x);
    let strides = weight.layout().strides();
    let by_columns = strides[0] == 1 && strides[1] == inputs as isize;
    let weight = if by_columns { weight } else { contiguous(weight) };
    let start = weight.layout().start_offset();
    let entries = start..start + inputs * outputs;
    let shape = [rows, inputs, outputs];
    match weight.dtype() {
        DType::BF16 => by_layout(x, &weight.storage::<bf16>()[entries], by_columns, shape),
        _ => by_layout(x, &weight.storage::<f32>()[entries], by_columns, shape),
    }
}

fn by_layout(
    x: &[f32],
    weight: &[impl Entry],
    by_columns: bool,
    [rows, inputs, outputs]: [usize; 3],
) -> Vec<f32> {
    if by_columns {
        columns(x, weight, rows, inputs)
    } else if outputs > COLUMNS * RUNS {
        wide(x, weight, rows, [inputs, outputs])
    } else {
        narrow(x, weight, rows, [inputs, outputs])
    }
}

/// Where the weight's columns are contiguous: a dot product each.
fn columns(x: &[f32], weight: &[impl Entry], rows: usize, inputs: usize) -> Vec<f32> {
    let outputs = weight.len() / inputs;
    let mut by_output = vec![0.0; outputs * rows];
    by_output.par_chunks_mut(COLUMNS * rows).zip(weight.par_chunks(COLUMNS * inputs)).for_each(
        |(out, weight)| {
            widest(|| {
                let columns = weight.chunks_exact(inputs);
                for (out, column) in out.chunks_exact_mut(rows).zip(columns) {
                    for (out, x) in out.iter_mut().zip(x.chunks_exact(inputs)) {
                        *out = sum2(x, column, |x, weight| x * weight.wide());
                    }
                }
            });
        },
    );
    if rows == 1 {
        return by_output;
    }
    let output = |row: usize, output: usize| by_output[output * rows + row];
    (0..rows).flat_map(|row| (0..outputs).map(move |it| output(row, it))).collect()
}

/// Where the weight's rows are contiguous and long: every task has some of the outputs.
fn wide(x: &[f32], weight: &[impl Entry], rows: usize, [inputs, outputs]: [usize; 2]) -> Vec<f32> {
    let blocks: Vec<Vec<f32>> = (0..outputs)
        .into_par_iter()
        .step_by(COLUMNS)
        .map(|first| {
            let columns = first..(first + COLUMNS).min(outputs);
            let weight = weight.chunks_exact(outputs).map(|it| &it[columns.clone()]);
            widest(|| accumulate(x, weight, rows, inputs, 0..inputs, columns.len()))
        })
        .collect();
    let mut out = Vec::with_capacity(rows * outputs);
    for row in 0..rows {
        for block in &blocks {
            let width = block.len() / rows;
            out.extend_from_slice(&block[row * width..][..width]);
        }
    }
    out
}

/// Where the weight's rows are contiguous and short: every task has some of the inputs.
fn narrow(
    x: &[f32],
    weight: &[impl Entry],
    rows: usize,
    [inputs, outputs]: [usize; 2],
) -> Vec<f32> {
    let run = inputs.div_ceil(RUNS).max(1);
    let sums: Vec<Vec<f32>> = weight
        .par_chunks(run * outputs)
        .enumerate()
        .map(|(index, weight)| {
            let from = index * run..(index * run + run).min(inputs);
            let weight = weight.chunks_exact(outputs);
            widest(|| accumulate(x, weight, rows, inputs, from, outputs))
        })
        .collect();
    total_of(rows * outputs, &sums)
}

/// Σ x[row, input] · weight[input] over some inputs, `[rows, outputs]`.
#[inline(always)]
fn accumulate<'a, W: Entry + 'a>(
    x: &[f32],
    weight: impl Iterator<Item = &'a [W]>,
    rows: usize,
    inputs: usize,
    from: std::ops::Range<usize>,
    outputs: usize,
) -> Vec<f32> {
    let mut sums = vec![0.0; rows * outputs];
    for (input, weight) in from.zip(weight) {
        for (row, sums) in sums.chunks_exact_mut(outputs).enumerate() {
            let x = x[row * inputs + input];
            for (sum, weight) in sums.iter_mut().zip(weight) {
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
    use crate::kernels::values::{primitive, tensor};

    #[test]
    fn products_of_few_rows_are_those_of_the_backend_whatever_the_weights_layout() {
        let device = Device::flex();
        let spread = |shape: [usize; 2], turn: f32| -> Tensor<2> {
            let count = shape[0] * shape[1];
            let values: Vec<f32> = (0..count).map(|it| (it as f32 * turn).sin()).collect();
            Tensor::from_data(TensorData::new(values, shape), &device)
        };
        for rows in 1..=MOST {
            for (inputs, outputs) in [(67, 35), (5, 9001), (600, 33), (3, 2)] {
                let x = spread([rows, inputs], 0.7);
                let by_rows = spread([inputs, outputs], 1.3);
                let by_columns = spread([outputs, inputs], 2.1).transpose();
                for weight in [by_rows, by_columns] {
                    let narrow = weight.clone().cast(DType::BF16);
                    for (kept, weight) in
                        [(narrow.clone(), narrow.cast(DType::F32)), (weight.clone(), weight)]
                    {
                        let ours = multiply(&primitive(x.clone()), primitive(kept));
                        let ours = Tensor::<2>::from_primitive::<burn::backend::Flex>(tensor(
                            ours,
                            [rows, outputs],
                        ));
                        let difference = (ours - x.clone().matmul(weight)).abs().max();
                        // f32 sums of up to 600 products below 1.
                        assert!(difference.into_scalar::<f32>() < 1e-4);
                    }
                }
            }
        }
    }
}
