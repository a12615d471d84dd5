//! What weights are kept and written as.

use burn::tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

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

/// `function` computed in f32, whatever the type of `x`.
pub(super) fn in_f32<const D: usize>(
    x: Tensor<D>,
    function: impl FnOnce(Tensor<D>) -> Tensor<D>,
) -> Tensor<D> {
    let dtype = x.dtype();
    as_type(function(as_type(x, DType::F32)), dtype)
}

/// `x` as `dtype`, itself where it is that already.
pub(super) fn as_type<const D: usize>(x: Tensor<D>, dtype: DType) -> Tensor<D> {
    if x.dtype() == dtype { x } else { x.cast(dtype) }
}
