//! Keys and values of what was already read: a group's prompt once, each sample's own tokens apart.

use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Int, Tensor};

use super::precision::in_f32;

/// Keys and values of whole rows in one layer, each `[groups, kv_heads, prompt, head_dim]`.
#[derive(Clone, Debug)]
pub struct LayerPrefix {
    /// Keys.
    pub keys: Tensor<4>,
    /// Values.
    pub values: Tensor<4>,
}

/// What one layer remembers while a batch of groups is sampled.
#[derive(Clone, Debug)]
pub struct LayerCache {
    prefix: LayerPrefix,
    /// Padding of the prompts: true = hidden, `[groups, 1, 1, prompt]`.
    hidden: Tensor<4, Bool>,
    /// The samples' own keys and values, room for all new tokens,
    /// each `[samples, kv_heads, capacity, head_dim]`.
    own: Option<LayerPrefix>,
    len: usize,
    capacity: usize,
}

impl LayerCache {
    /// A cache over prompts already read, with room for `capacity` new tokens per sample.
    pub fn new(prefix: LayerPrefix, hidden: Tensor<4, Bool>, capacity: usize) -> Self {
        Self { prefix, hidden, own: None, len: 0, capacity }
    }

    /// Adds one token per sample and attends from it.
    ///
    /// - `query`: scaled, `[samples, kv_heads, queries, head_dim]`
    /// - `keys`, `values`: of the new token, `[samples, kv_heads, 1, head_dim]`
    ///
    /// Returns `[samples, kv_heads, queries, head_dim]`.
    pub fn attend(&mut self, query: Tensor<4>, keys: Tensor<4>, values: Tensor<4>) -> Tensor<4> {
        let [samples, kv_heads, queries, head_dim] = query.dims();
        let [groups, _, prompt, _] = self.prefix.keys.dims();
        let per_group = samples / groups;
        self.push(keys, values);
        let (own_keys, own_values) = self.own();

        // The prompt's keys serve all samples of a group in one product.
        let by_group = query
            .clone()
            .reshape([groups, per_group, kv_heads, queries, head_dim])
            .swap_dims(1, 2)
            .reshape([groups, kv_heads, per_group * queries, head_dim]);
        let prompt_scores = by_group
            .matmul(self.prefix.keys.clone().swap_dims(2, 3))
            .mask_fill(
                self.hidden.clone().expand([groups, kv_heads, per_group * queries, prompt]),
                f32::NEG_INFINITY,
            )
            .reshape([groups, kv_heads, per_group, queries, prompt])
            .swap_dims(1, 2)
            .reshape([samples, kv_heads, queries, prompt]);
        let own_scores = query.matmul(own_keys.swap_dims(2, 3)); // [samples, kv_heads, queries, len]
        let scores = Tensor::cat(vec![prompt_scores, own_scores], 3);
        let weights = in_f32(scores, |scores| softmax(scores, 3));

        let prompt_weights = weights
            .clone()
            .slice_dim(3, 0..prompt)
            .reshape([groups, per_group, kv_heads, queries, prompt])
            .swap_dims(1, 2)
            .reshape([groups, kv_heads, per_group * queries, prompt]);
        let from_prompt = prompt_weights
            .matmul(self.prefix.values.clone())
            .reshape([groups, kv_heads, per_group, queries, head_dim])
            .swap_dims(1, 2)
            .reshape([samples, kv_heads, queries, head_dim]);
        from_prompt + weights.slice_dim(3, prompt..prompt + self.len).matmul(own_values)
    }

    /// Keeps `groups` `[kept groups]` and of the samples `samples` `[kept samples]`.
    pub fn keep(&mut self, groups: &Tensor<1, Int>, samples: &Tensor<1, Int>) {
        let select = |layer: &LayerPrefix, rows: &Tensor<1, Int>| LayerPrefix {
            keys: layer.keys.clone().select(0, rows.clone()),
            values: layer.values.clone().select(0, rows.clone()),
        };
        self.prefix = select(&self.prefix, groups);
        self.hidden = self.hidden.clone().select(0, groups.clone());
        self.own = self.own.as_ref().map(|own| select(own, samples));
    }

    fn push(&mut self, keys: Tensor<4>, values: Tensor<4>) {
        let [samples, kv_heads, _, head_dim] = keys.dims();
        let own = self.own.take().unwrap_or_else(|| {
            let room = Tensor::zeros(
                [samples, kv_heads, self.capacity, head_dim],
                (&keys.device(), keys.dtype()),
            );
            LayerPrefix { keys: room.clone(), values: room }
        });
        let at = [0..samples, 0..kv_heads, self.len..self.len + 1, 0..head_dim];
        self.own = Some(LayerPrefix {
            keys: own.keys.slice_assign(at.clone(), keys),
            values: own.values.slice_assign(at, values),
        });
        self.len += 1;
    }

    fn own(&self) -> (Tensor<4>, Tensor<4>) {
        let own = self.own.as_ref().expect("`push` fills it");
        (own.keys.clone().slice_dim(2, 0..self.len), own.values.clone().slice_dim(2, 0..self.len))
    }
}
