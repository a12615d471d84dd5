//! What stands beside a weight that is not trained, or for it, as burn attaches it to a parameter.

use burn::module::{Module, Param, Reparameterization};
use burn::tensor::{DType, Tensor};

use super::Dropout;
use crate::kernels::packed::Packed;
use crate::kernels::product::multiply;

/// Factors of LoRA (Hu et al. 2021) beside a weight `[in, out]`, the weight itself in few bits, or both. The
/// weight then counts `weight + scale · a b`.
///
/// [`linear`](super::linear) and its like take the parts one by one. Whoever asks the parameter for its value
/// gets the sum.
#[derive(Module, Debug)]
pub struct Frozen {
    a: Option<Param<Tensor<2>>>,
    b: Option<Param<Tensor<2>>>,
    scale: f64,
    packed: Option<Packed>,
    /// Stands for the weight among those of its model.
    number: u64,
}

/// Factors beside a weight.
#[derive(Clone, Copy, Debug)]
pub struct Factors<'a> {
    /// `[in, rank]`
    pub a: &'a Param<Tensor<2>>,
    /// `[rank, out]`
    pub b: &'a Param<Tensor<2>>,
    /// What their product counts.
    pub scale: f64,
    /// Dropout of what `a` reads, where this is a pass with dropout.
    pub dropout: Option<Dropout>,
}

impl Frozen {
    /// Factors, `a` `[in, rank]` and `b` `[rank, out]` with what their product counts, and a weight in few bits,
    /// whose parameter says the shape alone; nothing where there is neither. `number` stands for the weight among
    /// those of its model: by the number it has a dropout of its own.
    pub fn new(
        factors: Option<(Param<Tensor<2>>, Param<Tensor<2>>, f64)>,
        packed: Option<Packed>,
        number: u64,
    ) -> Option<Self> {
        let scale = factors.as_ref().map_or(1.0, |(.., scale)| *scale);
        let (a, b) = factors.map(|(a, b, _)| (a, b)).unzip();
        (a.is_some() || packed.is_some()).then_some(Self { a, b, scale, packed, number })
    }

    /// The factors, if there are some.
    pub fn factors(&self) -> Option<Factors<'_>> {
        let (a, b) = self.a.as_ref().zip(self.b.as_ref())?;
        let dropout = Dropout::current().map(|pass| pass.part(self.number));
        Some(Factors { a, b, scale: self.scale, dropout })
    }

    /// The weight, where it is kept in few bits.
    pub fn packed(&self) -> Option<&Packed> {
        self.packed.as_ref()
    }
}

impl Reparameterization for Frozen {
    const NAME: &'static str = "lora";

    fn apply<const D: usize>(&self, weight: Tensor<D>) -> Tensor<D> {
        let (shape, dtype) = (weight.dims(), weight.dtype());
        let weight = match &self.packed {
            Some(packed) => packed.unpacked().reshape(shape),
            None => weight,
        };
        match self.factors() {
            None => weight.cast(dtype),
            Some(Factors { a, b, scale, .. }) => {
                let delta = (multiply(a.val(), b.val()) * scale).reshape(shape);
                (weight.cast(DType::F32) + delta.cast(DType::F32)).cast(dtype)
            }
        }
    }
}
