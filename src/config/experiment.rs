//! The settings of an experiment: a preset whose sections override the defaults of each stage.
//!
//! `[sft.training]` in a preset (or `--set sft.training.epochs=2`) is `[training]` of the stage `sft`.
//! Sections that belong to no stage are the experiment's own.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::settings::{Settings, Stage};
use super::sources::{Known, Origin, Sources, check, merge, parse_toml, typed};
use crate::Result;

/// An experiment's preset with everything that was set over it.
#[derive(Clone, Debug)]
pub struct ExperimentConfig {
    table: Table,
}

impl ExperimentConfig {
    /// The presets `texts`, each over the one before, for an experiment with the given stages; all
    /// sources over them.
    ///
    /// # Errors
    /// An unknown key, or a value that does not fit; the message names the source.
    pub fn load(texts: &[&str], stages: &[(&str, Stage)], sources: &Sources) -> Result<Self> {
        let mut defaults = Table::new();
        for text in texts {
            merge(&mut defaults, parse_toml("the preset", text)?);
        }
        for (name, stage) in stages {
            // The run has one seed.
            let mut own = stage.defaults()?;
            own.remove("seed");
            if let Some(over) = defaults.remove(*name) {
                let mut over = Table::from_iter([((*name).to_owned(), over)]);
                let known = Table::from_iter([((*name).to_owned(), Value::Table(own.clone()))]);
                check(&Origin::File("the preset".to_owned()), &known, &mut over)?;
                if let Some(Value::Table(over)) = over.remove(*name) {
                    merge(&mut own, over);
                }
            }
            defaults.insert((*name).to_owned(), Value::Table(own));
        }
        defaults.entry("seed").or_insert(Value::Integer(0));
        let known = Known { defaults: &defaults, all: &defaults, reader: "run" };
        let resolved = sources.resolve(&known)?;
        let config = Self { table: resolved.table.clone() };
        for (name, stage) in stages {
            if let Some((key, message)) = stage.violation(config.of(name))? {
                return Err(resolved.complain(&format!("{name}.{key}"), &message));
            }
        }
        Ok(config)
    }

    /// The settings of the stage called `name`.
    ///
    /// # Errors
    /// If there is no such stage.
    pub fn stage<T: Settings>(&self, name: &str) -> Result<T> {
        typed(name, self.of(name))
    }

    /// The settings of a stage, with the run's seed.
    fn of(&self, name: &str) -> Table {
        let mut table = self.table.get(name).and_then(Value::as_table).cloned().unwrap_or_default();
        table.insert("seed".to_owned(), Value::Integer(self.seed() as i64));
        table
    }

    /// The same for one repetition: with its seed, and `date` as the day that chat templates take for
    /// today, for the stages that have no other.
    pub fn of_repetition(&self, seed: u64, date: &str) -> Self {
        let mut table = self.table.clone();
        table.insert("seed".to_owned(), Value::Integer(seed as i64));
        let stages = table.iter_mut().filter_map(|(_, value)| value.as_table_mut());
        let chats = stages.filter_map(|stage| stage.get_mut("chat")?.as_table_mut());
        for chat in chats.filter(|chat| chat["date"].as_str() == Some("")) {
            chat.insert("date".to_owned(), Value::String(date.to_owned()));
        }
        Self { table }
    }

    /// A section of the experiment's own.
    ///
    /// # Errors
    /// If it does not fit `T`.
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        typed(name, self.table.get(name).and_then(Value::as_table).cloned().unwrap_or_default())
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
