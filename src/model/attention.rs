//! Causal self-attention with grouped key/value heads.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig, RmsNorm, RmsNormConfig};
use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Device, Tensor};

use super::cache::{LayerCache, LayerPrefix};
use super::config::DecoderConfig;
use super::precision::in_f32;
use super::rotary::Angles;

/// Queries, keys, values and the output projection of one block.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[hidden, heads · head_dim]`
    pub query: Linear,
    /// `[hidden, kv_heads · head_dim]`
    pub key: Linear,
    /// `[hidden, kv_heads · head_dim]`
    pub value: Linear,
    /// `[heads · head_dim, hidden]`
    pub output: Linear,
    /// Of each query head, where the family has it.
    pub query_norm: Option<RmsNorm>,
    /// Of each key head, where the family has it.
    pub key_norm: Option<RmsNorm>,
    num_heads: usize,
    num_kv_heads: usize,
    head_dim: usize,
}

impl Attention {
    pub(super) fn new(config: &DecoderConfig, device: &Device) -> Self {
        let linear =
            |input, output, bias| LinearConfig::new(input, output).with_bias(bias).init(device);
        let head_norm = || {
            let norm = RmsNormConfig::new(config.head_dim).with_epsilon(config.norm_epsilon);
            config.query_key_norm.then(|| norm.init(device))
        };
        let (queries, keys) =
            (config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim);
        Self {
            query: linear(config.hidden_size, queries, config.qkv_bias),
            key: linear(config.hidden_size, keys, config.qkv_bias),
            value: linear(config.hidden_size, keys, config.qkv_bias),
            output: linear(queries, config.hidden_size, config.output_bias),
            query_norm: head_norm(),
            key_norm: head_norm(),
            num_heads: config.num_heads,
            num_kv_heads: config.num_kv_heads,
            head_dim: config.head_dim,
        }
    }

    /// Attends over the row itself.
    ///
    /// - `x`: `[batch, row, hidden]`
    /// - `mask`: true = hidden, `[batch, 1, row, row]`
    ///
    /// Also returns the row's keys and values, which a cache may keep.
    pub fn forward(
        &self,
        x: Tensor<3>,
        angles: Option<&Angles>,
        mask: &Tensor<4, Bool>,
    ) -> (Tensor<3>, LayerPrefix) {
        let (query, keys, values) = self.project(x, angles);
        let scores = query.matmul(keys.clone().swap_dims(2, 3)); // [batch, kv_heads, queries · row, row]
        let [batch, kv_heads, rows, row] = scores.dims();
        let scores = scores.reshape([batch, self.num_heads, row, row]);
        let hidden = mask.clone().expand([batch, self.num_heads, row, row]);
        let weights =
            in_f32(scores.mask_fill(hidden, f32::NEG_INFINITY), |scores| softmax(scores, 3));
        let mixed = weights.reshape([batch, kv_heads, rows, row]).matmul(values.clone());
        (self.merge(mixed, row), LayerPrefix { keys, values })
    }

    /// Attends from one new token per sample to its group's prompt and to its own earlier tokens.
    ///
    /// - `x`: `[samples, 1, hidden]`, the samples of a group next to one another
    /// - `cache`: holds the prompts' keys and values once per group; the new token's are added
    pub fn decode(
        &self,
        x: Tensor<3>,
        angles: Option<&Angles>,
        cache: &mut LayerCache,
    ) -> Tensor<3> {
        let (query, keys, values) = self.project(x, angles); // [samples, kv_heads, queries, head_dim]
        let mixed = cache.attend(query, keys, values);
        self.merge(mixed, 1)
    }

    /// Queries, scaled and grouped by key/value head, `[batch, kv_heads, queries · row, head_dim]`;
    /// keys and values `[batch, kv_heads, row, head_dim]`.
    fn project(&self, x: Tensor<3>, angles: Option<&Angles>) -> (Tensor<4>, Tensor<4>, Tensor<4>) {
        let [batch, row, _] = x.dims();
        let heads = |flat: Tensor<3>, heads| {
            flat.reshape([batch, row, heads, self.head_dim]).swap_dims(1, 2)
        };
        let mut query = heads(self.query.forward(x.clone()), self.num_heads);
        let mut keys = heads(self.key.forward(x.clone()), self.num_kv_heads);
        let values = heads(self.value.forward(x), self.num_kv_heads);
        if let (Some(query_norm), Some(key_norm)) = (&self.query_norm, &self.key_norm) {
            query = in_f32(query, |query| query_norm.forward(query));
            keys = in_f32(keys, |keys| key_norm.forward(keys));
        }
        if let Some(angles) = angles {
            query = angles.rotate(query);
            keys = angles.rotate(keys);
        }
        let per_kv = self.num_heads / self.num_kv_heads;
        let query = query.reshape([batch, self.num_kv_heads, per_kv * row, self.head_dim]);
        (query * (self.head_dim as f64).powf(-0.5), keys, values)
    }

    /// Heads side by side again, through the output projection.
    fn merge(&self, mixed: Tensor<4>, row: usize) -> Tensor<3> {
        let [batch, ..] = mixed.dims();
        let heads = mixed.reshape([batch, self.num_heads, row, self.head_dim]);
        self.output.forward(heads.swap_dims(1, 2).reshape([
            batch,
            row,
            self.num_heads * self.head_dim,
        ]))
    }
}
