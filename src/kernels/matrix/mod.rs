//! Matrix products on slices, by the `gemm` crate, whose kernels burn's Flex backend also uses, and by the
//! instructions of [`bf16`]. Beside them, only the mapping of a file (`files/mapped.rs`) is `unsafe` in the library.

pub mod bf16;

/// A matrix in a slice: entry (i, j) at `i · row_stride + j · column_stride`.
#[derive(Clone, Copy)]
pub struct Matrix<'a, T = f32> {
    values: &'a [T],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// `rows × columns` entries, row by row, rows `stride` apart.
    pub fn rows(values: &'a [T], rows: usize, columns: usize, stride: usize) -> Self {
        Self::strided(values, [rows, columns], [stride, 1])
    }

    /// Entries at any strides.
    pub fn strided(values: &'a [T], extent: [usize; 2], strides: [usize; 2]) -> Self {
        assert_holds(values.len(), extent, strides);
        Self {
            values,
            rows: extent[0],
            columns: extent[1],
            row_stride: strides[0],
            column_stride: strides[1],
        }
    }

    /// The number of rows.
    pub fn num_rows(self) -> usize {
        self.rows
    }

    /// The same entries with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// What a product is written into, row by row.
pub struct Target<'a> {
    values: &'a mut [f32],
    stride: usize,
    add: bool,
}

impl<'a> Target<'a> {
    /// Overwrites rows `stride` apart.
    pub fn set(values: &'a mut [f32], stride: usize) -> Self {
        Self { values, stride, add: false }
    }

    /// Adds to rows `stride` apart.
    pub fn add(values: &'a mut [f32], stride: usize) -> Self {
        Self { values, stride, add: true }
    }
}

/// Products of which all cores take part in a larger one.
const PARALLEL: usize = 1 << 22;

/// `target (+)= a · b`, on the core that asks.
pub fn multiply(target: Target<'_>, a: Matrix<'_>, b: Matrix<'_>) {
    assert_holds(target.values.len(), [a.rows, b.columns], [target.stride, 1]);
    // SAFETY: `assert_holds` has checked that the largest index lies within `target`, which is
    // borrowed mutably, so that it overlaps neither of the others.
    #[allow(unsafe_code, reason = "the interface of the `gemm` crate is raw pointers")]
    unsafe {
        let Target { values, stride, add } = target;
        gemm(values.as_mut_ptr(), stride, add, [a, b], gemm::Parallelism::None);
    }
}

/// [`multiply`], or [`bf16::multiply`] where the product is a `narrow` one.
pub fn multiply_as(narrow: bool, target: Target<'_>, a: Matrix<'_>, b: Matrix<'_>) {
    match narrow {
        true => bf16::multiply(target, a, b),
        false => multiply(target, a, b),
    }
}

/// `a · b` row by row, on all cores where that pays. The result's memory is written once: what is
/// allocated is not cleared first.
pub fn product(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    let len = a.rows.checked_mul(b.columns).expect("a product that fits in memory");
    if a.columns == 0 {
        return vec![0.0; len];
    }
    let parallelism = match len.saturating_mul(a.columns) {
        0..PARALLEL => gemm::Parallelism::None,
        _ => gemm::Parallelism::Rayon(0),
    };
    let mut out = Vec::with_capacity(len);
    // SAFETY: `out` has room for the rows × columns entries of the result, all of which `gemm`
    // writes, and none of which it reads.
    #[allow(unsafe_code, reason = "the interface of the `gemm` crate is raw pointers")]
    unsafe {
        gemm(out.as_mut_ptr(), b.columns, false, [a, b], parallelism);
        out.set_len(len);
    }
    out
}

/// `target (+)= a · b`.
///
/// # Safety
/// `target` must be valid for the rows of `a` × the columns of `b` values, rows `target_stride`
/// apart, which neither matrix overlaps; with `add` they are read as well.
#[allow(unsafe_code, reason = "the interface of the `gemm` crate is raw pointers")]
unsafe fn gemm(
    target: *mut f32,
    target_stride: usize,
    add: bool,
    [a, b]: [Matrix<'_>; 2],
    parallelism: gemm::Parallelism,
) {
    assert_eq!(a.columns, b.rows, "the inner extents of a product");
    let stride = |stride: usize| stride as isize;
    // SAFETY: `a` and `b` lie within their slices, which was checked when they were made; the target
    // is the caller's word.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            target,
            1,
            stride(target_stride),
            add,
            a.values.as_ptr(),
            stride(a.column_stride),
            stride(a.row_stride),
            b.values.as_ptr(),
            stride(b.column_stride),
            stride(b.row_stride),
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            parallelism,
        );
    }
}

