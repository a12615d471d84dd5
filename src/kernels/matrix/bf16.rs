//! Products whose factors are rounded to bf16 and whose sums are f32, with the instruction that processors
//! with AVX-512 BF16 have for them: twice as many products as in f32.
//!
//! Both factors are packed into panels of lanes; a lane is a row of the left factor or a column of the right
//! one. Along the inner extent, a panel holds for every lane the pair of entries that one instruction
//! multiplies and adds. A tile of [`ROWS`] × [`COLUMNS`] sums stays in registers.

use std::mem::MaybeUninit;
use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::{Matrix, Target, assert_holds};
use crate::kernels::vector::widest;

/// Lanes of a panel of the left factor.
const ROWS: usize = 8;
/// Lanes of a panel of the right factor: three vectors.
const COLUMNS: usize = 48;
/// Inner entries that are multiplied in one go, so that panels stay in the second cache.
const DEPTH: usize = 2048;
/// Steps of a panel that are written to at a time, so that they stay in the first cache.
const TILE: usize = 32;
/// Most rows of a task, and the tasks of a product with few rows.
const TASK_ROWS: usize = 96;
const TASKS: usize = 8;

/// An entry of a factor.
pub trait Entry: Copy + Send + Sync {
    /// Its bits as bf16, rounded to nearest, ties to even.
    fn bits(self) -> u32;
}

impl Entry for bf16 {
    #[inline(always)]
    fn bits(self) -> u32 {
        self.to_bits().into()
    }
}

impl Entry for f32 {
    #[inline(always)]
    fn bits(self) -> u32 {
        let bits = self.to_bits();
        let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
        let of_nan = bits | 0x0040_0000; // which stays one
        (if self.is_nan() { of_nan } else { rounded }) >> 16
    }
}

/// Whether this processor has the instruction; without it nothing else here works.
pub fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// `a · b` row by row, on all cores.
///
/// # Panics
/// Where the processor lacks the instruction.
pub fn product<A: Entry, B: Entry>(a: Matrix<'_, A>, b: Matrix<'_, B>) -> Vec<f32> {
    assert_eq!(a.columns, b.rows, "the inner extents of a product");
    let (rows, columns) = (a.rows, b.columns);
    let len = rows.checked_mul(columns).expect("a product that fits in memory");
    if len == 0 || a.columns == 0 {
        return vec![0.0; len];
    }
    let mut out = Vec::with_capacity(len);
    let task = TASK_ROWS.min(rows.div_ceil(TASKS).next_multiple_of(ROWS));
    for depth in depths(a.columns) {
        let right = panels(b.transposed(), 0..columns, &depth, true);
        let blocks = out.spare_capacity_mut()[..len].par_chunks_mut(task * columns);
        blocks.enumerate().for_each(|(index, block)| {
            let first = index * task;
            let left = panels(a, first..first + block.len() / columns, &depth, false);
            let steps = depth.len().div_ceil(2);
            tiles(block, [columns; 2], &left, &right, steps, depth.start > 0);
        });
    }
    // SAFETY: the blocks cover all entries, and `tiles` has written every one of a block.
    #[allow(unsafe_code, reason = "memory that is not cleared before it is written")]
    unsafe {
        out.set_len(len);
    }
    out
}

