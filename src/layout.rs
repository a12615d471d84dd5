//! The layout of attention over shared prompts: which tokens of a batch see which.
//!
//! A group is `[prompt | completion 1 | … | completion K]`. A token of the prompt sees the tokens before it;
//! a token of a completion sees the whole prompt and the earlier tokens of its own completion.
//!
//! Where the device has kernels of ours, the groups follow one another in a single row without padding, and
//! the kernel is told where each group begins. Elsewhere every group is a row, padded to the longest, under a
//! block mask.
//!
//! Invariant: nothing here knows a token or a model.

use std::ops::Range;
use std::sync::Arc;

#[cfg(feature = "gpu-kernels")]
use burn::tensor::Int;
use burn::tensor::{Bool, Device, Tensor, TensorData};

use crate::device::has_kernels;

/// A prompt and the completions that share it, in this order from token `start` on.
#[derive(Clone, Debug, PartialEq)]
pub struct SharedPrompt {
    /// The first token, counted over the whole batch.
    pub start: usize,
    /// Tokens of the prompt; there may be none.
    pub prompt: usize,
    /// Tokens of every completion.
    pub completions: Vec<usize>,
}

impl SharedPrompt {
    /// All tokens of the prompt and its completions.
    pub fn tokens(&self) -> Range<usize> {
        self.start..self.start + self.prompt + self.completions.iter().sum::<usize>()
    }

    /// The prompt and every completion: its tokens.
    pub fn parts(&self) -> impl Iterator<Item = Range<usize>> {
        let lengths = std::iter::once(&self.prompt).chain(&self.completions);
        lengths.scan(self.start, |start, &len| {
            let part = *start..*start + len;
            *start += len;
            Some(part)
        })
    }

    /// As [`parts`](Self::parts), each with the prompt that all of its tokens see: none for the
    /// prompt itself, which sees what comes before in it.
    pub fn parts_and_prompts(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        self.parts().enumerate().map(|(index, part)| {
            let prompt = if index == 0 { 0 } else { self.prompt };
            (part, self.start..self.start + prompt)
        })
    }
}

/// Which tokens of a batch see which, in the form that a device's attention reads.
#[derive(Clone, Debug)]
pub enum AttentionLayout {
    /// For every query the keys that it must not see: true = hidden, `[batch, 1, row, row]`.
    Mask(Box<Tensor<4, Bool>>),
    /// The groups of a batch, one row after the other; only where [`has_kernels`] holds.
    SharedPrompts(Arc<Vec<SharedPrompt>>),
    /// Of every query, the number of keys at the start of its row that it sees, and the first of the others, which
    /// it sees up to itself, `[batch, row, 2]`; only on GPUs.
    #[cfg(feature = "gpu-kernels")]
    Sight(Box<Tensor<3, Int>>),
}

impl AttentionLayout {
    /// The same without autodiff.
    pub fn inner(self) -> Self {
        match self {
            Self::Mask(mask) => Self::Mask(Box::new(mask.inner())),
            Self::SharedPrompts(groups) => Self::SharedPrompts(groups),
            #[cfg(feature = "gpu-kernels")]
            Self::Sight(sight) => Self::Sight(Box::new(sight.inner())),
        }
    }

    /// Every token sees itself and those before it in its row of `row` tokens. Only the first
    /// `lengths` tokens of each row count: what stands behind them is padding, which they do not see
    /// and which may see anything.
    pub fn causal(
        lengths: impl ExactSizeIterator<Item = usize>,
        row: usize,
        device: &Device,
    ) -> Self {
        if has_kernels(device) {
            let prompts = lengths.enumerate().map(|(index, prompt)| SharedPrompt {
                start: index * row,
                prompt,
                completions: Vec::new(),
            });
            return Self::SharedPrompts(Arc::new(prompts.collect()));
        }
        #[cfg(feature = "gpu-kernels")]
        if crate::device::has_gpu_kernels(device) {
            return Self::Sight(Box::new(Tensor::zeros([lengths.len(), row, 2], device)));
        }
        let mask = Tensor::<2, Bool>::tril_mask([row, row], 0, device).reshape([1, 1, row, row]);
        Self::Mask(Box::new(mask.expand([lengths.len(), 1, row, row])))
    }
}

/// The rows of a batch of groups, as the attention of a device wants them.
#[derive(Clone, Debug)]
pub struct GroupRows {
    /// The number of rows and their length.
    pub shape: [usize; 2],
    /// Every group; its tokens are counted over all rows.
    pub groups: Vec<SharedPrompt>,
}

impl GroupRows {
    /// Rows for groups of these lengths: the tokens of the prompt, and those of every completion.
    pub fn new(lengths: impl IntoIterator<Item = (usize, Vec<usize>)>, device: &Device) -> Self {
        let group = |(prompt, completions)| SharedPrompt { start: 0, prompt, completions };
        let mut groups: Vec<SharedPrompt> = lengths.into_iter().map(group).collect();
        let longest = groups.iter().map(|group| group.tokens().len()).max().unwrap_or(0);
        let in_one_row = has_kernels(device);
        let mut end = 0;
        for group in &mut groups {
            group.start = end;
            end += if in_one_row { group.tokens().len() } else { longest };
        }
        let shape = if in_one_row { [1, end] } else { [groups.len(), longest] };
        Self { shape, groups }
    }

    /// Which tokens of these rows see which.
    pub fn attention_layout(self, device: &Device) -> AttentionLayout {
        if has_kernels(device) {
            return AttentionLayout::SharedPrompts(Arc::new(self.groups));
        }
        let [rows, row] = self.shape;
        #[cfg(feature = "gpu-kernels")]
        if crate::device::has_gpu_kernels(device) {
            return AttentionLayout::Sight(Box::new(self.sight(device)));
        }
        let mut hidden = vec![true; rows * row * row];
        for (first, group) in (0..).step_by(row.max(1)).zip(&self.groups) {
            let mut see = |query: usize, keys: Range<usize>| {
                hidden[query * row..][keys.start - first..keys.end - first].fill(false);
            };
            for (part, prompt) in group.parts_and_prompts() {
                for token in part.clone() {
                    see(token, prompt.clone());
                    see(token, part.start..token + 1);
                }
            }
            // A query that sees nothing would be 0/0: padding sees itself.
            for token in group.tokens().end..first + row {
                see(token, token..token + 1);
            }
        }
        let hidden = TensorData::new(hidden, [rows, 1, row, row]);
        AttentionLayout::Mask(Box::new(Tensor::from_data(hidden, device)))
    }

    /// As [`AttentionLayout::Sight`] says.
    #[cfg(feature = "gpu-kernels")]
    fn sight(&self, device: &Device) -> Tensor<3, Int> {
        let [rows, row] = self.shape;
        // Padding sees itself: a query that sees nothing would be 0/0.
        let mut sight: Vec<i32> =
            (0..rows).flat_map(|_| (0..row as i32).flat_map(|token| [0, token])).collect();
        for (first, group) in (0..).step_by(row.max(1)).zip(&self.groups) {
            for (part, prompt) in group.parts_and_prompts() {
                for token in part.clone() {
                    sight[2 * token] = prompt.len() as i32;
                    sight[2 * token + 1] = (part.start - first) as i32;
                }
            }
        }
        Tensor::from_data(TensorData::new(sight, [rows, row, 2]), device)
    }
}
