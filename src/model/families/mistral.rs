//! Mistral: Llama with a window beyond which attention does not see.

use super::Family;
use super::llama::{Dialect, LIKE_LLAMA, like_llama};
use super::settings::Settings;
use crate::Result;
use crate::model::config::DecoderConfig;

pub(super) const MISTRAL: Family = Family {
    model_type: "mistral",
    architecture: "MistralForCausalLM",
    classifier_architecture: "MistralForSequenceClassification",
    config,
    ..LIKE_LLAMA
};

fn config(settings: &Settings) -> Result<DecoderConfig> {
    let dialect = Dialect { num_kv_heads: Some(8), max_positions: 4096 * 32, ..Dialect::default() };
    let mut config = like_llama(settings, dialect)?;
    if let Some(window) = settings.count_or_null("sliding_window", 4096)? {
        config.see_no_further_than(window);
    }
    Ok(config)
}
