//! The product on GPUs.

use burn::backend::cubecl::dtype_to_storage_type;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::DType;
use burn_cubecl::CubeBackend;
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems, MatmulSetupError};
use cubek::matmul::launch::launch_ref;
use cubek::matmul::multi_level::Strategy;
use cubek::matmul::multi_level::routines::TileSizeSelection::MaxTileSize;
use cubek::matmul::multi_level::routines::batch::simple_unit::SimpleUnitSelectionArgs;
use cubek::matmul::routine::BlueprintStrategy::Inferred;
use cubek::std::InputBinding;

use super::{ProductOps, shape_of_product};

impl ProductOps for CubeBackend {
    /// In f32 by ordinary cores: tensor cores round the factors to TF32. Else as burn multiplies. No kernel is chosen by
    /// the clock, which would give other bits in another process.
    fn product(a: CubeTensor, b: CubeTensor) -> CubeTensor {
        if a.dtype != DType::F32 {
            return Self::float_matmul(a, b);
        }
        let shape = shape_of_product(a.meta.shape(), b.meta.shape());
        let out = empty_device_dtype(a.client.clone(), a.device.clone(), shape, DType::F32);
        if out.meta.shape().iter().any(|&len| len == 0) {
            return out;
        }
        let unit = SimpleUnitSelectionArgs { tile_size: MaxTileSize };
        let unit = Strategy::SimpleUnit(Inferred(unit));
        if launch(&unit, a.clone(), b.clone(), out.clone()).is_err() {
            // It takes every shape on every device.
            let naive = launch(&Strategy::Naive, a, b, out.clone());
            naive.unwrap_or_else(|error| panic!("no kernel takes the product: {error:?}"));
        }
        out
    }
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
