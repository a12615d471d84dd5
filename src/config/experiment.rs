//! The settings of an experiment: a preset whose sections overlay each stage's defaults.
//!
//! `[sft.training]` in a preset (or `--set sft.training.epochs=2`) is `[training]` for the stage
//! `sft`; sections that are no stage's belong to the experiment itself.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::settings::{Config, Stage};
use super::sources::{Sources, merge, parse_toml};
use crate::{Error, Result};

/// An experiment's preset with everything that was set over it.
#[derive(Clone, Debug)]
pub struct ExperimentConfig {
    table: Table,
}

impl ExperimentConfig {
    /// The preset `text` for an experiment with the given stages, all sources over it.
    ///
    /// # Errors
    /// An unknown key, or a value that does not fit; the message names the source.
    pub fn load(text: &str, stages: &[(&str, Stage)], sources: &Sources) -> Result<Self> {
        let preset = parse_toml("the preset", text)?;
        let mut defaults = Table::new();
        for (name, stage) in stages {
            let mut own = stage.defaults()?;
            own.remove("seed");
            defaults.insert((*name).to_owned(), Value::Table(own));
        }
        merge(&mut defaults, preset);
        let table = sources.resolve(defaults, "")?;
        let config = Self { table };
        for (name, _) in stages {
            config.stage(name)?;
        }
        Ok(config)
    }

    /// The settings of the stage called `name`.
    ///
    /// # Errors
    /// If a value is out of its range.
    pub fn stage(&self, name: &str) -> Result<Config> {
        let mut table = self.table.get(name).and_then(Value::as_table).cloned().unwrap_or_default();
        table.insert("seed".to_owned(), Value::Integer(self.seed() as i64));
        let config: Config =
            table.try_into().map_err(|error: toml::de::Error| Error::usage(format!("{name}: {}", error.message())))?;
        config.validate().map_err(|error| Error::usage(format!("{name}.{error}")))?;
        Ok(config)
    }

    /// A section of the experiment's own.
    ///
    /// # Errors
    /// If it does not fit `T`.
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let value = self.table.get(name).cloned().unwrap_or(Value::Table(Table::new()));
        value.try_into().map_err(|error: toml::de::Error| Error::usage(format!("{name}: {}", error.message())))
    }

    /// The seed of the whole run.
    pub fn seed(&self) -> u64 {
        self.table.get("seed").and_then(Value::as_integer).unwrap_or(0) as u64
    }

    /// All settings.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!(self.table)
    }
}
