//! Llama and SmolLM2: rotary positions, RMS norms, grouped key/value heads, SwiGLU.

use super::settings::Settings;
use super::{Binding, Family};
use crate::Result;
use crate::model::config::{
    DecoderConfig, FeedForwardKind, NormKind, PositionEncoding, RotaryConfig, RotaryScaling,
};

pub(super) const LLAMA: Family = Family {
    model_type: "llama",
    architecture: "LlamaForCausalLM",
    classifier_architecture: "LlamaForSequenceClassification",
    config,
    bindings,
    ignored: |name| name.ends_with(".rotary_emb.inv_freq"),
    optional_prefix: "model.",
};

fn config(settings: &Settings) -> Result<DecoderConfig> {
    if settings.text_or("hidden_act", "silu")? != "silu" {
        return Err(settings.unsupported("hidden_act", "silu"));
    }
    let hidden_size = settings.count("hidden_size")?;
    let num_heads = settings.count("num_attention_heads")?;
    let num_kv_heads = settings.count_or("num_key_value_heads", num_heads)?;
    if !num_heads.is_multiple_of(num_kv_heads) {
        return Err(settings.unsupported("num_key_value_heads", "divisors of num_attention_heads"));
    }
    let attention_bias = settings.flag_or("attention_bias", false)?;
    Ok(DecoderConfig {
        vocab_size: settings.count("vocab_size")?,
        hidden_size,
        intermediate_size: settings.count("intermediate_size")?,
        num_layers: settings.count("num_hidden_layers")?,
        num_heads,
        num_kv_heads,
        head_dim: settings.count_or("head_dim", hidden_size / num_heads)?,
        max_positions: settings.count_or("max_position_embeddings", 2048)?,
        norm: NormKind::Rms,
        norm_epsilon: settings.number_or("rms_norm_eps", 1e-6)?,
        position_encoding: PositionEncoding::Rotary(rotary(settings)?),
        feed_forward: FeedForwardKind::SwiGlu,
        qkv_bias: attention_bias,
        output_bias: attention_bias,
        feed_forward_bias: settings.flag_or("mlp_bias", false)?,
        tied_embeddings: settings.flag_or("tie_word_embeddings", false)?,
        end_of_text: settings.tokens("eos_token_id")?,
    })
}

fn rotary(settings: &Settings) -> Result<RotaryConfig> {
    // transformers 5 keeps base and scaling together in `rope_parameters`.
    let together = settings.object("rope_parameters")?;
    let base = match &together {
        Some(parameters) => parameters.number_or("rope_theta", 10_000.0)?,
        None => settings.number_or("rope_theta", 10_000.0)?,
    };
    let scaling = match together
        .map_or_else(|| settings.object("rope_scaling"), |it| Ok(Some(it)))?
    {
        None => RotaryScaling::None,
        Some(scaling) => {
            let kind = scaling.text_or("rope_type", scaling.text_or("type", "default")?)?;
            match kind {
                "default" => RotaryScaling::None,
                "linear" => RotaryScaling::Linear { factor: scaling.number_or("factor", 1.0)? },
                "llama3" => RotaryScaling::Llama3 {
                    factor: scaling.number_or("factor", 8.0)?,
                    low_freq_factor: scaling.number_or("low_freq_factor", 1.0)?,
                    high_freq_factor: scaling.number_or("high_freq_factor", 4.0)?,
                    original_max_positions: scaling
                        .number_or("original_max_position_embeddings", 8192.0)?,
                },
                _ => return Err(settings.unsupported("rope_scaling", "default, linear and llama3")),
            }
        }
    };
    Ok(RotaryConfig { base, scaling })
}

fn bindings(config: &DecoderConfig) -> Vec<Binding> {
    let mut bindings = vec![
        Binding::new("model.embed_tokens.weight", "tokens.weight"),
        Binding::new("model.norm.weight", "norm.gamma"),
    ];
    for layer in 0..config.num_layers {
        let name = |rest: &str| format!("model.layers.{layer}.{rest}");
        let ours = |rest: &str| format!("blocks.{layer}.{rest}");
        bindings.push(Binding::new(name("input_layernorm.weight"), ours("attention_norm.gamma")));
        bindings.push(Binding::new(
            name("post_attention_layernorm.weight"),
            ours("feed_forward_norm.gamma"),
        ));
        for (theirs, projection, bias) in [
            ("self_attn.q_proj", "attention.query", config.qkv_bias),
            ("self_attn.k_proj", "attention.key", config.qkv_bias),
            ("self_attn.v_proj", "attention.value", config.qkv_bias),
            ("self_attn.o_proj", "attention.output", config.output_bias),
            ("mlp.gate_proj", "feed_forward.gate", config.feed_forward_bias),
            ("mlp.up_proj", "feed_forward.up", config.feed_forward_bias),
            ("mlp.down_proj", "feed_forward.down", config.feed_forward_bias),
        ] {
            let (theirs, ours) = (name(theirs), ours(projection));
            bindings
                .push(Binding::transposed(format!("{theirs}.weight"), format!("{ours}.weight")));
            if bias {
                bindings.push(Binding::new(format!("{theirs}.bias"), format!("{ours}.bias")));
            }
        }
    }
    bindings
}
