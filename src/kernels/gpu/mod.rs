//! Kernels of GPUs, one source for all of them: CUDA, ROCm, Metal, Vulkan, WebGPU.
//!
//! Every operation of the plain forms is a launch of its own, and on a small model launches take longer than what they
//! launch. So each of these is one launch forward, and one or two backward.
//!
//! | file | operation |
//! |---|---|
//! | `attention_weights` | the softmax of scores over the keys that each query sees |
//! | `decode` | attention of new tokens to a shared prompt |
//! | `few_rows` | products of a few rows with a weight |
//! | `head` | log-probabilities of targets, the logits a chunk at a time |
//! | `draw` | sums of logits by blocks, for drawing tokens |
//! | `bias`, `sums` | a bias; sums over rows, sums of squares |
//! | `norm` | the norms by root mean square and by mean and variance |
//! | `rotary` | rotary positions |
//! | `activation` | SiLU·up, GELU |
//! | `adam` | Adam's update |
//!
//! An NVIDIA GPU has run them and the parity test; on others the feature `gpu-kernels` turns them on.
//!
//! They read and write f32, bf16 or f16, and compute in f32. Sums go over the units of a plane in a fixed order.

pub mod activation;
pub mod adam;
pub mod attention_weights;
pub mod bias;
pub mod decode;
pub mod draw;
pub mod few_rows;
pub mod head;
pub mod norm;
pub mod rotary;
pub mod sums;

use burn::backend::{CubeDevice, TensorMetadata};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::{CubeCount, CubeDim};

use crate::device::{cube_has_gpu_kernels, has_gpu_kernels};

/// Units of a cube of operations on single entries.
const UNITS: usize = 256;
/// Rows of a cube of operations on rows, a plane each.
const ROWS: u32 = 4;

/// Whether these kernels take `x`.
pub fn takes<const D: usize>(x: &Tensor<D>) -> bool {
    has_gpu_kernels(&x.device())
}

/// Whether these kernels run on `device`.
pub fn takes_on(device: &CubeDevice) -> bool {
    cube_has_gpu_kernels(device)
}

/// Without gaps between rows, which the runtime leaves for itself: the kernels count entries from the start.
fn empty_like(it: &CubeTensor) -> CubeTensor {
    empty_device_contiguous_dtype(it.client.clone(), it.device.clone(), it.shape(), it.dtype)
}

/// In f32, without gaps, where `like` is.
fn empty_f32(like: &CubeTensor, shape: Shape) -> CubeTensor {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), shape, DType::F32)
}

/// Enough cubes for `count`, on two axes: devices limit the cubes of one.
fn cubes(count: usize) -> CubeCount {
    let columns = count.clamp(1, 1 << 15);
    CubeCount::Static(columns as u32, count.div_ceil(columns) as u32, 1)
}

/// A unit for every entry.
fn by_entry(entries: usize) -> (CubeCount, CubeDim) {
    (cubes(entries.div_ceil(UNITS)), CubeDim::new_1d(UNITS as u32))
}

/// A plane for every row.
fn by_row(it: &CubeTensor, rows: usize) -> (CubeCount, CubeDim) {
    let plane = it.client.properties().hardware.plane_size_max;
    (cubes(rows.div_ceil(ROWS as usize)), CubeDim::new_2d(plane, ROWS))
}

/// Rows of the last axis, and their width.
fn rows_and_width(it: &CubeTensor) -> (usize, usize) {
    let shape = it.shape();
    let width = shape[shape.num_dims() - 1];
    (shape.num_elements() / width.max(1), width)
}
