//! The names that each family gives its settings and its tensors.
//!
//! A family maps `config.json` to [`DecoderConfig`], and our parameters to Hugging Face tensors. It does
//! nothing else: all families share one transformer.

mod chatglm;
mod glm;
mod gpt2;
mod gpt_neox;
mod llama;
mod mistral;
mod qwen;
mod rotary;
mod settings;
#[cfg(test)]
mod tests;

pub use gpt2::gpt2_config_json;

use std::path::Path;

use serde_json::Value;

use super::config::{DecoderConfig, NormKind};
use crate::{Error, Result};
use settings::Settings;

/// A family of decoders as Hugging Face folders spell it.
#[derive(Debug)]
pub struct Family {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// The class that loads the language model in `transformers`.
    pub architecture: &'static str,
    /// The class that loads a reward model or classifier.
    pub classifier_architecture: &'static str,
    /// The tensor of the vocabulary head, where it is not the token embedding.
    pub head: &'static str,
    /// Reads the shape from `config.json`.
    config: fn(&Settings) -> Result<DecoderConfig>,
    /// Where each parameter is stored.
    bindings: fn(&DecoderConfig) -> Vec<Binding>,
    /// Tensors that may stand in a file and hold nothing learned.
    ignored: fn(&str) -> bool,
    /// The prefix of all tensor names but the heads', which some files leave out.
    optional_prefix: &'static str,
    /// The key of the vocabulary's size in `config.json`.
    pub vocab_size_key: &'static str,
}

const FAMILIES: &[&Family] = &[
    &gpt2::GPT2,
    &gpt_neox::GPT_NEOX,
    &llama::LLAMA,
    &mistral::MISTRAL,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &glm::GLM,
    &glm::GLM4,
    &chatglm::CHATGLM,
];

/// More blocks than any model has, and few enough to be named one by one.
const MAX_LAYERS: usize = 10_000;

/// The token embedding's parameter.
const EMBEDDING: &str = "tokens.weight";

/// The scalar head's tensor.
pub(in crate::model) const SCORE: &str = "score.weight";

/// One Hugging Face tensor and the parameters it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// The tensor's name in the file.
    pub name: String,
    /// Paths of the parameters, side by side along the last axis.
    pub parameters: Vec<String>,
    /// Into how many blocks that axis is cut, each with its share of every parameter.
    pub blocks: usize,
    /// Stored `[out, in]` where we keep `[in, out]`.
    pub transposed: bool,
}

impl Binding {
    fn new(name: impl Into<String>, parameter: impl Into<String>) -> Self {
        Self::fused(name, [parameter.into()])
    }

    fn transposed(name: impl Into<String>, parameter: impl Into<String>) -> Self {
        Self { transposed: true, ..Self::new(name, parameter) }
    }

    fn fused(name: impl Into<String>, parameters: impl Into<Vec<String>>) -> Self {
        Self { name: name.into(), parameters: parameters.into(), blocks: 1, transposed: false }
    }

    /// `name.weight`, stored `[out, in]`, and `name.bias` if there is one, of the projections that
    /// share them.
    fn projection<const N: usize>(name: String, projections: [String; N], bias: bool) -> Vec<Self> {
        let all = |part: &str| projections.each_ref().map(|it| format!("{it}.{part}"));
        let weight =
            Self { transposed: true, ..Self::fused(format!("{name}.weight"), all("weight")) };
        let bias = bias.then(|| Self::fused(format!("{name}.bias"), all("bias")));
        std::iter::once(weight).chain(bias).collect()
    }

    /// The scalar head of reward models and classifiers.
    pub fn score() -> Self {
        Self::transposed(SCORE, "score.weight")
    }
}

/// The tokens that end a text, as the file `path` with the content `json` names them.
///
/// # Errors
/// If they are anything but ids of tokens.
pub(in crate::model) fn end_of_text(path: &Path, json: &Value) -> Result<Vec<u32>> {
    Settings::new(path, json)?.tokens("eos_token_id")
}

