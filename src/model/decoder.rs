//! The decoder-only transformer that every family is a spelling of.

use burn::module::Module;
use burn::nn::{
    Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig, RmsNorm,
    RmsNormConfig,
};
use burn::tensor::activation::{gelu, sigmoid, silu};
use burn::tensor::{Bool, Device, Int, Tensor};

use super::attention::Attention;
use super::cache::{LayerCache, LayerPrefix};
use super::config::{DecoderConfig, FeedForwardKind, NormKind, PositionEncoding};
use super::precision::in_f32;
use super::rotary::Angles;

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
        }
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
        self.read(tokens, positions, mask, |_| {})
    }

    /// Like [`hidden`](Self::hidden), also returning every layer's keys and values.
    pub fn prefill(
        &self,
        tokens: Tensor<2, Int>,
        positions: Tensor<2, Int>,
        mask: &Tensor<4, Bool>,
    ) -> (Tensor<3>, Vec<LayerPrefix>) {
        let mut layers = Vec::with_capacity(self.blocks.len());
        let hidden = self.read(tokens, positions, mask, |layer| layers.push(layer));
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
        hidden.matmul(self.head_weight().transpose())
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
        mask: &Tensor<4, Bool>,
        mut keep: impl FnMut(LayerPrefix),
    ) -> Tensor<3> {
        let (mut x, angles) = self.embed(tokens, positions);
        for block in &self.blocks {
            let (next, layer) = block.forward(x, angles.as_ref(), mask);
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
        let x = self.tokens.forward(tokens);
        match (&self.positions, &self.config.position_encoding) {
            (Some(learned), _) => (x + learned.forward(positions), None),
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

    fn forward(
        &self,
        x: Tensor<3>,
        angles: Option<&Angles>,
        mask: &Tensor<4, Bool>,
    ) -> (Tensor<3>, LayerPrefix) {
        let (attended, layer) =
            self.attention.forward(self.attention_norm.forward(x.clone()), angles, mask);
        (self.feed(x, attended), layer)
    }

    fn decode(&self, x: Tensor<3>, angles: Option<&Angles>, cache: &mut LayerCache) -> Tensor<3> {
        let attended = self.attention.decode(self.attention_norm.forward(x.clone()), angles, cache);
        self.feed(x, attended)
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
        let linear = |input, output| {
            LinearConfig::new(input, output).with_bias(config.feed_forward_bias).init(device)
        };
        let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
        Self {
            gate: (config.feed_forward == FeedForwardKind::SwiGlu)
                .then(|| linear(hidden, intermediate)),
            up: linear(hidden, intermediate),
            down: linear(intermediate, hidden),
            kind: config.feed_forward,
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let inner = match (&self.gate, self.kind) {
            (Some(gate), _) => silu(gate.forward(x.clone())) * self.up.forward(x),
            (None, FeedForwardKind::GeluErf) => gelu(self.up.forward(x)),
            (None, _) => gelu_tanh(self.up.forward(x)),
        };
        self.down.forward(inner)
    }
}

/// GELU in its tanh form, `x/2 · (1 + tanh u)` with `u = √(2/π) (x + 0.044715 x³)`, written as
/// `x · σ(2u)`: the same function, and on the CPU a multiple of the speed of burn's `tanh` and `pow`.
fn gelu_tanh(x: Tensor<3>) -> Tensor<3> {
    let twice = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
    let inner = (x.clone() * x.clone() * (0.044715 * twice) + twice) * x.clone();
    x * sigmoid(inner)
}

/// A normalisation over the hidden width.
#[derive(Module, Debug)]
pub enum Norm {
    /// Mean and variance.
    Layer(LayerNorm),
    /// Root mean square.
    Rms(RmsNorm),
}

impl Norm {
    fn new(config: &DecoderConfig, device: &Device) -> Self {
        let (width, epsilon) = (config.hidden_size, config.norm_epsilon);
        match config.norm {
            NormKind::Layer => {
                Self::Layer(LayerNormConfig::new(width).with_epsilon(epsilon).init(device))
            }
            NormKind::Rms => {
                Self::Rms(RmsNormConfig::new(width).with_epsilon(epsilon).init(device))
            }
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        in_f32(x, |x| match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Rms(norm) => norm.forward(x),
        })
    }
}
