//! Token ids → the tensors of a batch of groups, each prompt standing once for all its completions.
//!
//! One row a group: `[prompt | completion 1 | … | completion K | padding]`. Positions restart after
//! the prompt for every completion, and the mask lets a completion see the prompt and itself only,
//! so a row holds exactly what K separate sequences would, with the prompt encoded once.
//!
//! Invariant: nothing here knows a model; a batch is what any decoder-only model can read.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use super::TokenGroup;

/// A batch of groups with the same number of completions K, on a device.
#[derive(Clone, Debug)]
pub struct GroupBatch {
    /// Token ids, `[groups, row]`.
    pub tokens: Tensor<2, Int>,
    /// Positions of the tokens in their own sequence, `[groups, row]`.
    pub positions: Tensor<2, Int>,
    /// Which keys (last axis) a query must not see: true = hidden, `[groups, 1, row, row]`.
    pub mask: Tensor<4, Bool>,
    /// For every scored completion token the flat index (into `groups × row`) of the token before
    /// it, whose hidden state predicts it, `[scored]`.
    pub predictors: Tensor<1, Int>,
    /// The scored completion tokens, `[scored]`.
    pub targets: Tensor<1, Int>,
    /// 1 where a scored token belongs to a completion, `[groups · K, scored]`.
    pub membership: Tensor<2>,
    /// Flat index of the last token of every completion, `[groups · K]`.
    pub last_tokens: Tensor<1, Int>,
    /// Number of groups.
    pub num_groups: usize,
    /// Completions of every group, K.
    pub num_completions: usize,
    /// Scored tokens of every completion, in the order of `membership`'s rows.
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
        let row = groups.iter().map(|group| group.num_tokens()).max().unwrap_or(0);

        let mut tokens = vec![0i64; groups.len() * row];
        let mut positions = vec![0i64; groups.len() * row];
        let mut hidden = vec![true; groups.len() * row * row];
        let (mut predictors, mut targets, mut owners) = (Vec::new(), Vec::new(), Vec::new());
        let (mut last_tokens, mut num_scored) = (Vec::new(), Vec::new());

        for (g, group) in groups.iter().enumerate() {
            let base = g * row;
            let prompt = group.prompt.len();
            let mut see = |query: usize, from: usize, to: usize| {
                hidden[(base + query) * row..][from..to].fill(false);
            };
            for (j, &token) in group.prompt.iter().enumerate() {
                tokens[base + j] = token.into();
                positions[base + j] = j as i64;
                see(j, 0, j + 1);
            }
            let mut start = prompt;
            for completion in &group.completions {
                let before = num_scored.len();
                num_scored.push(0);
                for (j, &token) in completion.iter().enumerate() {
                    tokens[base + start + j] = token.into();
                    positions[base + start + j] = (prompt + j) as i64;
                    see(start + j, 0, prompt);
                    see(start + j, start, start + j + 1);
                    let predictor = if j > 0 { Some(start + j - 1) } else { prompt.checked_sub(1) };
                    if let Some(predictor) = predictor {
                        predictors.push((base + predictor) as i64);
                        targets.push(i64::from(token));
                        owners.push(before);
                        num_scored[before] += 1;
                    }
                }
                start += completion.len();
                last_tokens.push((base + start - 1) as i64);
            }
            // A query that sees nothing would be 0/0: padding sees itself.
            for j in start..row {
                see(j, j, j + 1);
            }
        }

        let scored = targets.len();
        let mut membership = vec![0f32; num_scored.len() * scored];
        for (token, &owner) in owners.iter().enumerate() {
            membership[owner * scored + token] = 1.0;
        }
        let ints = |values: Vec<i64>| {
            let len = values.len();
            Tensor::<1, Int>::from_data(TensorData::new(values, [len]), device)
        };
        let shape = [groups.len(), row];
        Self {
            tokens: ints(tokens).reshape(shape),
            positions: ints(positions).reshape(shape),
            mask: Tensor::from_data(TensorData::new(hidden, [groups.len(), 1, row, row]), device),
            predictors: ints(predictors),
            targets: ints(targets),
            membership: Tensor::from_data(
                TensorData::new(membership, [num_scored.len(), scored]),
                device,
            ),
            last_tokens: ints(last_tokens),
            num_groups: groups.len(),
            num_completions,
            num_scored,
        }
    }
}
