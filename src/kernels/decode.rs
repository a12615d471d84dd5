//! Attention from one new token of each completion to its prompt and to the completion's earlier tokens.
//!
//! The prompt's keys and values are stored once for all samples of a group, and are multiplied with the
//! queries of several samples at once.

#[cfg(feature = "flex")]
pub use fused::{Remembered, attend, in_order};

#[cfg(feature = "flex")]
mod fused {
    use std::ops::Range;

    use burn::backend::flex::FlexTensor;
    use burn::backend::{Flex, TensorMetadata};
    use burn::tensor::Tensor;
    use rayon::prelude::*;

    use crate::kernels::flex::{contiguous, primitive, tensor, values};
    use crate::kernels::matrix::{Matrix, Target, multiply};
    use crate::kernels::skinny;
    use crate::kernels::vector::{dot, exp_in_place, max, widest};

    /// Samples of a task, where there are many queries.
    const SAMPLES: usize = 8;

    /// Keys or values, f32: of the prompts `[groups, kv_heads, prompt, head_dim]`, and of the
    /// completions so far, one a sample, `[samples, kv_heads, capacity, head_dim]`.
    pub struct Remembered {
        /// Of the prompts.
        pub prompts: Tensor<4>,
        /// Of the completions.
        pub completions: Tensor<4>,
    }

    /// The same values, those of a head next to one another in memory, as [`attend`] reads them.
    pub fn in_order(prompts: Tensor<4>) -> Tensor<4> {
        Tensor::from_primitive::<Flex>(contiguous(primitive(prompts)))
    }

    /// What the queries make of the values, `[samples, kv_heads, queries, head_dim]`.
    ///
    /// - `query`: scaled, of the same shape, the samples of a group next to one another
    /// - `prompts`: of every group the tokens of its prompt
    /// - `len`: tokens of a completion so far
    pub fn attend(
        query: Tensor<4>,
        keys: Remembered,
        of_values: Remembered,
        prompts: &[usize],
        len: usize,
    ) -> Tensor<4> {
        let [samples, heads, queries, width] = query.dims();
        let per_group = samples / prompts.len();
        let in_group = per_group * queries;
        let few = in_group <= skinny::MOST;
        let cache = Cache {
            query: contiguous(primitive(query)),
            keys: Side::new(keys),
            values: Side::new(of_values),
            heads,
            queries,
            width,
            len,
            few,
        };
        let each = if few { 1 } else { SAMPLES * queries };
        let tasks: Vec<Task> = (prompts.iter().enumerate())
            .flat_map(|(group, &prompt)| {
                let rows = group * in_group..(group + 1) * in_group;
                rows.clone().step_by(each).flat_map(move |first| {
                    let rows = first..(first + each).min(rows.end);
                    (0..heads).map(move |head| Task { group, prompt, head, rows: rows.clone() })
                })
            })
            .collect();
        let mixed: Vec<Vec<f32>> = tasks.par_iter().map(|task| cache.attend(task)).collect();
        let mut out = vec![0.0; samples * heads * queries * width];
        for (task, mixed) in tasks.iter().zip(&mixed) {
            for (row, mixed) in task.rows.clone().zip(mixed.chunks_exact(width)) {
                out[cache.at(row, task.head)..][..width].copy_from_slice(mixed);
            }
        }
        Tensor::from_primitive::<Flex>(tensor(out, [samples, heads, queries, width]))
    }

    /// Some of the queries of one group under one key head, counted sample by sample.
    struct Task {
        group: usize,
        /// Tokens of its prompt.
        prompt: usize,
        head: usize,
        rows: Range<usize>,
    }

    /// Keys or values as slices, those of a head one token after the other.
    struct Side {
        prompts: FlexTensor,
        completions: FlexTensor,
    }

    impl Side {
        fn new(remembered: Remembered) -> Self {
            let [prompts, completions] = [remembered.prompts, remembered.completions]
                .map(|side| contiguous(primitive(side)));
            Self { prompts, completions }
        }
    }

    /// Of `[rows, heads, tokens, head_dim]` what one row has under one head.
    fn under(tensor: &FlexTensor, row: usize, head: usize) -> &[f32] {
        let shape = tensor.shape();
        let size = shape[2] * shape[3];
        &values(tensor)[(row * shape[1] + head) * size..][..size]
    }

    struct Cache {
        query: FlexTensor,
        keys: Side,
        values: Side,
        heads: usize,
        queries: usize,
        width: usize,
        /// Tokens of a completion so far.
        len: usize,
        /// Whether a group has so few queries that packing its keys for a product does not pay.
        few: bool,
    }

    impl Cache {
        /// Where the query `row` of a head begins, and its output.
        fn at(&self, row: usize, head: usize) -> usize {
            let (sample, query) = (row / self.queries, row % self.queries);
            ((sample * self.heads + head) * self.queries + query) * self.width
        }

        /// What the queries of a task make of the values, `[rows, head_dim]`.
        fn attend(&self, task: &Task) -> Vec<f32> {
            let &Task { group, prompt, head, .. } = task;
            let (width, rows, keys) = (self.width, task.rows.len(), task.prompt + self.len);
            let [prompt_keys, prompt_values] = [&self.keys, &self.values]
                .map(|it| &under(&it.prompts, group, head)[..prompt * width]);
            let matrix = |prompt| Matrix::rows(prompt, task.prompt, width, width);
            let query = |row| &values(&self.query)[self.at(row, head)..][..width];
            let queries: Vec<f32> = task.rows.clone().flat_map(query).copied().collect();
            let mut scores = vec![0.0; rows * keys];
            if !self.few {
                let query = Matrix::rows(&queries, rows, width, width);
                multiply(Target::set(&mut scores, keys), query, matrix(prompt_keys).transposed());
            }
            widest!({
                let both = scores.chunks_exact_mut(keys).zip(queries.chunks_exact(width));
                for (row, (scores, query)) in task.rows.clone().zip(both) {
                    if self.few {
                        score(&mut scores[..prompt], query, prompt_keys);
                    }
                    let completion = under(&self.keys.completions, row / self.queries, head);
                    score(&mut scores[prompt..], query, completion);
                    let most = max(scores);
                    let inverse = 1.0 / exp_in_place(scores, 1.0, most);
                    scores.iter_mut().for_each(|it| *it *= inverse);
                }
            });
            let mut mixed = vec![0.0; rows * width];
            if !self.few {
                let weights = Matrix::rows(&scores, rows, prompt, keys);
                multiply(Target::set(&mut mixed, width), weights, matrix(prompt_values));
            }
            widest!({
                let both = scores.chunks_exact(keys).zip(mixed.chunks_exact_mut(width));
                for (row, (weights, mixed)) in task.rows.clone().zip(both) {
                    if self.few {
                        mix(mixed, &weights[..prompt], prompt_values);
                    }
                    mix(
                        mixed,
                        &weights[prompt..],
                        under(&self.values.completions, row / self.queries, head),
                    );
                }
            });
            mixed
        }
    }

    /// A query's products with one key after the other.
    #[inline(always)]
    fn score(scores: &mut [f32], query: &[f32], keys: &[f32]) {
        for (score, key) in scores.iter_mut().zip(keys.chunks_exact(query.len())) {
            *score = dot(query, key);
        }
    }

    /// mixed += Σ weightᵢ · valueᵢ.
    #[inline(always)]
    fn mix(mixed: &mut [f32], weights: &[f32], values: &[f32]) {
        for (&weight, value) in weights.iter().zip(values.chunks_exact(mixed.len())) {
            mixed.iter_mut().zip(value).for_each(|(mixed, it)| *mixed += weight * it);
        }
    }
}
