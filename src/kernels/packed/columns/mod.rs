//! Columns of codes: their entries, and their products with a few rows, for which the entries are made on the way.
//!
//! A compiler does not find the instructions that widen bytes to numbers, so processors with AVX2 have a form of
//! their own. It has the bits of the portable one.

#[cfg(target_arch = "x86_64")]
mod avx2;

use half::bf16;

use super::{BLOCK, Format};
use crate::kernels::vector::{LANES, from_bf16, total, widest};

/// Rows for which a block's entries are made once.
pub(super) const TOGETHER: usize = 4;

/// Some columns, one after the other.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    pub format: Format,
    pub codes: &'a [u8],
    pub scales: &'a [bf16],
}

impl Columns<'_> {
    /// The products with up to [`TOGETHER`] rows, `[columns, rows]`; the rows `x` are padded to whole blocks.
    pub fn times(self, x: &[[f32; BLOCK]], out: &mut [f32], rows: usize) {
        match rows {
            1 => self.run(Products::<1> { x, out }),
            2 => self.run(Products::<2> { x, out }),
            3 => self.run(Products::<3> { x, out }),
            TOGETHER => self.run(Products::<TOGETHER> { x, out }),
            _ => unreachable!("up to {TOGETHER} rows"),
        }
    }

    /// What is left of one column after so many blocks.
    pub fn from(self, block: usize) -> Self {
        let codes = &self.codes[block * 4 * self.format.words()..];
        Self { codes, scales: &self.scales[block..], ..self }
    }

    /// The entries of one column from its first on, as many as there is room for.
    pub fn unpack(self, into: &mut [f32]) {
        self.run(Entries { into });
    }

    fn run(self, work: impl Work) {
        #[cfg(target_arch = "x86_64")]
        if let Some(avx2) = pulp::x86::V3::try_new() {
            return avx2.vectorize(
                #[inline(always)]
                || match self.format {
                    Format::Q8 => work.run::<32, _>(avx2::Avx2(avx2), self),
                    Format::Q4 => work.run::<16, _>(avx2::Avx2(avx2), self),
                },
            );
        }
        widest!(match self.format {
            Format::Q8 => work.run::<32, _>(Plain, self),
            Format::Q4 => work.run::<16, _>(Plain, self),
        })
    }
}

/// What is made of columns.
trait Work {
    fn run<const BYTES: usize, A: Codes<BYTES>>(self, arithmetic: A, columns: Columns<'_>);
}

/// The entries of one column.
struct Entries<'a> {
    into: &'a mut [f32],
}

impl Work for Entries<'_> {
    #[inline(always)]
    fn run<const BYTES: usize, A: Codes<BYTES>>(self, arithmetic: A, columns: Columns<'_>) {
        let codes = columns.codes.as_chunks::<BYTES>().0;
        let blocks = codes.iter().zip(columns.scales);
        for ((codes, scale), into) in blocks.zip(self.into.chunks_mut(BLOCK)) {
            let scale = from_bf16(*scale);
            let halves = arithmetic.entries(codes);
            let mut entries = [0.0; BLOCK];
            for half in 0..2 {
                let numbers = A::numbers(halves[half]);
                for lane in 0..LANES {
                    entries[half * LANES + lane] = scale * numbers[lane];
                }
            }
            into.copy_from_slice(&entries[..into.len()]);
        }
    }
}

/// The products of `ROWS` rows with every column.
struct Products<'a, const ROWS: usize> {
    x: &'a [[f32; BLOCK]],
    out: &'a mut [f32],
}

impl<const ROWS: usize> Work for Products<'_, ROWS> {
    #[inline(always)]
    fn run<const BYTES: usize, A: Codes<BYTES>>(self, arithmetic: A, columns: Columns<'_>) {
        let blocks = self.x.len() / ROWS;
        let codes = columns.codes.as_chunks::<BYTES>().0.chunks_exact(blocks);
        let scales = columns.scales.chunks_exact(blocks);
        for ((codes, scales), out) in codes.zip(scales).zip(self.out.chunks_exact_mut(ROWS)) {
            let mut sums = [arithmetic.zeros(); ROWS];
            for (block, (codes, scale)) in codes.iter().zip(scales).enumerate() {
                let scale = from_bf16(*scale);
                let entries = arithmetic.entries(codes);
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = &self.x[row * blocks + block];
                    *sums = arithmetic.add(*sums, scale, x, &entries);
                }
            }
            for row in 0..ROWS {
                out[row] = total(A::numbers(sums[row]));
            }
        }
    }
}

