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
use cubek::matmul::multi_level::components::tile::TileMatmulKind;
use cubek::matmul::multi_level::routines::TileSizeSelection::MaxTileSize;
use cubek::matmul::multi_level::routines::batch::double_buffering::DoubleBufferingArgs;
use cubek::matmul::multi_level::routines::batch::simple_unit::SimpleUnitSelectionArgs;
use cubek::matmul::routine::BlueprintStrategy::Inferred;
use cubek::std::InputBinding;

use super::{ProductOps, shape_of_product};

impl ProductOps for CubeBackend {
    /// In f32 by ordinary cores: tensor cores round the factors to TF32. No kernel is chosen by the clock, which would
    /// give other bits in another process.
    fn product(a: CubeTensor, b: CubeTensor) -> CubeTensor {
        #[cfg(feature = "gpu-kernels")]
        if let Some(out) = crate::kernels::gpu::few_rows::product(&a, &b) {
            return out;
        }
        let shape = shape_of_product(a.meta.shape(), b.meta.shape());
        let out = empty_device_dtype(a.client.clone(), a.device.clone(), shape, a.dtype);
        if out.meta.shape().iter().any(|&len| len == 0) {
            return out;
        }
        if a.dtype != DType::F32 {
            // Of the runtime's kernels the one that is even over all forms of a product, transposed or not.
            let args = DoubleBufferingArgs { tile_matmul: TileMatmulKind::Mma, specialized: false };
            let narrow = Strategy::DoubleCyclicMma(Inferred(args));
            return match launch(&narrow, a.clone(), b.clone(), out.clone()) {
                Ok(()) => out,
                Err(_) => Self::float_matmul(a, b),
            };
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
