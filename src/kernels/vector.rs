//! Arithmetic on slices, written so that the compiler turns it into vector instructions.
//!
//! [`widest`] compiles a function once for every instruction set and picks one at run time. Sums use
//! [`LANES`] running sums whatever the width of the machine's vectors, so every machine adds in the same
//! order.

/// Running sums of a reduction.
pub const LANES: usize = 16;

/// What an expression is, computed in the widest vectors that the processor has.
///
/// The expression is compiled once for every instruction set; only what the compiler puts into these copies gets
/// their instructions. So every function in it is to be marked `#[inline(always)]`, as this macro marks the
/// expression itself: a closure is not inlined by itself once it has several callers.
macro_rules! widest {
    ($work:expr) => {
        $crate::kernels::vector::in_widest(
            #[inline(always)]
            || $work,
        )
    };
}
pub(in crate::kernels) use widest;

/// Runs the closure of [`widest`].
#[inline(always)]
pub fn in_widest<R>(work: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        use pulp::x86::{V3, V4};
        if let Some(avx512) = V4::try_new() {
            return avx512.vectorize(work);
        }
        if let Some(avx2) = V3::try_new() {
            return avx2.vectorize(work);
        }
    }
    pulp::Arch::new().dispatch(work)
}

/// A number of bf16 in f32.
#[inline(always)]
pub fn from_bf16(x: half::bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

/// eˣ to 2 units in the last place, for x clamped to [−87.3, 88.3].
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// 1.5 · 2²³: adding it rounds to an integer, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, the first of few enough bits that n times it is exact.
    const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let x = x.clamp(-87.3, 88.3);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let f = x - n * LN2[0] - n * LN2[1]; // |f| ≤ ln 2 / 2
    // Taylor to the 7th power: what is left out is below 6e-9.
    let series = 1.0 / 5040.0;
    let series = series * f + 1.0 / 720.0;
    let series = series * f + 1.0 / 120.0;
    let series = series * f + 1.0 / 24.0;
    let series = series * f + 1.0 / 6.0;
    let series = series * f + 0.5;
    let series = series * f + 1.0;
    let series = series * f + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits())); // 2ⁿ
    power * series
}

/// 1 / (1 + e⁻ˣ).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Σ f(aᵢ, bᵢ).
#[inline(always)]
pub fn sum2<B: Copy>(a: &[f32], b: &[B], f: impl Fn(f32, B) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let (b_blocks, b_rest) = b.as_chunks::<LANES>();
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(&a, &b)| f(a, b)).sum();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            sums[lane] += f(a[lane], b[lane]);
        }
    }
    total(sums) + rest
}

/// [`sum2`] of one `a` and several b, side by side; each is the same to the bit as alone.
#[inline(always)]
pub fn sums2<B: Copy, const N: usize>(
    a: &[f32],
    b: [&[B]; N],
    f: impl Fn(f32, B) -> f32,
) -> [f32; N] {
    let mut sums = [[0.0; LANES]; N];
    let (a_blocks, a_rest) = a.as_chunks::<LANES>();
    let b = b.map(|b| b.as_chunks::<LANES>());
    for (index, a) in a_blocks.iter().enumerate() {
        for (sums, (b_blocks, _)) in sums.iter_mut().zip(&b) {
            let b = &b_blocks[index];
            for lane in 0..LANES {
                sums[lane] += f(a[lane], b[lane]);
            }
        }
    }
    let mut out = [0.0; N];
    for (out, (sums, (_, b_rest))) in out.iter_mut().zip(sums.into_iter().zip(b)) {
        let rest: f32 = a_rest.iter().zip(b_rest).map(|(&a, &b)| f(a, b)).sum();
        *out = total(sums) + rest;
    }
    out
}

/// Σ aᵢbᵢ.
#[inline(always)]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum2(a, b, |a, b| a * b)
}

/// The largest entry; −∞ of nothing.
#[inline(always)]
pub fn max(x: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let mut most = [f32::NEG_INFINITY; LANES];
    let (blocks, rest) = x.as_chunks::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            most[lane] = larger(block[lane], most[lane]);
        }
    }
    let rest = rest.iter().copied().fold(f32::NEG_INFINITY, larger);
    whole(most).into_iter().fold(rest, larger)
}

/// Replaces every x by e^(scale · x − shift) and returns their sum.
#[inline(always)]
pub fn exp_in_place(x: &mut [f32], scale: f32, shift: f32) -> f32 {
    let mut sums = [0.0; LANES];
    let (blocks, others) = x.as_chunks_mut::<LANES>();
    for block in blocks {
        for lane in 0..LANES {
            block[lane] = exp(block[lane] * scale - shift);
            sums[lane] += block[lane];
        }
    }
    let mut rest = 0.0;
    for x in others {
        *x = exp(*x * scale - shift);
        rest += *x;
    }
    total(sums) + rest
}

/// Σ e^(scale · xᵢ − shift).
#[inline(always)]
pub fn sum_exp(x: &[f32], scale: f32, shift: f32) -> f32 {
    sum2(x, x, |x, _| exp(x * scale - shift))
}

