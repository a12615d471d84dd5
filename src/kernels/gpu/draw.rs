//! What drawing a token asks of logits: the sums of their blocks, and the logits of one block.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Int, Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::CubeDim;

use super::{by_entry, cubes, empty_f32};

/// Planes of a cube.
const PLANES: usize = 8;

/// Of every row the largest and the smallest logit, then `Σ exp(scale · (logit − largest))` of every block of `block`
/// tokens, in f32, `[rows, 2 + blocks]`.
///
/// - `logits`: `[rows, vocabulary]`
pub fn block_sums(logits: Tensor<2>, block: usize, scale: f32) -> Tensor<2> {
    let logits = logits.into_dispatch();
    Tensor::from_dispatch(<Dispatch as DrawOps>::sums_of_blocks(logits, block, scale))
}

/// The logits of a block of every draw, `−∞` after the vocabulary's end, in f32, `[draws, block]`.
///
/// - `logits`: `[rows, vocabulary]`
/// - `at`: of every draw its row times the blocks of a row, plus the number of its block, `[draws]`
pub fn blocks(logits: Tensor<2>, at: Tensor<1, Int>, block: usize) -> Tensor<2> {
    let (logits, at) = (logits.into_dispatch(), at.into_dispatch());
    Tensor::from_dispatch(<Dispatch as DrawOps>::chosen_blocks(logits, at, block))
}

/// The two as burn dispatches them.
#[backend_extension(Cube)]
pub trait DrawOps: Backend {
    /// As [`block_sums`] says.
    fn sums_of_blocks(logits: FloatTensor<Self>, block: usize, scale: f32) -> FloatTensor<Self>;

    /// As [`blocks`] says.
    fn chosen_blocks(
        logits: FloatTensor<Self>,
        at: IntTensor<Self>,
        block: usize,
    ) -> FloatTensor<Self>;
}

impl DrawOps for CubeBackend {
    fn sums_of_blocks(logits: CubeTensor, block: usize, scale: f32) -> CubeTensor {
        let logits = into_contiguous(logits);
        let [rows, vocabulary] = logits.shape().dims();
        let told = Shape::new([rows, 2 + vocabulary.div_ceil(block)]);
        let out = empty_f32(&logits, told);
        let dtype = dtype_to_storage_type(logits.dtype);
        let plane = logits.client.properties().hardware.plane_size_max;
        kernel::sums_of_blocks::launch(
            &logits.client.clone(),
            cubes(rows),
            CubeDim::new_2d(plane, PLANES as u32),
            logits.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            scale,
            block,
            PLANES,
            dtype,
        );
        out
    }

    fn chosen_blocks(logits: CubeTensor, at: CubeTensor, block: usize) -> CubeTensor {
        let [logits, at] = [logits, at].map(into_contiguous);
        let out = empty_f32(&logits, Shape::new([at.shape().num_elements(), block]));
        let types = [logits.dtype, at.dtype].map(dtype_to_storage_type);
        let (count, dim) = by_entry(out.shape().num_elements());
        kernel::chosen_blocks::launch(
            &logits.client.clone(),
            count,
            dim,
            logits.into_tensor_arg(),
            at.into_tensor_arg(),
            out.clone().into_tensor_arg(),
            block,
            types,
        );
        out
    }
}

#[allow(clippy::manual_div_ceil, reason = "a kernel has no `div_ceil`")]
mod kernel {
    use cubecl::prelude::*;

    /// A cube has a row; its planes divide the blocks among them.
    #[cube(launch)]
    pub fn sums_of_blocks<F: Float>(
        logits: &Tensor<F>,
        out: &mut Tensor<f32>,
        scale: f32,
        #[comptime] block: usize,
        #[comptime] planes: usize,
        #[define(F)] _dtype: ElemType,
    ) {
        let mut parts = Shared::<[f32]>::new_slice(2 * planes);
        let vocabulary = logits.shape(1);
        let row = CUBE_POS;
        if row >= logits.shape(0) {
            terminate!();
        }
        let unit = UNIT_POS_X as usize;
        let units = CUBE_DIM_X as usize;
        let plane = UNIT_POS_Y as usize;
        let at = row * vocabulary;
        let to = row * out.shape(1);

        let mut most = f32::min_value();
        let mut least = f32::max_value();
        let mut entry = plane * units + unit;
        while entry < vocabulary {
            let logit = f32::cast_from(logits[at + entry]);
            most = max(most, logit);
            least = min(least, logit);
            entry += planes * units;
        }
        let most_of_plane = plane_max(most);
        let least_of_plane = plane_min(least);
        if unit == 0 {
            parts[plane] = most_of_plane;
            parts[planes + plane] = least_of_plane;
        }
        sync_cube();
        let mut largest = parts[0];
        let mut smallest = parts[planes];
        #[unroll]
        for other in 1..planes {
            largest = max(largest, parts[other]);
            smallest = min(smallest, parts[planes + other]);
        }
        if UNIT_POS == 0 {
            out[to] = largest;
            out[to + 1] = smallest;
        }

        let mut start = plane * block;
        let mut number = plane;
        while start < vocabulary {
            let end = min(start + block, vocabulary);
            let mut sum = 0.0f32;
            let mut entry = start + unit;
            while entry < end {
                sum += ((f32::cast_from(logits[at + entry]) - largest) * scale).exp();
                entry += units;
            }
            let sum = plane_sum(sum);
            if unit == 0 {
                out[to + 2 + number] = sum;
            }
            start += planes * block;
            number += planes;
        }
    }

    #[cube(launch)]
    pub fn chosen_blocks<F: Float, I: Int>(
        logits: &Tensor<F>,
        at: &Tensor<I>,
        out: &mut Tensor<f32>,
        #[comptime] block: usize,
        #[define(F, I)] _types: [ElemType; 2],
    ) {
        let to = ABSOLUTE_POS;
        if to >= out.len() {
            terminate!();
        }
        let vocabulary = logits.shape(1);
        let blocks = (vocabulary + block - 1) / block;
        let chosen = usize::cast_from(at[to / block]);
        let row = chosen / blocks;
        let entry = (chosen % blocks) * block + to % block;
        let mut logit = f32::min_value();
        if entry < vocabulary {
            logit = f32::cast_from(logits[row * vocabulary + entry]);
        }
        out[to] = logit;
    }
}
