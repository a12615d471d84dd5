//! Matrix products: which of the runtime's kernels multiplies what.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems, MatmulSetupError};
use cubek::matmul::launch::launch_ref;
use cubek::matmul::multi_level::Strategy;
use cubek::matmul::multi_level::components::tile::TileMatmulKind;
use cubek::matmul::multi_level::routines::TileSizeSelection;
use cubek::matmul::multi_level::routines::batch::double_buffering::DoubleBufferingArgs;
use cubek::matmul::multi_level::routines::batch::simple::SimpleArgs;
use cubek::matmul::multi_level::routines::batch::simple_unit::SimpleUnitSelectionArgs;
use cubek::matmul::routine::BlueprintStrategy::Inferred;
use cubek::std::InputBinding;

use crate::kernels::product::{ProductOps, shape_of_product};

impl ProductOps for CubeBackend {
    fn product(a: CubeTensor, b: CubeTensor) -> CubeTensor {
        let shape = shape_of_product(a.meta.shape(), b.meta.shape());
        let out = empty_device_dtype(a.client.clone(), a.device.clone(), shape, a.dtype);
        if out.meta.shape().iter().any(|&len| len == 0) {
            return out;
        }
        for strategy in strategies(a.dtype) {
            if launch(&strategy, a.clone(), b.clone(), out.clone()).is_ok() {
                return out;
            }
        }
        // It takes every shape on every device.
        let naive = launch(&Strategy::Naive, a, b, out.clone());
        naive.unwrap_or_else(|error| panic!("no kernel takes the product: {error:?}"));
        out
    }
}

/// What is tried, first to last. Measuring which is fastest for a shape, as burn can, would give other bits in
/// another process.
fn strategies(dtype: DType) -> Vec<Strategy> {
    let unit = SimpleUnitSelectionArgs { tile_size: TileSizeSelection::MaxTileSize };
    let unit = Strategy::SimpleUnit(Inferred(unit));
    if dtype == DType::F32 {
        // Tensor cores round the factors to TF32.
        return vec![unit];
    }
    let double = DoubleBufferingArgs { specialized: false, tile_matmul: TileMatmulKind::Mma };
    let simple = SimpleArgs { multi_rows: false, tile_matmul: TileMatmulKind::Cmma };
    vec![
        Strategy::DoubleCyclicMma(Inferred(double)),
        Strategy::SimpleCyclicCmma(Inferred(simple)),
        unit,
    ]
}

fn launch(
    strategy: &Strategy,
    a: CubeTensor,
    b: CubeTensor,
    out: CubeTensor,
) -> Result<(), MatmulSetupError> {
    let [lhs, rhs, of_out] = [a.dtype, b.dtype, out.dtype].map(dtype_to_storage_type);
    let mut types = MatmulElems::from_globals(&MatmulGlobalElems { lhs, rhs, out: of_out });
    let client = out.client.clone();
    let (a, b) = (InputBinding::new(a.binding(), lhs), InputBinding::new(b.binding(), rhs));
    launch_ref(&strategy.clone().into(), &client, a, b, out.binding(), &mut types)
}
