//! New weights of a model that is trained from nothing.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_distr::Distribution;

use super::parameters::{ParameterPath, parameter};
use crate::model::DecoderConfig;

/// Initial weights of a GPT-2 to be trained from nothing, from `seed`: normal with deviation 0.02,
/// the projections into the residual stream scaled down by √(2 · layers) (Radford et al. 2019).
pub fn initialize<M: Module>(module: M, shape: &DecoderConfig, seed: u64, device: &Device) -> M {
    let mut initializer = Initializer {
        path: ParameterPath::default(),
        seed,
        residual: 0.02 / (2.0 * shape.num_layers as f64).sqrt(),
        device,
    };
    module.map(&mut initializer)
}

struct Initializer<'a> {
    path: ParameterPath,
    seed: u64,
    residual: f64,
    device: &'a Device,
}

impl ModuleMapper for Initializer<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.leave();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape: [usize; D] = param.lazy_shape().dims();
        let path = self.path.dotted();
        let deviation = match path.as_str() {
            _ if path.ends_with("output.weight") || path.ends_with("down.weight") => self.residual,
            _ if path.ends_with("weight") => 0.02,
            _ => 0.0,
        };
        let constant = if path.ends_with("gamma") { 1.0 } else { 0.0 };
        let mut random = rand_chacha::ChaCha12Rng::seed_from_u64(self.seed ^ self.path.number());
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| {
                let normal: f64 = rand_distr::StandardNormal.sample(&mut random);
                (constant + deviation * normal) as f32
            })
            .collect();
        let data = TensorData::new(values, shape);
        parameter(Tensor::from_data(data, (self.device, DType::F32)))
    }
}
