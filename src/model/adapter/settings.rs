//! What `adapter_config.json` says, with the meaning that PEFT 0.21 gives it, or a refusal by the
//! setting's name.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{NOTES, pattern};
use crate::files::read_json;
use crate::{Error, Result};

/// How PEFT makes a whole model of an adapter that is not read here.
const MERGE: &str = "merge it with peft: PeftModel.from_pretrained(BASE, \
                     ADAPTER).merge_and_unload().save_pretrained(FOLDER), and give that folder";

/// Settings that change numbers in a way that is not read here, and what to do.
const NOT_READ: [(&str, &str); 9] = [
    ("layer_replication", "train an adapter of the model's own layers"),
    ("megatron_config", "train an adapter without Megatron"),
    ("target_parameters", MERGE),
    ("use_bdlora", MERGE),
    ("monteclora_config", MERGE),
    ("kasa_config", MERGE),
    ("use_qalora", "its base is quantised by GPTQ: train an adapter of the full-precision model"),
    ("arrow_config", "peft cannot merge it either: give one of the adapters it chooses among"),
    (
        "alora_invocation_tokens",
        "the adapter is switched on by tokens in the text, and peft cannot merge it either: train \
         one without it",
    ),
];

/// The settings of PEFT 0.21's LoRA that are used, or have no effect on numbers.
const KNOWN: [&str; 33] = [
    "task_type",
    "peft_type",
    NOTES,
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "r",
    "target_modules",
    "exclude_modules",
    "lora_alpha",
    "lora_dropout",
    "fan_in_fan_out",
    "bias",
    "use_rslora",
    "modules_to_save",
    "init_lora_weights",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "megatron_core",
    "trainable_token_indices",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "use_dora",
    "velora_config",
    "qalora_group_size",
    "runtime_config",
    "lora_bias",
    "ensure_weight_tying",
];

/// `adapter_config.json`.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    path: PathBuf,
    keys: Map<String, Value>,
}

/// A module of the model, as `target_modules` may take it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    /// Its name in the model's files.
    pub name: &'a str,
    /// Whether it is a linear layer other than the head.
    pub is_inner_linear: bool,
}

impl Settings {
    /// Reads `adapter_config.json`.
    ///
    /// # Errors
    /// If it is of a kind that is not supported.
    pub fn open(path: &Path) -> Result<Self> {
        let json: Value = read_json(path)?;
        let Value::Object(keys) = json else {
            return Err(Error::file(path, "expected a JSON object; this is no adapter's settings"));
        };
        let settings = Self { path: path.to_owned(), keys };
        settings.refuse()?;
        Ok(settings)
    }

    /// The value of a key, unless it is null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    /// Whether a flag is there and true.
    pub fn is_set(&self, key: &str) -> bool {
        self.get(key) == Some(&Value::Bool(true))
    }

    /// An error about a setting.
    pub fn error(&self, key: &str, message: impl std::fmt::Display) -> Error {
        Error::file(&self.path, format!("`{key}`: {message}"))
    }

    /// An error about a setting that is not supported, with peft's way out.
    pub fn not_read(&self, key: &str, what: &str) -> Error {
        self.error(key, format!("{what}; {MERGE}"))
    }

    fn refuse(&self) -> Result<()> {
        match self.get("peft_type") {
            None => {}
            Some(Value::String(kind)) if kind == "LORA" => {}
            Some(found) => {
                let what =
                    format!("{found} is not supported, only \"LORA\"; where peft can, {MERGE}");
                return Err(self.error("peft_type", what));
            }
        }
        for (key, way_out) in NOT_READ {
            if let Some(found) = self.get(key).filter(|it| is_given(it)) {
                return Err(self.error(key, format!("{found} is not supported; {way_out}")));
            }
        }
        if self.is_set("use_dora") && self.is_set("lora_bias") {
            return Err(self.error("lora_bias", "is not supported together with use_dora"));
        }
        self.refuse_initialization()?;
        let unknown: Vec<&str> = self
            .keys
            .iter()
            .filter(|(key, value)| !KNOWN.contains(&key.as_str()) && is_given(value))
            .map(|(key, _)| key.as_str())
            .filter(|key| !NOT_READ.iter().any(|(known, _)| known == key))
            .collect();
        if !unknown.is_empty() {
            tracing::warn!(
                "{}: peft 0.21 has no setting {}; as it does, it is passed over",
                self.path.display(),
                unknown.join(", ")
            );
        }
        Ok(())
    }

