//! The decoder-only transformer. Every family is a set of names and settings for it.

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::{Bool, Device, Int, Tensor};

use super::attention::Attention;
use super::cache::{KeysAndValues, LayerCache};
use super::config::{DecoderConfig, FeedForwardKind, PositionEncoding};
use super::norm::Norm;
use super::recompute::{self, Reading};
use super::rotary::Angles;
use crate::deferred::Deferred;
use crate::kernels::embedding::embed;
use crate::kernels::gelu::{Gelu, gelu};
use crate::kernels::linear::{gated_linear, linear, linears, product};
use crate::layout::AttentionLayout;

/// A decoder-only transformer.
#[derive(Module, Debug)]
pub struct Decoder {
    /// Token embedding, `[vocab, hidden]`.
    pub tokens: Embedding,
    /// Learned positions, `[max_positions, hidden]`, where the family has them.
    pub positions: Option<Embedding>,
    /// The blocks, first to last.
    pub blocks: Vec<Block>,
    /// The normalisation before the head.
    pub norm: Norm,
    /// The vocabulary head, `[hidden, vocab]`; the token embedding where the family ties them.
    pub head: Option<Linear>,
    #[module(skip)]
    config: DecoderConfig,
    /// Where the blocks leave what is left of their backward pass, where their activations are not kept.
    #[module(skip)]
    deferred: Option<Deferred>,
}

impl Decoder {
    /// A decoder of the given shape; its parameters are random until weights are loaded.
    pub fn new(config: DecoderConfig, device: &Device) -> Self {
        let embedding = |rows| EmbeddingConfig::new(rows, config.hidden_size).init(device);
        Self {
            tokens: embedding(config.vocab_size),
            positions: (config.position_encoding == PositionEncoding::Learned)
                .then(|| embedding(config.max_positions)),
            blocks: (0..config.num_layers).map(|_| Block::new(&config, device)).collect(),
            norm: Norm::new(&config, device),
            head: (!config.tied_embeddings).then(|| {
                LinearConfig::new(config.hidden_size, config.vocab_size)
                    .with_bias(false)
                    .init(device)
            }),
            config,
            deferred: None,
        }
    }

    /// The decoder with blocks that do not keep their activations: after a backward pass,
    /// [`Deferred::resume`] goes on with theirs. Results are the same.
    pub fn recomputing(self, deferred: Deferred) -> Self {
        Self { deferred: Some(deferred), ..self }
    }

    /// What is left of the backward pass, where activations are not kept.
    pub fn deferred(&self) -> Option<&Deferred> {
        self.deferred.as_ref()
    }

    /// The decoder's shape.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// The device the weights are on.
    pub fn device(&self) -> Device {
        self.tokens.weight.val().device()
    }

    /// Normalised hidden states of whole rows, `[batch, row, hidden]`.
    ///
    /// - `tokens`, `positions`: `[batch, row]`
    /// - `mask`: true = hidden, `[batch, 1, row, row]`
    pub fn hidden(
        &self,
        tokens: Tensor<2, Int>,
        positions: Tensor<2, Int>,
        mask: &Tensor<4, Bool>,
    ) -> Tensor<3> {
        self.read(tokens, positions, &AttentionLayout::Mask(Box::new(mask.clone())), None, |_| {})
    }

    /// Normalised hidden states of some of the tokens, `[wanted, hidden]`; past the last layer's
    /// attention nothing is computed of the others.
    ///
    /// - `tokens`, `positions`: `[batch, row]`
    /// - `wanted`: flat indices into `batch × row`, `[wanted]`
    pub fn hidden_at(
        &self,
        tokens: Tensor<2, Int>,
        positions: Tensor<2, Int>,
        layout: &AttentionLayout,
        wanted: &Tensor<1, Int>,
    ) -> Tensor<2> {
        self.read(tokens, positions, layout, Some(wanted), |_| {}).squeeze_dim(0)
    }

    /// Like [`hidden`](Self::hidden), also returning every layer's keys and values.
    pub fn prefill(
        &self,
        tokens: Tensor<2, Int>,
        positions: Tensor<2, Int>,
        layout: &AttentionLayout,
    ) -> (Tensor<3>, Vec<KeysAndValues>) {
        let mut layers = Vec::with_capacity(self.blocks.len());
        let hidden = self.read(tokens, positions, layout, None, |layer| layers.push(layer));
        (hidden, layers)
    }

    /// Reads one new token per sample; normalised hidden states `[samples, hidden]`.
    ///
    /// - `tokens`, `positions`: `[samples, 1]`
    pub fn decode(
        &self,
        tokens: Tensor<2, Int>,
        positions: Tensor<2, Int>,
        caches: &mut [LayerCache],
    ) -> Tensor<2> {
        let (mut x, angles) = self.embed(tokens, positions);
        for (block, cache) in self.blocks.iter().zip(caches) {
            x = block.decode(x, angles.as_ref(), cache);
        }
        self.norm.forward(x).squeeze_dim(1)
    }