/// `target (+)= a · b`, on the core that asks.
///
/// # Panics
/// Where the processor lacks the instruction.
pub fn multiply<A: Entry, B: Entry>(target: Target<'_>, a: Matrix<'_, A>, b: Matrix<'_, B>) {
    assert_eq!(a.columns, b.rows, "the inner extents of a product");
    let Target { values, stride, add } = target;
    assert_holds(values.len(), [a.rows, b.columns], [stride, 1]);
    if a.rows == 0 || b.columns == 0 {
        return;
    }
    if a.columns == 0 && !add {
        values.chunks_mut(stride).take(a.rows).for_each(|row| row[..b.columns].fill(0.0));
    }
    let values = &mut values[..(a.rows - 1) * stride + b.columns];
    // SAFETY: the same memory, whose values `tiles` overwrites with others.
    #[allow(unsafe_code, reason = "written values as ones that may not be")]
    let values = unsafe { &mut *(std::ptr::from_mut(values) as *mut [MaybeUninit<f32>]) };
    for depth in depths(a.columns) {
        let left = panels(a, 0..a.rows, &depth, false);
        let right = panels(b.transposed(), 0..b.columns, &depth, false);
        let steps = depth.len().div_ceil(2);
        tiles(values, [stride, b.columns], &left, &right, steps, add || depth.start > 0);
    }
}

/// The inner extent in parts.
fn depths(extent: usize) -> impl Iterator<Item = Range<usize>> {
    (0..extent).step_by(DEPTH).map(move |start| start..(start + DEPTH).min(extent))
}

/// A panel's pairs at one place of the inner extent.
type Step<const LANES: usize> = [u32; LANES];

/// Panels of some rows of a matrix, one after the other; packed on all cores or on the one that asks.
fn panels<T: Entry, const LANES: usize>(
    matrix: Matrix<'_, T>,
    rows: Range<usize>,
    depth: &Range<usize>,
    together: bool,
) -> Vec<Step<LANES>> {
    let steps = depth.len().div_ceil(2);
    let mut panels = vec![[0; LANES]; rows.len().div_ceil(LANES) * steps];
    let fill = |(index, panel): (usize, &mut [Step<LANES>])| {
        let first = rows.start + index * LANES;
        widest!(pack(matrix, first..(first + LANES).min(rows.end), depth, panel));
    };
    if together {
        panels.par_chunks_exact_mut(steps).enumerate().for_each(fill);
    } else {
        panels.chunks_exact_mut(steps).enumerate().for_each(fill);
    }
    panels
}

/// Writes the pairs of some rows of `matrix` into a panel of zeros.
#[inline(always)]
fn pack<T: Entry, const LANES: usize>(
    matrix: Matrix<'_, T>,
    rows: Range<usize>,
    depth: &Range<usize>,
    panel: &mut [Step<LANES>],
) {
    let pair = |low: T, high: T| low.bits() | high.bits() << 16;
    let Matrix { values, row_stride, column_stride, .. } = matrix;
    let whole = depth.len() / 2;
    if row_stride == 1 {
        let row = |column: usize| &values[column * column_stride..][rows.clone()];
        let odd = &mut panel[whole..];
        if let [step] = odd {
            step.iter_mut().zip(row(depth.end - 1)).for_each(|(to, it)| *to = it.bits());
        }
        for (index, step) in panel[..whole].iter_mut().enumerate() {
            let column = depth.start + 2 * index;
            let pairs = row(column).iter().zip(row(column + 1));
            step.iter_mut().zip(pairs).for_each(|(to, (&low, &high))| *to = pair(low, high));
        }
        return;
    }
    let row = |row: usize| &values[row * row_stride + depth.start * column_stride..];
    if column_stride == 1 {
        for (tile, steps) in panel[..whole].chunks_mut(TILE).enumerate() {
            for (lane, it) in rows.clone().enumerate() {
                let (pairs, _) = row(it)[2 * TILE * tile..][..2 * steps.len()].as_chunks::<2>();
                for (step, &[low, high]) in steps.iter_mut().zip(pairs) {
                    step[lane] = pair(low, high);
                }
            }
        }
    } else {
        for (lane, it) in rows.clone().enumerate() {
            let at = |column: usize| row(it)[column * column_stride];
            for (index, step) in panel[..whole].iter_mut().enumerate() {
                step[lane] = pair(at(2 * index), at(2 * index + 1));
            }
        }
    }
    if let [odd] = &mut panel[whole..] {
        for (lane, it) in odd.iter_mut().zip(rows) {
            *lane = row(it)[2 * whole * column_stride].bits();
        }
    }
}

