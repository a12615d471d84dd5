//! Qwen2 and 2.5: Llama with biases on queries, keys and values. Qwen3: Llama with normalised queries and
//! keys in each head.

use super::Family;
use super::llama::{Dialect, LIKE_LLAMA, like_llama};
use super::settings::Settings;
use crate::Result;
use crate::model::config::DecoderConfig;

pub(super) const QWEN2: Family = Family {
    model_type: "qwen2",
    architecture: "Qwen2ForCausalLM",
    classifier_architecture: "Qwen2ForSequenceClassification",
    config: |settings| {
        windowed(
            settings,
            Dialect {
                num_kv_heads: Some(32),
                qkv_bias: true,
                max_positions: 32_768,
                ..Dialect::default()
            },
        )
    },
    ..LIKE_LLAMA
};

pub(super) const QWEN3: Family = Family {
    model_type: "qwen3",
    architecture: "Qwen3ForCausalLM",
    classifier_architecture: "Qwen3ForSequenceClassification",
    config: |settings| {
        let attention_bias = settings.flag_or("attention_bias", false)?;
        let dialect = Dialect {
            head_dim: Some(128),
            num_kv_heads: Some(32),
            qkv_bias: attention_bias,
            output_bias: attention_bias,
            query_key_norm: true,
            max_positions: 32_768,
            ..Dialect::default()
        };
        windowed(settings, dialect)
    },
    ..LIKE_LLAMA
};

/// Some or all layers of a Qwen may have a window, which is off unless it is switched on.
fn windowed(settings: &Settings, dialect: Dialect) -> Result<DecoderConfig> {
    let mut config = like_llama(settings, dialect)?;
    let window = match settings.flag_or("use_sliding_window", false)? {
        true => settings.count_or_null("sliding_window", 4096)?,
        false => None,
    };
    let kinds = settings.texts("layer_types")?;
    let of_kind = |kind: &str| kinds.iter().flatten().any(|it| *it == kind);
    if kinds.iter().flatten().any(|it| !["full_attention", "sliding_attention"].contains(it)) {
        return Err(settings.unsupported("layer_types", "full_attention and sliding_attention"));
    }
    let some_slide = match kinds {
        Some(_) => of_kind("sliding_attention"),
        None => {
            window.is_some()
                && settings.number_or("max_window_layers", 28.0)? < config.num_layers as f64
        }
    };
    match window {
        Some(window) if some_slide => config.see_no_further_than(window),
        None if some_slide => {
            return Err(settings.refused(
                "layer_types",
                "expected a window for the layers of sliding_attention, found none; set \
                 `use_sliding_window` and `sliding_window`, or make the layers full_attention",
            ));
        }
        _ => {}
    }
    Ok(config)
}
