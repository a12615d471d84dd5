//! Sources of settings. Every key must be known, and its value must have the type of the default.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::choices::{choices, is_allowed};
use crate::{Error, Result};

const PREFIX: &str = "EXALIGN_";

/// The sources of settings. Each source overrides the ones before it, and all override the defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config FILE`, TOML.
    pub file: Option<PathBuf>,
    /// Environment variables; those called `EXALIGN_SECTION__KEY`, with two underscores, are settings.
    pub environment: Vec<(String, String)>,
    /// `--set key=value`; a value that is not TOML is a string.
    pub set: Vec<String>,
    /// Options of a command that stand for settings, as key and value.
    pub flags: Vec<(String, String)>,
}

impl Sources {
    /// The defaults, overridden by all sources.
    ///
    /// # Errors
    /// A key that does not exist or that is set for a command that does not read it, or a value that is
    /// not of its default's type.
    pub(super) fn resolve(&self, known: &Known<'_>) -> Result<Resolved> {
        let mut builder = config::Config::builder().add_source(source(known.defaults)?);
        let mut origins = BTreeMap::new();
        for (origin, mut table) in self.tables(known.all)? {
            check(&origin, known.all, &mut table)?;
            known.leave_out_unread(&origin, &mut table)?;
            for key in keys(&table) {
                origins.insert(key, origin.clone());
            }
            builder = builder.add_source(source(&table)?);
        }
        let table = builder.build().and_then(config::Config::try_deserialize).map_err(internal)?;
        Ok(Resolved { table, origins })
    }

    /// Refuses a setting that is given to this command alone, by `--set` or an option, and that has no effect:
    /// `unread` says why not, and the way out. Files and the environment may have settings for several
    /// commands.
    ///
    /// # Errors
    /// The first such setting.
    pub fn refuse(&self, unread: impl Fn(&str) -> Option<String>) -> Result<()> {
        self.complaints(unread)?.next().map_or(Ok(()), Err)
    }

    /// Warns of every such setting.
    ///
    /// # Errors
    /// If a setting cannot be read.
    pub fn tell(&self, unread: impl Fn(&str) -> Option<String>) -> Result<()> {
        self.complaints(unread)?.for_each(|complaint| tracing::warn!("{complaint}"));
        Ok(())
    }

    fn complaints(
        &self,
        unread: impl Fn(&str) -> Option<String>,
    ) -> Result<impl Iterator<Item = Error>> {
        let given = self.given()?.into_iter();
        let given = given.flat_map(|(origin, table)| {
            keys(&table).into_iter().map(move |key| (origin.clone(), key))
        });
        Ok(given.filter_map(move |(origin, key)| {
            unread(&key).map(|message| origin.complain(&key, &message))
        }))
    }

    fn tables(&self, defaults: &Table) -> Result<Vec<(Origin, Table)>> {
        let mut tables = Vec::new();
        if let Some(file) = &self.file {
            let text = std::fs::read_to_string(file).map_err(Error::io(file, "read"))?;
            let name = file.display().to_string();
            let table = parse_toml(&name, &text)?;
            tables.push((Origin::File(name), table));
        }
        let known = keys(defaults);
        for (name, value) in &self.environment {
            let Some(key) = name.strip_prefix(PREFIX).map(str::to_lowercase) else { continue };
            // A single underscore is no setting: EXALIGN_DATA.
            let meant = known.iter().find(|it| !key.contains("__") && it.replace('.', "_") == key);
            if let Some(meant) = meant.filter(|it| it.contains('.')) {
                return Err(Error::usage(format!(
                    "`{name}`: expected two underscores between a section and its key, found one; write \
                     {PREFIX}{}",
                    meant.to_uppercase().replace('.', "__")
                )));
            }
            if key.contains("__") || meant.is_some() {
                let key = key.replace("__", ".");
                let origin = Origin::Variable(name.clone());
                let table = single(&key, value)?;
                tables.push((origin, table));
            }
        }
        tables.extend(self.given()?);
        Ok(tables)
    }

    /// The settings that are given to this command alone, by `--set` and by its options.
    fn given(&self) -> Result<Vec<(Origin, Table)>> {
        let mut tables = Vec::new();
        for pair in &self.set {
            let (key, value) = pair.split_once('=').ok_or_else(|| {
                Error::usage(format!(
                    "`--set {pair}`: expected key=value, for example training.epochs=2"
                ))
            })?;
            let key = key.trim();
            let origin = Origin::Set(key.to_owned());
            let table = single(key, value.trim())?;
            tables.push((origin, table));
        }
        for (key, value) in &self.flags {
            let option = match key.as_str() {
                "objective.name" => "objective".to_owned(),
                "model.path" => "model".to_owned(),
                "data.path" => "data".to_owned(),
                "adapter.rank" => "lora-rank".to_owned(),
                "adapter.alpha" => "lora-alpha".to_owned(),
                "adapter.target_modules" => "lora-targets".to_owned(),
                key => key.rsplit('.').next().unwrap_or(key).replace('_', "-"),
            };
            let origin = Origin::Option(format!("--{option}"));
            let table = single(key, value)?;
            tables.push((origin, table));
        }
        Ok(tables)
    }
}

