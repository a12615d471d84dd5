//! The float types of weights in memory and in files, and of the computations with them.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

use super::families::SCORE;
use super::weights::ParameterPath;
use crate::kernels::cast::to_bf16;
use crate::kernels::packed::Format;

/// The width of a float.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, the exponent of f32.
    Bf16,
    /// 16 bits, IEEE half.
    F16,
}

impl Precision {
    /// As burn calls it.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }

    /// As settings call it.
    pub fn short_name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// As `config.json` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    /// Of the name in `config.json`; f32 for any other.
    pub fn named(name: &str) -> Self {
        match name {
            "bfloat16" => Self::Bf16,
            "float16" => Self::F16,
            _ => Self::F32,
        }
    }
}

/// What weights are kept as in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightType {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, the exponent of f32.
    Bf16,
    /// 16 bits, IEEE half.
    F16,
    /// The matrices of the blocks in 8.5 bits, all else in bf16.
    Q8,
    /// The matrices of the blocks in 4.5 bits, all else in bf16.
    Q4,
}

impl WeightType {
    /// The floats of what is not packed.
    pub fn precision(self) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            Self::Bf16 | Self::Q8 | Self::Q4 => Precision::Bf16,
            Self::F16 => Precision::F16,
        }
    }

    /// How the matrices of the blocks are packed, if they are.
    pub fn format(self) -> Option<Format> {
        match self {
            Self::Q8 => Some(Format::Q8),
            Self::Q4 => Some(Format::Q4),
            Self::F32 | Self::Bf16 | Self::F16 => None,
        }
    }

    /// As settings call it.
    pub fn short_name(self) -> &'static str {
        match self {
            Self::Q8 => "q8",
            Self::Q4 => "q4",
            _ => self.precision().short_name(),
        }
    }
}

impl From<Precision> for WeightType {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
            Precision::F16 => Self::F16,
        }
    }
}

/// Whether a parameter's name is one of a matrix of a block.
pub(super) fn is_of_block(name: &str) -> bool {
    name.ends_with(".weight") && name.trim_start_matches("decoder.").starts_with("blocks.")
}

/// Whether a parameter's name is one of a normalisation, which is computed in f32 by weights that are.
pub(super) fn is_of_norm(name: &str) -> bool {
    matches!(name.rsplit('.').next(), Some("gamma" | "beta"))
}

/// The module with copies of its parameters in `precision`, under the same names and ids. What trains is a leaf of the
/// backward pass in the copy: its gradients are those of the copies, in their type. So a parameter may be reached by
/// several backward passes, as where activations are computed again.
pub fn computing_in<M: Module>(module: M, precision: Precision) -> M {
    match precision {
        Precision::F32 => module,
        _ => module.map(&mut Copies { dtype: precision.dtype(), path: ParameterPath::default() }),
    }
}

struct Copies {
    dtype: DType,
    path: ParameterPath,
}

impl ModuleMapper for Copies {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.leave();
    }

    fn map_float<const D: usize>(&mut self, parameter: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.dotted();
        if is_of_norm(&path) || path.ends_with(SCORE) {
            return parameter;
        }
        parameter.map(|original| {
            if !original.device().is_autodiff() {
                return as_type(original, self.dtype);
            }
            let trains = original.is_require_grad();
            let copy = Tensor::from_inner(as_type(original.inner(), self.dtype));
            if trains { copy.require_grad() } else { copy }
        })
    }
}

/// `function` computed in f32, whatever the type of `x`.
pub(super) fn in_f32<const D: usize>(
    x: Tensor<D>,
    function: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    let dtype = x.dtype();
    as_type(function(as_type(x, DType::F32)), dtype)
}

/// `function`, which computes in f32 itself on a GPU and takes any type there, computed in f32.
pub(super) fn norm_in_f32<const D: usize>(
    x: Tensor<D>,
    function: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    #[cfg(feature = "gpu-kernels")]
    if crate::kernels::gpu::takes(&x) {
        return function(x);
    }
    in_f32(x, function)
}

/// `x` as `dtype`, itself where it is that already.
pub(super) fn as_type<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    match dtype {
        _ if x.dtype() == dtype => x,
        DType::BF16 => to_bf16(x),
        _ => x.cast(dtype),
    }
}
