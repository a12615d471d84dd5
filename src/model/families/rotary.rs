//! The settings of rotary positions, as several versions of `transformers` write them.
//!
//! Before version 5, the base is `rope_theta` and the scaling `rope_scaling`. From version 5 on, both are in
//! `rope_parameters`. The precedence is that of transformers' `convert_rope_params_to_dict`: the object
//! `rope_scaling` if it is not empty, else `rope_parameters`; a number in the object before the number beside
//! it, before the family's default.

use super::settings::Settings;
use crate::Result;
use crate::model::config::{PositionEncoding, RotaryConfig, RotaryScaling, Yarn};

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

/// The rotary positions of heads of width `head_dim`, and how many of the model's `max_positions`
/// they serve.
pub fn read(
    settings: &Settings,
    head_dim: usize,
    max_positions: usize,
    defaults: &Defaults,
) -> Result<(PositionEncoding, usize)> {
    let old = settings.object("rope_scaling")?;
    let new = match &old {
        Some(_) => None,
        None => settings.object("rope_parameters")?.map(of_all_layers).transpose()?,
    };
    let number = |key: &str, key_beside: &str, default: f64| {
        let beside = settings.number_if(key_beside)?;
        if let Some(old) = &old {
            // Version 5 reads this number, those before pass over it.
            let inside = old.number_if(key)?;
            if inside.is_some() && inside != Some(beside.unwrap_or(default)) {
                let why = "the versions of transformers disagree whether the number counts here; ";
                let what = format!("{why}write it as `{key_beside}` beside rope_scaling, too");
                return Err(old.refused(key, &what));
            }
        }
        let inside = new.as_ref().map(|it| it.number_if(key)).transpose()?.flatten();
        Ok(inside.or(beside).unwrap_or(default))
    };
    let share = number("partial_rotary_factor", defaults.share_key, defaults.share)?;
    let width = (head_dim as f64 * share) as usize;
    if width < 2 || !width.is_multiple_of(2) || width > head_dim {
        return Err(settings.unsupported(
            defaults.share_key,
            "shares that are an even number of a head's entries",
        ));
    }
    let base = number("rope_theta", defaults.base_key, defaults.base)?;
    let context = Context { beside: settings, max_positions, width, is_old: old.is_some() };
    let (scaling, max_positions) = match old.as_ref().or(new.as_ref()) {
        Some(parameters) => context.scaling(parameters)?,
        None => (RotaryScaling::None, max_positions),
    };
    let rotary = RotaryConfig { base, width, interleaved: defaults.interleaved, scaling };
    Ok((PositionEncoding::Rotary(rotary), max_positions))
}

/// The parameters of all layers, where each kind of layer has its own and those are the same.
fn of_all_layers(parameters: Settings) -> Result<Settings> {
    let mut by_kind = parameters.objects().into_iter();
    let Some((first, of_first)) = by_kind.next() else { return Ok(parameters) };
    match by_kind.find(|(_, other)| !other.same_as(&of_first)) {
        None => Ok(of_first),
        Some((other, _)) => Err(parameters.refused(
            other,
            &format!(
                "differs from `{first}`; layers with rotary positions of their own are not \
                 supported, only the same for all"
            ),
        )),
    }
}

/// What a scaling is read in.
struct Context<'a> {
    beside: &'a Settings<'a>,
    max_positions: usize,
    /// How much of each head is rotated.
    width: usize,
    /// Whether the parameters stand in `rope_scaling`.
    is_old: bool,
}

