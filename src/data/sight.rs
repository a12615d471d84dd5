//! Which tokens of a batch see which.

use std::sync::Arc;

use burn::tensor::{Bool, Device, Tensor};

use crate::kernels;
use crate::kernels::attention::Tree;

/// Which tokens of a batch see which, in the form a device's attention reads.
#[derive(Clone, Debug)]
pub enum Sight {
    /// Of every query the keys that it must not see: true = hidden, `[batch, 1, row, row]`.
    Mask(Box<Tensor<4, Bool>>),
    /// Trunks and branches over the tokens of a batch, one row after the other; only where
    /// [`kernels::on`] says that there are kernels.
    Trees(Arc<Vec<Tree>>),
}

impl Sight {
    /// Every token sees itself and those before it in its row of `row` tokens. Of each row the first
    /// `lengths` are meant: what stands behind them is not seen by them and may see anything.
    pub fn causal(
        lengths: impl ExactSizeIterator<Item = usize>,
        row: usize,
        device: &Device,
    ) -> Self {
        if kernels::on(device) {
            let trees = lengths.enumerate().map(|(index, len)| Tree {
                start: index * row,
                trunk: len,
                branches: Vec::new(),
            });
            return Self::Trees(Arc::new(trees.collect()));
        }
        let mask = Tensor::<2, Bool>::tril_mask([row, row], 0, device).reshape([1, 1, row, row]);
        Self::Mask(Box::new(mask.expand([lengths.len(), 1, row, row])))
    }
}
