//! Attention over shared prompts and their completions, forward and backward, that never materialises the
//! score matrix.
//!
//! The tokens of a [`SharedPrompt`](crate::layout::SharedPrompt) follow one another: the prompt, then every
//! completion. A token sees its group's prompt and the earlier tokens of its own completion. So the work is
//! that of K separate sequences whose prompt is read once; it does not grow with the square of the row.
//!
//! The forward pass works on blocks of queries of one prompt or completion. It holds a block's scores only
//! until they are multiplied with the values, and keeps one log-sum of the softmax per query and head. The
//! backward pass computes the scores of each block again.
//!
//! ```text
//! P = exp(s Q Kᵀ − L)   O = P V   D = Σ dO · O   dS = P (dO Vᵀ − D)
//! dQ = s dS K   dK = s dSᵀ Q   dV = Pᵀ dO
//! ```

/// How wide the heads of a layer are.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Query heads.
    pub queries: usize,
    /// Key and value heads, which divide the query heads among them.
    pub keys: usize,
    /// Width of a head.
    pub width: usize,
}

#[cfg(feature = "flex")]
pub use fused::attend;

#[cfg(feature = "flex")]
mod fused {
    use std::ops::Range;
    use std::sync::Arc;

    use burn::backend::TensorMetadata;
    use burn::backend::flex::FlexTensor;
    use burn::tensor::Tensor;
    use rayon::prelude::*;

    use super::Heads;
    use crate::kernels::flex::{contiguous, tensor, values};
    use crate::kernels::matrix::{Matrix, Target, multiply};
    use crate::kernels::operation::{Operation, apply};
    use crate::kernels::vector::{add, dot, exp_in_place, max, widest};
    use crate::layout::SharedPrompt;

    /// Scores a task holds at once: 256 KiB, half of a common second-level cache.
    const SCORES: usize = 1 << 16;
    /// Most queries of a block.
    const QUERIES: usize = 64;
    /// Most tasks the backward pass of a group is cut into; each has sums of its own.
    const SHARES: usize = 6;

    /// What the queries make of the values, `[batch, row, queries · width]`.
    ///
    /// - `query`: not scaled, `[batch, row, queries · width]`
    /// - `key`, `value`: `[batch, row, keys · width]`
    /// - `groups`: which tokens see which; tokens of no group get zeros
    pub fn attend(
        query: Tensor<3>,
        key: Tensor<3>,
        value: Tensor<3>,
        groups: Arc<Vec<SharedPrompt>>,
        heads: Heads,
    ) -> Tensor<3> {
        let inputs = [query.into_dispatch(), key.into_dispatch(), value.into_dispatch()];
        apply(Attention { groups, heads }, inputs)
    }

    #[derive(Clone, Debug)]
    struct Attention {
        groups: Arc<Vec<SharedPrompt>>,
        heads: Heads,
    }

    impl Attention {
        fn of(&self, inputs: [FlexTensor; 3]) -> Inputs {
            let [query, key, value] = inputs.map(contiguous);
            Inputs { query, key, value, groups: self.groups.clone(), heads: self.heads }
        }
    }

    #[derive(Clone, Debug)]
    struct Saved {
        inputs: Inputs,
        out: FlexTensor,
        /// Of each query and head, `[tokens, queries]`.
        log_sums: Arc<Vec<f32>>,
    }

    impl Operation<3> for Attention {
        type Saved = Saved;

        fn forward(&self, inputs: [FlexTensor; 3]) -> FlexTensor {
            forward(&self.of(inputs)).0
        }

        fn forward_saving(&self, inputs: [FlexTensor; 3], _: [bool; 3]) -> (FlexTensor, Saved) {
            let inputs = self.of(inputs);
            let (out, log_sums) = forward(&inputs);
            (out.clone(), Saved { inputs, out, log_sums: Arc::new(log_sums) })
        }

        fn backward(
            &self,
            saved: Saved,
            grad: FlexTensor,
            _: [bool; 3],
        ) -> [Option<FlexTensor>; 3] {
            backward(&saved, values(&contiguous(grad))).map(Some)
        }
    }