/// The name of a tensor without what wrappers of modules put in: torch.compile, data parallelism, FSDP, activation
/// checkpointing, Lightning and PEFT.
pub(super) fn without_wrappers(name: &str) -> String {
    const WRAPPERS: [&str; 5] = [
        "_orig_mod",
        "module",
        "_fsdp_wrapped_module",
        "_checkpoint_wrapped_module",
        "_forward_module",
    ];
    let parts: Vec<&str> = name.split('.').filter(|it| !WRAPPERS.contains(it)).collect();
    let plain = parts.join(".");
    plain.strip_prefix("base_model.model.").unwrap_or(&plain).to_owned()
}

impl Family {
    /// The family that `config.json` (found at `path`) names.
    pub fn of(path: &Path, json: &Value) -> Result<&'static Self> {
        let found = json.get("model_type").and_then(Value::as_str).unwrap_or("none");
        FAMILIES.iter().copied().find(|family| family.model_type == found).ok_or_else(|| {
            let supported: Vec<&str> = FAMILIES.iter().map(|family| family.model_type).collect();
            Error::file(
                path,
                format!(
                    "`model_type`: expected one of {}, found `{found}`; this architecture is not \
                     supported",
                    supported.join(", ")
                ),
            )
        })
    }

    /// The decoder's shape, from `config.json` found at `path`.
    pub fn shape(&self, path: &Path, json: &Value) -> Result<DecoderConfig> {
        let shape = (self.config)(&Settings::new(path, json)?)?;
        // No product of sizes may leave the numbers that there are.
        if shape.num_weights() > i64::MAX as u128 / 16 || shape.num_layers > MAX_LAYERS {
            return Err(Error::file(
                path,
                format!(
                    "expected the sizes of a model, found {} layers of width {} and a vocabulary of {}, \
                     which no machine holds; fetch the file again",
                    shape.num_layers, shape.hidden_size, shape.vocab_size
                ),
            ));
        }
        let is_positive = match shape.norm {
            NormKind::Rms => shape.norm_epsilon > 0.0,
            NormKind::Layer => shape.norm_epsilon >= 0.0,
        };
        if !(is_positive && shape.norm_epsilon.is_finite()) {
            return Err(Error::file(
                path,
                format!(
                    "expected an ε of the norms above 0, found {}; fetch the file again",
                    shape.norm_epsilon
                ),
            ));
        }
        Ok(shape)
    }

    /// Where each parameter of a language model is stored.
    pub fn bindings(&self, config: &DecoderConfig) -> Vec<Binding> {
        let mut bindings = (self.bindings)(config);
        if !config.tied_embeddings {
            bindings.push(Binding::transposed(self.head, "head.weight"));
        }
        bindings
    }

    /// Where the token embedding is stored.
    pub(super) fn embedding(&self, config: &DecoderConfig) -> Binding {
        let mut bindings = (self.bindings)(config).into_iter();
        bindings.find(|it| it.parameters[0] == EMBEDDING).unwrap_or(Binding::new("", EMBEDDING))
    }

    /// Where each parameter of a decoder without vocabulary head is stored, under `prefix`.
    pub fn trunk_bindings(&self, config: &DecoderConfig, prefix: &str) -> Vec<Binding> {
        let mut bindings = (self.bindings)(config);
        for parameter in bindings.iter_mut().flat_map(|binding| &mut binding.parameters) {
            parameter.insert_str(0, prefix);
        }
        bindings
    }

    /// Whether a tensor may stand in a file and hold nothing we need.
    pub fn ignores(&self, config: &DecoderConfig, name: &str) -> bool {
        (self.ignored)(name) || (config.tied_embeddings && name == self.head)
    }

    /// The name of a tensor with the prefix that some files leave out, and without those that
    /// wrappers of modules put in.
    pub fn full_name(&self, name: String) -> String {
        let plain = without_wrappers(&name);
        let mut name = plain.as_str();
        let is_of_head = |name: &str| {
            [self.head, SCORE].iter().any(|head| {
                let module = head.strip_suffix("weight").unwrap_or(head); // `lm_head.`
                name.starts_with(module)
            })
        };
        let is_full = |name: &str| name.starts_with(self.optional_prefix) || is_of_head(name);
        // A module that holds the whole model is often called `model`.
        while let Some(inner) = name.strip_prefix("model.").filter(|inner| is_full(inner)) {
            name = inner;
        }
        if is_full(name) { name.to_owned() } else { format!("{}{name}", self.optional_prefix) }
    }
}
