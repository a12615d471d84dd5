//! The factors of a stored tensor, and those of the parameters in it.

use burn::tensor::{Device, Tensor, TensorData};

use crate::model::weights::Packing;

/// The factors of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Factors {
    /// `[in, rank]`
    pub a: Matrix,
    /// `[rank, out]`
    pub b: Matrix,
    /// What their product counts.
    pub scale: f64,
    /// The length of each column of the weight, `[out]`, where it is learned apart (DoRA).
    pub magnitude: Option<Vec<f32>>,
}

impl Factors {
    pub fn new(a: Matrix, b: Matrix, scale: f64) -> Self {
        Self { a, b, scale, magnitude: None }
    }
}

/// A small matrix, row by row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Matrix {
    pub rows: usize,
    pub columns: usize,
    pub values: Vec<f32>,
}

impl Matrix {
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self { rows, columns, values: vec![0.0; rows * columns] }
    }

    fn at(&self, row: usize, column: usize) -> f32 {
        self.values[row * self.columns + column]
    }

    fn set(&mut self, row: usize, column: usize, value: f32) {
        self.values[row * self.columns + column] = value;
    }

    pub fn tensor(&self, device: &Device) -> Tensor<2> {
        let data = TensorData::new(self.values.clone(), [self.rows, self.columns]);
        Tensor::from_data(data, device)
    }
}

/// The entries of parameter `part` in a vector along a stored tensor's shared axis.
pub(super) fn unpacked_vector(vector: &[f32], packing: &Packing, part: usize) -> Vec<f32> {
    packing.segments(part).flat_map(|segment| vector[segment.stored].to_vec()).collect()
}

/// The factors of parameter `part` out of those of its tensor, `a` `[rank, in]`, `b` `[out, rank]`;
/// with only its share of the ranks where each of `split` parameters has one.
pub(super) fn unpacked(
    a: &Matrix,
    b: &Matrix,
    packing: &Packing,
    part: usize,
    split: Option<usize>,
    scale: f64,
) -> Factors {
    let rank = a.rows / split.unwrap_or(1);
    let first = if split.is_some() { part * rank } else { 0 };
    let mut own_a = Matrix::zeros(a.columns, rank);
    for r in 0..rank {
        for input in 0..a.columns {
            own_a.set(input, r, a.at(first + r, input));
        }
    }
    let mut own_b = Matrix::zeros(rank, packing.part(part));
    for segment in packing.segments(part) {
        for (offset, stored) in segment.stored.enumerate() {
            for r in 0..rank {
                own_b.set(r, segment.own + offset, b.at(stored, first + r));
            }
        }
    }
    Factors::new(own_a, own_b, scale)
}

/// Whether each of `parts` parameters has its own share of the ranks of `b`, `[out, rank]`: all else is 0.
pub(super) fn is_apart(b: &Matrix, packing: &Packing, parts: usize) -> bool {
    let share = b.columns / parts;
    (0..parts).all(|part| {
        let own = part * share..(part + 1) * share;
        packing.segments(part).flat_map(|segment| segment.stored).all(|row| {
            (0..b.columns).filter(|rank| !own.contains(rank)).all(|rank| b.at(row, rank) == 0.0)
        })
    })
}

/// The factors of a tensor, `a` `[rank, in]` and `b` `[out, rank]`, out of those of its parameters.
pub(super) fn packed(parts: &[&Factors], packing: &Packing) -> (Matrix, Matrix) {
    let rank: usize = parts.iter().map(|part| part.a.columns).sum();
    let mut a = Matrix::zeros(rank, parts[0].a.rows);
    let mut b = Matrix::zeros(packing.width(), rank);
    let mut first = 0;
    for (index, part) in parts.iter().enumerate() {
        for r in 0..part.a.columns {
            for input in 0..part.a.rows {
                a.set(first + r, input, part.a.at(input, r));
            }
            for segment in packing.segments(index) {
                for (offset, stored) in segment.stored.enumerate() {
                    b.set(stored, first + r, part.b.at(r, segment.own + offset));
                }
            }
        }
        first += part.a.columns;
    }
    (a, b)
}
