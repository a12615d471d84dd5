//! Token ids → the tensors of a batch of groups, each prompt standing once for all its completions.
//!
//! A group is `[prompt | completion 1 | … | completion K]`. Positions restart after the prompt for
//! every completion, and a completion sees the prompt and itself only, so this is exactly what K
//! separate sequences would be, with the prompt encoded once.
//!
//! Where the device has kernels of ours, the groups follow one another in a single row without
//! padding, as trunks and branches; elsewhere every group is a row, padded to the longest, under a
//! block mask.
//!
//! Invariant: nothing here knows a model; a batch is what any decoder-only model can read.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{Sight, TokenGroup};
use crate::kernels;
use crate::kernels::attention::Tree;

/// A batch of groups with the same number of completions K, on a device.
#[derive(Clone, Debug)]
pub struct GroupBatch {
    /// Token ids, `[rows, row]`: a row a group, or all in one.
    pub tokens: Tensor<2, Int>,
    /// Positions of the tokens in their own sequence, `[rows, row]`.
    pub positions: Tensor<2, Int>,
    /// Which tokens see which.
    pub sight: Sight,
    /// For every scored completion token the flat index (into `rows × row`) of the token before
    /// it, whose hidden state predicts it, `[scored]`.
    pub predictors: Tensor<1, Int>,
    /// The scored completion tokens, `[scored]`.
    pub targets: Tensor<1, Int>,
    /// Which scored tokens each completion has, `[groups · K, longest]`: their numbers, and past the end of a
    /// shorter completion the number of all, which is none of theirs.
    pub scored_of_completion: Tensor<2, Int>,
    /// Flat index of the last token of every completion, `[groups · K]`.
    pub last_tokens: Tensor<1, Int>,
    /// Number of groups.
    pub num_groups: usize,
    /// Completions of every group, K.
    pub num_completions: usize,
    /// Scored tokens of every completion, in the order of `scored_of_completion`'s rows.
    pub num_scored: Vec<usize>,
}

impl GroupBatch {
    /// Lays `groups` out on `device`. All must have the same number of completions, and every
    /// completion at least one token; the readers of [`crate::data`] see to both.
    ///
    /// With an empty prompt the first token of a completion has no predictor and is not scored.
    ///
    /// # Panics
    /// If `groups` is empty or mixes numbers of completions.
    pub fn new<'a>(groups: impl IntoIterator<Item = &'a TokenGroup>, device: &Device) -> Self {
        let groups: Vec<&TokenGroup> = groups.into_iter().collect();
        let num_completions = groups[0].completions.len();
        assert!(
            groups.iter().all(|group| group.completions.len() == num_completions),
            "one K a batch"
        );
        let layout = Layout::new(&groups, kernels::on(device));
        let [rows, row] = layout.shape;

        let mut tokens = vec![0i64; rows * row];
        let mut positions = vec![0i64; rows * row];
        let (mut predictors, mut targets) = (Vec::new(), Vec::new());
        let (mut last_tokens, mut num_scored) = (Vec::new(), Vec::new());

        for (group, tree) in groups.iter().zip(&layout.trees) {
            let (base, prompt) = (tree.start, tree.trunk);
            for (j, &token) in group.prompt.iter().enumerate() {
                tokens[base + j] = token.into();
                positions[base + j] = j as i64;
            }
            let mut start = prompt;
            for completion in &group.completions {
                let before = num_scored.len();
                num_scored.push(0);
                for (j, &token) in completion.iter().enumerate() {
                    tokens[base + start + j] = token.into();
                    positions[base + start + j] = (prompt + j) as i64;
                    let predictor = if j > 0 { Some(start + j - 1) } else { prompt.checked_sub(1) };
                    if let Some(predictor) = predictor {
                        predictors.push((base + predictor) as i64);
                        targets.push(i64::from(token));
                        num_scored[before] += 1;
                    }
                }
                start += completion.len();
                last_tokens.push((base + start - 1) as i64);
            }
        }

        let longest = num_scored.iter().copied().max().unwrap_or(0);
        let (mut places, mut first) = (Vec::with_capacity(num_scored.len() * longest), 0);
        for &scored in &num_scored {
            places.extend((first..first + scored).map(|it| it as i64));
            places.extend((scored..longest).map(|_| targets.len() as i64));
            first += scored;
        }
        let ints = |values: Vec<i64>| {
            let len = values.len();
            Tensor::<1, Int>::from_data(TensorData::new(values, [len]), device)
        };
        Self {
            tokens: ints(tokens).reshape([rows, row]),
            positions: ints(positions).reshape([rows, row]),
            sight: layout.sight(device),
            predictors: ints(predictors),
            targets: ints(targets),
            scored_of_completion: Tensor::from_data(
                TensorData::new(places, [num_scored.len(), longest]),
                device,
            ),
            last_tokens: ints(last_tokens),
            num_groups: groups.len(),
            num_completions,
            num_scored,
        }
    }
}

/// Where the tokens of a batch's groups lie.
struct Layout {
    /// Rows and their length.
    shape: [usize; 2],
    /// Of every group its prompt and completions, counted over all rows.
    trees: Vec<Tree>,
    in_one_row: bool,
}

impl Layout {
    fn new(groups: &[&TokenGroup], in_one_row: bool) -> Self {
        let lengths = || groups.iter().map(|group| group.num_tokens());
        let longest = lengths().max().unwrap_or(0);
        let mut start = 0;
        let trees = groups
            .iter()
            .map(|group| {
                let tree = Tree {
                    start,
                    trunk: group.prompt.len(),
                    branches: group.completions.iter().map(Vec::len).collect(),
                };
                start += if in_one_row { group.num_tokens() } else { longest };
                tree
            })
            .collect();
        let shape = if in_one_row { [1, lengths().sum()] } else { [groups.len(), longest] };
        Self { shape, trees, in_one_row }
    }

    fn sight(self, device: &Device) -> Sight {
        if self.in_one_row {
            return Sight::Trees(Arc::new(self.trees));
        }
        let [rows, row] = self.shape;
        let mut hidden = vec![true; rows * row * row];
        for (first, tree) in (0..).step_by(row.max(1)).zip(&self.trees) {
            let mut see = |query: usize, keys: Range<usize>| {
                hidden[query * row..][keys.start - first..keys.end - first].fill(false);
            };
            for (index, part) in tree.parts().enumerate() {
                for token in part.clone() {
                    let trunk = if index > 0 { tree.trunk } else { 0 };
                    see(token, first..first + trunk);
                    see(token, part.start..token + 1);
                }
            }
            // A query that sees nothing would be 0/0: padding sees itself.
            for token in tree.tokens().end..first + row {
                see(token, token..token + 1);
            }
        }
        let hidden = TensorData::new(hidden, [rows, 1, row, row]);
        Sight::Mask(Box::new(Tensor::from_data(hidden, device)))
    }
}
