//! The types of numbers that weights are stored and kept in.

use burn::tensor::Element;
use bytemuck::Pod;
use half::{bf16, f16};
use safetensors::Dtype;

/// A number that weights are kept as.
pub(in crate::model) trait Number: Element + Pod {
    /// What files call it.
    const STORED: Dtype;

    /// The nearest to a number.
    fn from_f32(value: f32) -> Self;

    /// Numbers as they stand in a file.
    fn from_bytes(bytes: &[u8], out: &mut Vec<Self>);

    /// Whether all are finite; one pass without a branch for each.
    fn all_finite(values: &[Self]) -> bool;
}

impl Number for f32 {
    const STORED: Dtype = Dtype::F32;

    fn from_f32(value: f32) -> Self {
        value
    }

    fn from_bytes(bytes: &[u8], out: &mut Vec<Self>) {
        each(bytes, out, Self::from_le_bytes);
    }

    fn all_finite(values: &[Self]) -> bool {
        super::all_finite(values)
    }
}

impl Number for f16 {
    const STORED: Dtype = Dtype::F16;

    fn from_f32(value: f32) -> Self {
        Self::from_f32(value)
    }

    fn from_bytes(bytes: &[u8], out: &mut Vec<Self>) {
        each(bytes, out, Self::from_le_bytes);
    }

    fn all_finite(values: &[Self]) -> bool {
        exponents_below(0x7c00, values.iter().map(|it| it.to_bits()))
    }
}

impl Number for bf16 {
    const STORED: Dtype = Dtype::BF16;

    fn from_f32(value: f32) -> Self {
        Self::from_f32(value)
    }

    fn from_bytes(bytes: &[u8], out: &mut Vec<Self>) {
        each(bytes, out, Self::from_le_bytes);
    }

    fn all_finite(values: &[Self]) -> bool {
        exponents_below(0x7f80, values.iter().map(|it| it.to_bits()))
    }
}

/// Whether no number has all bits of the exponent set, as what is infinite or no number has.
fn exponents_below(exponent: u16, bits: impl Iterator<Item = u16>) -> bool {
    bits.fold(0, |most: u16, bits| most.max(bits & exponent)) != exponent
}

/// Appends `one` of every N bytes.
pub(super) fn each<const N: usize, T>(bytes: &[u8], out: &mut Vec<T>, one: impl Fn([u8; N]) -> T) {
    out.extend(bytes.as_chunks().0.iter().map(|&it| one(it)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_found_in_every_type() {
        fn check<T: Number>() {
            let largest = if T::STORED == Dtype::F16 { 65504.0 } else { 3e38 };
            let with = |value: f32| T::all_finite(&[T::from_f32(1.0), T::from_f32(value)]);
            assert!(with(largest) && with(-largest) && with(0.0));
            assert!(!with(f32::INFINITY) && !with(f32::NEG_INFINITY) && !with(f32::NAN));
        }
        check::<f32>();
        check::<f16>();
        check::<bf16>();
    }
}
