//! Qwen2 and 2.5: Llama with biases on queries, keys and values. Qwen3: without them, with each
//! head's queries and keys normalised.

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
        windowed(settings, Dialect { qkv_bias: true, max_positions: 32_768, ..Dialect::default() })
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
    if settings.flag_or("use_sliding_window", false)?
        && let Some(window) = settings.count_or_null("sliding_window", 4096)?
    {
        config.max_positions = config.max_positions.min(window);
    }
    Ok(config)
}