    #[derive(Clone, Debug)]
    struct Inputs {
        query: FlexTensor,
        key: FlexTensor,
        value: FlexTensor,
        groups: Arc<Vec<SharedPrompt>>,
        heads: Heads,
    }

    /// Queries of one prompt or completion, and the keys they see.
    #[derive(Clone, Debug)]
    struct Block {
        queries: Range<usize>,
        /// The prompt before a completion; nothing before a prompt.
        prompt: Range<usize>,
        /// From the start of the prompt or completion that the queries belong to.
        part: Range<usize>,
    }

    impl Block {
        /// Keys of the block.
        fn keys(&self) -> usize {
            self.prompt.len() + self.part.len()
        }

        /// Keys the `row`-th query sees: the first so many.
        fn visible(&self, row: usize) -> usize {
            self.prompt.len() + self.queries.start - self.part.start + row + 1
        }

        /// The two runs of keys, each with its column among the block's keys.
        fn runs(&self) -> impl Iterator<Item = (usize, Range<usize>)> {
            let runs = [(0, self.prompt.clone()), (self.prompt.len(), self.part.clone())];
            runs.into_iter().filter(|(_, run)| !run.is_empty())
        }
    }

    /// What a task works in, kept from one block to the next.
    #[derive(Default)]
    struct Scratch {
        /// Queries, scaled, the heads that share a key head one below the other.
        queries: Vec<f32>,
        /// What comes from the values, or the gradient of it, in the same order.
        mixed: Vec<f32>,
        scores: Vec<f32>,
        slopes: Vec<f32>,
    }

    impl Inputs {
        fn tokens(&self) -> usize {
            self.query.shape().num_elements() / self.query_width()
        }

        fn query_width(&self) -> usize {
            self.heads.queries * self.heads.width
        }

        fn key_width(&self) -> usize {
            self.heads.keys * self.heads.width
        }

        /// Query heads that share a key head.
        fn sharing(&self) -> usize {
            self.heads.queries / self.heads.keys
        }

        fn scale(&self) -> f32 {
            (self.heads.width as f32).powf(-0.5)
        }

        fn blocks(&self, group: &SharedPrompt) -> Vec<Block> {
            let mut blocks = Vec::new();
            for (tokens, prompt) in group.parts_and_prompts() {
                let keys = prompt.len() + tokens.len();
                let rows = (SCORES / (self.sharing() * keys.max(1))).clamp(8, QUERIES);
                for start in tokens.clone().step_by(rows) {
                    let end = (start + rows).min(tokens.end);
                    blocks.push(Block {
                        queries: start..end,
                        prompt: prompt.clone(),
                        part: tokens.start..end,
                    });
                }
            }
            blocks
        }

        /// The queries that share key head `head`, scaled, into `scratch`.
        fn gather(
            &self,
            from: &[f32],
            block: &Block,
            head: usize,
            scale: f32,
            into: &mut Vec<f32>,
        ) {
            let (width, sharing) = (self.heads.width, self.sharing());
            into.clear();
            for query in head * sharing..(head + 1) * sharing {
                for token in block.queries.clone() {
                    let at = token * self.query_width() + query * width;
                    into.extend(from[at..at + width].iter().map(|it| it * scale));
                }
            }
        }