    /// Initialisations that change the base's weights make the adapter's numbers those of another
    /// base.
    fn refuse_initialization(&self) -> Result<()> {
        const KEY: &str = "init_lora_weights";
        let Some(Value::String(name)) = self.get(KEY) else { return Ok(()) };
        let lower = name.to_lowercase();
        let is_one_of = |names: &[&str]| names.iter().any(|it| lower.starts_with(it));
        if is_one_of(&["pissa", "olora", "corda", "lora_ga"]) {
            return Err(self.error(
                KEY,
                format!(
                    "`{name}` changes the base's weights before training, so the factors do not fit \
                     the base as it is published; convert them with peft: save_pretrained(FOLDER, \
                     path_initial_model_for_weight_conversion=INITIAL), INITIAL being the adapter as \
                     it was saved before training, or {MERGE}"
                ),
            ));
        }
        if is_one_of(&["loftq"]) {
            return Err(self.error(
                KEY,
                "`loftq` belongs to a base that LoftQ quantised; give base_model_name_or_path the \
                 base that was saved with it, and set init_lora_weights to true",
            ));
        }
        if !is_one_of(&["gaussian", "eva", "orthogonal", "mica"]) {
            return Err(self.error(
                KEY,
                format!(
                    "`{name}` is not supported, only true, false, gaussian, eva, orthogonal and mica, \
                     which leave the base as it is; {MERGE}"
                ),
            ));
        }
        Ok(())
    }

    /// The rank of a module's factors.
    ///
    /// # Errors
    /// If it is no positive number, or a key of `rank_pattern` no regular expression.
    pub fn rank(&self, module: &str) -> Result<usize> {
        let (key, rank) = self.patterned("rank_pattern", "r", module)?;
        match rank.map_or(Some(8), Value::as_u64).filter(|&rank| rank > 0) {
            Some(rank) => Ok(rank as usize),
            None => {
                Err(self.error(key, format!("expected a positive number, found {}", shown(rank))))
            }
        }
    }

    /// What the product of a module's factors counts.
    ///
    /// # Errors
    /// If alpha is no number, or a key of `alpha_pattern` no regular expression.
    pub fn scale(&self, module: &str) -> Result<f64> {
        let (key, alpha) = self.patterned("alpha_pattern", "lora_alpha", module)?;
        let Some(alpha) = alpha.map_or(Some(8.0), Value::as_f64) else {
            return Err(self.error(key, format!("expected a number, found {}", shown(alpha))));
        };
        let rank = self.rank(module)? as f64;
        Ok(alpha / if self.is_set("use_rslora") { rank.sqrt() } else { rank })
    }

    /// The value of the first pattern that takes a module, else that of `key`; and where it stands.
    fn patterned(
        &self,
        patterns: &'static str,
        key: &'static str,
        module: &str,
    ) -> Result<(&'static str, Option<&Value>)> {
        for (expression, value) in
            self.get(patterns).and_then(Value::as_object).into_iter().flatten()
        {
            let takes = pattern::takes(expression, module)
                .map_err(|error| self.no_expression(patterns, expression, &error))?;
            if takes {
                return Ok((patterns, Some(value)));
            }
        }
        Ok((key, self.get(key)))
    }

    fn no_expression(&self, key: &str, expression: &str, error: &str) -> Error {
        let error = error.lines().last().unwrap_or_default();
        self.error(
            key,
            format!(
                "expected a regular expression, found `{expression}`, which cannot be read: {error}"
            ),
        )
    }

