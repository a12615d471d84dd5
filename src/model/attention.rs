//! Causal self-attention with grouped key/value heads.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig, RmsNorm, RmsNormConfig};
#[cfg(feature = "flex")]
use burn::tensor::DType;
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor};

use super::cache::{KeysAndValues, LayerCache};
use super::config::DecoderConfig;
#[cfg(feature = "flex")]
use super::precision::as_type;
use super::precision::{in_f32, norm_in_f32};
use super::rotary::Angles;
#[cfg(feature = "flex")]
use crate::kernels::attention::{Heads, attend};
#[cfg(feature = "gpu-kernels")]
use crate::kernels::gpu::attention_weights;
use crate::kernels::linear::{linear, linears};
use crate::kernels::product::multiply;
use crate::kernels::rms_norm::rms_norm;
use crate::layout::AttentionLayout;
#[cfg(feature = "flex")]
use crate::layout::SharedPrompt;

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
        let layer =
            |input, output, bias| LinearConfig::new(input, output).with_bias(bias).init(device);
        let head_norm = || {
            let norm = RmsNormConfig::new(config.head_dim).with_epsilon(config.norm_epsilon);
            config.query_key_norm.then(|| norm.init(device))
        };
        let (queries, keys) =
            (config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim);
        Self {
            query: layer(config.hidden_size, queries, config.qkv_bias),
            key: layer(config.hidden_size, keys, config.qkv_bias),
            value: layer(config.hidden_size, keys, config.qkv_bias),
            output: layer(queries, config.hidden_size, config.output_bias),
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
    /// - `layout`: which tokens see which
    ///
    /// Returns what the heads make of it, side by side and before the output projection,
    /// `[batch, row, heads · head_dim]`, and the row's keys and values,
    /// which a cache may keep.
    pub fn forward(
        &self,
        x: Tensor<3>,
        angles: Option<&Angles>,
        layout: &AttentionLayout,
    ) -> (Tensor<3>, KeysAndValues) {
        let mask = match layout {
            AttentionLayout::Mask(mask) => mask.as_ref(),
            #[cfg(feature = "flex")]
            AttentionLayout::SharedPrompts(groups) => {
                return self.forward_by_kernel(x, angles, groups.clone());
            }
            #[cfg(not(feature = "flex"))]
            AttentionLayout::SharedPrompts(_) => {
                unreachable!("no device of this build has kernels")
            }
            #[cfg(feature = "gpu-kernels")]
            AttentionLayout::Sight(sight) => return self.forward_by_sight(x, angles, sight),
        };
        let row = x.dims()[1];
        let [query, keys, values] = self.project(x, angles).map(|heads| heads.swap_dims(1, 2));
        let query = self.scaled_by_kv_head(query);
        let scores = multiply(query, keys.clone().swap_dims(2, 3)); // [batch, kv_heads, queries · row, row]
        let [batch, kv_heads, rows, _] = scores.dims();
        let scores = scores.reshape([batch, self.num_heads, row, row]);
        let hidden = mask.clone().expand([batch, self.num_heads, row, row]);
        let weights =
            in_f32(scores.mask_fill(hidden, f32::NEG_INFINITY), |scores| softmax(scores, 3));
        let mixed = multiply(weights.reshape([batch, kv_heads, rows, row]), values.clone());
        let heads = mixed.reshape([batch, self.num_heads, row, self.head_dim]).swap_dims(1, 2);
        let mixed = heads.reshape([batch, row, self.num_heads * self.head_dim]);
        (mixed, KeysAndValues { keys, values })
    }

    /// [`forward`](Self::forward) on GPUs, where no mask is made.
    #[cfg(feature = "gpu-kernels")]
    fn forward_by_sight(
        &self,
        x: Tensor<3>,
        angles: Option<&Angles>,
        sight: &Tensor<3, burn::tensor::Int>,
    ) -> (Tensor<3>, KeysAndValues) {
        let [batch, row, _] = x.dims();
        let [query, keys, values] = self.project(x, angles).map(|heads| heads.swap_dims(1, 2));
        let rows = self.num_heads / self.num_kv_heads * row;
        let query = query.reshape([batch, self.num_kv_heads, rows, self.head_dim]);
        let scores = multiply(query, keys.clone().swap_dims(2, 3)); // [batch, kv_heads, queries · row, row]
        let scale = (self.head_dim as f64).powf(-0.5);
        let weights = attention_weights::weights(scores, sight.clone(), scale);
        let mixed = multiply(weights, values.clone());
        let heads = mixed.reshape([batch, self.num_heads, row, self.head_dim]).swap_dims(1, 2);
        let mixed = heads.reshape([batch, row, self.num_heads * self.head_dim]);
        (mixed, KeysAndValues { keys, values })
    }

    /// [`forward`](Self::forward) by the kernel, heads left where the projections put them.
    #[cfg(feature = "flex")]
    fn forward_by_kernel(
        &self,
        x: Tensor<3>,
        angles: Option<&Angles>,
        groups: std::sync::Arc<Vec<SharedPrompt>>,
    ) -> (Tensor<3>, KeysAndValues) {
        let ([batch, row, _], dtype) = (x.dims(), x.dtype());
        let widths =
            Heads { queries: self.num_heads, keys: self.num_kv_heads, width: self.head_dim };
        let [query, keys, values] = self.project(x, angles).map(|heads| as_type(heads, DType::F32));
        let flat = |heads: Tensor<4>, count| heads.reshape([batch, row, count * self.head_dim]);
        let mixed = attend(
            flat(query, widths.queries),
            flat(keys.clone(), widths.keys),
            flat(values.clone(), widths.keys),
            groups,
            widths,
        );
        let kept = |heads: Tensor<4>| as_type(heads.swap_dims(1, 2), dtype);
        let layer = KeysAndValues { keys: kept(keys), values: kept(values) };
        (as_type(mixed, dtype), layer)
    }

    /// Attends from one new token per sample to its group's prompt and to its own earlier tokens.
    ///
    /// - `x`: `[samples, 1, hidden]`, the samples of a group next to one another
    /// - `cache`: holds the prompts' keys and values once per group; the new token's are added
    ///
    /// Returns what the heads make of it before the output projection,
    /// `[samples, 1, heads · head_dim]`.
    pub fn decode(
        &self,
        x: Tensor<3>,
        angles: Option<&Angles>,
        cache: &mut LayerCache,
    ) -> Tensor<3> {
        let [samples, ..] = x.dims();
        let [query, keys, values] = self.project(x, angles);
        // A single token of each, so that heads before tokens are the same values in the same order.
        let by_head = |heads: Tensor<4>, count| heads.reshape([samples, count, 1, self.head_dim]);
        let query = self.scaled_by_kv_head(by_head(query, self.num_heads));
        let [keys, values] = [keys, values].map(|heads| by_head(heads, self.num_kv_heads));
        let mixed = cache.attend(query, keys, values); // [samples, kv_heads, queries, head_dim]
        mixed.reshape([samples, 1, self.num_heads * self.head_dim])
    }

    /// Queries, keys and values, each `[batch, row, its heads, head_dim]`.
    fn project(&self, x: Tensor<3>, angles: Option<&Angles>) -> [Tensor<4>; 3] {
        let [batch, row, _] = x.dims();
        let heads = |flat: Tensor<3>, count| flat.reshape([batch, row, count, self.head_dim]);
        let turned = |heads: Tensor<4>, norm: &Option<RmsNorm>| {
            let heads = match norm {
                Some(norm) => norm_in_f32(heads, |heads| rms_norm(norm, heads)),
                None => heads,
            };
            match angles {
                Some(angles) => angles.rotate(heads),
                None => heads,
            }
        };
        let [query, keys, values] = linears([&self.query, &self.key, &self.value], x);
        [
            turned(heads(query, self.num_heads), &self.query_norm),
            turned(heads(keys, self.num_kv_heads), &self.key_norm),
            heads(values, self.num_kv_heads),
        ]
    }

    /// Queries `[batch, heads, row, head_dim]` over the root of their width, those of a key head one
    /// after the other, `[batch, kv_heads, queries · row, head_dim]`.
    fn scaled_by_kv_head(&self, query: Tensor<4>) -> Tensor<4> {
        let [batch, heads, row, head_dim] = query.dims();
        let rows = heads / self.num_kv_heads * row;
        let query = query.reshape([batch, self.num_kv_heads, rows, head_dim]);
        query * (head_dim as f64).powf(-0.5)
    }

    /// The output projection of [`forward`](Self::forward)'s or [`decode`](Self::decode)'s.
    pub fn project_out(&self, mixed: Tensor<3>) -> Tensor<3> {
        linear(&self.output, mixed)
    }
}
