//! Attention from one new token of each sample to its group's prompt and its own earlier tokens.
//!
//! The prompt's keys and values stand once for all samples of a group and are multiplied with the
//! queries of several samples at once.

#[cfg(feature = "flex")]
pub use fused::{Remembered, attend};

#[cfg(feature = "flex")]
mod fused {
    use burn::backend::flex::FlexTensor;
    use burn::backend::{Flex, TensorMetadata};
    use burn::tensor::Tensor;
    use rayon::prelude::*;

    use crate::kernels::matrix::{Matrix, Target, multiply};
    use crate::kernels::values::{contiguous, primitive, tensor, values};
    use crate::kernels::vector::{dot, exp_in_place, max, widest};

    /// Samples of a task.
    const SAMPLES: usize = 8;

    /// Keys or values, f32: of the prompts `[groups, kv_heads, prompt, head_dim]`, and of the
    /// samples' own tokens `[samples, kv_heads, capacity, head_dim]`.
    pub struct Remembered {
        /// Of the prompts.
        pub prompts: Tensor<4>,
        /// Of the samples.
        pub own: Tensor<4>,
    }

    /// What the queries make of the values, `[samples, kv_heads, queries, head_dim]`.
    ///
    /// - `query`: scaled, of the same shape, the samples of a group next to one another
    /// - `prompts`: of every group the tokens of its prompt
    /// - `len`: tokens a sample has of its own
    pub fn attend(
        query: Tensor<4>,
        keys: Remembered,
        of_values: Remembered,
        prompts: &[usize],
        len: usize,
    ) -> Tensor<4> {
        let [samples, heads, queries, width] = query.dims();
        let per_group = samples / prompts.len();
        let cache = Cache {
            query: contiguous(primitive(query)),
            keys: Side::new(keys),
            values: Side::new(of_values),
            heads,
            queries,
            width,
            len,
        };
        let row = heads * queries * width;
        let mut out = vec![0.0; samples * row];
        out.par_chunks_mut(per_group * row).zip(prompts).enumerate().for_each(
            |(group, (out, &prompt))| {
                out.par_chunks_mut(SAMPLES * row).enumerate().for_each(|(index, out)| {
                    let first = group * per_group + index * SAMPLES;
                    for head in 0..heads {
                        cache.head(group, prompt, first, head, out);
                    }
                });
            },
        );
        Tensor::from_primitive::<Flex>(tensor(out, [samples, heads, queries, width]))
    }

    /// Keys or values as slices: entry (group, head, token) of the prompts begins at the sum of
    /// these times `strides`.
    struct Side {
        prompts: FlexTensor,
        strides: [usize; 3],
        own: FlexTensor,
    }

    impl Side {
        fn new(remembered: Remembered) -> Self {
            let prompts = primitive(remembered.prompts);
            let prompts =
                if prompts.layout().strides()[3] == 1 { prompts } else { contiguous(prompts) };
            let strides = [0, 1, 2].map(|axis| prompts.layout().strides()[axis].unsigned_abs());
            Self { prompts, strides, own: contiguous(primitive(remembered.own)) }
        }

        /// Of a prompt under one head, a row a token.
        fn prompt(&self, group: usize, head: usize, tokens: usize, width: usize) -> Matrix<'_> {
            let from = group * self.strides[0] + head * self.strides[1];
            let all = &self.prompts.storage::<f32>()[self.prompts.layout().start_offset() + from..];
            Matrix::rows(all, tokens, width, self.strides[2])
        }

        /// Of a sample under one head, one after the other.
        fn own(&self, sample: usize, head: usize, heads: usize) -> &[f32] {
            let shape = self.own.shape();
            let size = shape[2] * shape[3];
            &values(&self.own)[(sample * heads + head) * size..][..size]
        }
    }

    struct Cache {
        query: FlexTensor,
        keys: Side,
        values: Side,
        heads: usize,
        queries: usize,
        width: usize,
        len: usize,
    }

    impl Cache {
        /// Some samples from `first` on, under one key head, into their rows of the output.
        fn head(&self, group: usize, prompt: usize, first: usize, head: usize, out: &mut [f32]) {
            let (width, queries) = (self.width, self.queries);
            let row = self.heads * queries * width;
            let samples = out.len() / row;
            let keys = prompt + self.len;
            let mut gathered = Vec::with_capacity(samples * queries * width);
            for sample in first..first + samples {
                let at = sample * row + head * queries * width;
                gathered.extend_from_slice(&values(&self.query)[at..at + queries * width]);
            }
            let rows = samples * queries;
            let mut scores = vec![0.0; rows * keys];
            multiply(
                Target::set(&mut scores, keys),
                Matrix::rows(&gathered, rows, width, width),
                self.keys.prompt(group, head, prompt, width).transposed(),
            );
            widest(|| {
                let both = scores.chunks_exact_mut(keys).zip(gathered.chunks_exact(width));
                for (index, (scores, query)) in both.enumerate() {
                    let own = self.keys.own(first + index / queries, head, self.heads);
                    for (score, key) in scores[prompt..].iter_mut().zip(own.chunks_exact(width)) {
                        *score = dot(query, key);
                    }
                    let most = max(scores);
                    let inverse = 1.0 / exp_in_place(scores, 1.0, most);
                    scores.iter_mut().for_each(|it| *it *= inverse);
                }
            });
            let mut mixed = gathered;
            multiply(
                Target::set(&mut mixed, width),
                Matrix::rows(&scores, rows, prompt, keys),
                self.values.prompt(group, head, prompt, width),
            );
            widest(|| {
                let both = scores.chunks_exact(keys).zip(mixed.chunks_exact_mut(width));
                for (index, (weights, mixed)) in both.enumerate() {
                    let own = self.values.own(first + index / queries, head, self.heads);
                    for (&weight, value) in weights[prompt..].iter().zip(own.chunks_exact(width)) {
                        mixed.iter_mut().zip(value).for_each(|(mixed, it)| *mixed += weight * it);
                    }
                }
            });
            for (out, mixed) in out.chunks_exact_mut(row).zip(mixed.chunks_exact(queries * width)) {
                out[head * queries * width..][..queries * width].copy_from_slice(mixed);
            }
        }
    }
}
