//! Matrix products on slices: the one room with `unsafe`, around the `gemm` crate, whose kernels
//! are those burn's Flex backend multiplies with.

/// A matrix in a slice: entry (i, j) at `i · row_stride + j · column_stride`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows × columns` entries, row by row, rows `stride` apart.
    pub fn rows(values: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        Self::strided(values, [rows, columns], [stride, 1])
    }

    /// Entries at any strides.
    pub fn strided(values: &'a [f32], extent: [usize; 2], strides: [usize; 2]) -> Self {
        assert_holds(values.len(), extent, strides);
        Self {
            values,
            rows: extent[0],
            columns: extent[1],
            row_stride: strides[0],
            column_stride: strides[1],
        }
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

/// `target (+)= a · b`, on the core that asks.
pub fn multiply(target: Target<'_>, a: Matrix<'_>, b: Matrix<'_>) {
    assert_eq!(a.columns, b.rows, "the inner extents of a product");
    assert_holds(target.values.len(), [a.rows, b.columns], [target.stride, 1]);
    let stride = |stride: usize| stride as isize;
    // SAFETY: all three matrices lie within their slices: `assert_holds` has checked the largest
    // index of each at these extents and strides, all of them non-negative. `target` is borrowed
    // mutably, so it overlaps neither of the others.
    #[allow(unsafe_code, reason = "the interface of the `gemm` crate is raw pointers")]
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            target.values.as_mut_ptr(),
            1,
            stride(target.stride),
            target.add,
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
            gemm::Parallelism::None,
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
    #[should_panic(expected = "in 60 values")]
    fn a_matrix_larger_than_its_slice_is_refused() {
        Matrix::rows(&[0.0; 60], 7, 7, 9);
    }
}