/// How the entries of blocks are multiplied and added.
trait Arithmetic: Copy {
    /// [`LANES`] numbers.
    type Lanes: Copy;

    fn zeros(self) -> Self::Lanes;
    /// `sums + scale · (x₀ · e₀ + x₁ · e₁)`, lane by lane.
    fn add(
        self,
        sums: Self::Lanes,
        scale: f32,
        x: &[f32; BLOCK],
        entries: &[Self::Lanes; 2],
    ) -> Self::Lanes;
    fn numbers(lanes: Self::Lanes) -> [f32; LANES];
}

/// How the entries of a block, in units of its scale, come from its codes: 32 bytes of Q8 or 16 of Q4.
trait Codes<const BYTES: usize>: Arithmetic {
    fn entries(self, codes: &[u8; BYTES]) -> [Self::Lanes; 2];
}

/// Arithmetic of every processor.
#[derive(Clone, Copy)]
struct Plain;

impl Arithmetic for Plain {
    type Lanes = [f32; LANES];

    #[inline(always)]
    fn zeros(self) -> Self::Lanes {
        [0.0; LANES]
    }

    #[inline(always)]
    fn add(
        self,
        mut sums: Self::Lanes,
        scale: f32,
        x: &[f32; BLOCK],
        entries: &[Self::Lanes; 2],
    ) -> Self::Lanes {
        for lane in 0..LANES {
            sums[lane] += scale * (x[lane] * entries[0][lane] + x[LANES + lane] * entries[1][lane]);
        }
        sums
    }

    #[inline(always)]
    fn numbers(lanes: Self::Lanes) -> [f32; LANES] {
        lanes
    }
}

impl Codes<32> for Plain {
    #[inline(always)]
    fn entries(self, codes: &[u8; 32]) -> [Self::Lanes; 2] {
        bytemuck::cast(Format::Q8.entries(codes))
    }
}

impl Codes<16> for Plain {
    #[inline(always)]
    fn entries(self, codes: &[u8; 16]) -> [Self::Lanes; 2] {
        bytemuck::cast(Format::Q4.entries(codes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_the_definition_and_have_the_same_bits_in_every_form() {
        let x: Vec<[f32; BLOCK]> = (0..TOGETHER * 3)
            .map(|block| std::array::from_fn(|i| ((block * BLOCK + i) as f32 * 0.7).sin()))
            .collect();
        let bytes: Vec<u8> = (0..5 * 3 * 32).map(|i: usize| (i * 37 % 256) as u8).collect();
        let scales: Vec<bf16> = (0..5 * 3).map(|i| bf16::from_f32(0.01 * i as f32)).collect();
        for format in [Format::Q8, Format::Q4] {
            let width = 4 * format.words();
            let codes = &bytes[..5 * 3 * width];
            let columns = Columns { format, codes, scales: &scales };
            for rows in 1..=TOGETHER {
                let x = &x[..rows * 3];
                let mut out = vec![f32::NAN; 5 * rows];
                columns.times(x, &mut out, rows);
                for (i, found) in out.iter().enumerate() {
                    let (column, row) = (i / rows, i % rows);
                    let of_block = |block: usize| {
                        let at = column * 3 + block;
                        let entries = format.entries(&codes[at * width..(at + 1) * width]);
                        let products = x[row * 3 + block].iter().zip(entries);
                        let sum: f64 = products.map(|(x, e)| f64::from(*x) * f64::from(e)).sum();
                        sum * scales[at].to_f64()
                    };
                    let exact: f64 = (0..3).map(of_block).sum();
                    // f32 sums of 96 products of up to 128 · 0.14.
                    assert!((f64::from(*found) - exact).abs() < 1e-3, "{found} for {exact}");
                }
                let mut plain = vec![f32::NAN; 5 * rows];
                if rows == 3 {
                    let work = Products::<3> { x, out: &mut plain };
                    match format {
                        Format::Q8 => work.run::<32, _>(Plain, columns),
                        Format::Q4 => work.run::<16, _>(Plain, columns),
                    }
                    assert_eq!(out, plain, "{format:?}");
                }
            }
        }
    }
}