    /// The names in a setting that is a list of them; none if it is a text, or missing.
    pub fn names(&self, key: &str) -> Vec<&str> {
        let list = self.get(key).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Whether PEFT puts factors beside a module.
    ///
    /// # Errors
    /// If a setting is no regular expression.
    pub fn targets(&self, module: Candidate) -> Result<bool> {
        if self.is_excluded(module.name)? {
            return Ok(false);
        }
        let ends = |names: &[&str]| names.iter().any(|it| is_end_of(module.name, it));
        match self.get("target_modules") {
            // What PEFT takes for the model types that it knows.
            None => Ok(ends(&["q_proj", "v_proj", "c_attn", "query_key_value"])),
            Some(Value::String(all)) if all.to_lowercase() == "all-linear" => {
                Ok(module.is_inner_linear)
            }
            Some(Value::String(expression)) => pattern::is_full_match(expression, module.name)
                .map_err(|error| self.no_expression("target_modules", expression, &error)),
            Some(_) => {
                let names = self.names("target_modules");
                Ok(names.contains(&module.name)
                    || (ends(&names) && self.is_in_layers(module.name)?))
            }
        }
    }

    fn is_excluded(&self, module: &str) -> Result<bool> {
        let excluded = match self.get("exclude_modules") {
            Some(Value::String(expression)) => pattern::is_full_match(expression, module)
                .map_err(|error| self.no_expression("exclude_modules", expression, &error))?,
            _ => self.names("exclude_modules").iter().any(|it| is_end_of(module, it)),
        };
        if excluded {
            return Ok(true);
        }
        for saved in self.names("modules_to_save") {
            let is_part = pattern::is_match(&format!(r"(^|.*\.){saved}($|\..*)"), module)
                .map_err(|error| self.no_expression("modules_to_save", saved, &error))?;
            if is_part {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_in_layers(&self, module: &str) -> Result<bool> {
        let wanted: Vec<u64> = match self.get("layers_to_transform") {
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_u64).collect(),
            Some(one) => one.as_u64().into_iter().collect(),
            None => Vec::new(),
        };
        if wanted.is_empty() {
            return Ok(true);
        }
        let layer = |expression: Option<&str>| {
            pattern::layer(expression, module).map_err(|error| {
                self.no_expression("layers_pattern", expression.unwrap_or_default(), &error)
            })
        };
        let patterns = match self.get("layers_pattern") {
            Some(Value::String(one)) if !one.is_empty() => vec![one.as_str()],
            _ => self.names("layers_pattern"),
        };
        let mut found = None;
        if patterns.is_empty() {
            found = layer(None)?;
        }
        for expression in patterns {
            found = found.or(layer(Some(expression))?);
        }
        Ok(found.is_some_and(|layer| wanted.contains(&(layer as u64))))
    }

    /// Whether `modules_to_save` names a module or one that it is part of.
    pub fn saves(&self, module: &str) -> bool {
        let names = self.names("modules_to_save");
        let ends = module.match_indices('.').map(|(at, _)| at).chain([module.len()]);
        let mut wholes = ends.map(|end| &module[..end]);
        wholes.any(|whole| names.iter().any(|name| whole.ends_with(name)))
    }

    /// The rows of an embedding that the adapter holds.
    ///
    /// # Errors
    /// If they are no list of token ids.
    pub fn token_indices(&self, module: &str) -> Result<Vec<usize>> {
        const KEY: &str = "trainable_token_indices";
        let list = match self.get(KEY) {
            Some(Value::Object(by_module)) => by_module
                .iter()
                .find(|(name, _)| is_end_of(module, name))
                .map(|(_, indices)| indices),
            other => other,
        };
        let indices: Option<Vec<usize>> = list
            .and_then(Value::as_array)
            .and_then(|list| list.iter().map(|it| it.as_u64().map(|it| it as usize)).collect());
        indices.ok_or_else(|| {
            self.error(KEY, format!("expected a list of token ids for `{module}`, found none"))
        })
    }
}

/// A value for messages.
fn shown(value: Option<&Value>) -> String {
    value.map_or("none".to_owned(), Value::to_string)
}

/// Whether a value asks for something.
fn is_given(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(keys) => !keys.is_empty(),
        Value::String(text) => !text.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

/// Whether `end` is `name`, or what follows a dot in it.
fn is_end_of(name: &str, end: &str) -> bool {
    name == end || name.strip_suffix(end).is_some_and(|rest| rest.ends_with('.'))
}
