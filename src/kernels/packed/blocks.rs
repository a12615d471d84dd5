//! Entries to codes and back, block by block.

use half::bf16;

use super::BLOCK;

/// Codes of a block in Q4, in one half of the bytes and the other.
const HALF: usize = BLOCK / 2;

/// How the entries of a block are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A byte each.
    Q8,
    /// Half a byte each. The block's first 16 codes are the low halves of its 16 bytes, the others the high ones.
    Q4,
}

impl Format {
    /// Numbers of 32 bits that hold the codes of a block.
    pub(super) fn words(self) -> usize {
        match self {
            Self::Q8 => BLOCK / 4,
            Self::Q4 => BLOCK / 8,
        }
    }

    /// Bytes of a column of so many entries, with their scales.
    pub fn num_bytes(self, entries: usize) -> usize {
        entries.div_ceil(BLOCK) * (4 * self.words() + size_of::<bf16>())
    }

    /// The smallest and the largest code.
    fn range(self) -> [f32; 2] {
        match self {
            Self::Q8 => [-127.0, 127.0],
            Self::Q4 => [-8.0, 7.0],
        }
    }

    /// Packs a column into its codes and scales.
    pub(super) fn pack(self, column: &[f32], codes: &mut [i32], scales: &mut [bf16]) {
        #[cfg(feature = "flex")]
        crate::kernels::vector::widest!(self.pack_blocks(column, codes, scales));
        #[cfg(not(feature = "flex"))]
        self.pack_blocks(column, codes, scales);
    }

    #[inline(always)]
    fn pack_blocks(self, column: &[f32], codes: &mut [i32], scales: &mut [bf16]) {
        let codes: &mut [u8] = bytemuck::cast_slice_mut(codes);
        let codes = codes.chunks_exact_mut(4 * self.words());
        for ((entries, codes), scale) in column.chunks(BLOCK).zip(codes).zip(scales) {
            let mut block = [0.0; BLOCK];
            block[..entries.len()].copy_from_slice(entries);
            let (found, chosen) = self.chosen(&block);
            *scale = found;
            match self {
                Self::Q8 => {
                    for i in 0..BLOCK {
                        codes[i] = chosen[i] as i8 as u8;
                    }
                }
                Self::Q4 => {
                    for i in 0..HALF {
                        let [low, high] = [chosen[i], chosen[HALF + i]].map(|it| (it + 8.0) as u8);
                        codes[i] = low | high << 4;
                    }
                }
            }
        }
    }

    /// The scale and the codes that are nearest to a block, of some that are tried.
    #[inline(always)]
    fn chosen(self, block: &[f32; BLOCK]) -> (bf16, [f32; BLOCK]) {
        /// The share of the range that the largest entry takes up: more than all of it cuts that entry off and
        /// brings the others nearer.
        const SHARES: [f32; 4] = [1.0, 0.93, 0.86, 0.79];
        let [least, most] = self.range();
        let largest = largest(block);
        let mut best = (f32::INFINITY, bf16::ZERO, [0.0; BLOCK]);
        // What is next to nothing has no inverse.
        if largest.abs() < 1e-30 {
            return (best.1, best.2);
        }
        let shares = if self == Self::Q4 { &SHARES[..] } else { &SHARES[..1] };
        for share in shares {
            // The end of the range with one code more is for the largest entry, whatever its sign.
            let per_entry = least / (largest * share);
            let (mut codes, mut of_entries, mut of_codes) =
                ([0.0; BLOCK], [0.0; BLOCK], [0.0; BLOCK]);
            for i in 0..BLOCK {
                codes[i] = rounded(block[i] * per_entry).clamp(least, most);
                of_entries[i] = codes[i] * block[i];
                of_codes[i] = codes[i] * codes[i];
            }
            let scale = bf16::from_f32(sum(of_entries) / sum(of_codes));
            let wide = scale.to_f32();
            let mut far = [0.0; BLOCK];
            for i in 0..BLOCK {
                let difference = block[i] - codes[i] * wide;
                far[i] = difference * difference;
            }
            let error = sum(far);
            if error < best.0 {
                best = (error, scale, codes);
            }
        }
        (best.1, best.2)
    }

