//! Llama and SmolLM2: rotary positions, RMS norms, grouped key/value heads, SwiGLU. Most later families use
//! the same names and differ in a few settings.

use super::rotary::{self, Defaults};
use super::settings::Settings;
use super::{Binding, Family};
use crate::Result;
use crate::model::config::{DecoderConfig, FeedForwardKind, NormKind};

pub(super) const LLAMA: Family = Family {
    model_type: "llama",
    architecture: "LlamaForCausalLM",
    classifier_architecture: "LlamaForSequenceClassification",
    config,
    bindings,
    ..LIKE_LLAMA
};

/// The part that all families like Llama share.
pub(super) const LIKE_LLAMA: Family = Family {
    model_type: "",
    architecture: "",
    classifier_architecture: "",
    head: "lm_head.weight",
    config,
    bindings,
    ignored: |name| name.ends_with(".rotary_emb.inv_freq"),
    optional_prefix: "model.",
    vocab_size_key: "vocab_size",
};

/// The settings in which families like Llama differ.
pub(super) struct Dialect {
    /// `head_dim` where it is not written; hidden size over heads if none.
    pub head_dim: Option<usize>,
    /// Key/value heads where they are not written; as many as query heads if none.
    pub num_kv_heads: Option<usize>,
    pub qkv_bias: bool,
    pub output_bias: bool,
    pub feed_forward_bias: bool,
    pub query_key_norm: bool,
    pub output_norms: bool,
    pub norm_epsilon: f64,
    pub max_positions: usize,
    pub tied_embeddings: bool,
    pub rotary: Defaults,
}

impl Default for Dialect {
    fn default() -> Self {
        Self {
            head_dim: None,
            num_kv_heads: None,
            qkv_bias: false,
            output_bias: false,
            feed_forward_bias: false,
            query_key_norm: false,
            output_norms: false,
            norm_epsilon: 1e-6,
            max_positions: 2048,
            tied_embeddings: false,
            rotary: Defaults::PLAIN,
        }
    }
}

fn config(settings: &Settings) -> Result<DecoderConfig> {
    let attention_bias = settings.flag_or("attention_bias", false)?;
    like_llama(
        settings,
        Dialect {
            qkv_bias: attention_bias,
            output_bias: attention_bias,
            feed_forward_bias: settings.flag_or("mlp_bias", false)?,
            ..Dialect::default()
        },
    )
}

/// The shape of a decoder whose settings are called as Llama's.
pub(super) fn like_llama(settings: &Settings, dialect: Dialect) -> Result<DecoderConfig> {
    settings.silu("hidden_act")?;
    let hidden_size = settings.count("hidden_size")?;
    let num_heads = settings.count("num_attention_heads")?;
    let num_kv_heads = settings.count_or_if_null(
        "num_key_value_heads",
        dialect.num_kv_heads.unwrap_or(num_heads),
        num_heads,
    )?;
    if !num_heads.is_multiple_of(num_kv_heads) {
        return Err(settings.unsupported("num_key_value_heads", "divisors of num_attention_heads"));
    }
    let head_dim =
        settings.count_or("head_dim", dialect.head_dim.unwrap_or(hidden_size / num_heads))?;
    let max_positions = settings.count_or("max_position_embeddings", dialect.max_positions)?;
    let (position_encoding, max_positions) =
        rotary::read(settings, head_dim, max_positions, &dialect.rotary)?;
    Ok(DecoderConfig {
        vocab_size: settings.count("vocab_size")?,
        hidden_size,
        intermediate_size: settings.count("intermediate_size")?,
        num_layers: settings.count("num_hidden_layers")?,
        num_heads,
        num_kv_heads,
        head_dim,
        max_positions,
        window: None,
        norm: NormKind::Rms,
        norm_epsilon: settings.number_or("rms_norm_eps", dialect.norm_epsilon)?,
        position_encoding,
        feed_forward: FeedForwardKind::SwiGlu,
        parallel_residual: false,
        output_norms: dialect.output_norms,
        query_key_norm: dialect.query_key_norm,
        qkv_bias: dialect.qkv_bias,
        output_bias: dialect.output_bias,
        feed_forward_bias: dialect.feed_forward_bias,
        tied_embeddings: settings.flag_or("tie_word_embeddings", dialect.tied_embeddings)?,
        end_of_text: settings.tokens("eos_token_id")?,
    })
}

fn bindings(config: &DecoderConfig) -> Vec<Binding> {
    let mut bindings = trunk_and_attention(config);
    for layer in 0..config.num_layers {
        for (theirs, ours) in [("gate_proj", "gate"), ("up_proj", "up"), ("down_proj", "down")] {
            bindings.extend(Binding::projection(
                format!("model.layers.{layer}.mlp.{theirs}"),
                [format!("blocks.{layer}.feed_forward.{ours}")],
                config.feed_forward_bias,
            ));
        }
    }
    bindings
}

/// Everything that is called as in Llama, but for the feed-forward part.
pub(super) fn trunk_and_attention(config: &DecoderConfig) -> Vec<Binding> {
    let mut bindings = vec![
        Binding::new("model.embed_tokens.weight", "tokens.weight"),
        Binding::new("model.norm.weight", "norm.gamma"),
    ];
    for layer in 0..config.num_layers {
        let name = |rest: &str| format!("model.layers.{layer}.{rest}");
        let ours = |rest: &str| format!("blocks.{layer}.{rest}");
        for (theirs, norm, there) in [
            ("input_layernorm", "attention_norm", true),
            ("post_attention_layernorm", "feed_forward_norm", true),
            ("self_attn.q_norm", "attention.query_norm", config.query_key_norm),
            ("self_attn.k_norm", "attention.key_norm", config.query_key_norm),
            ("post_self_attn_layernorm", "attention_output_norm", config.output_norms),
            ("post_mlp_layernorm", "feed_forward_output_norm", config.output_norms),
        ] {
            if there {
                let (theirs, gamma) = (format!("{theirs}.weight"), format!("{norm}.gamma"));
                bindings.push(Binding::new(name(&theirs), ours(&gamma)));
            }
        }
        for (theirs, projection, bias) in [
            ("self_attn.q_proj", "attention.query", config.qkv_bias),
            ("self_attn.k_proj", "attention.key", config.qkv_bias),
            ("self_attn.v_proj", "attention.value", config.qkv_bias),
            ("self_attn.o_proj", "attention.output", config.output_bias),
        ] {
            bindings.extend(Binding::projection(name(theirs), [ours(projection)], bias));
        }
    }
    bindings
}
