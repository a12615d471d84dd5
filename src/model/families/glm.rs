//! GLM (GLM-4-9B and ChatGLM as `transformers` names them) and GLM-4 of 2025: Llama with half of each head
//! rotated, neighbour by neighbour, and a fused gate. GLM-4 also normalises the outputs of attention and
//! feed-forward.

use super::llama::{Dialect, LIKE_LLAMA, like_llama, trunk_and_attention};
use super::rotary::Defaults;
use super::settings::Settings;
use super::{Binding, Family};
use crate::Result;
use crate::model::config::DecoderConfig;

pub(super) const GLM: Family = Family {
    model_type: "glm",
    architecture: "GlmForCausalLM",
    classifier_architecture: "GlmForSequenceClassification",
    config: |settings| config(settings, false),
    bindings,
    ..LIKE_LLAMA
};

pub(super) const GLM4: Family = Family {
    model_type: "glm4",
    architecture: "Glm4ForCausalLM",
    classifier_architecture: "Glm4ForSequenceClassification",
    config: |settings| config(settings, true),
    bindings,
    ..LIKE_LLAMA
};

fn config(settings: &Settings, output_norms: bool) -> Result<DecoderConfig> {
    let dialect = Dialect {
        head_dim: Some(128),
        num_kv_heads: Some(2),
        qkv_bias: settings.flag_or("attention_bias", true)?,
        output_norms,
        norm_epsilon: 1.5625e-7,
        max_positions: 131_072,
        rotary: Defaults { share: 0.5, interleaved: true, ..Defaults::PLAIN },
        ..Dialect::default()
    };
    like_llama(settings, dialect)
}

fn bindings(config: &DecoderConfig) -> Vec<Binding> {
    let mut bindings = trunk_and_attention(config);
    for layer in 0..config.num_layers {
        let name = |rest: &str| format!("model.layers.{layer}.mlp.{rest}");
        let ours = |rest: &str| format!("blocks.{layer}.feed_forward.{rest}");
        let fused = ["gate", "up"].map(ours);
        bindings.extend(Binding::projection(name("gate_up_proj"), fused, false));
        bindings.extend(Binding::projection(name("down_proj"), [ours("down")], false));
    }
    bindings
}
