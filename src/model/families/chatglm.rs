//! ChatGLM2, ChatGLM3 and GLM-4-9B in their original layout: GLM's arithmetic, with queries, keys and values
//! in one tensor and its own names of settings.

use serde_json::json;

use super::rotary::{self, Defaults};
use super::settings::Settings;
use super::{Binding, Family};
use crate::Result;
use crate::model::config::{
    DecoderConfig, FeedForwardKind, NormKind, PositionEncoding, RotaryConfig,
};

pub(super) const CHATGLM: Family = Family {
    model_type: "chatglm",
    architecture: "ChatGLMModel",
    classifier_architecture: "ChatGLMForSequenceClassification",
    head: "transformer.output_layer.weight",
    config,
    bindings,
    ignored: |name| name.ends_with("rotary_pos_emb.inv_freq"),
    optional_prefix: "transformer.",
    vocab_size_key: "padded_vocab_size",
};

fn config(settings: &Settings) -> Result<DecoderConfig> {
    for (key, only) in [
        ("rmsnorm", json!(true)),
        ("post_layer_norm", json!(true)),
        ("apply_residual_connection_post_layernorm", json!(false)),
        ("original_rope", json!(true)),
        ("pre_seq_len", json!(null)),
    ] {
        settings.only(key, only)?;
    }
    let num_heads = settings.count("num_attention_heads")?;
    let num_kv_heads = if settings.flag_or("multi_query_attention", false)? {
        settings.count("multi_query_group_num")?
    } else {
        num_heads
    };
    if !num_heads.is_multiple_of(num_kv_heads) {
        return Err(
            settings.unsupported("multi_query_group_num", "divisors of num_attention_heads")
        );
    }
    let hidden_size = settings.count("hidden_size")?;
    let head_dim = settings.count_or("kv_channels", hidden_size / num_heads)?;
    let linear_bias = settings.flag_or("add_bias_linear", false)?;
    let defaults = Defaults { share: 0.5, interleaved: true, ..Defaults::PLAIN };
    let (positions, max_positions) =
        rotary::read(settings, head_dim, settings.count("seq_length")?, &defaults)?;
    Ok(DecoderConfig {
        vocab_size: settings.count("padded_vocab_size")?,
        hidden_size,
        intermediate_size: settings.count("ffn_hidden_size")?,
        num_layers: settings.count("num_layers")?,
        num_heads,
        num_kv_heads,
        head_dim,
        max_positions,
        window: None,
        norm: NormKind::Rms,
        norm_epsilon: settings.number_or("layernorm_epsilon", 1e-5)?,
        position_encoding: stretched(positions, settings.number_or("rope_ratio", 1.0)?),
        feed_forward: FeedForwardKind::SwiGlu,
        parallel_residual: false,
        output_norms: false,
        query_key_norm: false,
        qkv_bias: linear_bias || settings.flag_or("add_qkv_bias", false)?,
        output_bias: linear_bias,
        feed_forward_bias: linear_bias,
        tied_embeddings: settings.flag_or("tie_word_embeddings", false)?,
        end_of_text: settings.tokens("eos_token_id")?,
    })
}

/// The longer contexts of the later models come from a larger base.
fn stretched(positions: PositionEncoding, ratio: f64) -> PositionEncoding {
    match positions {
        PositionEncoding::Rotary(rotary) => {
            PositionEncoding::Rotary(RotaryConfig { base: rotary.base * ratio, ..rotary })
        }
        learned => learned,
    }
}

fn bindings(config: &DecoderConfig) -> Vec<Binding> {
    let mut bindings = vec![
        Binding::new("transformer.embedding.word_embeddings.weight", "tokens.weight"),
        Binding::new("transformer.encoder.final_layernorm.weight", "norm.gamma"),
    ];
    for layer in 0..config.num_layers {
        let name = |rest: &str| format!("transformer.encoder.layers.{layer}.{rest}");
        let ours = |rest: &str| format!("blocks.{layer}.{rest}");
        for (theirs, norm) in [
            ("input_layernorm.weight", "attention_norm.gamma"),
            ("post_attention_layernorm.weight", "feed_forward_norm.gamma"),
        ] {
            bindings.push(Binding::new(name(theirs), ours(norm)));
        }
        let [query, key, value] =
            ["query", "key", "value"].map(|it| ours(&format!("attention.{it}")));
        bindings.extend(Binding::projection(
            name("self_attention.query_key_value"),
            [query, key, value],
            config.qkv_bias,
        ));
        bindings.extend(Binding::projection(
            name("self_attention.dense"),
            [ours("attention.output")],
            config.output_bias,
        ));
        let fused = ["gate", "up"].map(|it| ours(&format!("feed_forward.{it}")));
        let bias = config.feed_forward_bias;
        bindings.extend(Binding::projection(name("mlp.dense_h_to_4h"), fused, bias));
        bindings.extend(Binding::projection(
            name("mlp.dense_4h_to_h"),
            [ours("feed_forward.down")],
            bias,
        ));
    }
    bindings
}