/// `out (+)= left · right`, whose panels have `steps` steps; rows of `out` are `stride` apart and
/// `columns` wide.
fn tiles(
    out: &mut [MaybeUninit<f32>],
    [stride, columns]: [usize; 2],
    left: &[Step<ROWS>],
    right: &[Step<COLUMNS>],
    steps: usize,
    add: bool,
) {
    assert!(available(), "a product in bf16 on a processor without the instruction");
    for (panel, right) in right.chunks_exact(steps).enumerate() {
        let from = panel * COLUMNS;
        let to = columns.min(from + COLUMNS);
        for (left, out) in left.chunks_exact(steps).zip(out.chunks_mut(ROWS * stride)) {
            // SAFETY: the processor has what the function is compiled for; it was asked above.
            #[allow(unsafe_code, reason = "compiled for processors that have the instruction")]
            let sums = unsafe { tile(left, right) };
            for (out, sums) in out.chunks_mut(stride).zip(&sums) {
                let cells = out[from..to].iter_mut().zip(sums);
                if add {
                    // SAFETY: where there is something to add to, it has been written.
                    #[allow(unsafe_code, reason = "memory that was not cleared")]
                    cells.for_each(|(out, sum)| *unsafe { out.assume_init_mut() } += sum);
                } else {
                    cells.for_each(|(out, &sum)| {
                        out.write(sum);
                    });
                }
            }
        }
    }
}

/// The sums of a panel of the left with a panel of the right factor.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[allow(unsafe_code, reason = "vectors of 32 bf16 have no other constructor")]
fn tile(left: &[Step<ROWS>], right: &[Step<COLUMNS>]) -> [[f32; COLUMNS]; ROWS] {
    use std::arch::x86_64::*;
    use std::mem::transmute;
    const VECTORS: usize = COLUMNS / 16;

    let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
    for (left, right) in left.iter().zip(right) {
        // SAFETY: of one size, and any bits are bf16s.
        let right = unsafe { transmute::<Step<COLUMNS>, [__m512bh; VECTORS]>(*right) };
        for (sums, &pair) in sums.iter_mut().zip(left) {
            // SAFETY: of one size, and any bits are bf16s.
            let pair = unsafe { transmute::<__m512i, __m512bh>(_mm512_set1_epi32(pair as i32)) };
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = _mm512_dpbf16_ps(*sum, pair, right);
            }
        }
    }
    // SAFETY: of one size, and any bits are f32s.
    unsafe { transmute::<[[__m512; VECTORS]; ROWS], [[f32; COLUMNS]; ROWS]>(sums) }
}