fn assert_holds(len: usize, [rows, columns]: [usize; 2], [row, column]: [usize; 2]) {
    if rows > 0 && columns > 0 {
        let last = (rows - 1)
            .checked_mul(row)
            .zip((columns - 1).checked_mul(column))
            .and_then(|(row, column)| row.checked_add(column));
        assert!(
            last.is_some_and(|last| last < len),
            "{rows} × {columns} at strides {row}, {column} in {len} values"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn products_of_strided_matrices_are_those_of_the_definition() {
        let a: Vec<f32> = (0..60).map(|it| (it as f32).sin()).collect(); // 5 × 7 at stride 9
        let b: Vec<f32> = (0..70).map(|it| (it as f32).cos()).collect(); // (4 × 7)ᵀ at stride 10
        let mut out = vec![0.5; 6 * 5];
        multiply(
            Target::add(&mut out, 6),
            Matrix::rows(&a, 5, 7, 9),
            Matrix::rows(&b, 4, 7, 10).transposed(),
        );
        for i in 0..5 {
            for j in 0..6 {
                let product: f32 = (0..7).map(|k| a[i * 9 + k] * b[(j % 4) * 10 + k]).sum();
                let expected = if j < 4 { 0.5 + product } else { 0.5 };
                assert!((out[i * 6 + j] - expected).abs() < 1e-5, "{i} {j}");
            }
        }
    }

    #[test]
    fn a_large_product_has_the_same_bits_on_one_thread_and_on_several() {
        let values = |len: usize, turn: f32| -> Vec<f32> {
            (0..len).map(|it| (it as f32 * turn).sin()).collect()
        };
        let (a, b) = (values(301 * 200, 0.7), values(200 * 170, 1.3));
        let run = || product(Matrix::rows(&a, 301, 200, 200), Matrix::rows(&b, 200, 170, 170));
        const { assert!(301 * 200 * 170 > PARALLEL) };
        let pool = |threads| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
        };
        let (one, several) = (pool(1), pool(3));
        assert_eq!(one, several);
        for (row, column) in [(0, 0), (300, 169), (17, 99)] {
            let exact: f64 = (0..200)
                .map(|k| f64::from(a[row * 200 + k]) * f64::from(b[k * 170 + column]))
                .sum();
            assert!((f64::from(one[row * 170 + column]) - exact).abs() < 1e-4);
        }
        assert_eq!(product(Matrix::rows(&[], 2, 0, 0), Matrix::rows(&[], 0, 3, 3)), [0.0; 6]);
    }

    #[test]
    fn no_file_but_these_allows_unsafe_code() {
        let root = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("src");
        let mut allowing = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|it| it == "rs")
                    && std::fs::read_to_string(&path).unwrap().contains("allow(unsafe_code")
                {
                    allowing.push(path.strip_prefix(&root).unwrap().to_owned());
                }
            }
        }
        allowing.sort();
        assert_eq!(
            allowing,
            ["files/mapped.rs", "kernels/matrix/bf16.rs", "kernels/matrix/mod.rs"].map(Path::new)
        );
    }

    #[test]
    #[should_panic(expected = "a product that fits in memory")]
    fn a_product_of_more_entries_than_can_be_counted_is_refused() {
        // Strides of 0 make a matrix of any size out of one entry.
        let side = 1 << (usize::BITS / 2);
        product(
            Matrix::strided(&[1.0], [side, 1], [0, 0]),
            Matrix::strided(&[1.0], [1, side], [0, 0]),
        );
    }

    #[test]
    #[should_panic(expected = "in 60 values")]
    fn a_matrix_larger_than_its_slice_is_refused() {
        Matrix::rows(&[0.0; 60], 7, 7, 9);
    }
}