/// The settings that are known where sources are read.
pub(super) struct Known<'a> {
    /// The settings that the reader reads, with its defaults.
    pub(super) defaults: &'a Table,
    /// The settings of all commands: a file or the environment may have settings for several of them.
    pub(super) all: &'a Table,
    /// The command that reads.
    pub(super) reader: &'a str,
}

impl Known<'_> {
    /// Removes settings that only other commands read. A setting given to this command alone, by `--set` or
    /// an option, must be one that it reads.
    fn leave_out_unread(&self, origin: &Origin, table: &mut Table) -> Result<()> {
        for key in keys(table) {
            if lookup(self.defaults, &key).is_some() || free_form(self.defaults, &key).is_some() {
                continue;
            }
            // Every command takes a seed, and some have nothing to draw.
            if matches!(origin, Origin::Set(_)) && key != "seed" {
                let message = format!(
                    "expected a setting that `exalign {}` reads, found one that it does not; leave it out",
                    self.reader
                );
                return Err(origin.complain(&key, &message));
            }
            tracing::debug!("`{key}` is not read by `exalign {}`", self.reader);
            remove(table, &key);
        }
        Ok(())
    }
}

/// The source of a setting's value, as errors name it.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    File(String),
    Variable(String),
    /// `--set` of this key.
    Set(String),
    /// An option of the command line, its value left out.
    Option(String),
}

impl Origin {
    /// The error for a wrong value of `key`.
    pub(super) fn complain(&self, key: &str, message: &str) -> Error {
        Error::usage(match self {
            Self::File(name) => format!("{name}: `{key}`: {message}"),
            Self::Set(key) => format!("`--set {key}`: {message}"),
            Self::Variable(name) | Self::Option(name) => format!("`{name}`: {message}"),
        })
    }

    fn unknown(&self, key: &str, known: &BTreeSet<String>) -> Error {
        let advice = advice(key, known, |key| match self {
            Self::Variable(_) => format!("{PREFIX}{}", key.to_uppercase().replace('.', "__")),
            Self::File(_) | Self::Set(_) | Self::Option(_) => key.to_owned(),
        });
        Error::usage(match self {
            Self::File(name) => format!("{name}: unknown key `{key}`; {advice}"),
            Self::Set(key) => format!("`--set {key}`: unknown key; {advice}"),
            Self::Variable(name) | Self::Option(name) => format!("`{name}`: unknown key; {advice}"),
        })
    }
}

/// Settings from all sources, with the source of each value that is not the default.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) table: Table,
    origins: BTreeMap<String, Origin>,
}

impl Resolved {
    /// The error for a wrong value of `key`: `message` says what was expected and found.
    pub(super) fn complain(&self, key: &str, message: &str) -> Error {
        match self.origins.get(key) {
            Some(origin) => origin.complain(key, message),
            None => Error::usage(format!("`{key}`: {message}")),
        }
    }
}

/// `table` as a `T`. Its types have been checked, so that an error here is one of the defaults.
pub(super) fn typed<T: DeserializeOwned>(name: &str, table: Table) -> Result<T> {
    table
        .try_into()
        .map_err(|error: toml::de::Error| Error::usage(format!("{name}: {}", error.message())))
}

/// A table that holds one value under a dotted key. What is no TOML value, nor a number such as .2, nor an object
/// in JSON, is a string.
fn single(key: &str, value: &str) -> Result<Table> {
    /// Parts of a key; those that there are have three, and fields of the user's own a few more.
    const DEEPEST: usize = 32;
    let depth = key.split('.').count();
    if depth > DEEPEST {
        let begins: String = key.chars().take(40).collect();
        return Err(Error::usage(format!(
            "`{begins}…`: expected a key of at most {DEEPEST} parts, found {depth}"
        )));
    }
    let toml = |value: &str| {
        let table = format!("value = {value}").parse::<Table>().ok();
        table.and_then(|mut table| table.remove("value"))
    };
    let parsed = toml(value).or_else(|| toml(&with_zero(value)?));
    let object = || serde_json::from_str::<Table>(value).ok().map(Value::Table);
    let value = parsed.or_else(object).unwrap_or_else(|| Value::String(value.to_owned()));
    let (path, last) = key.rsplit_once('.').map_or((None, key), |(path, last)| (Some(path), last));
    let innermost = Table::from_iter([(last.to_owned(), value)]);
    let parts = path.into_iter().flat_map(|path| path.rsplit('.'));
    Ok(parts
        .fold(innermost, |inner, part| Table::from_iter([(part.to_owned(), Value::Table(inner))])))
}

