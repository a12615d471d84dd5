//! Products with a weight that is unpacked some rows or columns at a time.

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::Shape;
use half::bf16;
use rayon::prelude::*;

use super::columns::{Columns, TOGETHER};
use super::{BLOCK, Format, Packed};
use crate::kernels::flex::{contiguous, primitive, rows_and_width, tensor, values};
use crate::kernels::linear::shape_of_product;
use crate::kernels::matrix::{Matrix, bf16 as narrow, product};

/// Entries of a weight that are unpacked at a time.
const ENTRIES: usize = 1 << 24;
/// Rows of a product that makes numbers of the codes as it goes, and does not unpack.
const FEW: usize = 8;
/// Outputs of a task where the product has few rows, and where a weight is unpacked.
const OUTPUTS: usize = 64;

/// A packed weight `[in, out]` as slices.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    codes: FlexTensor,
    scales: FlexTensor,
    format: Format,
    inputs: usize,
    outputs: usize,
}

impl PackedMatrix {
    /// The weight of a module.
    pub fn new(packed: &Packed) -> Self {
        let codes = packed.codes.val();
        let codes = if codes.device().is_autodiff() { codes.inner() } else { codes };
        let codes =
            codes.try_into_primitive::<Flex>().expect("the caller has asked for the backend");
        Self {
            outputs: codes.shape()[0],
            codes: contiguous(codes),
            scales: contiguous(primitive(packed.scales.val())),
            format: packed.format,
            inputs: packed.inputs,
        }
    }

    /// `x · weight`, `[.., in]` → `[.., out]`.
    pub fn of_rows(&self, x: FlexTensor) -> FlexTensor {
        let x = contiguous(x);
        let (count, inputs) = rows_and_width(&x);
        let shape = shape_of_product(&x, self.outputs);
        let out = if count <= FEW {
            self.of_few(values(&x))
        } else {
            let x = Matrix::rows(values(&x), count, inputs, inputs);
            product_in_parts(x, self.outputs, (ENTRIES / inputs.max(1)).max(1), |outputs| {
                let columns = self.unpacked(outputs.clone(), 0..inputs);
                (columns, [outputs.len(), inputs], true)
            })
        };
        tensor(out, shape)
    }

    /// The gradient of `x` in `x · weight`, of the shape of `x`.
    pub fn gradient_of_rows(&self, grad: &FlexTensor, shape: Shape) -> FlexTensor {
        let (count, outputs) = rows_and_width(grad);
        let grad = Matrix::rows(values(grad), count, outputs, outputs);
        let part = (ENTRIES / outputs.max(1)).max(1).next_multiple_of(BLOCK);
        let x_grad = product_in_parts(grad, self.inputs, part, |inputs| {
            let columns = self.unpacked(0..outputs, inputs.clone());
            (columns, [outputs, inputs.len()], false)
        });
        tensor(x_grad, shape)
    }

    /// The entries of some outputs and inputs, output by output; the inputs begin with a block.
    fn unpacked(&self, outputs: Range<usize>, inputs: Range<usize>) -> Vec<f32> {
        let width = inputs.len().max(1);
        let mut entries = vec![0.0; outputs.len() * inputs.len()];
        entries.par_chunks_mut(width).zip(outputs).for_each(|(entries, output)| {
            self.columns(output..output + 1).from(inputs.start / BLOCK).unpack(entries);
        });
        entries
    }

    /// Some outputs' columns.
    fn columns(&self, outputs: Range<usize>) -> Columns<'_> {
        let blocks = self.inputs.div_ceil(BLOCK);
        let bytes = blocks * 4 * self.format.words();
        let codes: &[u8] = bytemuck::cast_slice(self.codes.storage::<i32>());
        let scales = self.scales.storage::<bf16>();
        Columns {
            format: self.format,
            codes: &codes[outputs.start * bytes..outputs.end * bytes],
            scales: &scales[outputs.start * blocks..outputs.end * blocks],
        }
    }

    /// The product of few rows of `x`, `[rows, in]`: the codes are read once for [`TOGETHER`] of them.
    fn of_few(&self, x: &[f32]) -> Vec<f32> {
        let inputs = self.inputs.max(1);
        let rows = x.len() / inputs;
        let mut out = vec![0.0; rows * self.outputs];
        let some = x.chunks(TOGETHER * inputs).zip(out.chunks_mut(TOGETHER * self.outputs.max(1)));
        for (x, out) in some {
            let x = self.in_blocks(x);
            let rows = out.len() / self.outputs;
            let mut by_output = vec![0.0; out.len()];
            let tasks = by_output.par_chunks_mut(OUTPUTS * rows).enumerate();
            tasks.for_each(|(task, products)| {
                let first = task * OUTPUTS;
                self.columns(first..first + products.len() / rows).times(&x, products, rows);
            });
            for (row, out) in out.chunks_exact_mut(self.outputs).enumerate() {
                let products = by_output.iter().skip(row).step_by(rows);
                out.iter_mut().zip(products).for_each(|(out, &product)| *out = product);
            }
        }
        out
    }

    /// Rows in whole blocks; what follows the entries of a row is zero.
    fn in_blocks(&self, x: &[f32]) -> Vec<[f32; BLOCK]> {
        // As in a product of many rows, so that a row is the same among few and many.
        let rounded = |x: f32| if narrow::available() { bf16::from_f32(x).to_f32() } else { x };
        let blocks = self.inputs.div_ceil(BLOCK).max(1);
        let mut padded = vec![[0.0; BLOCK]; x.len() / self.inputs.max(1) * blocks];
        for (blocks, row) in padded.chunks_exact_mut(blocks).zip(x.chunks_exact(self.inputs.max(1)))
        {
            let entries = blocks.as_flattened_mut().iter_mut();
            entries.zip(row).for_each(|(entry, &x)| *entry = rounded(x));
        }
        padded
    }
}

