//! Arithmetic of processors with AVX2.

use std::arch::x86_64::{__m128i, __m256, __m256i};

use pulp::x86::V3;

use super::{Arithmetic, BLOCK, LANES};

/// Codes of a byte each.
#[derive(Clone, Copy)]
pub struct Bytes(pub V3);

/// Codes of half a byte each.
#[derive(Clone, Copy)]
pub struct Halves(pub V3);

/// Sixteen numbers.
type Lanes = [__m256; 2];

#[inline(always)]
fn eight<const BYTES: usize>(codes: &[u8; BYTES], first: usize) -> __m128i {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&codes[first..first + 8]);
    bytemuck::cast(bytes)
}

#[inline(always)]
fn multiply_add(
    simd: V3,
    sums: Lanes,
    scale: f32,
    x: &[f32; BLOCK],
    entries: &[Lanes; 2],
) -> Lanes {
    let x: [Lanes; 2] = bytemuck::cast(*x);
    let scale = simd.avx._mm256_set1_ps(scale);
    let mut next = sums;
    for half in 0..2 {
        let low = simd.avx._mm256_mul_ps(x[0][half], entries[0][half]);
        let high = simd.avx._mm256_mul_ps(x[1][half], entries[1][half]);
        let both = simd.avx._mm256_mul_ps(scale, simd.avx._mm256_add_ps(low, high));
        next[half] = simd.avx._mm256_add_ps(sums[half], both);
    }
    next
}

impl Bytes {
    #[inline(always)]
    fn numbers_of(self, codes: __m128i) -> __m256 {
        self.0.avx._mm256_cvtepi32_ps(self.0.avx2._mm256_cvtepi8_epi32(codes))
    }
}

impl Arithmetic<32> for Bytes {
    type Lanes = Lanes;

    #[inline(always)]
    fn zeros(self) -> Lanes {
        [self.0.avx._mm256_setzero_ps(); 2]
    }

    #[inline(always)]
    fn entries(self, codes: &[u8; 32]) -> [Lanes; 2] {
        [
            [self.numbers_of(eight(codes, 0)), self.numbers_of(eight(codes, 8))],
            [self.numbers_of(eight(codes, 16)), self.numbers_of(eight(codes, 24))],
        ]
    }

    #[inline(always)]
    fn add(self, sums: Lanes, scale: f32, x: &[f32; BLOCK], entries: &[Lanes; 2]) -> Lanes {
        multiply_add(self.0, sums, scale, x, entries)
    }

    #[inline(always)]
    fn numbers(lanes: Lanes) -> [f32; LANES] {
        bytemuck::cast(lanes)
    }
}

impl Halves {
    /// The numbers of codes that are 8 too large.
    #[inline(always)]
    fn numbers_of(self, codes: __m256i) -> __m256 {
        let eight = self.0.avx._mm256_set1_epi32(8);
        self.0.avx._mm256_cvtepi32_ps(self.0.avx2._mm256_sub_epi32(codes, eight))
    }

    #[inline(always)]
    fn low(self, codes: __m256i) -> __m256 {
        let mask = self.0.avx._mm256_set1_epi32(15);
        self.numbers_of(self.0.avx2._mm256_and_si256(codes, mask))
    }

    #[inline(always)]
    fn high(self, codes: __m256i) -> __m256 {
        self.numbers_of(self.0.avx2._mm256_srli_epi32::<4>(codes))
    }
}

impl Arithmetic<16> for Halves {
    type Lanes = Lanes;

    #[inline(always)]
    fn zeros(self) -> Lanes {
        [self.0.avx._mm256_setzero_ps(); 2]
    }

    #[inline(always)]
    fn entries(self, codes: &[u8; 16]) -> [Lanes; 2] {
        let first = self.0.avx2._mm256_cvtepu8_epi32(eight(codes, 0));
        let second = self.0.avx2._mm256_cvtepu8_epi32(eight(codes, 8));
        [[self.low(first), self.low(second)], [self.high(first), self.high(second)]]
    }

    #[inline(always)]
    fn add(self, sums: Lanes, scale: f32, x: &[f32; BLOCK], entries: &[Lanes; 2]) -> Lanes {
        multiply_add(self.0, sums, scale, x, entries)
    }

    #[inline(always)]
    fn numbers(lanes: Lanes) -> [f32; LANES] {
        bytemuck::cast(lanes)
    }
}
