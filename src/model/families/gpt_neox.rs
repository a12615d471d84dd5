//! GPT-NeoX and Pythia: part of each head rotated, attention and feed-forward side by side, layer
//! norms, queries, keys and values in one tensor, head by head.

use super::rotary::{self, Defaults};
use super::settings::Settings;
use super::{Binding, Family};
use crate::Result;
use crate::model::config::{DecoderConfig, NormKind};

pub(super) const GPT_NEOX: Family = Family {
    model_type: "gpt_neox",
    architecture: "GPTNeoXForCausalLM",
    classifier_architecture: "GPTNeoXForSequenceClassification",
    head: "embed_out.weight",
    config,
    bindings,
    ignored: |name| {
        [".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"]
            .iter()
            .any(|buffer| name.ends_with(buffer))
    },
    optional_prefix: "gpt_neox.",
    vocab_size_key: "vocab_size",
};

fn config(settings: &Settings) -> Result<DecoderConfig> {
    let hidden_size = settings.count("hidden_size")?;
    let num_heads = settings.count("num_attention_heads")?;
    if !hidden_size.is_multiple_of(num_heads) {
        return Err(settings.unsupported("num_attention_heads", "divisors of hidden_size"));
    }
    let head_dim = hidden_size / num_heads;
    let attention_bias = settings.flag_or("attention_bias", true)?;
    let defaults = Defaults {
        base_key: "rotary_emb_base",
        share: 0.25,
        share_key: "rotary_pct",
        ..Defaults::PLAIN
    };
    let max_positions = settings.count_or("max_position_embeddings", 2048)?;
    let (position_encoding, max_positions) =
        rotary::read(settings, head_dim, max_positions, &defaults)?;
    Ok(DecoderConfig {
        vocab_size: settings.count("vocab_size")?,
        hidden_size,
        intermediate_size: settings.count("intermediate_size")?,
        num_layers: settings.count("num_hidden_layers")?,
        num_heads,
        num_kv_heads: num_heads,
        head_dim,
        max_positions,
        window: None,
        norm: NormKind::Layer,
        norm_epsilon: settings.number_or("layer_norm_eps", 1e-5)?,
        position_encoding,
        feed_forward: settings.gelu("hidden_act", "gelu")?,
        parallel_residual: settings.flag_or("use_parallel_residual", true)?,
        output_norms: false,
        query_key_norm: false,
        qkv_bias: attention_bias,
        output_bias: attention_bias,
        feed_forward_bias: true,
        tied_embeddings: settings.flag_or("tie_word_embeddings", false)?,
        end_of_text: settings.tokens("eos_token_id")?,
    })
}

fn bindings(config: &DecoderConfig) -> Vec<Binding> {
    let mut bindings = vec![Binding::new("gpt_neox.embed_in.weight", "tokens.weight")];
    let mut norm = |theirs: String, ours: String| {
        for (part, parameter) in [("weight", "gamma"), ("bias", "beta")] {
            bindings.push(Binding::new(format!("{theirs}.{part}"), format!("{ours}.{parameter}")));
        }
    };
    norm("gpt_neox.final_layer_norm".to_owned(), "norm".to_owned());
    for layer in 0..config.num_layers {
        for (theirs, ours) in [
            ("input_layernorm", "attention_norm"),
            ("post_attention_layernorm", "feed_forward_norm"),
        ] {
            norm(format!("gpt_neox.layers.{layer}.{theirs}"), format!("blocks.{layer}.{ours}"));
        }
    }
    for layer in 0..config.num_layers {
        let name = |rest: &str| format!("gpt_neox.layers.{layer}.{rest}");
        let ours = |rest: &str| format!("blocks.{layer}.{rest}");
        let fused = ["query", "key", "value"].map(|it| ours(&format!("attention.{it}")));
        let fused = Binding::projection(name("attention.query_key_value"), fused, config.qkv_bias);
        let by_head = |binding| Binding { blocks: config.num_heads, ..binding };
        bindings.extend(fused.into_iter().map(by_head));
        for (theirs, projection, bias) in [
            ("attention.dense", "attention.output", config.output_bias),
            ("mlp.dense_h_to_4h", "feed_forward.up", true),
            ("mlp.dense_4h_to_h", "feed_forward.down", true),
        ] {
            bindings.extend(Binding::projection(name(theirs), [ours(projection)], bias));
        }
    }
    bindings
}
