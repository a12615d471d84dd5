//! Keys and values of tokens that were already read: each prompt once, and its sampled completions apart.

use std::sync::Arc;

use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Int, Tensor, TensorData};

use super::precision::in_f32;
#[cfg(any(feature = "flex", feature = "gpu-kernels"))]
use crate::kernels;
#[cfg(feature = "flex")]
use crate::kernels::decode::Remembered;
use crate::kernels::product::multiply;

/// Keys and values of rows of tokens in one layer, each `[rows, kv_heads, tokens, head_dim]`.
#[derive(Clone, Debug)]
pub struct KeysAndValues {
    /// Keys.
    pub keys: Tensor<4>,
    /// Values.
    pub values: Tensor<4>,
}

/// What one layer remembers while a batch of groups is sampled.
#[derive(Clone, Debug)]
pub struct LayerCache {
    /// Those of the prompts, `[groups, kv_heads, longest, head_dim]`.
    prompts: KeysAndValues,
    /// Tokens of each prompt; what follows them in `prompts` is padding.
    prompt_lengths: Arc<[usize]>,
    /// That padding as a mask, once the plain form has asked: true = hidden, `[groups, 1, 1, prompt]`.
    hidden: Option<Tensor<4, Bool>>,
    /// Those lengths on the device, once the kernel of GPUs has asked, `[groups]`.
    #[cfg(feature = "gpu-kernels")]
    lengths: Option<Tensor<1, Int>>,
    /// Those of the completions, one a sample, with room for all new tokens,
    /// `[samples, kv_heads, capacity, head_dim]`.
    completions: Option<KeysAndValues>,
    /// Tokens of a completion so far.
    len: usize,
    capacity: usize,
}

impl LayerCache {
    /// A cache over prompts already read, of `prompt_lengths` tokens each, with room for `capacity`
    /// new tokens per sample.
    pub fn new(prompts: KeysAndValues, prompt_lengths: Arc<[usize]>, capacity: usize) -> Self {
        #[cfg(feature = "flex")]
        let prompts = if by_kernel(&prompts.keys) {
            let KeysAndValues { keys, values } = prompts;
            let [keys, values] = [keys, values].map(kernels::decode::in_order);
            KeysAndValues { keys, values }
        } else {
            prompts
        };
        // Heads of a token stand side by side; the kernel reads tokens of a head side by side, at every step.
        #[cfg(feature = "gpu-kernels")]
        let prompts = if kernels::gpu::decode::takes(&prompts.keys, 1, 1) {
            let KeysAndValues { keys, values } = prompts;
            let [keys, values] = [keys, values].map(kernels::gpu::decode::in_order);
            KeysAndValues { keys, values }
        } else {
            prompts
        };
        Self {
            prompts,
            prompt_lengths,
            hidden: None,
            #[cfg(feature = "gpu-kernels")]
            lengths: None,
            completions: None,
            len: 0,
            capacity,
        }
    }

    /// Adds one token per sample and attends from it.
    ///
    /// - `query`: scaled, `[samples, kv_heads, queries, head_dim]`
    /// - `keys`, `values`: of the new token, `[samples, kv_heads, 1, head_dim]`
    ///
    /// Returns `[samples, kv_heads, queries, head_dim]`.
    pub fn attend(&mut self, query: Tensor<4>, keys: Tensor<4>, values: Tensor<4>) -> Tensor<4> {
        self.push(keys, values);
        #[cfg(feature = "flex")]
        if by_kernel(&query) {
            return self.attend_by_kernel(query);
        }
        #[cfg(feature = "gpu-kernels")]
        if kernels::gpu::decode::takes(
            &query,
            query.dims()[2],
            self.prompts.keys.dims()[2] + self.len,
        ) {
            return self.attend_by_gpu_kernel(query);
        }
        self.attend_plainly(query)
    }

    #[cfg(feature = "gpu-kernels")]
    fn attend_by_gpu_kernel(&mut self, query: Tensor<4>) -> Tensor<4> {
        use kernels::gpu::decode::{Remembered, attend};
        let completions = self.completions.as_ref().expect("`push` fills it");
        let side = |prompts: &Tensor<4>, completions: &Tensor<4>| Remembered {
            prompts: prompts.clone(),
            completions: completions.clone(),
        };
        let lengths = self.lengths.get_or_insert_with(|| {
            let lengths: Vec<i64> = self.prompt_lengths.iter().map(|&len| len as i64).collect();
            let count = lengths.len();
            Tensor::from_data(TensorData::new(lengths, [count]), &query.device())
        });
        attend(
            query,
            side(&self.prompts.keys, &completions.keys),
            side(&self.prompts.values, &completions.values),
            lengths.clone(),
            self.len,
        )
    }

    #[cfg(feature = "flex")]
    fn attend_by_kernel(&self, query: Tensor<4>) -> Tensor<4> {
        let completions = self.completions.as_ref().expect("`push` fills it");
        let side = |prompts: &Tensor<4>, completions: &Tensor<4>| Remembered {
            prompts: prompts.clone(),
            completions: completions.clone(),
        };
        kernels::decode::attend(
            query,
            side(&self.prompts.keys, &completions.keys),
            side(&self.prompts.values, &completions.values),
            &self.prompt_lengths,
            self.len,
        )
    }

