//! The names of parameters, and their ids, which are the same in every process.

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::Tensor;

/// `a.b.c` of the parameter a walk over a module stands at.
#[derive(Default)]
pub(in crate::model) struct ParameterPath(Vec<String>);

impl ParameterPath {
    /// The path written `a.b.c`.
    pub fn of(dotted: &str) -> Self {
        Self(dotted.split('.').map(str::to_owned).collect())
    }

    pub fn enter(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    pub fn leave(&mut self) {
        self.0.pop();
    }

    /// The path without the names of enum variants, which say nothing about the parameter.
    pub fn dotted(&self) -> String {
        self.0
            .iter()
            .filter(|name| !name.starts_with(char::is_uppercase))
            .cloned()
            .collect::<Vec<_>>()
            .join(".")
    }

    /// A number that stands for the path in every process.
    pub fn number(&self) -> u64 {
        let hash = blake3::hash(self.dotted().as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_le_bytes(first)
    }
}

/// A parameter, tracked where its device tracks.
pub(super) fn parameter<const D: usize>(tensor: Tensor<D>) -> Param<Tensor<D>> {
    let is_tracked = tensor.device().is_autodiff();
    Param::from_tensor(if is_tracked { tensor.require_grad() } else { tensor })
}

/// Gives every parameter the identity its path has in every process, so that an optimizer's saved
/// state finds its parameter again.
pub fn with_stable_ids<M: Module>(module: M) -> M {
    struct Stable(ParameterPath);

    impl ModuleMapper for Stable {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.enter(name);
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.leave();
        }

        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (_, tensor, mapper) = param.consume();
            Param::from_mapped_value(ParamId::from(self.0.number()), tensor, mapper)
        }
    }

    module.map(&mut Stable(ParameterPath::default()))
}