impl Context<'_> {
    /// The scaling, and how many positions it serves.
    fn scaling(&self, parameters: &Settings) -> Result<(RotaryScaling, usize)> {
        let (key, kind) = self.kind(parameters)?;
        // Recipes that lengthen a context often leave `max_position_embeddings` as it was.
        let mut reach = self.max_positions;
        let mut lengthened = |from: f64, factor: f64| reach = reach.max((from * factor) as usize);
        let scaling = match kind {
            // Within the model's positions `dynamic` changes nothing, and beyond them nothing is read.
            "default" | "dynamic" => RotaryScaling::None,
            "linear" => {
                let factor = parameters.number("factor")?;
                lengthened(self.max_positions as f64, factor);
                RotaryScaling::Linear { factor }
            }
            "llama3" => RotaryScaling::Llama3 {
                factor: parameters.number("factor")?,
                low_freq_factor: parameters.number("low_freq_factor")?,
                high_freq_factor: parameters.number("high_freq_factor")?,
                original_max_positions: self.original_or(parameters, None)?,
            },
            "yarn" => {
                let yarn = self.yarn(parameters)?;
                lengthened(yarn.original_max_positions, parameters.number("factor")?);
                RotaryScaling::Yarn(yarn)
            }
            "longrope" => return self.long_rope(parameters),
            _ => {
                return Err(parameters.unsupported(
                    key,
                    "default, linear, dynamic (up to max_position_embeddings), llama3, yarn and \
                     longrope; take a model whose positions are of one of these kinds",
                ));
            }
        };
        Ok((scaling, reach))
    }

    /// The kind of scaling and the key it stands under.
    fn kind<'s>(&self, parameters: &Settings<'s>) -> Result<(&'static str, &'s str)> {
        let [kind, old_kind] = [parameters.text_if("rope_type")?, parameters.text_if("type")?];
        match (kind, old_kind) {
            (Some(kind), Some(old_kind)) if self.is_old && kind != old_kind => Err(parameters
                .refused(
                    "rope_type",
                    &format!(
                        "expected the same kind as `type`, found `{kind}` and `{old_kind}`; the \
                         versions of transformers disagree which of them counts: remove one"
                    ),
                )),
            (Some(kind), _) => Ok(("rope_type", kind)),
            (None, Some(kind)) => Ok(("type", kind)),
            (None, None) if self.is_old => Err(parameters.refused(
                "rope_type",
                "expected a kind of scaling (default, linear, dynamic, llama3, yarn, longrope), \
                 found none; transformers refuses it, too",
            )),
            (None, None) => Ok(("rope_type", "default")),
        }
    }

    /// The pretraining's context; where it is not written, `default` or an error.
    fn original_or(&self, parameters: &Settings, default: Option<f64>) -> Result<f64> {
        const KEY: &str = "original_max_position_embeddings";
        let beside = self.beside.number_if(KEY)?.filter(|_| !self.is_old);
        let default = default.or((!self.is_old).then_some(self.max_positions as f64));
        match beside.or(parameters.number_if(KEY)?).or(default) {
            Some(number) => Ok(number),
            None => parameters.number(KEY),
        }
    }

    fn yarn(&self, parameters: &Settings) -> Result<Yarn> {
        let factor = parameters.number("factor")?;
        // Where nought is written, transformers takes its default.
        let number_or = |key: &str, default: f64| {
            let number = parameters.number_if(key)?.filter(|&it| it != 0.0);
            Ok::<f64, crate::Error>(number.unwrap_or(default))
        };
        let scale =
            |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
        let [mscale, mscale_all_dim] =
            [number_or("mscale", 0.0)?, number_or("mscale_all_dim", 0.0)?];
        let attention_factor = match parameters.number_if("attention_factor")? {
            Some(given) => given,
            None if mscale != 0.0 && mscale_all_dim != 0.0 => scale(mscale) / scale(mscale_all_dim),
            None => scale(1.0),
        };
        let original = self.original_or(parameters, Some(self.max_positions as f64))?;
        Ok(Yarn {
            factor,
            original_max_positions: original,
            beta_fast: number_or("beta_fast", 32.0)?,
            beta_slow: number_or("beta_slow", 1.0)?,
            truncate: parameters.flag_or("truncate", true)?,
            attention_factor,
        })
    }

    fn long_rope(&self, parameters: &Settings) -> Result<(RotaryScaling, usize)> {
        let max_positions = self.max_positions as f64;
        let (original, factor) = if self.is_old {
            let original = self.beside.number_if("original_max_position_embeddings")?;
            match original.filter(|&it| it != 0.0) {
                Some(original) => (original, Some(max_positions / original)),
                None => (max_positions, parameters.number_if("factor")?),
            }
        } else {
            let original = self.original_or(parameters, None)?;
            let factor = parameters.number_if("factor")?;
            (original, Some(factor.unwrap_or(max_positions / original)))
        };
        let attention_factor = match parameters.number_if("attention_factor")? {
            Some(given) => given,
            None => match factor {
                None => parameters.number("factor")?,
                Some(factor) if factor <= 1.0 => 1.0,
                Some(factor) => (1.0 + factor.ln() / original.ln()).sqrt(),
            },
        };
        let factors = parameters.numbers("short_factor")?;
        let pairs = self.width / 2;
        if factors.len() != pairs {
            let expected =
                format!("lists of {pairs} numbers, one for each pair of a head's entries");
            return Err(parameters.unsupported("short_factor", &expected));
        }
        let reach = self.max_positions.min(original as usize);
        Ok((RotaryScaling::LongRope { factors, attention_factor }, reach))
    }
}