    fn attend_plainly(&mut self, query: Tensor<4>) -> Tensor<4> {
        let [samples, kv_heads, queries, head_dim] = query.dims();
        let [groups, _, prompt, _] = self.prompts.keys.dims();
        let per_group = samples / groups;
        let (completion_keys, completion_values) = self.of_completions();
        let hidden = self.hidden.get_or_insert_with(|| {
            let padding = self
                .prompt_lengths
                .iter()
                .flat_map(|&tokens| (0..prompt).map(move |token| token >= tokens))
                .collect::<Vec<bool>>();
            let data = TensorData::new(padding, [groups, 1, 1, prompt]);
            Tensor::from_data(data, &query.device())
        });

        // The prompt's keys serve all samples of a group in one product.
        let by_group = query
            .clone()
            .reshape([groups, per_group, kv_heads, queries, head_dim])
            .swap_dims(1, 2)
            .reshape([groups, kv_heads, per_group * queries, head_dim]);
        let prompt_scores = multiply(by_group, self.prompts.keys.clone().swap_dims(2, 3))
            .mask_fill(
                hidden.clone().expand([groups, kv_heads, per_group * queries, prompt]),
                f32::NEG_INFINITY,
            )
            .reshape([groups, kv_heads, per_group, queries, prompt])
            .swap_dims(1, 2)
            .reshape([samples, kv_heads, queries, prompt]);
        let completion_scores = multiply(query, completion_keys.swap_dims(2, 3)); // [samples, kv_heads, queries, len]
        let scores = Tensor::cat(vec![prompt_scores, completion_scores], 3);
        let weights = in_f32(scores, |scores| softmax(scores, 3));

        let prompt_weights = weights
            .clone()
            .slice_dim(3, 0..prompt)
            .reshape([groups, per_group, kv_heads, queries, prompt])
            .swap_dims(1, 2)
            .reshape([groups, kv_heads, per_group * queries, prompt]);
        let from_prompt = multiply(prompt_weights, self.prompts.values.clone())
            .reshape([groups, kv_heads, per_group, queries, head_dim])
            .swap_dims(1, 2)
            .reshape([samples, kv_heads, queries, head_dim]);
        let weights = weights.slice_dim(3, prompt..prompt + self.len);
        from_prompt + multiply(weights, completion_values)
    }

    /// Keeps these of the groups and of the samples.
    pub fn keep(&mut self, groups: &[usize], samples: &[usize]) {
        let device = self.prompts.keys.device();
        let select = |layer: &KeysAndValues, rows: &[usize]| {
            let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
            let count = rows.len();
            let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [count]), &device);
            KeysAndValues {
                keys: layer.keys.clone().select(0, rows.clone()),
                values: layer.values.clone().select(0, rows),
            }
        };
        self.prompts = select(&self.prompts, groups);
        self.prompt_lengths = groups.iter().map(|&group| self.prompt_lengths[group]).collect();
        self.hidden = None;
        #[cfg(feature = "gpu-kernels")]
        {
            self.lengths = None;
        }
        self.completions = self.completions.as_ref().map(|layer| select(layer, samples));
    }

    fn push(&mut self, keys: Tensor<4>, values: Tensor<4>) {
        let [samples, kv_heads, _, head_dim] = keys.dims();
        let completions = self.completions.take().unwrap_or_else(|| {
            let room = Tensor::zeros(
                [samples, kv_heads, self.capacity, head_dim],
                (&keys.device(), keys.dtype()),
            );
            KeysAndValues { keys: room.clone(), values: room }
        });
        let at = [0..samples, 0..kv_heads, self.len..self.len + 1, 0..head_dim];
        self.completions = Some(KeysAndValues {
            keys: completions.keys.slice_assign(at.clone(), keys),
            values: completions.values.slice_assign(at, values),
        });
        self.len += 1;
    }

    fn of_completions(&self) -> (Tensor<4>, Tensor<4>) {
        let KeysAndValues { keys, values } = self.completions.as_ref().expect("`push` fills it");
        (keys.clone().slice_dim(2, 0..self.len), values.clone().slice_dim(2, 0..self.len))
    }
}

/// Whether the kernel attends in place of the plain form.
#[cfg(feature = "flex")]
fn by_kernel(x: &Tensor<4>) -> bool {
    kernels::takes(x) && !x.device().is_autodiff()
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn the_kernel_attends_as_the_plain_form_whatever_is_kept() {
        let device = Device::flex();
        let spread = |shape: [usize; 4], turn: f32| -> Tensor<4> {
            let count: usize = shape.iter().product();
            let values: Vec<f32> = (0..count).map(|it| 2.0 * (it as f32 * turn).sin()).collect();
            Tensor::from_data(TensorData::new(values, shape), &device)
        };
        let (kv_heads, queries, head_dim) = (2, 3, 5);
        // As the projections leave them: tokens before heads.
        let remembered = |turn| spread([3, 11, kv_heads, head_dim], turn).swap_dims(1, 2);
        let many: (usize, &[usize]) = (9, &[1, 3, 8, 18, 19, 25]);
        let few: (usize, &[usize]) = (1, &[0, 2]);
        for (per_group, kept) in [many, few] {
            let prompts = KeysAndValues { keys: remembered(0.7), values: remembered(1.3) };
            let mut cache = LayerCache::new(prompts, Arc::from([11, 4, 1]), 6);
            let mut samples = 3 * per_group;
            for step in 0..5 {
                if step == 3 {
                    cache.keep(&[0, 2], kept);
                    samples = kept.len();
                }
                let token =
                    |turn: f32| spread([samples, kv_heads, 1, head_dim], turn + step as f32);
                cache.push(token(0.3), token(0.9));
                let query = spread([samples, kv_heads, queries, head_dim], 2.1 + step as f32);
                let ours = cache.attend_by_kernel(query.clone());
                let difference = (ours - cache.attend_plainly(query)).abs().max();
                // f32 sums over up to 16 keys of values up to 2.
                assert!(difference.into_scalar::<f32>() < 1e-5);
            }
        }
    }
}
