//! The whole weight by every backend's own operations.

use burn::tensor::{DType, Int, Tensor};

use super::BLOCK;
use super::blocks::Format;

/// The weight `[in, out]` in f32, of codes `[out, words]` and scales `[out, blocks]`.
pub fn unpacked(
    codes: Tensor<2, Int>,
    scales: Tensor<2>,
    format: Format,
    inputs: usize,
) -> Tensor<2> {
    let [outputs, blocks] = scales.dims();
    let words = format.words();
    let codes = codes.reshape([outputs, blocks, words, 1]);
    let part = |shift: u32, mask: i32| {
        codes.clone().bitwise_right_shift_scalar(shift as i32).bitwise_and_scalar(mask)
    };
    let entries = match format {
        Format::Q8 => {
            let bytes = (0..4).map(|byte| part(8 * byte, 255)).collect();
            let bytes = Tensor::cat(bytes, 3).float().cast(DType::F32); // [out, blocks, words, 4]
            let negative = bytes.clone().greater_elem(127.0).float().cast(DType::F32);
            bytes - negative * 256.0
        }
        Format::Q4 => {
            let half = |high: u32| {
                let bytes = (0..4).map(|byte| part(8 * byte + 4 * high, 15)).collect();
                Tensor::cat(bytes, 3).reshape([outputs, blocks, 4 * words, 1])
            };
            // [out, blocks, 16, 2], the halves of a byte apart by 16 entries
            Tensor::cat(vec![half(0), half(1)], 3).swap_dims(2, 3).float().cast(DType::F32) - 8.0
        }
    };
    let entries = entries.reshape([outputs, blocks, BLOCK]);
    let scales = scales.cast(DType::F32).reshape([outputs, blocks, 1]);
    (entries * scales).reshape([outputs, blocks * BLOCK]).narrow(1, 0, inputs).transpose()
}
