//! Sums over the rows of a matrix, and sums of squares.
//!
//! Both in two stages: parts first, then their sum, so that the whole device works on a tall matrix, and always in the
//! same order.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::{CubeCount, CubeDim};

use super::{UNITS, empty_f32, rows_and_width};

/// Columns of a cube, side by side in memory.
const COLUMNS: usize = 32;
/// Rows that a cube reads at once.
const LAYERS: usize = UNITS / COLUMNS;
/// Rows of a cube, where the axis of cubes allows.
const ROWS: usize = 128;
/// Most cubes along the rows.
const PARTS: usize = 1 << 12;
/// Cubes of a sum of squares, each with a part of it.
pub const PARTS_OF_SQUARES: usize = 256;

/// `into` with the parts of Σ x² written from `at` on; the caller adds them up.
///
/// - `into`: f32, of which nobody else holds a copy
pub fn squares<const D: usize>(x: Tensor<D>, into: Tensor<1>, at: usize) -> Tensor<1> {
    let (x, into) = (x.into_dispatch(), into.into_dispatch());
    Tensor::from_dispatch(<Dispatch as SumOps>::parts_of_squares(x, into, at))
}

/// The sums as burn dispatches them.
#[backend_extension(Cube)]
pub trait SumOps: Backend {
    /// Σ over all axes but the last, f32, `[width]`.
    fn sum_over_rows(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// As [`squares`] says.
    fn parts_of_squares(
        x: FloatTensor<Self>,
        into: FloatTensor<Self>,
        at: usize,
    ) -> FloatTensor<Self>;
}

impl SumOps for CubeBackend {
    fn sum_over_rows(x: CubeTensor) -> CubeTensor {
        let x = into_contiguous(x);
        let (rows, width) = rows_and_width(&x);
        let each = ROWS.max(rows.div_ceil(PARTS));
        let parts = if rows <= 2 * ROWS { x } else { parts_over_rows(x, width, each) };
        let rows = rows_and_width(&parts).0;
        let sum = parts_over_rows(parts, width, rows.max(1));
        Self::float_reshape(sum, Shape::new([width]))
    }

    fn parts_of_squares(x: CubeTensor, into: CubeTensor, at: usize) -> CubeTensor {
        let x = into_contiguous(x);
        let dtype = dtype_to_storage_type(x.dtype);
        let plane = x.client.properties().hardware.plane_size_max;
        kernel::squares::launch(
            &x.client.clone(),
            CubeCount::Static(PARTS_OF_SQUARES as u32, 1, 1),
            CubeDim::new_2d(plane, UNITS as u32 / plane),
            x.into_tensor_arg(),
            into.clone().into_tensor_arg(),
            at as u32,
            UNITS,
            UNITS / plane as usize,
            dtype,
        );
        into
    }
}

/// Sums of `each` rows, `[parts, width]`.
fn parts_over_rows(x: CubeTensor, width: usize, each: usize) -> CubeTensor {
    let rows = x.shape().num_elements() / width.max(1);
    let parts = rows.div_ceil(each).max(1);
    let out = empty_f32(&x, Shape::new([parts, width]));
    let dtype = dtype_to_storage_type(x.dtype);
    kernel::over_rows::launch(
        &x.client.clone(),
        CubeCount::Static(width.div_ceil(COLUMNS) as u32, parts as u32, 1),
        CubeDim::new_2d(COLUMNS as u32, LAYERS as u32),
        x.into_tensor_arg(),
        out.clone().into_tensor_arg(),
        rows as u32,
        width as u32,
        each as u32,
        COLUMNS,
        LAYERS,
        dtype,
    );
    out
}

mod kernel {
    use cubecl::prelude::*;

    #[cube(launch)]
    pub fn over_rows<F: Float>(
        x: &Tensor<F>,
        out: &mut Tensor<f32>,
        rows: u32,
        width: u32,
        each: u32,
        #[comptime] columns: usize,
        #[comptime] layers: usize,
        #[define(F)] _dtype: ElemType,
    ) {
        let mut parts = Shared::<[f32]>::new_slice(columns * layers);
        let unit = UNIT_POS_X as usize;
        let layer = UNIT_POS_Y as usize;
        let width = width as usize;
        let column = CUBE_POS_X as usize * columns + unit;
        let part = CUBE_POS_Y as usize;
        let first = part * each as usize;
        let end = min(first + each as usize, rows as usize);
        let mut sum = 0.0f32;
        if column < width {
            let mut row = first + layer;
            while row < end {
                sum += f32::cast_from(x[row * width + column]);
                row += layers;
            }
        }
        parts[layer * columns + unit] = sum;
        sync_cube();
        if layer == 0 && column < width {
            let mut total = 0.0f32;
            #[unroll]
            for other in 0..layers {
                total += parts[other * columns + unit];
            }
            out[part * width + column] = total;
        }
    }

    #[cube(launch)]
    pub fn squares<F: Float>(
        x: &Tensor<F>,
        out: &mut Tensor<f32>,
        at: u32,
        #[comptime] units: usize,
        #[comptime] planes: usize,
        #[define(F)] _dtype: ElemType,
    ) {
        let mut parts = Shared::<[f32]>::new_slice(planes);
        let unit = UNIT_POS as usize;
        let cubes = CUBE_COUNT_X as usize;
        let mut sum = 0.0f32;
        let mut entry = CUBE_POS * units + unit;
        while entry < x.len() {
            let value = f32::cast_from(x[entry]);
            sum += value * value;
            entry += cubes * units;
        }
        let of_plane = plane_sum(sum);
        if UNIT_POS_X == 0 {
            parts[UNIT_POS_Y as usize] = of_plane;
        }
        sync_cube();
        if unit == 0 {
            let mut total = parts[0];
            #[unroll]
            for other in 1..planes {
                total += parts[other];
            }
            out[at as usize + CUBE_POS] = total;
        }
    }
}
