//! The model that adapters were trained on.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;

use crate::model::weights::ParameterPath;

/// The module as it is without its adapters, its weights shared with it. Adapted weights are copied.
pub fn without_adapters<M: Module>(module: M) -> M {
    module.map(&mut Without(ParameterPath::default())).materialize()
}

/// Makes adapters add nothing: their second factor becomes zero.
struct Without(ParameterPath);

impl ModuleMapper for Without {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.0.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.0.leave();
    }

    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.dotted().ends_with(".lora.b") {
            true => parameter.map(|factor| factor.zeros_like()),
            false => parameter,
        }
    }
}
