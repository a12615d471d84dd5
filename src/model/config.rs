//! The shape of a decoder, for all families.

use crate::memory::product;

/// Everything that tells one decoder-only transformer from another.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// Number of tokens in the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key/value heads; divides `num_heads`.
    pub num_kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Longest sequence the positions reach, or the attention's window where that is shorter: within
    /// it a sliding window is full attention, and nothing longer is read. LongRoPE reaches to the
    /// pretraining's context, beyond which its frequencies would change with the sequence's length.
    pub max_positions: usize,
    /// The window of the attention, where that is what `max_positions` is.
    pub window: Option<usize>,
    /// The normalisation before attention and feed-forward, and at the end.
    pub norm: NormKind,
    /// ε of the normalisation.
    pub norm_epsilon: f64,
    /// How a token knows where it stands.
    pub position_encoding: PositionEncoding,
    /// The feed-forward part.
    pub feed_forward: FeedForwardKind,
    /// Whether attention and feed-forward both read the block's input, instead of the second reading
    /// the first's result.
    pub parallel_residual: bool,
    /// Whether what attention and feed-forward add is normalised too.
    pub output_norms: bool,
    /// Whether each head's queries and keys are RMS-normalised before they are rotated.
    pub query_key_norm: bool,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Whether the attention's output projection has a bias.
    pub output_bias: bool,
    /// Whether the feed-forward projections have a bias.
    pub feed_forward_bias: bool,
    /// Whether the vocabulary head is the token embedding.
    pub tied_embeddings: bool,
    /// Tokens that end a text, the first being the one that is appended.
    pub end_of_text: Vec<u32>,
}

impl DecoderConfig {
    /// Within a window attention is full attention, so that nothing longer is read.
    pub fn see_no_further_than(&mut self, window: usize) {
        if window < self.max_positions {
            self.max_positions = window;
            self.window = Some(window);
        }
    }

    /// How many weights the matrices of the blocks have.
    pub fn num_block_weights(&self) -> u128 {
        let attention = [self.num_heads, self.num_kv_heads, self.num_kv_heads, self.num_heads]
            .map(|heads| product([self.hidden_size, heads, self.head_dim]));
        let matrices = match self.feed_forward {
            FeedForwardKind::SwiGlu => 3,
            FeedForwardKind::GeluTanh | FeedForwardKind::GeluErf => 2,
        };
        let feed_forward = product([matrices, self.hidden_size, self.intermediate_size]);
        let block = attention.into_iter().fold(feed_forward, u128::saturating_add);
        block.saturating_mul(self.num_layers as u128)
    }

    /// How many weights the matrices have: all of the weights but for norms and biases.
    pub fn num_weights(&self) -> u128 {
        let is_learned = self.position_encoding == PositionEncoding::Learned;
        let positions = if is_learned { self.max_positions } else { 0 };
        let heads = if self.tied_embeddings { 1 } else { 2 };
        self.num_block_weights()
            .saturating_add(product([heads, self.vocab_size, self.hidden_size]))
            .saturating_add(product([positions, self.hidden_size]))
    }
}

/// The kind of normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Mean and variance, with scale and shift.
    Layer,
    /// Root mean square, with scale.
    Rms,
}

/// How positions enter.
#[derive(Clone, Debug, PartialEq)]
pub enum PositionEncoding {
    /// A learned vector for each position, added to the token's.
    Learned,
    /// Rotation of queries and keys.
    Rotary(RotaryConfig),
}

/// Rotary positions.
#[derive(Clone, Debug, PartialEq)]
pub struct RotaryConfig {
    /// Base θ of the wavelengths.
    pub base: f64,
    /// How much of each head is rotated: its first `width` entries.
    pub width: usize,
    /// Whether neighbours make a pair, instead of an entry of the first half and one of the second.
    pub interleaved: bool,
    /// Change of the wavelengths for longer contexts.
    pub scaling: RotaryScaling,
}

/// Changes of rotary wavelengths for contexts longer than the pretraining's.
#[derive(Clone, Debug, PartialEq)]
pub enum RotaryScaling {
    /// None.
    None,
    /// All frequencies divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3: low frequencies divided, high ones kept, a ramp between.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths longer than the original context over this are low frequencies.
        low_freq_factor: f64,
        /// Wavelengths shorter than the original context over this are high frequencies.
        high_freq_factor: f64,
        /// The pretraining's context.
        original_max_positions: f64,
    },
    /// YaRN (Peng et al. 2023): frequencies that turn seldom are divided, those that turn often
    /// kept, a ramp over the pairs between; queries and keys are scaled.
    Yarn(Yarn),
    /// LongRoPE (Ding et al. 2024) up to the pretraining's context: each pair's frequency divided
    /// by a factor of its own, queries and keys scaled.
    LongRope {
        /// The divisor of each pair's frequency, highest frequency first.
        factors: Vec<f64>,
        /// What cosines and sines are multiplied with.
        attention_factor: f64,
    },
}

impl RotaryScaling {
    /// What cosines and sines are multiplied with.
    pub fn attention_factor(&self) -> f64 {
        match self {
            Self::Yarn(Yarn { attention_factor, .. }) | Self::LongRope { attention_factor, .. } => {
                *attention_factor
            }
            Self::None | Self::Linear { .. } | Self::Llama3 { .. } => 1.0,
        }
    }
}

/// Settings of YaRN.
#[derive(Clone, Debug, PartialEq)]
pub struct Yarn {
    /// The divisor of low frequencies.
    pub factor: f64,
    /// The pretraining's context.
    pub original_max_positions: f64,
    /// Turns within that context from which on a frequency is kept.
    pub beta_fast: f64,
    /// Turns within that context up to which a frequency is divided.
    pub beta_slow: f64,
    /// Whether the ramp begins and ends at whole pairs.
    pub truncate: bool,
    /// What cosines and sines are multiplied with.
    pub attention_factor: f64,
}

/// The feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedForwardKind {
    /// `down(gelu(up(x)))` with the tanh form of GELU.
    GeluTanh,
    /// `down(gelu(up(x)))` with the error function.
    GeluErf,
    /// `down(silu(gate(x)) · up(x))`.
    SwiGlu,
}
