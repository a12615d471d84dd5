//! The settings of rotary positions, in the spellings of several versions of `transformers`.

use super::settings::Settings;
use crate::Result;
use crate::model::config::{PositionEncoding, RotaryConfig, RotaryScaling};

/// What a family takes where the settings are silent.
pub struct Defaults {
    /// θ.
    pub base: f64,
    /// The key of θ, before `transformers` 5.
    pub base_key: &'static str,
    /// The share of each head that is rotated.
    pub share: f64,
    /// The key of that share, before `transformers` 5.
    pub share_key: &'static str,
    /// Whether neighbours make a pair.
    pub interleaved: bool,
}

impl Defaults {
    /// Whole heads, halves against halves, as Llama has it.
    pub const PLAIN: Self = Self {
        base: 10_000.0,
        base_key: "rope_theta",
        share: 1.0,
        share_key: "partial_rotary_factor",
        interleaved: false,
    };
}

/// The rotary positions of heads of width `head_dim`.
pub fn read(settings: &Settings, head_dim: usize, defaults: &Defaults) -> Result<PositionEncoding> {
    // transformers 5 keeps base, share and scaling together in `rope_parameters`.
    let together = settings.object("rope_parameters")?;
    let number = |key: &str, old_key: &str, default: f64| match &together {
        Some(parameters) => parameters.number_or(key, default),
        None => settings.number_or(old_key, default),
    };
    let share = number("partial_rotary_factor", defaults.share_key, defaults.share)?;
    let width = (head_dim as f64 * share) as usize;
    if width < 2 || !width.is_multiple_of(2) || width > head_dim {
        return Err(settings.unsupported(
            defaults.share_key,
            "shares that are an even number of a head's entries",
        ));
    }
    let scaling = match &together {
        Some(parameters) => scaling(parameters, settings)?,
        None => match settings.object("rope_scaling")? {
            Some(parameters) => scaling(&parameters, settings)?,
            None => RotaryScaling::None,
        },
    };
    Ok(PositionEncoding::Rotary(RotaryConfig {
        base: number("rope_theta", defaults.base_key, defaults.base)?,
        width,
        interleaved: defaults.interleaved,
        scaling,
    }))
}

fn scaling(parameters: &Settings, settings: &Settings) -> Result<RotaryScaling> {
    match parameters.text_or("rope_type", parameters.text_or("type", "default")?)? {
        // Within the model's positions `dynamic` changes nothing, and beyond them nothing is read.
        "default" | "dynamic" => Ok(RotaryScaling::None),
        "linear" => Ok(RotaryScaling::Linear { factor: parameters.number_or("factor", 1.0)? }),
        "llama3" => Ok(RotaryScaling::Llama3 {
            factor: parameters.number_or("factor", 8.0)?,
            low_freq_factor: parameters.number_or("low_freq_factor", 1.0)?,
            high_freq_factor: parameters.number_or("high_freq_factor", 4.0)?,
            original_max_positions: parameters
                .number_or("original_max_position_embeddings", 8192.0)?,
        }),
        _ => Err(settings.unsupported(
            "rope_scaling",
            "the types default, dynamic (up to max_position_embeddings), linear and llama3",
        )),
    }
}
