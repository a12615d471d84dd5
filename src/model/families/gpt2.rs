//! GPT-2: learned positions, layer norms, fused queries/keys/values stored `[in, out]`, tied head.

use serde_json::{Value, json};

use super::settings::Settings;
use super::{Binding, Family};
use crate::Result;
use crate::model::config::{DecoderConfig, NormKind, PositionEncoding};

pub(super) const GPT2: Family = Family {
    model_type: "gpt2",
    architecture: "GPT2LMHeadModel",
    classifier_architecture: "GPT2ForSequenceClassification",
    head: "lm_head.weight",
    config,
    bindings,
    ignored: |name| name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias"),
    optional_prefix: "transformer.",
    vocab_size_key: "vocab_size",
};

fn config(settings: &Settings) -> Result<DecoderConfig> {
    settings.only("scale_attn_by_inverse_layer_idx", false)?;
    settings.only("scale_attn_weights", true)?;
    settings.only("add_cross_attention", false)?;
    let hidden_size = settings.count("n_embd")?;
    let num_heads = settings.count("n_head")?;
    if !hidden_size.is_multiple_of(num_heads) {
        return Err(settings.unsupported("n_head", "divisors of n_embd"));
    }
    Ok(DecoderConfig {
        vocab_size: settings.count("vocab_size")?,
        hidden_size,
        intermediate_size: settings.count_or("n_inner", 4 * hidden_size)?,
        num_layers: settings.count("n_layer")?,
        num_heads,
        num_kv_heads: num_heads,
        head_dim: hidden_size / num_heads,
        max_positions: settings.count("n_positions")?,
        window: None,
        norm: NormKind::Layer,
        norm_epsilon: settings.number_or("layer_norm_epsilon", 1e-5)?,
        position_encoding: PositionEncoding::Learned,
        feed_forward: settings.gelu("activation_function", "gelu_new")?,
        parallel_residual: false,
        output_norms: false,
        query_key_norm: false,
        qkv_bias: true,
        output_bias: true,
        feed_forward_bias: true,
        tied_embeddings: settings.flag_or("tie_word_embeddings", true)?,
        end_of_text: settings.tokens("eos_token_id")?,
    })
}

fn bindings(config: &DecoderConfig) -> Vec<Binding> {
    let mut bindings = vec![
        Binding::new("transformer.wte.weight", "tokens.weight"),
        Binding::new("transformer.wpe.weight", "positions.weight"),
        Binding::new("transformer.ln_f.weight", "norm.gamma"),
        Binding::new("transformer.ln_f.bias", "norm.beta"),
    ];
    for layer in 0..config.num_layers {
        let name = |rest: &str| format!("transformer.h.{layer}.{rest}");
        let ours = |rest: &str| format!("blocks.{layer}.{rest}");
        for (theirs, norm) in [("ln_1", "attention_norm"), ("ln_2", "feed_forward_norm")] {
            bindings.push(Binding::new(
                name(&format!("{theirs}.weight")),
                ours(&format!("{norm}.gamma")),
            ));
            bindings
                .push(Binding::new(name(&format!("{theirs}.bias")), ours(&format!("{norm}.beta"))));
        }
        for part in ["weight", "bias"] {
            bindings.push(Binding::fused(
                name(&format!("attn.c_attn.{part}")),
                ["query", "key", "value"]
                    .map(|projection| ours(&format!("attention.{projection}.{part}"))),
            ));
            for (theirs, projection) in [
                ("attn.c_proj", "attention.output"),
                ("mlp.c_fc", "feed_forward.up"),
                ("mlp.c_proj", "feed_forward.down"),
            ] {
                bindings.push(Binding::new(
                    name(&format!("{theirs}.{part}")),
                    ours(&format!("{projection}.{part}")),
                ));
            }
        }
    }
    bindings
}

/// The `config.json` of a GPT-2 to be trained from nothing.
pub fn gpt2_config_json(
    vocab_size: usize,
    hidden_size: usize,
    num_layers: usize,
    num_heads: usize,
    max_positions: usize,
    end_of_text: u32,
) -> Value {
    json!({
        "architectures": [GPT2.architecture],
        "model_type": GPT2.model_type,
        "activation_function": "gelu_new",
        "attn_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-5,
        "n_ctx": max_positions,
        "n_embd": hidden_size,
        "n_head": num_heads,
        "n_layer": num_layers,
        "n_positions": max_positions,
        "tie_word_embeddings": true,
        "dtype": "float32",
        "vocab_size": vocab_size,
    })
}