/// Σ wᵢ and Σ wᵢ · scale (xᵢ − yᵢ), wᵢ = e^(scale · xᵢ − shift).
#[inline(always)]
pub fn sum_exp_and_difference(x: &[f32], y: &[f32], scale: f32, shift: f32) -> (f32, f32) {
    let (mut sums, mut differences) = ([0.0; LANES], [0.0; LANES]);
    let (x_blocks, x_rest) = x.as_chunks::<LANES>();
    let (y_blocks, y_rest) = y.as_chunks::<LANES>();
    for (x, y) in x_blocks.iter().zip(y_blocks) {
        for lane in 0..LANES {
            let weight = exp(x[lane] * scale - shift);
            sums[lane] += weight;
            differences[lane] += weight * ((x[lane] - y[lane]) * scale);
        }
    }
    let mut rest = (0.0, 0.0);
    for (x, y) in x_rest.iter().zip(y_rest) {
        let weight = exp(x * scale - shift);
        rest.0 += weight;
        rest.1 += weight * ((x - y) * scale);
    }
    (total(sums) + rest.0, total(differences) + rest.1)
}

/// into += x.
#[inline(always)]
pub fn add(into: &mut [f32], x: &[f32]) {
    for (into, x) in into.iter_mut().zip(x) {
        *into += x;
    }
}

/// The sum of vectors of `width` entries, one after the other.
pub fn total_of<'a>(width: usize, vectors: impl IntoIterator<Item = &'a Vec<f32>>) -> Vec<f32> {
    let mut total = vec![0.0; width];
    vectors.into_iter().for_each(|it| widest!(add(&mut total, it)));
    total
}

/// Lanes as they are, in memory. Without this the compiler forms its vectors from the end of what is made of the
/// lanes, a pair, and keeps pairs up to the loop: two numbers an instruction.
#[inline(always)]
fn whole(lanes: [f32; LANES]) -> [f32; LANES] {
    std::hint::black_box(lanes)
}

/// The sum of the running sums.
#[inline(always)]
pub fn total(sums: [f32; LANES]) -> f32 {
    let mut sums = whole(sums);
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_side_by_side_are_each_the_sum_alone_to_the_bit() {
        for len in [0, 3, 16, 67] {
            let of = |turn: f32| (0..len).map(|it| (it as f32 * turn).sin()).collect::<Vec<f32>>();
            let (a, columns) = (of(0.7), [of(1.3), of(2.1), of(0.1)]);
            let both = sums2(&a, [&columns[0], &columns[1], &columns[2]], |a, b| a * b);
            let alone = columns.each_ref().map(|b| sum2(&a, b, |a, b| a * b));
            assert_eq!(both.map(f32::to_bits), alone.map(f32::to_bits), "{len}");
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_width_of_vectors_has_the_same_bits() {
        use crate::skipped::or_skip;
        use pulp::x86::{V3, V4};
        let x: Vec<f32> = (0..1003).map(|it| (it as f32 * 0.7).sin()).collect();
        #[inline(always)]
        fn work(x: &[f32]) -> Vec<u32> {
            let mut powers = x.to_vec();
            let sum = exp_in_place(&mut powers, 2.0, 0.5);
            add(&mut powers, x);
            powers.extend([sum, dot(x, x), max(x), sum_exp(x, 2.0, 0.5), sigmoid(x[1])]);
            powers.iter().map(|it| it.to_bits()).collect()
        }
        let narrow = work(&x);
        assert_eq!(widest!(work(&x)), narrow);
        if let Some(avx2) = or_skip(V3::try_new(), "this processor has no AVX2") {
            assert_eq!(
                avx2.vectorize(
                    #[inline(always)]
                    || work(&x)
                ),
                narrow
            );
        }
        if let Some(avx512) = or_skip(V4::try_new(), "this processor has no AVX-512") {
            assert_eq!(
                avx512.vectorize(
                    #[inline(always)]
                    || work(&x)
                ),
                narrow
            );
        }
    }

    #[test]
    fn the_exponential_is_within_two_units_of_the_exact_one() {
        for step in -87_000..=88_000 {
            let x = step as f32 / 1000.0;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.0 * f64::from(f32::EPSILON), "e^{x}: {} for {exact}", exp(x));
        }
    }

    #[test]
    fn the_exponential_of_what_is_out_of_range_is_next_to_nothing_or_huge() {
        assert!(exp(f32::NEG_INFINITY) < 2e-38 && exp(-1e30) < 2e-38);
        assert!(exp(f32::INFINITY) > 2e38 && exp(f32::INFINITY).is_finite());
        assert!(exp(f32::NAN).is_nan());
        assert_eq!((sigmoid(-1e30), sigmoid(1e30)), (sigmoid(-88.3), 1.0));
    }

    #[test]
    fn sums_and_maxima_take_every_entry_once_whatever_the_length() {
        for len in 0..70 {
            let x: Vec<f32> = (0..len).map(|it| (it as f32 * 0.7).sin()).collect();
            let exact: f64 = x.iter().map(|&it| f64::from(it).powi(2)).sum();
            assert!((f64::from(dot(&x, &x)) - exact).abs() < 1e-5, "{len}");
            assert_eq!(max(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let exact: f64 = x.iter().map(|&it| (2.0 * f64::from(it) - 0.5).exp()).sum();
            assert!((f64::from(sum_exp(&x, 2.0, 0.5)) - exact).abs() < 1e-5 * exact.max(1.0));
            let mut powers = x.clone();
            assert_eq!(exp_in_place(&mut powers, 2.0, 0.5), sum_exp(&x, 2.0, 0.5));
            assert!(powers.iter().zip(&x).all(|(&power, &x)| power == exp(2.0 * x - 0.5)));
        }
    }
}