    /// The entries of a block from its codes, in units of its scale.
    #[inline(always)]
    pub(super) fn entries(self, codes: &[u8]) -> [f32; BLOCK] {
        let mut entries = [0.0; BLOCK];
        match self {
            Self::Q8 => {
                entries.iter_mut().zip(codes).for_each(|(to, &code)| *to = f32::from(code as i8));
            }
            Self::Q4 => {
                let (low, high) = entries.split_at_mut(HALF);
                for ((low, high), &byte) in low.iter_mut().zip(high).zip(codes) {
                    *low = f32::from(i16::from(byte & 15) - 8);
                    *high = f32::from(i16::from(byte >> 4) - 8);
                }
            }
        }
        entries
    }
}

/// The entry that is farthest from zero.
#[inline(always)]
fn largest(block: &[f32; BLOCK]) -> f32 {
    let (mut least, mut most) = (*block, *block);
    let mut width = BLOCK / 2;
    while width > 0 {
        for i in 0..width {
            let smaller = |a: f32, b: f32| if a < b { a } else { b };
            least[i] = smaller(least[i], least[i + width]);
            most[i] = -smaller(-most[i], -most[i + width]);
        }
        width /= 2;
    }
    if most[0] >= -least[0] { most[0] } else { least[0] }
}

/// The nearest whole number of one below 2²², ties to even.
#[inline(always)]
fn rounded(x: f32) -> f32 {
    /// 1.5 · 2²³: what is added to it loses its fraction.
    const ROUND: f32 = 12_582_912.0;
    (x + ROUND) - ROUND
}

/// The sum in pairs of entries, of pairs, and so on.
#[inline(always)]
fn sum(mut terms: [f32; BLOCK]) -> f32 {
    let mut width = BLOCK / 2;
    while width > 0 {
        for i in 0..width {
            terms[i] += terms[i + width];
        }
        width /= 2;
    }
    terms[0]
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};

    use super::*;

    /// √(Σ(w − ŵ)² / Σw²) of normal entries.
    fn relative_error(format: Format) -> f64 {
        let mut random = rand_chacha::ChaCha12Rng::seed_from_u64(0);
        // Sums of twelve uniform numbers are normal enough.
        let mut normal = || (0..12).map(|_| random.random_range(-0.5..0.5)).sum::<f32>() * 0.02;
        let column: Vec<f32> = (0..BLOCK * 2000).map(|_| normal()).collect();
        let mut codes = vec![0; 2000 * format.words()];
        let mut scales = vec![bf16::ZERO; 2000];
        format.pack(&column, &mut codes, &mut scales);
        let bytes: &[u8] = bytemuck::cast_slice(&codes);
        let blocks = bytes.chunks_exact(4 * format.words()).zip(&scales);
        let found = blocks
            .flat_map(|(codes, scale)| format.entries(codes).map(|entry| entry * scale.to_f32()));
        let squares = |x: f32| f64::from(x) * f64::from(x);
        let far: f64 = found.zip(&column).map(|(found, entry)| squares(found - entry)).sum();
        (far / column.iter().map(|&entry| squares(entry)).sum::<f64>()).sqrt()
    }

    #[test]
    fn errors_are_those_that_are_promised() {
        let (q8, q4) = (relative_error(Format::Q8), relative_error(Format::Q4));
        assert!((0.0045..0.0060).contains(&q8), "{q8}");
        assert!((0.078..0.084).contains(&q4), "{q4}");
    }

    #[test]
    fn what_can_be_said_exactly_comes_back_exactly() {
        for (format, least, most) in [(Format::Q8, -127, 127), (Format::Q4, -8, 7)] {
            // A block that has all codes from end to end, with zeros behind, as of a short row.
            let column: Vec<f32> = [least, most, 0, 1, -1, 3, -5]
                .map(|code| code as f32 * 0.0625)
                .into_iter()
                .collect();
            let (mut codes, mut scales) = (vec![0; format.words()], vec![bf16::ZERO]);
            format.pack(&column, &mut codes, &mut scales);
            let entries = format.entries(bytemuck::cast_slice(&codes));
            let back: Vec<f32> = entries.iter().map(|entry| entry * scales[0].to_f32()).collect();
            assert_eq!(back[..column.len()], column);
            assert!(back[column.len()..].iter().all(|&entry| entry == 0.0));
        }
    }

    #[test]
    fn a_block_of_zeros_stays_one() {
        for format in [Format::Q8, Format::Q4] {
            let (mut codes, mut scales) = (vec![0; format.words()], vec![bf16::ONE]);
            format.pack(&[0.0; BLOCK], &mut codes, &mut scales);
            let entries = format.entries(bytemuck::cast_slice(&codes));
            assert!(entries.iter().all(|entry| entry * scales[0].to_f32() == 0.0));
        }
    }
}
