//! Products with a weight that is unpacked some rows or columns at a time.

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::Shape;
use half::bf16;
use rayon::prelude::*;

use super::{BLOCK, Format, Packed};
use crate::kernels::flex::{contiguous, primitive, rows_and_width, tensor, values};
use crate::kernels::linear::shape_of_product;
use crate::kernels::matrix::{Matrix, Target, bf16 as narrow, multiply_as};
use crate::kernels::skinny;
use crate::kernels::vector::{dot, widest};

/// Parts of a weight that are unpacked apart, at least, and the most rows or columns of one.
const PARTS: usize = 8;
const MOST: usize = 256;
/// Outputs of a task where the product has few rows.
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
        let x = Matrix::rows(values(&x), count, inputs, inputs);
        let out = match count {
            1..=skinny::MOST => self.of_few(x),
            _ => self.in_parts(x, self.outputs, 1, |outputs, part| {
                self.unpack(outputs.clone(), 0..inputs, part);
                Matrix::rows(part, outputs.len(), inputs, inputs).transposed()
            }),
        };
        tensor(out, shape)
    }

    /// The gradient of `x` in `x · weight`, of the shape of `x`.
    pub fn gradient_of_rows(&self, grad: &FlexTensor, shape: Shape) -> FlexTensor {
        let (count, outputs) = rows_and_width(grad);
        let grad = Matrix::rows(values(grad), count, outputs, outputs);
        let x_grad = self.in_parts(grad, self.inputs, BLOCK, |inputs, part| {
            self.unpack(0..outputs, inputs.clone(), part);
            Matrix::rows(part, outputs, inputs.len(), inputs.len())
        });
        tensor(x_grad, shape)
    }

    /// `x · weight` in parts of its `width` columns, multiples of `step`; `unpack` makes the matrix of a part.
    fn in_parts<'a>(
        &self,
        x: Matrix<'_>,
        width: usize,
        step: usize,
        unpack: impl for<'b> Fn(Range<usize>, &'b mut Vec<f32>) -> Matrix<'b> + Sync + 'a,
    ) -> Vec<f32> {
        let part = width.div_ceil(PARTS).next_multiple_of(step.max(16)).min(MOST);
        let parts: Vec<Range<usize>> =
            (0..width).step_by(part).map(|start| start..(start + part).min(width)).collect();
        let count = x.num_rows();
        let narrow_products = narrow::available();
        let products: Vec<Vec<f32>> = parts
            .par_iter()
            .map_init(Vec::new, |unpacked, columns| {
                let weight = unpack(columns.clone(), unpacked);
                let mut out = vec![0.0; count * columns.len()];
                let target = Target::set(&mut out, columns.len());
                // Codes and scales have few bits, so that rounding to bf16 adds next to nothing.
                multiply_as(narrow_products, target, x, weight);
                out
            })
            .collect();
        let mut joined = vec![0.0; count * width];
        joined.par_chunks_mut(width.max(1)).enumerate().for_each(|(row, joined)| {
            for (columns, product) in parts.iter().zip(&products) {
                let len = columns.len();
                joined[columns.clone()].copy_from_slice(&product[row * len..(row + 1) * len]);
            }
        });
        joined
    }

    /// The entries of some outputs and inputs, output by output; the inputs begin with a block.
    fn unpack(&self, outputs: Range<usize>, inputs: Range<usize>, into: &mut Vec<f32>) {
        into.clear();
        into.resize(outputs.len() * inputs.len(), 0.0);
        let first = inputs.start / BLOCK;
        widest(|| {
            for (output, into) in outputs.zip(into.chunks_exact_mut(inputs.len())) {
                let blocks = self.blocks(output).skip(first);
                for ((codes, scale), into) in blocks.zip(into.chunks_mut(BLOCK)) {
                    let entries = self.format.entries(codes);
                    for (into, entry) in into.iter_mut().zip(entries) {
                        *into = entry * scale;
                    }
                }
            }
        });
    }

    /// The codes and the scale of each block of an output.
    #[inline(always)]
    fn blocks(&self, output: usize) -> impl Iterator<Item = (&[u8], f32)> {
        let blocks = self.inputs.div_ceil(BLOCK);
        let bytes = 4 * self.format.words();
        let codes: &[u8] = bytemuck::cast_slice(self.codes.storage::<i32>());
        let scales = self.scales.storage::<bf16>();
        let codes = &codes[output * blocks * bytes..(output + 1) * blocks * bytes];
        let scales = &scales[output * blocks..(output + 1) * blocks];
        codes.chunks_exact(bytes).zip(scales.iter().map(|scale| scale.to_f32()))
    }

    /// The product of few rows: every code is read once.
    fn of_few(&self, x: Matrix<'_>) -> Vec<f32> {
        let (count, inputs) = (x.num_rows(), self.inputs);
        let mut by_output = vec![0.0; self.outputs * count];
        let tasks = by_output.par_chunks_mut(OUTPUTS * count).enumerate();
        tasks.for_each(|(task, out)| {
            widest(|| {
                for (i, out) in out.chunks_exact_mut(count).enumerate() {
                    for (block, (codes, scale)) in self.blocks(task * OUTPUTS + i).enumerate() {
                        let entries = self.format.entries(codes);
                        let from = block * BLOCK;
                        let len = BLOCK.min(inputs - from);
                        for (row, out) in out.iter_mut().enumerate() {
                            *out += scale * dot(&x.row(row)[from..from + len], &entries[..len]);
                        }
                    }
                }
            });
        });
        let row = |row: usize| by_output.iter().skip(row).step_by(count.max(1));
        (0..count).flat_map(row).copied().collect()
    }
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
        for (format, rows) in [(Format::Q8, 3), (Format::Q8, 90), (Format::Q4, 1), (Format::Q4, 90)]
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
    fn the_plain_form_unpacks_to_the_same_entries() {
        let device = Device::flex();
        for format in [Format::Q8, Format::Q4] {
            let columns: Vec<f32> = (0..5 * 100).map(|it| (it as f32 * 0.7).sin()).collect();
            let packed = Packed::new(&columns, 100, format, &device);
            let mut entries = Vec::new();
            PackedMatrix::new(&packed).unpack(0..5, 0..100, &mut entries);
            let plain: Vec<f32> = packed.unpacked().transpose().into_data().try_into_vec().unwrap();
            assert_eq!(plain, entries);
            let mut some = Vec::new();
            PackedMatrix::new(&packed).unpack(2..4, 32..100, &mut some);
            assert_eq!(some[..68], entries[2 * 100 + 32..3 * 100]);
        }
    }
}
