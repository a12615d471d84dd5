//! Products of a few rows with a weight, in bf16 or f16, on the device's matrix units.
//!
//! Such a product reads each weight for a few rows only, so that time goes to waiting for memory. A cube has 16 columns
//! of the weight, and its planes divide the inputs among them, so that many read at once; their sums are added in f32, in
//! the order of the planes.

use burn::backend::TensorMetadata;
use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::features::MmaConfig;
use cubecl::{CubeCount, CubeDim};

/// Rows and columns of a tile.
const TILE: usize = 16;
/// Most rows: 8 tiles, whose sums a plane keeps in registers.
const MOST_ROWS: usize = 8 * TILE;
/// Planes of a cube.
const PLANES: usize = 8;

/// `x · weight`, `[rows, in] · [in, out]` → `[rows, out]`, where this kernel takes it: a few rows, sizes that are whole
/// tiles, a weight that lies in memory by rows or by columns.
pub fn product(x: &CubeTensor, weight: &CubeTensor) -> Option<CubeTensor> {
    let (shape, strides) = (weight.meta.shape(), weight.meta.strides());
    if x.meta.shape().num_dims() != 2 || shape.num_dims() != 2 || x.dtype != weight.dtype {
        return None;
    }
    let [rows, inputs]: [usize; 2] = x.shape().dims();
    let outputs = shape[1];
    let is_few = (TILE..=MOST_ROWS).contains(&rows);
    let is_whole = inputs % TILE == 0 && outputs % TILE == 0 && inputs > 0 && outputs > 0;
    let by_columns = strides[0] == 1 && strides[1] == inputs;
    let by_rows = strides[1] == 1 && strides[0] == outputs;
    if !is_few || !is_whole || !(by_columns || by_rows) || !super::takes_on(&x.device) || !fits(x) {
        return None;
    }
    let x = into_contiguous(x.clone());
    let (client, device) = (x.client.clone(), x.device.clone());
    let out = empty_device_contiguous_dtype(client, device, Shape::new([rows, outputs]), x.dtype);
    let dtype = dtype_to_storage_type(x.dtype);
    kernel::product::launch(
        &x.client.clone(),
        CubeCount::Static((outputs / TILE) as u32, 1, 1),
        CubeDim::new_2d(32, PLANES as u32),
        x.into_tensor_arg(),
        weight.clone().into_tensor_arg(),
        out.clone().into_tensor_arg(),
        rows as u32,
        inputs as u32,
        outputs as u32,
        rows.div_ceil(TILE),
        PLANES,
        by_columns && !by_rows,
        dtype,
    );
    Some(out)
}

/// Whether the device has matrix units for the type, and planes of 32.
fn fits(x: &CubeTensor) -> bool {
    let properties = x.client.properties();
    let [of_factor, of_sum] = [x.dtype, DType::F32].map(dtype_to_storage_type);
    let tile = MmaConfig {
        a_type: of_factor,
        b_type: of_factor,
        cd_type: of_sum,
        m: TILE as u32,
        n: TILE as u32,
        k: TILE as u32,
    };
    x.dtype != DType::F32
        && properties.hardware.plane_size_max == 32
        && properties.features.matmul.cmma.contains(&tile)
}

mod kernel {
    use cubecl::cmma::{self, Matrix, MatrixIdent, MatrixLayout};
    use cubecl::prelude::*;

    #[cube(launch)]
    pub fn product<F: Float>(
        x: &Tensor<F>,
        weight: &Tensor<F>,
        out: &mut Tensor<F>,
        rows: u32,
        inputs: u32,
        outputs: u32,
        #[comptime] tiles: usize,
        #[comptime] planes: usize,
        #[comptime] by_columns: bool,
        #[define(F)] _dtype: ElemType,
    ) {
        let mut parts = Shared::<[f32]>::new_slice(planes * 256);
        let unit = UNIT_POS_X as usize;
        let plane = UNIT_POS_Y as usize;
        let column = CUBE_POS_X as usize * 16;
        let last = rows as usize - 16;
        let width = inputs as usize;

        let mut sums = Sequence::<Matrix<f32>>::new();
        #[unroll]
        for _ in 0..tiles {
            sums.push(Matrix::<f32>::from_value(
                MatrixIdent::Accumulator,
                16usize,
                16usize,
                16usize,
                MatrixLayout::Undefined,
                0.0f32,
            ));
        }
        let mut input = plane * 16;
        while input < width {
            if comptime!(by_columns) {
                let b = Matrix::<F>::from_slice(
                    MatrixIdent::B,
                    16usize,
                    16usize,
                    16usize,
                    MatrixLayout::ColMajor,
                    &weight[column * width + input..weight.len()],
                    inputs,
                );
                #[unroll]
                for tile in 0..tiles {
                    let row = min(tile * 16, last);
                    let a = Matrix::<F>::from_slice(
                        MatrixIdent::A,
                        16usize,
                        16usize,
                        16usize,
                        MatrixLayout::RowMajor,
                        &x[row * width + input..x.len()],
                        inputs,
                    );
                    let sum = sums.index(tile);
                    cmma::execute(&a, &b, sum, sum);
                }
            } else {
                let b = Matrix::<F>::from_slice(
                    MatrixIdent::B,
                    16usize,
                    16usize,
                    16usize,
                    MatrixLayout::RowMajor,
                    &weight[input * outputs as usize + column..weight.len()],
                    outputs,
                );
                #[unroll]
                for tile in 0..tiles {
                    let row = min(tile * 16, last);
                    let a = Matrix::<F>::from_slice(
                        MatrixIdent::A,
                        16usize,
                        16usize,
                        16usize,
                        MatrixLayout::RowMajor,
                        &x[row * width + input..x.len()],
                        inputs,
                    );
                    let sum = sums.index(tile);
                    cmma::execute(&a, &b, sum, sum);
                }
            }
            input += planes * 16;
        }

        #[unroll]
        for tile in 0..tiles {
            // The last tile begins early where rows are no whole tiles: some rows are written twice, with the same sums.
            let row = min(tile * 16, last);
            let sum = sums.index(tile);
            cmma::store(
                &mut parts[plane * 256..plane * 256 + 256],
                sum,
                16,
                MatrixLayout::RowMajor,
            );
            sync_cube();
            let mut entry = plane * 32 + unit;
            while entry < 256 {
                let mut total = 0.0f32;
                #[unroll]
                for other in 0..planes {
                    total += parts[other * 256 + entry];
                }
                let to = (row + entry / 16) * outputs as usize + column + entry % 16;
                out[to] = F::cast_from(total);
                entry += planes * 32;
            }
            sync_cube();
        }
    }
}
