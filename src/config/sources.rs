//! Where settings come from, and that every one of them is known.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use crate::{Error, Result};

const PREFIX: &str = "EXALIGN_";

/// Settings over the defaults, each source over the one before it.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config FILE`, TOML.
    pub file: Option<PathBuf>,
    /// Environment variables; those called `EXALIGN_SECTION__KEY` are settings.
    pub environment: Vec<(String, String)>,
    /// `--set key=value`.
    pub set: Vec<String>,
    /// Options of a command that stand for settings, as key and value.
    pub flags: Vec<(String, String)>,
}

impl Sources {
    /// The defaults with all sources over them, as a `T`. `open` is a prefix under which any key
    /// may stand (none: every key must be among the defaults).
    pub(super) fn resolve<T: DeserializeOwned>(&self, defaults: Table, open: &str) -> Result<T> {
        let known = keys(&defaults);
        let mut builder = config::Config::builder().add_source(source(&defaults)?);
        for (origin, table) in self.tables()? {
            for key in keys(&table) {
                if !known.contains(&key) && (open.is_empty() || !key.starts_with(open)) {
                    return Err(Error::usage(format!("{origin}: unknown key `{key}`{}", nearest(&key, &known))));
                }
            }
            check_types(&origin, &defaults, &table)?;
            builder = builder.add_source(source(&table)?);
        }
        let config = builder.build().map_err(|error| Error::usage(format!("the configuration: {error}")))?;
        config.try_deserialize().map_err(|error| Error::usage(format!("the configuration: {error}")))
    }

    /// Every source as a table, with the name errors call it by.
    pub(super) fn tables(&self) -> Result<Vec<(String, Table)>> {
        let mut tables = Vec::new();
        if let Some(file) = &self.file {
            let text = std::fs::read_to_string(file).map_err(Error::io(file, "read"))?;
            tables.push((file.display().to_string(), parse_toml(&file.display().to_string(), &text)?));
        }
        for (name, value) in &self.environment {
            // A single underscore is no setting: EXALIGN_CACHE.
            if let Some(key) = name.strip_prefix(PREFIX).filter(|key| key.contains("__")) {
                let key = key.to_lowercase().replace("__", ".");
                tables.push((format!("environment variable {name}"), single(&key, value)));
            }
        }
        for pair in &self.set {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                Error::usage(format!("--set {pair}: expected key=value, for example training.epochs=2"))
            })?;
            tables.push((format!("--set {pair}"), single(key.trim(), value.trim())));
        }
        for (key, value) in &self.flags {
            let option = key.rsplit('.').next().unwrap_or(key).replace('_', "-");
            tables.push((format!("--{option} {value}"), single(key, value)));
        }
        Ok(tables)
    }
}

/// A table that holds one value under a dotted key. What is no TOML value is a string.
fn single(key: &str, value: &str) -> Table {
    let parsed = format!("value = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    let mut value = parsed.unwrap_or_else(|| Value::String(value.to_owned()));
    for part in key.rsplit('.') {
        value = Value::Table(Table::from_iter([(part.to_owned(), value)]));
    }
    match value {
        Value::Table(table) => table,
        _ => Table::new(),
    }
}

/// `text` as TOML; `origin` is what errors call it.
pub(super) fn parse_toml(origin: &str, text: &str) -> Result<Table> {
    text.parse().map_err(|error: toml::de::Error| {
        Error::usage(format!("{origin}: expected TOML: {}", error.to_string().replace('\n', " ")))
    })
}

/// `over`'s values in place of `table`'s.
pub(super) fn merge(table: &mut Table, over: Table) {
    for (key, value) in over {
        match (table.get_mut(&key), value) {
            (Some(Value::Table(inner)), Value::Table(over)) => merge(inner, over),
            (_, value) => {
                table.insert(key, value);
            }
        }
    }
}

/// Dotted keys of all values.
pub(super) fn keys(table: &Table) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) => all.extend(keys(inner).into_iter().map(|rest| format!("{key}.{rest}"))),
            _ => {
                all.insert(key.clone());
            }
        }
    }
    all
}

fn nearest(key: &str, known: &BTreeSet<String>) -> String {
    known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(key, candidate), candidate))
        .min()
        .map_or(String::new(), |(_, candidate)| format!("; did you mean `{candidate}`?"))
}

/// A value's type must be its default's; a whole number may stand for a fraction.
fn check_types(origin: &str, defaults: &Table, given: &Table) -> Result<()> {
    for key in keys(given) {
        let (Some(default), Some(value)) = (lookup(defaults, &key), lookup(given, &key)) else { continue };
        let fits = default.same_type(value) || (default.is_float() && value.is_integer());
        if !fits {
            return Err(Error::usage(format!(
                "{origin}: `{key}`: expected {}, found {value}",
                match default {
                    Value::Integer(_) => "a whole number",
                    Value::Float(_) => "a number",
                    Value::Boolean(_) => "true or false",
                    Value::Array(_) => "a list",
                    _ => "a string",
                }
            )));
        }
    }
    Ok(())
}

fn lookup<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let (first, rest) = match key.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (key, None),
    };
    let value = table.get(first)?;
    match rest {
        None => Some(value),
        Some(rest) => lookup(value.as_table()?, rest),
    }
}

fn source(table: &Table) -> Result<config::File<config::FileSourceString, config::FileFormat>> {
    let text = toml::to_string(table).map_err(|error| Error::usage(format!("the configuration: {error}")))?;
    Ok(config::File::from_str(&text, config::FileFormat::Toml))
}
