//! Arithmetic of processors with AVX2.

use std::arch::x86_64::{__m128i, __m256, __m256i};

use pulp::x86::V3;

use super::{Arithmetic, BLOCK, Codes, LANES};

/// Arithmetic with AVX2's instructions.
#[derive(Clone, Copy)]
pub struct Avx2(pub V3);

/// Sixteen numbers.
type Lanes = [__m256; 2];

#[inline(always)]
fn eight<const BYTES: usize>(codes: &[u8; BYTES], first: usize) -> __m128i {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&codes[first..first + 8]);
    bytemuck::cast(bytes)
}

impl Arithmetic for Avx2 {
    type Lanes = Lanes;

    #[inline(always)]
    fn zeros(self) -> Lanes {
        [self.0.avx._mm256_setzero_ps(); 2]
    }

    #[inline(always)]
    fn add(self, sums: Lanes, scale: f32, x: &[f32; BLOCK], entries: &[Lanes; 2]) -> Lanes {
        let simd = self.0.avx;
        let x: [Lanes; 2] = bytemuck::cast(*x);
        let scale = simd._mm256_set1_ps(scale);
        let mut next = sums;
        for half in 0..2 {
            let low = simd._mm256_mul_ps(x[0][half], entries[0][half]);
            let high = simd._mm256_mul_ps(x[1][half], entries[1][half]);
            let both = simd._mm256_mul_ps(scale, simd._mm256_add_ps(low, high));
            next[half] = simd._mm256_add_ps(sums[half], both);
        }
        next
    }

    #[inline(always)]
    fn numbers(lanes: Lanes) -> [f32; LANES] {
        bytemuck::cast(lanes)
    }
}

/// Codes of a byte each.
impl Codes<32> for Avx2 {
    #[inline(always)]
    fn entries(self, codes: &[u8; 32]) -> [Lanes; 2] {
        [
            [self.of_bytes(eight(codes, 0)), self.of_bytes(eight(codes, 8))],
            [self.of_bytes(eight(codes, 16)), self.of_bytes(eight(codes, 24))],
        ]
    }
}

/// Codes of half a byte each.
impl Codes<16> for Avx2 {
    #[inline(always)]
    fn entries(self, codes: &[u8; 16]) -> [Lanes; 2] {
        let first = self.0.avx2._mm256_cvtepu8_epi32(eight(codes, 0));
        let second = self.0.avx2._mm256_cvtepu8_epi32(eight(codes, 8));
        [[self.of_low(first), self.of_low(second)], [self.of_high(first), self.of_high(second)]]
    }
}

impl Avx2 {
    #[inline(always)]
    fn of_bytes(self, codes: __m128i) -> __m256 {
        self.0.avx._mm256_cvtepi32_ps(self.0.avx2._mm256_cvtepi8_epi32(codes))
    }

    #[inline(always)]
    fn of_low(self, codes: __m256i) -> __m256 {
        let mask = self.0.avx._mm256_set1_epi32(15);
        self.less_eight(self.0.avx2._mm256_and_si256(codes, mask))
    }

    #[inline(always)]
    fn of_high(self, codes: __m256i) -> __m256 {
        self.less_eight(self.0.avx2._mm256_srli_epi32::<4>(codes))
    }

    #[inline(always)]
    fn less_eight(self, codes: __m256i) -> __m256 {
        let eight = self.0.avx._mm256_set1_epi32(8);
        self.0.avx._mm256_cvtepi32_ps(self.0.avx2._mm256_sub_epi32(codes, eight))
    }
}
