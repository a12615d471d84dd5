//! Token ids → the tensors of a batch of groups. Each prompt stands once for all its completions.
//!
//! A group is `[prompt | completion 1 | … | completion K]`. Positions restart after the prompt for every
//! completion, and a completion sees the prompt and itself only. So the result equals that of K separate
//! sequences, with the prompt encoded once.
//!
//! [`crate::layout`] says how many rows a device needs, and which tokens see which.
//!
//! Invariant: nothing here knows a model; any decoder-only model can read a batch.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::TokenGroup;
use crate::layout::{AttentionLayout, GroupRows};

/// A batch of groups with the same number of completions K, on a device.
#[derive(Clone, Debug)]
pub struct GroupBatch {
    /// Token ids, `[rows, row]`: a row a group, or all in one.
    pub tokens: Tensor<2, Int>,
    /// Positions of the tokens in their own sequence, `[rows, row]`.
    pub positions: Tensor<2, Int>,
    /// Which tokens see which.
    pub attention: AttentionLayout,
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
    /// The same on the device without autodiff.
    pub fn inner(self) -> Self {
        Self {
            tokens: self.tokens.inner(),
            positions: self.positions.inner(),
            attention: self.attention.inner(),
            predictors: self.predictors.inner(),
            targets: self.targets.inner(),
            scored_of_completion: self.scored_of_completion.inner(),
            last_tokens: self.last_tokens.inner(),
            ..self
        }
    }

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
        let lengths = groups
            .iter()
            .map(|group| (group.prompt.len(), group.completions.iter().map(Vec::len).collect()));
        let rows_of_groups = GroupRows::new(lengths, device);
        let [rows, row] = rows_of_groups.shape;

        let mut tokens = vec![0i64; rows * row];
        let mut positions = vec![0i64; rows * row];
        let (mut predictors, mut targets) = (Vec::new(), Vec::new());
        let (mut last_tokens, mut num_scored) = (Vec::new(), Vec::new());

        for (group, laid) in groups.iter().zip(&rows_of_groups.groups) {
            let (base, prompt) = (laid.start, laid.prompt);
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
            places.extend((first..first + scored).map(|place| place as i64));
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
            attention: rows_of_groups.attention_layout(device),
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

    /// Scored tokens of every completion, at least 1, as floats, `[groups, K]`.
    pub fn num_tokens(&self) -> Tensor<2> {
        let counts: Vec<f32> = self.num_scored.iter().map(|&count| count.max(1) as f32).collect();
        let shape = [self.num_groups, self.num_completions];
        Tensor::from_data(TensorData::new(counts, shape), &self.targets.device())
    }

    /// 1 for every scored token of each completion and 0 past its end, `[groups, K, longest]`.
    pub fn token_mask(&self) -> Tensor<3> {
        let longest = self.num_scored.iter().copied().max().unwrap_or(0).max(1);
        let ones = |&scored: &usize| (0..longest).map(move |t| if t < scored { 1.0 } else { 0.0 });
        let mask: Vec<f32> = self.num_scored.iter().flat_map(ones).collect();
        let shape = [self.num_groups, self.num_completions, longest];
        Tensor::from_data(TensorData::new(mask, shape), &self.targets.device())
    }
}