        /// The keys or values of a run of tokens under one head, a row each.
        fn run<'a>(&self, of: &'a FlexTensor, tokens: &Range<usize>, head: usize) -> Matrix<'a> {
            let stride = self.key_width();
            let from = &values(of)[tokens.start * stride + head * self.heads.width..];
            Matrix::rows(from, tokens.len(), self.heads.width, stride)
        }

        /// `rows · [keys or values]ᵀ` into `out`, `[rows, keys of the block]`.
        fn against(
            &self,
            rows: &[f32],
            of: &FlexTensor,
            block: &Block,
            head: usize,
            out: &mut Vec<f32>,
        ) {
            let width = self.heads.width;
            let (count, keys) = (rows.len() / width, block.keys());
            out.resize(count * keys, 0.0);
            for (column, run) in block.runs() {
                multiply(
                    Target::set(&mut out[column..], keys),
                    Matrix::rows(rows, count, width, width),
                    self.run(of, &run, head).transposed(),
                );
            }
        }
    }

    /// The output and the log-sums.
    fn forward(inputs: &Inputs) -> (FlexTensor, Vec<f32>) {
        let (width, queries) = (inputs.query_width(), inputs.heads.queries);
        let mut out = vec![0.0; inputs.tokens() * width];
        let mut log_sums = vec![0.0; inputs.tokens() * queries];
        let blocks: Vec<Block> = inputs.groups.iter().flat_map(|it| inputs.blocks(it)).collect();
        let outs = rows_of(&mut out, width, &blocks);
        let sums = rows_of(&mut log_sums, queries, &blocks);
        blocks.par_iter().zip(outs).zip(sums).for_each_init(
            Scratch::default,
            |scratch, ((block, out), log_sums)| {
                for head in 0..inputs.heads.keys {
                    block_forward(inputs, block, head, scratch, out, log_sums);
                }
            },
        );
        (tensor(out, inputs.query.shape()), log_sums)
    }

    /// One block under one key head, into the block's rows of the output.
    fn block_forward(
        inputs: &Inputs,
        block: &Block,
        head: usize,
        scratch: &mut Scratch,
        out: &mut [f32],
        log_sums: &mut [f32],
    ) {
        let (width, sharing, rows) = (inputs.heads.width, inputs.sharing(), block.queries.len());
        let query = values(&inputs.query);
        inputs.gather(query, block, head, inputs.scale(), &mut scratch.queries);
        inputs.against(&scratch.queries, &inputs.key, block, head, &mut scratch.scores);
        let keys = block.keys();
        widest!({
            for (index, scores) in scratch.scores.chunks_exact_mut(keys).enumerate() {
                let (row, query) = (index % rows, head * sharing + index / rows);
                let (seen, unseen) = scores.split_at_mut(block.visible(row));
                let most = max(seen);
                let sum = exp_in_place(seen, 1.0, most);
                let inverse = 1.0 / sum;
                seen.iter_mut().for_each(|it| *it *= inverse);
                unseen.fill(0.0);
                log_sums[row * inputs.heads.queries + query] = most + sum.ln();
            }
        });
        for (column, run) in block.runs() {
            for shared in 0..sharing {
                let weights = &scratch.scores[shared * rows * keys + column..];
                let target = &mut out[(head * sharing + shared) * width..];
                let stride = inputs.query_width();
                // The run of the part itself comes last and always; the prompt, where there is one, first.
                let first = column == 0;
                multiply(
                    if first { Target::set(target, stride) } else { Target::add(target, stride) },
                    Matrix::rows(weights, rows, run.len(), keys),
                    inputs.run(&inputs.value, &run, head),
                );
            }
        }
    }

    /// Gradients of the queries, the keys and the values.
    fn backward(saved: &Saved, grad: &[f32]) -> [FlexTensor; 3] {
        let inputs = &saved.inputs;
        let (query_width, key_width) = (inputs.query_width(), inputs.key_width());
        let mut query_grad = vec![0.0; inputs.tokens() * query_width];
        let mut key_grad = vec![0.0; inputs.tokens() * key_width];
        let mut value_grad = key_grad.clone();

        // Every share has some of a group's blocks, and sums of its own over the group's keys.
        let blocks: Vec<Vec<Block>> = inputs.groups.iter().map(|it| inputs.blocks(it)).collect();
        let flat: Vec<Block> = blocks.iter().flatten().cloned().collect();
        let mut rows = rows_of(&mut query_grad, query_width, &flat).into_iter();
        let mut shares: Vec<Share> = Vec::new();
        for (group, blocks) in inputs.groups.iter().zip(blocks) {
            let first = shares.len();
            let count = blocks.len().div_ceil(2).min(SHARES);
            shares.extend((0..count).map(|_| Share { group, blocks: Vec::new() }));
            for (index, block) in blocks.into_iter().enumerate() {
                if let Some(rows) = rows.next() {
                    shares[first + index % count].blocks.push((block, rows));
                }
            }
        }
        let sums: Vec<KeySums> = shares
            .into_par_iter()
            .map_init(Scratch::default, |scratch, share| share.backward(saved, grad, scratch))
            .collect();

        let tokens: Vec<Range<usize>> = inputs.groups.iter().map(SharedPrompt::tokens).collect();
        let sinks = slices(&mut key_grad, key_width, &tokens).into_iter();
        let sinks = sinks.zip(slices(&mut value_grad, key_width, &tokens));
        sinks.zip(&tokens).for_each(|((keys, values), group)| {
            for sum in sums.iter().filter(|sum| sum.start == group.start) {
                keys.par_chunks_mut(key_width)
                    .zip(values.par_chunks_mut(key_width))
                    .zip(sum.keys.par_chunks(key_width).zip(sum.values.par_chunks(key_width)))
                    .with_min_len(64)
                    .for_each(|((keys, values), (more_keys, more_values))| {
                        widest!({
                            add(keys, more_keys);
                            add(values, more_values);
                        });
                    });
            }
        });
        [
            tensor(query_grad, inputs.query.shape()),
            tensor(key_grad, inputs.key.shape()),
            tensor(value_grad, inputs.value.shape()),
        ]
    }

    /// A task of the backward pass: blocks of one group with their rows of the queries' gradient.
    struct Share<'a> {
        group: &'a SharedPrompt,
        blocks: Vec<(Block, &'a mut [f32])>,
    }

    /// A share's part of the gradients of a group's keys and values.
    struct KeySums {
        start: usize,
        keys: Vec<f32>,
        values: Vec<f32>,
    }

    impl Share<'_> {
        fn backward(self, saved: &Saved, grad: &[f32], scratch: &mut Scratch) -> KeySums {
            let inputs = &saved.inputs;
            let len = self.group.tokens().len() * inputs.key_width();
            let mut sums =
                KeySums { start: self.group.start, keys: vec![0.0; len], values: vec![0.0; len] };
            for (block, rows) in self.blocks {
                for head in 0..inputs.heads.keys {
                    block_backward(saved, grad, &block, head, scratch, rows, &mut sums);
                }
                let scale = inputs.scale();
                widest!(rows.iter_mut().for_each(|it| *it *= scale));
            }
            sums
        }
    }

    /// One block under one key head: its rows of the queries' gradient, and what it adds to the
    /// gradients of the keys and values it sees.
    fn block_backward(
        saved: &Saved,
        grad: &[f32],
        block: &Block,
        head: usize,
        scratch: &mut Scratch,
        query_grad: &mut [f32],
        sums: &mut KeySums,
    ) {
        let inputs = &saved.inputs;
        let (width, sharing, rows) = (inputs.heads.width, inputs.sharing(), block.queries.len());
        let (keys, count) = (block.keys(), sharing * rows);
        let Scratch { queries, mixed, scores, slopes } = scratch;
        inputs.gather(values(&inputs.query), block, head, inputs.scale(), queries);
        inputs.gather(grad, block, head, 1.0, mixed);
        inputs.against(queries, &inputs.key, block, head, scores);
        inputs.against(mixed, &inputs.value, block, head, slopes);
        softmax_backward(saved, block, head, mixed, scores, slopes);

        let stride = inputs.key_width();
        for (column, run) in block.runs() {
            let at = (run.start - sums.start) * stride + head * width;
            let part = |of| Matrix::strided(of, [run.len(), count], [1, keys]);
            multiply(
                Target::add(&mut sums.values[at..], stride),
                part(&scores[column..]),
                Matrix::rows(mixed, count, width, width),
            );
            multiply(
                Target::add(&mut sums.keys[at..], stride),
                part(&slopes[column..]),
                Matrix::rows(queries, count, width, width),
            );
            for shared in 0..sharing {
                let slopes = &slopes[shared * rows * keys + column..];
                let target = &mut query_grad[(head * sharing + shared) * width..];
                let stride = inputs.query_width();
                let first = column == 0;
                multiply(
                    if first { Target::set(target, stride) } else { Target::add(target, stride) },
                    Matrix::rows(slopes, rows, run.len(), keys),
                    inputs.run(&inputs.key, &run, head),
                );
            }
        }
    }

    /// Scores → weights P; gradients of the weights → those of the scores, P (dP − D).
    fn softmax_backward(
        saved: &Saved,
        block: &Block,
        head: usize,
        grad: &[f32],
        scores: &mut [f32],
        slopes: &mut [f32],
    ) {
        let inputs = &saved.inputs;
        let (width, sharing, rows) = (inputs.heads.width, inputs.sharing(), block.queries.len());
        let keys = block.keys();
        let out = values(&saved.out);
        widest!({
            let both = scores.chunks_exact_mut(keys).zip(slopes.chunks_exact_mut(keys));
            for (index, (scores, slopes)) in both.enumerate() {
                let (row, query) = (index % rows, head * sharing + index / rows);
                let token = block.queries.start + row;
                let at = token * inputs.query_width() + query * width;
                let along = dot(&out[at..at + width], &grad[index * width..][..width]);
                let log_sum = saved.log_sums[token * inputs.heads.queries + query];
                let visible = block.visible(row);
                exp_in_place(&mut scores[..visible], 1.0, log_sum);
                scores[visible..].fill(0.0);
                for (slope, weight) in slopes.iter_mut().zip(&*scores) {
                    *slope = weight * (*slope - along);
                }
            }
        });
    }

    /// The rows of each block's queries, mutable. Blocks stand in order and do not overlap.
    fn rows_of<'a>(of: &'a mut [f32], width: usize, blocks: &[Block]) -> Vec<&'a mut [f32]> {
        let ranges: Vec<Range<usize>> = blocks.iter().map(|it| it.queries.clone()).collect();
        slices(of, width, &ranges)
    }

    /// The rows of each range, mutable. Ranges stand in order and do not overlap.
    fn slices<'a>(
        mut rest: &'a mut [f32],
        width: usize,
        ranges: &[Range<usize>],
    ) -> Vec<&'a mut [f32]> {
        let mut at = 0;
        let mut slices = Vec::with_capacity(ranges.len());
        for range in ranges {
            let (_, from) = std::mem::take(&mut rest).split_at_mut((range.start - at) * width);
            let (rows, after) = from.split_at_mut(range.len() * width);
            slices.push(rows);
            rest = after;
            at = range.end;
        }
        slices
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use std::sync::Arc;

    use burn::tensor::activation::softmax;
    use burn::tensor::{Bool, Device, Tensor, TensorData};

    use super::*;
    use crate::kernels::waves::waves;
    use crate::layout::SharedPrompt;

    fn spread(shape: [usize; 3], turn: f32, device: &Device) -> Tensor<3> {
        waves(shape, turn, device) * 2.0
    }

    /// Softmax over all tokens, those a token does not see masked out.
    fn plain(
        [query, key, value]: [Tensor<3>; 3],
        groups: &[SharedPrompt],
        heads: Heads,
        device: &Device,
    ) -> Tensor<3> {
        let [_, tokens, _] = query.dims();
        let mut hidden = vec![true; tokens * tokens];
        for group in groups {
            for (part, prompt) in group.parts_and_prompts() {
                for token in part.clone() {
                    hidden[token * tokens..][prompt.clone()].fill(false);
                    hidden[token * tokens..][part.start..token + 1].fill(false);
                }
            }
        }
        let data = TensorData::new(hidden, [1, tokens, tokens]);
        let hidden = Tensor::<3, Bool>::from_data(data, device);
        let split = |x: Tensor<3>, count: usize| -> Tensor<3> {
            x.reshape([tokens, count, heads.width]).swap_dims(0, 1)
        };
        let shared = |x: Tensor<3>| {
            let sharing = heads.queries / heads.keys;
            split(x, heads.keys)
                .reshape([heads.keys, 1, tokens, heads.width])
                .repeat_dim(1, sharing)
                .reshape([heads.queries, tokens, heads.width])
        };
        let scores = split(query, heads.queries).matmul(shared(key).swap_dims(1, 2))
            / (heads.width as f64).sqrt();
        let hidden = hidden.expand([heads.queries, tokens, tokens]);
        let mixed = softmax(scores.mask_fill(hidden, f32::NEG_INFINITY), 2).matmul(shared(value));
        mixed.swap_dims(0, 1).reshape([1, tokens, heads.queries * heads.width])
    }

    fn agrees_with_the_plain_form(groups: Vec<SharedPrompt>, heads: Heads) {
        let device = Device::flex().autodiff();
        let tokens = groups.last().unwrap().tokens().end;
        let run = |attend: &dyn Fn([Tensor<3>; 3]) -> Tensor<3>| {
            let input = |count: usize, turn: f32| {
                spread([1, tokens, count * heads.width], turn, &device).require_grad()
            };
            let inputs =
                [input(heads.queries, 0.7), input(heads.keys, 1.3), input(heads.keys, 2.9)];
            let out = attend(inputs.clone());
            let weights = spread(out.dims(), 0.31, &device);
            let gradients = (out.clone() * weights).sum().backward();
            let [query, key, value] = inputs.map(|it| it.grad(&gradients).unwrap());
            [out.inner(), query, key, value]
        };
        let shared = Arc::new(groups.clone());
        let ours = run(&|[query, key, value]| attend(query, key, value, shared.clone(), heads));
        let plain = run(&|inputs| plain(inputs, &groups, heads, &device));
        for (ours, plain) in ours.into_iter().zip(plain) {
            let size = plain.clone().abs().max().into_scalar::<f32>();
            let difference = (ours - plain).abs().max().into_scalar::<f32>();
            // f32 sums over up to a few hundred keys or queries, in another order.
            assert!(difference < 1e-5 * size.max(1.0), "{difference} of {size}");
        }
    }

    #[test]
    fn completions_see_their_prompt_and_themselves_only_forward_and_backward() {
        let groups = vec![
            SharedPrompt { start: 0, prompt: 5, completions: vec![3, 1, 4] },
            SharedPrompt { start: 13, prompt: 0, completions: vec![2, 6] },
            SharedPrompt { start: 21, prompt: 7, completions: vec![1] },
        ];
        for (queries, keys) in [(4, 4), (6, 2), (3, 1)] {
            agrees_with_the_plain_form(groups.clone(), Heads { queries, keys, width: 6 });
        }
    }

    #[test]
    fn rows_of_many_blocks_agree_with_the_plain_form() {
        let groups = vec![
            SharedPrompt { start: 0, prompt: 210, completions: vec![90, 33, 70] },
            SharedPrompt { start: 403, prompt: 65, completions: vec![64, 1] },
        ];
        agrees_with_the_plain_form(groups, Heads { queries: 6, keys: 2, width: 16 });
    }

    #[test]
    fn the_same_input_gives_the_same_bits_on_one_thread_and_on_several() {
        let device = Device::flex().autodiff();
        let heads = Heads { queries: 6, keys: 2, width: 16 };
        let groups =
            Arc::new(vec![SharedPrompt { start: 0, prompt: 150, completions: vec![40; 6] }]);
        let run = || {
            let input = |count: usize, turn: f32| {
                spread([1, 390, count * 16], turn, &device).require_grad()
            };
            let [query, key, value] = [input(6, 0.7), input(2, 1.3), input(2, 2.9)];
            let out = attend(query.clone(), key.clone(), value.clone(), groups.clone(), heads);
            let gradients = out.clone().square().sum().backward();
            let gradients = [query, key, value].map(|it| it.grad(&gradients).unwrap().to_data());
            (out.to_data(), gradients)
        };
        let on = |threads| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
        };
        assert_eq!(on(1), on(5));
    }
}
