//! Frozen weights in few bits: blocks of 32 entries along the inputs, each with a scale.
//!
//! | format | an entry | bits with scales | relative error of normal entries |
//! |---|---|---|---|
//! | [`Format::Q8`] | −127 … 127 times the scale | 8.5 | 0.5 % |
//! | [`Format::Q4`] | −8 … 7 times the scale | 4.5 | 8.2 % |
//!
//! The error is √(Σ(w − ŵ)² / Σw²). QLoRA's NF4 at the same 4.5 bits (blocks of 64) has 9.2 %. The scale of a
//! block is bf16, the best by least squares for several roundings of the entries.
//!
//! | part | what |
//! |---|---|
//! | `blocks` | entries to codes and back, block by block |
//! | `plain` | the whole weight by every backend's own operations |
//! | `product` | products that unpack some rows or columns at a time |
//! | `columns` | columns of codes: their entries, and their products with a few rows |

mod blocks;
#[cfg(feature = "flex")]
mod columns;
mod plain;
#[cfg(feature = "flex")]
mod product;

use burn::module::{Module, Param, ParamId};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use half::bf16;
use rayon::prelude::*;

pub use blocks::Format;
#[cfg(feature = "flex")]
pub(super) use product::PackedMatrix;

/// Entries that share a scale.
const BLOCK: usize = 32;

/// A weight `[in, out]` in few bits.
#[derive(Module, Debug)]
pub struct Packed {
    /// The codes of each output's blocks, four or eight codes in an i32, `[out, words]`.
    codes: Param<Tensor<2, Int>>,
    /// The scale of each block in bf16, `[out, blocks]`.
    scales: Param<Tensor<2>>,
    #[module(skip)]
    format: Format,
    inputs: usize,
}

impl Packed {
    /// Packs a weight `[in, out]`, given by its columns one after the other: `out` runs of `inputs` entries.
    pub fn new(columns: &[f32], inputs: usize, format: Format, device: &Device) -> Self {
        let outputs = columns.len() / inputs;
        let blocks = inputs.div_ceil(BLOCK);
        let words = blocks * format.words();
        let mut codes = vec![0i32; outputs * words];
        let mut scales = vec![bf16::ZERO; outputs * blocks];
        codes
            .par_chunks_mut(words)
            .zip(scales.par_chunks_mut(blocks))
            .zip(columns.par_chunks(inputs))
            .for_each(|((codes, scales), column)| format.pack(column, codes, scales));
        let codes = TensorData::new(codes, [outputs, words]);
        let scales = TensorData::new(scales, [outputs, blocks]);
        let codes = Tensor::from_data(codes, (device, DType::I32));
        let scales = Tensor::from_data(scales, (device, DType::BF16));
        Self {
            codes: Param::initialized(ParamId::new(), codes),
            scales: Param::from_tensor(scales),
            format,
            inputs,
        }
    }

    /// The weight, `[in, out]` in f32.
    pub fn unpacked(&self) -> Tensor<2> {
        plain::unpacked(self.codes.val(), self.scales.val(), self.format, self.inputs)
    }
}