/// A number that begins with its point, which TOML has not, with a zero before the point: 0.2 for .2.
fn with_zero(value: &str) -> Option<String> {
    let digits = value.trim_start_matches(['+', '-']);
    let sign = &value[..value.len() - digits.len()];
    let is_number =
        digits.strip_prefix('.').is_some_and(|it| it.starts_with(|c: char| c.is_ascii_digit()));
    is_number.then(|| format!("{sign}0{digits}"))
}

/// `text` as TOML; `origin` is what errors call it.
pub(super) fn parse_toml(origin: &str, text: &str) -> Result<Table> {
    text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        Error::usage(format!(
            "{origin}:{line}: expected TOML: {}",
            error.message().replace('\n', ", ")
        ))
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

/// Dotted keys of all values, and of sections without any.
fn keys(table: &Table) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (key, value) in table {
        match value {
            Value::Table(inner) if !inner.is_empty() => {
                all.extend(keys(inner).into_iter().map(|rest| format!("{key}.{rest}")));
            }
            _ => {
                all.insert(key.clone());
            }
        }
    }
    all
}

/// A suggestion for an unknown key; `spell` writes a key as its source does.
fn advice(key: &str, known: &BTreeSet<String>, spell: impl Fn(&str) -> String) -> String {
    if let Some((section, name)) = key.rsplit_once('.').filter(|_| known.contains(key)) {
        return format!("write `{name}` under `[{section}]`");
    }
    let below = format!("{key}.");
    if let Some(example) = known.iter().find(|known| known.starts_with(&below)) {
        return format!("it is a section; set its keys, for example `{}`", spell(example));
    }
    // The key of a stage without the stage.
    let suffix = format!(".{key}");
    if let Some(example) = known.iter().find(|known| known.ends_with(&suffix)) {
        return format!("put its section before it, for example `{}`", spell(example));
    }
    known
        .iter()
        .map(|candidate| {
            // The right name in the wrong section is nearer than a wrong one in the right section.
            let last = |key: &str| key.rsplit('.').next().map(str::to_owned);
            let distance = strsim::damerau_levenshtein(key, candidate);
            (last(key) != last(candidate), distance, candidate)
        })
        .min()
        .map_or("there are no keys".to_owned(), |(_, _, nearest)| {
            format!("did you mean `{}`?", spell(nearest))
        })
}

/// Refuses unknown keys and values of other types than their defaults'. A whole number may stand
/// for a number and becomes one, so that 1 and 1.0 are the same setting.
pub(super) fn check(origin: &Origin, defaults: &Table, given: &mut Table) -> Result<()> {
    let known = keys(defaults);
    let sections = known
        .iter()
        .filter_map(|key| key.rsplit_once('.'))
        .map(|(path, _)| path.to_owned())
        .collect();
    for key in keys(given) {
        if let Some(free) = free_form(defaults, &key) {
            free_value(origin, free, &key, given)?;
            continue;
        }
        // A quoted key with a dot in it is found nowhere, and unknown as well.
        let Some(value) = lookup_mut(given, &key) else {
            return Err(origin.unknown(&key, &known));
        };
        let Some(default) = lookup(defaults, &key) else {
            let empty_section = value.is_table();
            return Err(origin.unknown(&key, if empty_section { &sections } else { &known }));
        };
        match (default, &*value) {
            // A section with nothing in it.
            (Value::Table(_), Value::Table(_)) => continue,
            (Value::Table(_), _) => return Err(origin.unknown(&key, &known)),
            _ => {}
        }
        if is_date(&key) && value.is_datetime() {
            *value = Value::String(value.to_string().replace('T', " "));
        }
        if !fit(&key, default, value) {
            let message = format!("expected {}, found {value}", expected(&key, default));
            return Err(origin.complain(&key, &message));
        }
    }
    Ok(())
}

