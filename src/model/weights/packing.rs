//! How several parameters share one stored tensor.

use std::ops::Range;

use rayon::prelude::*;

use crate::model::families::Binding;

/// Where the parameters of a [`Binding`] lie along the axis they share.
///
/// The axis is cut into as many blocks as the binding says; each block holds an equal share of
/// every parameter, one parameter after the other.
#[derive(Clone, Debug)]
pub(in crate::model) struct Packing {
    widths: Vec<usize>,
    blocks: usize,
}

/// A stretch of the shared axis that belongs to one parameter.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::model) struct Segment {
    /// Where it lies in the stored tensor.
    pub stored: Range<usize>,
    /// Where it begins in the parameter.
    pub own: usize,
}

impl Packing {
    /// The packing of parameters of the given `widths` (their last axes).
    pub fn new(binding: &Binding, widths: Vec<usize>) -> Self {
        Self { widths, blocks: binding.blocks }
    }

    /// Length of the shared axis.
    pub fn width(&self) -> usize {
        self.widths.iter().sum()
    }

    /// Length of the shared axis that belongs to parameter `part`.
    pub fn part(&self, part: usize) -> usize {
        self.widths[part]
    }

    /// Where parameter `part` lies, in order.
    pub fn segments(&self, part: usize) -> impl Iterator<Item = Segment> {
        let before: usize = self.widths[..part].iter().sum();
        let (len, before) = (self.widths[part] / self.blocks, before / self.blocks);
        let block = self.width() / self.blocks;
        (0..self.blocks).map(move |index| {
            let start = index * block + before;
            Segment { stored: start..start + len, own: index * len }
        })
    }
}

/// Writes `rows` of one matrix as columns of another.
pub(super) fn transpose<T: Copy + Send + Sync>(
    from: Matrix<&[T]>,
    rows: Range<usize>,
    to: Matrix<&mut [T]>,
) {
    const TILE: usize = 32;
    to.values.par_chunks_mut(to.width * TILE).enumerate().for_each(|(tile, out)| {
        for start in rows.clone().step_by(TILE) {
            for (i, out) in out.chunks_mut(to.width).enumerate() {
                let column = from.first + tile * TILE + i;
                for row in start..(start + TILE).min(rows.end) {
                    out[to.first + row - rows.start] = from.values[row * from.width + column];
                }
            }
        }
    });
}

/// The values of a matrix, the length of its rows, and the column that counts as its first.
pub(super) struct Matrix<T> {
    pub values: T,
    pub width: usize,
    pub first: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_hold_their_queries_keys_and_values_one_after_the_other() {
        let packing = Packing { widths: vec![4, 4, 4], blocks: 2 };
        let segments = |part| packing.segments(part).collect::<Vec<_>>();
        assert_eq!(
            segments(1),
            [Segment { stored: 2..4, own: 0 }, Segment { stored: 8..10, own: 2 }]
        );
    }

    #[test]
    fn rows_become_columns() {
        let mut turned = vec![0.0; 8];
        let from = Matrix { values: &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0][..], width: 3, first: 1 };
        transpose(from, 0..2, Matrix { values: &mut turned, width: 4, first: 2 });
        assert_eq!(turned, [0.0, 0.0, 2.0, 5.0, 0.0, 0.0, 3.0, 6.0]);
    }

    #[test]
    fn more_rows_and_columns_than_a_tile_become_columns() {
        let (rows, columns) = (75, 101);
        let values: Vec<u32> = (0..rows * columns).collect();
        let (rows, columns) = (rows as usize, columns as usize);
        let mut turned = vec![0; rows * columns];
        let from = Matrix { values: &values[..], width: columns, first: 0 };
        transpose(from, 0..rows, Matrix { values: &mut turned, width: rows, first: 0 });
        for (at, value) in turned.into_iter().enumerate() {
            assert_eq!(value as usize, at % rows * columns + at / rows);
        }
    }

    #[test]
    fn parameters_of_different_width_stand_side_by_side() {
        let packing = Packing { widths: vec![8, 2, 2], blocks: 1 };
        assert_eq!(packing.width(), 12);
        assert_eq!(packing.segments(2).next(), Some(Segment { stored: 10..12, own: 0 }));
    }
}