/// Never called: [`available`] says so.
#[cfg(not(target_arch = "x86_64"))]
#[allow(unsafe_code, reason = "as on processors that have the instruction")]
unsafe fn tile(_: &[Step<ROWS>], _: &[Step<COLUMNS>]) -> [[f32; COLUMNS]; ROWS] {
    [[0.0; COLUMNS]; ROWS]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skipped::or_skip;

    fn spread(len: usize, turn: f32) -> Vec<f32> {
        (0..len).map(|it| (it as f32 * turn).sin()).collect()
    }

    /// The product of the rounded factors, in f64.
    fn by_definition(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f64> {
        let round = |it: f32| f64::from(bf16::from_f32(it));
        let a_at = |i: usize, k: usize| round(a.values[i * a.row_stride + k * a.column_stride]);
        let b_at = |k: usize, j: usize| round(b.values[k * b.row_stride + j * b.column_stride]);
        let cell = |i: usize, j: usize| (0..a.columns).map(|k| a_at(i, k) * b_at(k, j)).sum();
        (0..a.rows).flat_map(|i| (0..b.columns).map(move |j| cell(i, j))).collect()
    }

    #[track_caller]
    fn processor_has_it() -> bool {
        or_skip(available().then_some(()), "this processor has no AVX-512 BF16").is_some()
    }

    #[track_caller]
    fn assert_close(ours: &[f32], exact: &[f64]) {
        assert_eq!(ours.len(), exact.len());
        for (ours, exact) in ours.iter().zip(exact) {
            // f32 sums of up to 4,099 products below 1.
            assert!(
                (f64::from(*ours) - exact).abs() < 1e-4 * (1.0 + exact.abs()),
                "{ours} {exact}"
            );
        }
    }

    #[test]
    fn rounding_is_that_of_half() {
        let values = [0.0, -0.0, 1.0, f32::MIN_POSITIVE, f32::MAX, f32::INFINITY, 1e-42, 3.0e38];
        let between =
            spread(2000, 0.7).into_iter().chain([0x3f80_8000, 0x3f81_8000].map(f32::from_bits)); // halfway
        for it in values.into_iter().chain(between) {
            assert_eq!(it.bits(), u32::from(bf16::from_f32(it).to_bits()), "{it}");
        }
        for nan in [f32::NAN, f32::from_bits(0xffff_ffff), f32::from_bits(0x7f80_0001)] {
            assert!(bf16::from_bits(nan.bits() as u16).is_nan());
        }
    }

    #[test]
    fn products_are_those_of_the_rounded_factors_whatever_their_strides() {
        if !processor_has_it() {
            return;
        }
        for [rows, inner, columns] in [[1, 1, 1], [9, 33, 50], [130, 7, 100], [5, 4099, 49]] {
            let (a, b) = (spread(rows * inner, 0.7), spread(inner * columns, 1.3));
            let as_rows = Matrix::rows(&a, rows, inner, inner);
            let as_columns = Matrix::rows(&a, inner, rows, rows).transposed();
            let b_rows = Matrix::rows(&b, inner, columns, columns);
            let b_columns = Matrix::rows(&b, columns, inner, inner).transposed();
            for (a, b) in [(as_rows, b_rows), (as_columns, b_columns)] {
                let exact = by_definition(a, b);
                assert_close(&product(a, b), &exact);
                let stride = columns + 3;
                let mut out = vec![0.5; rows * stride];
                multiply(Target::add(&mut out, stride), a, b);
                let cells = |out: &[f32], less: f32| -> Vec<f32> {
                    let row = |row: &[f32]| row[..columns].iter().map(|it| it - less).collect();
                    out.chunks(stride).flat_map(|it| -> Vec<f32> { row(it) }).collect()
                };
                assert_close(&cells(&out, 0.5), &exact);
                assert!(out.chunks(stride).all(|row| row[columns..] == [0.5; 3]));
                multiply(Target::set(&mut out, stride), a, b);
                assert_close(&cells(&out, 0.0), &exact);
            }
        }
    }

    #[test]
    fn a_factor_kept_in_bf16_and_odd_strides_are_no_matter() {
        if !processor_has_it() {
            return;
        }
        let (a, b) = (spread(20 * 61, 0.7), spread(3 * 61 * 70, 1.3));
        let a = Matrix::rows(&a, 20, 61, 61);
        let strided = Matrix::strided(&b, [61, 70], [210, 3]);
        let narrow: Vec<bf16> = b.iter().map(|&it| bf16::from_f32(it)).collect();
        let exact = by_definition(a, strided);
        assert_close(&product(a, strided), &exact);
        assert_close(&product(a, Matrix::strided(&narrow, [61, 70], [210, 3])), &exact);
    }

    #[test]
    fn a_product_has_the_same_bits_on_one_thread_and_on_several() {
        if !processor_has_it() {
            return;
        }
        let (a, b) = (spread(301 * 200, 0.7), spread(200 * 170, 1.3));
        let run = || product(Matrix::rows(&a, 301, 200, 200), Matrix::rows(&b, 200, 170, 170));
        let pool = |threads| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
        };
        assert_eq!(pool(1), pool(3));
    }
}