/// `x · weight` in parts of so many of its `width` columns. `unpack` makes the entries of a part, their rows and
/// columns, and whether these stand for the part's columns and rows.
fn product_in_parts(
    x: Matrix<'_>,
    width: usize,
    part: usize,
    unpack: impl Fn(Range<usize>) -> (Vec<f32>, [usize; 2], bool),
) -> Vec<f32> {
    let product = |columns: Range<usize>| {
        let (entries, [rows, columns], transposed) = unpack(columns);
        let weight = Matrix::rows(&entries, rows, columns, columns);
        let weight = if transposed { weight.transposed() } else { weight };
        // Codes and scales have few bits, so that rounding to bf16 adds next to nothing.
        match narrow::available() {
            true => narrow::product(x, weight),
            false => product(x, weight),
        }
    };
    if width <= part {
        return product(0..width);
    }
    let mut joined = vec![0.0; x.num_rows() * width];
    for start in (0..width).step_by(part) {
        let columns = start..(start + part).min(width);
        let product = product(columns.clone());
        let rows = joined.par_chunks_mut(width).zip(product.par_chunks(columns.len()));
        rows.for_each(|(joined, product)| joined[columns.clone()].copy_from_slice(product));
    }
    joined
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::kernels::waves::waves;

    #[test]
    fn products_are_those_of_the_unpacked_weight() {
        let device = Device::flex();
        // 67 inputs: two blocks and a short one; more outputs than a task has.
        for (format, rows) in [1, 2, 3, 4, 7, 16, 90]
            .into_iter()
            .flat_map(|rows| [(Format::Q8, rows), (Format::Q4, rows)])
        {
            let columns: Tensor<2> = waves([150, 67], 1.3, &device);
            let columns: Vec<f32> = columns.into_data().try_into_vec().unwrap();
            let packed = Packed::new(&columns, 67, format, &device);
            let weight = packed.unpacked();
            assert_eq!(weight.dims(), [67, 150]);
            let matrix = PackedMatrix::new(&packed);
            let x: Tensor<2> = waves([rows, 67], 0.7, &device);
            let grad: Tensor<2> = waves([rows, 150], 2.1, &device);
            let close = |ours: FlexTensor, exact: Tensor<2>| {
                let ours = Tensor::<2>::from_primitive::<Flex>(ours);
                let far = (ours - exact).abs().max().into_scalar::<f32>();
                assert!(
                    far < if narrow::available() { 6e-2 } else { 1e-4 },
                    "{format:?} {rows}: {far}"
                );
            };
            close(matrix.of_rows(primitive(x.clone())), x.clone().matmul(weight.clone()));
            let back = matrix.gradient_of_rows(&primitive(grad.clone()), Shape::from([rows, 67]));
            close(back, grad.matmul(weight.transpose()));
        }
    }

    #[test]
    fn parts_of_a_large_product_are_put_together() {
        let device = Device::flex();
        let columns: Vec<f32> = (0..50 * 70).map(|i| (i as f32 * 0.7).sin()).collect();
        let matrix = PackedMatrix::new(&Packed::new(&columns, 70, Format::Q8, &device));
        let x: Vec<f32> = (0..20 * 50).map(|i| (i as f32 * 1.3).sin()).collect();
        let of_outputs = |part: usize| {
            let unpack = |outputs: Range<usize>| {
                (matrix.unpacked(outputs.clone(), 0..70), [outputs.len(), 70], true)
            };
            product_in_parts(Matrix::rows(&x[..10 * 70], 10, 70, 70), 50, part, unpack)
        };
        let of_inputs = |part: usize| {
            let unpack = |inputs: Range<usize>| {
                (matrix.unpacked(0..50, inputs.clone()), [50, inputs.len()], false)
            };
            product_in_parts(Matrix::rows(&x, 20, 50, 50), 70, part, unpack)
        };
        let close = |parts: Vec<f32>, whole: Vec<f32>| {
            assert_eq!(parts.len(), whole.len());
            for (part, whole) in parts.iter().zip(whole) {
                assert!((part - whole).abs() < 1e-4, "{part} {whole}");
            }
        };
        close(of_outputs(16), of_outputs(50));
        close(of_inputs(BLOCK), of_inputs(70));
    }

    #[test]
    fn the_plain_form_unpacks_to_the_same_entries() {
        let device = Device::flex();
        for format in [Format::Q8, Format::Q4] {
            let columns: Vec<f32> = (0..5 * 100).map(|it| (it as f32 * 0.7).sin()).collect();
            let packed = Packed::new(&columns, 100, format, &device);
            let matrix = PackedMatrix::new(&packed);
            let entries = matrix.unpacked(0..5, 0..100);
            let plain: Vec<f32> = packed.unpacked().transpose().into_data().try_into_vec().unwrap();
            assert_eq!(plain, entries);
            let some = matrix.unpacked(2..4, 32..100);
            assert_eq!(some[..68], entries[2 * 100 + 32..3 * 100]);
        }
    }
}
