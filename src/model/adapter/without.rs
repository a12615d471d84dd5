//! The model that adapters were trained on, and the one they make of it.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Int, Tensor};

use crate::model::weights::ParameterPath;

/// The module with its adapters added into its weights, which are then copies. Weights in few bits keep
/// their adapters beside them.
pub fn with_adapters_added<M: Module>(module: M) -> M {
    if is_packed(&module) { module } else { module.materialize() }
}

/// The module as it is without its adapters, its weights shared with it. Adapted weights are copied, unless
/// they are in few bits.
pub fn without_adapters<M: Module>(module: M) -> M {
    with_adapters_added(module.map(&mut Without(ParameterPath::default())))
}

/// Whether weights of the module are in few bits.
pub(in crate::model) fn is_packed<M: Module>(module: &M) -> bool {
    /// Whether there are integers among the parameters: nothing else has them.
    struct Integers(bool);

    impl ModuleVisitor for Integers {
        fn visit_int<const D: usize>(&mut self, _: &Param<Tensor<D, Int>>) {
            self.0 = true;
        }
    }

    let mut integers = Integers(false);
    module.visit(&mut integers);
    integers.0
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
