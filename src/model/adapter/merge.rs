//! Merges adapters into the weights they belong to.

use burn::module::{Module, Param, Reparameterizer};
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::factors::Factors;
use super::{Adapters, EmbeddingRows};
use crate::kernels::linear::Frozen;
use crate::kernels::product::multiply;
use crate::model::precision::as_type;
use crate::model::weights::ParameterPath;

/// `module` with `adapters` added into its weights, in f32 whatever their type.
pub(super) fn merge<M: Module>(adapters: Adapters, module: M, device: &Device) -> M {
    module.apply_reparameterization(Merge { adapters, device: device.clone() })
}

struct Merge {
    adapters: Adapters,
    device: Device,
}

impl Reparameterizer for Merge {
    type Reparam = Frozen;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Frozen>) {
        let path = ParameterPath::of(path).dotted();
        let factors = self.adapters.factors.remove(&path);
        let bias = self.adapters.biases.remove(&path);
        let rows = self.adapters.rows.remove(&path);
        if factors.is_none() && bias.is_none() && rows.is_none() {
            return (param, None);
        }
        let tracked = self.device.is_autodiff();
        let merged = param.map(|base: Tensor<D>| {
            let (dims, dtype) = (base.dims(), base.dtype());
            let columns = dims[D - 1];
            let rows_of_base = dims.iter().product::<usize>() / columns;
            let mut sum = as_type(base.reshape([rows_of_base, columns]), DType::F32);
            if let Some(rows) = &rows {
                sum = with_rows(sum, rows);
            }
            if let Some(factors) = &factors {
                sum = adapted(sum, factors, &self.device);
            }
            if let Some(bias) = &bias {
                let bias = TensorData::new(bias.clone(), [1, columns]);
                sum = sum + Tensor::from_data(bias, &self.device);
            }
            let sum = as_type(sum, dtype).reshape(dims).detach();
            if tracked { sum.require_grad() } else { sum }
        });
        (merged, None)
    }
}

/// `base + scale · a b`; of learned magnitude, each column is brought to the length learned.
fn adapted(base: Tensor<2>, factors: &Factors, device: &Device) -> Tensor<2> {
    let delta = multiply(factors.a.tensor(device), factors.b.tensor(device)) * factors.scale;
    let sum = base + delta; // [in, out]
    match &factors.magnitude {
        None => sum,
        Some(magnitude) => {
            let magnitude = TensorData::new(magnitude.clone(), [1, magnitude.len()]);
            let lengths = sum.clone().square().sum_dim(0).sqrt(); // [1, out]
            sum * (Tensor::<2>::from_data(magnitude, device) / lengths)
        }
    }
}

/// `base` with some of its rows replaced.
fn with_rows(base: Tensor<2>, rows: &EmbeddingRows) -> Tensor<2> {
    let (device, dims) = (base.device(), base.dims());
    let mut values: Vec<f32> = base.into_data().try_into_vec().expect("f32");
    for (row, &index) in rows.indices.iter().enumerate() {
        let own = &rows.values.values[row * dims[1]..(row + 1) * dims[1]];
        values[index * dims[1]..(index + 1) * dims[1]].copy_from_slice(own);
    }
    Tensor::from_data(TensorData::new(values, dims), &device)
}