/// The table with keys of the user's own that a key names, or stands in.
fn free_form<'k>(defaults: &Table, key: &'k str) -> Option<&'k str> {
    const FREE: [&str; 4] =
        ["chat.template_kwargs", "judge.extra", "adapter.rank_pattern", "adapter.alpha_pattern"];
    let ends = key.match_indices('.').map(|(at, _)| at).chain([key.len()]);
    let is_free = |prefix: &&str| {
        let named = |name: &&str| {
            prefix.strip_suffix(*name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        FREE.iter().any(named) && lookup(defaults, prefix).is_some()
    };
    ends.map(|end| &key[..end]).find(is_free)
}

/// The word that may stand where a number does.
fn word_instead(key: &str) -> Option<&'static str> {
    const WORDS: [(&str, &str); 2] =
        [("judge.temperature", "none"), ("objective.kl_weight", "target")];
    let is_of = |name: &str| {
        key.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    WORDS.into_iter().find(|(name, _)| is_of(name)).map(|(_, word)| word)
}

/// Takes a table with keys of the user's own as it is, also where it is written as JSON.
fn free_value(origin: &Origin, table: &str, key: &str, given: &mut Table) -> Result<()> {
    let Some(value) = lookup_mut(given, table) else { return Ok(()) };
    if let Value::String(text) = value
        && let Ok(json @ serde_json::Value::Object(_)) = serde_json::from_str(text)
        && let Ok(parsed) = Value::try_from(json)
    {
        *value = parsed;
    }
    without_dates(value);
    if value.is_table() {
        return Ok(());
    }
    let message = format!("expected fields, such as {table}.name=value, found {value}");
    Err(origin.complain(key, &message))
}

/// Dates as texts, which is what a template takes.
fn without_dates(value: &mut Value) {
    match value {
        Value::Datetime(date) => *value = Value::String(date.to_string()),
        Value::Array(items) => items.iter_mut().for_each(without_dates),
        Value::Table(table) => table.iter_mut().for_each(|(_, value)| without_dates(value)),
        _ => {}
    }
}

/// A setting that is a day: TOML has them without quotes.
fn is_date(key: &str) -> bool {
    key == "chat.date" || key.ends_with(".chat.date")
}

/// Whether `value` may stand where `default` does; makes it a number where it is a whole one.
fn fit(key: &str, default: &Value, value: &mut Value) -> bool {
    let word_instead = word_instead(key);
    match (default, &mut *value) {
        (Value::String(_), Value::Float(_)) if word_instead.is_some() => true,
        (Value::String(_), &mut Value::Integer(whole)) if word_instead.is_some() => {
            *value = Value::Float(whole as f64);
            true
        }
        (Value::String(_) | Value::Float(_), Value::String(word)) if word_instead.is_some() => {
            word_instead == Some(word)
        }
        (Value::Float(_), &mut Value::Integer(whole)) => {
            *value = Value::Float(whole as f64);
            true
        }
        (Value::Integer(_), Value::Integer(whole)) => *whole >= 0,
        (Value::String(_), Value::String(word)) => is_allowed(key, word),
        // Lists of numbers have a fixed length, lists of words any.
        (Value::Array(defaults), Value::Array(values)) => {
            let fixed = matches!(defaults.first(), Some(Value::Float(_)));
            (!fixed || defaults.len() == values.len())
                && defaults
                    .first()
                    .is_none_or(|default| values.iter_mut().all(|value| fit("", default, value)))
        }
        (default, value) => default.same_type(value),
    }
}

fn expected(key: &str, default: &Value) -> String {
    if let Some(word) = word_instead(key) {
        return format!("a number, or \"{word}\"");
    }
    match default {
        Value::Integer(_) => "a whole number from 0".to_owned(),
        Value::Float(_) => "a number".to_owned(),
        Value::Boolean(_) => "true or false".to_owned(),
        Value::Array(items) if matches!(items.first(), Some(Value::Float(_))) => {
            format!("a list of {} numbers, such as {default}", items.len())
        }
        Value::Array(_) => format!("a list such as {default}"),
        _ => match choices(key) {
            Some(choices) => format!("one of {}", choices.join(", ")),
            None => "a string".to_owned(),
        },
    }
}

fn lookup<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((first, rest)) => lookup(table.get(first)?.as_table()?, rest),
    }
}

fn lookup_mut<'a>(table: &'a mut Table, key: &str) -> Option<&'a mut Value> {
    match key.split_once('.') {
        None => table.get_mut(key),
        Some((first, rest)) => lookup_mut(table.get_mut(first)?.as_table_mut()?, rest),
    }
}

/// Takes the value of a key away, and the sections that are empty then.
fn remove(table: &mut Table, key: &str) {
    let Some((first, rest)) = key.split_once('.') else {
        table.remove(key);
        return;
    };
    if let Some(Value::Table(inner)) = table.get_mut(first) {
        remove(inner, rest);
        if inner.is_empty() {
            table.remove(first);
        }
    }
}

fn source(table: &Table) -> Result<config::File<config::FileSourceString, config::FileFormat>> {
    let text = toml::to_string(table).map_err(internal)?;
    Ok(config::File::from_str(&text, config::FileFormat::Toml))
}

pub(super) fn internal(error: impl std::fmt::Display) -> Error {
    Error::usage(format!("the configuration: {error}"))
}