    /// Logits of normalised hidden states `[rows, hidden]` over the vocabulary, `[rows, vocab]`.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        product(hidden, self.head_weight().transpose())
    }

    /// The vocabulary head's weight, `[vocab, hidden]`.
    pub fn head_weight(&self) -> Tensor<2> {
        match &self.head {
            Some(head) => head.weight.val().transpose(),
            None => self.tokens.weight.val(),
        }
    }

    fn read(
        &self,
        tokens: Tensor<2, Int>,
        positions: Tensor<2, Int>,
        layout: &AttentionLayout,
        wanted: Option<&Tensor<1, Int>>,
        mut keep: impl FnMut(KeysAndValues),
    ) -> Tensor<3> {
        let (mut x, angles) = self.embed(tokens, positions);
        if let Some(deferred) = self.deferred.as_ref().filter(|_| x.device().is_autodiff()) {
            let reading = Reading { angles, layout: layout.clone(), wanted: wanted.cloned() };
            return self.norm.forward(recompute::read(&self.blocks, x, reading, deferred));
        }
        for (index, block) in self.blocks.iter().enumerate() {
            let wanted = wanted.filter(|_| index + 1 == self.blocks.len());
            let (next, layer) = block.forward(x, angles.as_ref(), layout, wanted);
            x = next;
            keep(layer);
        }
        self.norm.forward(x)
    }

    fn embed(
        &self,
        tokens: Tensor<2, Int>,
        positions: Tensor<2, Int>,
    ) -> (Tensor<3>, Option<Angles>) {
        let x = embed(&self.tokens, tokens);
        match (&self.positions, &self.config.position_encoding) {
            (Some(learned), _) => (x + embed(learned, positions), None),
            (None, PositionEncoding::Rotary(rotary)) => {
                let angles = Angles::new(rotary, &positions, x.dtype());
                (x, Some(angles))
            }
            (None, PositionEncoding::Learned) => (x, None),
        }
    }
}

/// One layer: attention and feed-forward, each on its own normalised copy of the residual stream.
#[derive(Module, Debug)]
pub struct Block {
    /// Before attention.
    pub attention_norm: Norm,
    /// Attention.
    pub attention: Attention,
    /// Before the feed-forward part.
    pub feed_forward_norm: Norm,
    /// The feed-forward part.
    pub feed_forward: FeedForward,
    /// Of what attention adds, where the family has it.
    pub attention_output_norm: Option<Norm>,
    /// Of what the feed-forward part adds, where the family has it.
    pub feed_forward_output_norm: Option<Norm>,
    parallel_residual: bool,
}

impl Block {
    fn new(config: &DecoderConfig, device: &Device) -> Self {
        Self {
            attention_norm: Norm::new(config, device),
            attention: Attention::new(config, device),
            feed_forward_norm: Norm::new(config, device),
            feed_forward: FeedForward::new(config, device),
            attention_output_norm: config.output_norms.then(|| Norm::new(config, device)),
            feed_forward_output_norm: config.output_norms.then(|| Norm::new(config, device)),
            parallel_residual: config.parallel_residual,
        }
    }

    pub(super) fn forward(
        &self,
        x: Tensor<3>,
        angles: Option<&Angles>,
        layout: &AttentionLayout,
        wanted: Option<&Tensor<1, Int>>,
    ) -> (Tensor<3>, KeysAndValues) {
        let normalised = self.attention_norm.forward(x.clone());
        let (mixed, layer) = self.attention.forward(normalised, angles, layout);
        let (x, mixed) = match wanted {
            Some(wanted) => (rows(x, wanted), rows(mixed, wanted)),
            None => (x, mixed),
        };
        (self.feed(x, self.attention.project_out(mixed)), layer)
    }

    fn decode(&self, x: Tensor<3>, angles: Option<&Angles>, cache: &mut LayerCache) -> Tensor<3> {
        let mixed = self.attention.decode(self.attention_norm.forward(x.clone()), angles, cache);
        self.feed(x, self.attention.project_out(mixed))
    }

    /// The block's output, from its input and what attention makes of it.
    fn feed(&self, x: Tensor<3>, attended: Tensor<3>) -> Tensor<3> {
        let normalised = |norm: &Option<Norm>, added: Tensor<3>| match norm {
            Some(norm) => norm.forward(added),
            None => added,
        };
        let middle = x.clone() + normalised(&self.attention_output_norm, attended);
        let source = if self.parallel_residual { x } else { middle.clone() };
        let fed = self.feed_forward.forward(self.feed_forward_norm.forward(source));
        middle + normalised(&self.feed_forward_output_norm, fed)
    }
}

/// Some tokens of a batch, `[batch, row, width]` → `[1, wanted, width]`.
fn rows(x: Tensor<3>, wanted: &Tensor<1, Int>) -> Tensor<3> {
    let [batch, row, width] = x.dims();
    x.reshape([batch * row, width]).select(0, wanted.clone()).unsqueeze_dim(0)
}

/// The feed-forward part of a block.
#[derive(Module, Debug)]
pub struct FeedForward {
    /// The gate of SwiGLU, `[hidden, intermediate]`.
    pub gate: Option<Linear>,
    /// `[hidden, intermediate]`
    pub up: Linear,
    /// `[intermediate, hidden]`
    pub down: Linear,
    #[module(skip)]
    kind: FeedForwardKind,
}

impl FeedForward {
    fn new(config: &DecoderConfig, device: &Device) -> Self {
        let layer = |input, output| {
            LinearConfig::new(input, output).with_bias(config.feed_forward_bias).init(device)
        };
        let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
        Self {
            gate: (config.feed_forward == FeedForwardKind::SwiGlu)
                .then(|| layer(hidden, intermediate)),
            up: layer(hidden, intermediate),
            down: layer(intermediate, hidden),
            kind: config.feed_forward,
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        if let Some(gate) = &self.gate {
            let [gate, up] = linears([gate, &self.up], x);
            return gated_linear(&self.down, gate, up);
        }
        let form = match self.kind {
            FeedForwardKind::GeluErf => Gelu::Erf,
            _ => Gelu::Tanh,
        };
        linear(&self.down, gelu(linear(&self.up, x), form))
    }
}
