//! The stages of an alignment, each a command of its own and a step of every experiment.
//!
//! A stage is a struct of what it reads, where it writes and its settings, with `run`. Commands
//! fill it from the command line, experiments from their presets.

pub mod align;
pub mod check;
pub mod data;
pub mod evaluate;
pub mod info;
pub mod judge;
pub mod label;
pub mod loss;
pub mod merge;
pub mod merge_shards;
pub mod pairs;
pub mod report;
pub mod reward;
pub mod sample;
pub mod score;
#[cfg(feature = "remote")]
pub mod serve_device;
pub mod sft;
pub mod training;

use std::io::Write;
use std::path::Path;

use burn::tensor::Device;
use comfy_table::{Table, TableComponent, presets};
use exalign::config::{Config, Sources, Stage};
use exalign::data::{ChatTemplate, Limits, Tokenizer, today};
use exalign::model::{ModelFolder, Precision};
use exalign::{Error, Result, device, files};
use serde::Serialize;
use serde_json::Value;

use crate::command_line::Global;
pub use crate::terminal::{print_line, print_text};

/// What every stage needs from around it.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where to compute.
    pub device: Device,
    /// Where else to compute gradients.
    others: Vec<Device>,
    /// What the devices are called.
    pub device_name: String,
}

impl Context {
    /// Opens the device that the command line names.
    pub fn new(global: &Global) -> Result<Self> {
        let context = Self::for_training(global)?;
        if !context.others.is_empty() {
            return Err(Error::usage(format!(
                "--device {}: expected one device, since only training runs on several together; start \
                 a process for each with its part of the records (--shard i/{})",
                context.device_name,
                1 + context.others.len()
            )));
        }
        Ok(context)
    }

    /// Opens the devices that the command line names; what is no training runs on the first.
    pub fn for_training(global: &Global) -> Result<Self> {
        let device_name = match &global.device {
            Some(named) => named.clone(),
            None => device::fastest()?,
        };
        let mut devices = device::open_all(&device_name)?.into_iter();
        let Some(device) = devices.next() else {
            return Err(Error::usage("--device: expected a name, found nothing"));
        };
        Ok(Self { device, others: devices.collect(), device_name })
    }

    /// Where to compute gradients, the device of everything else first.
    pub fn training_devices(&self) -> Vec<Device> {
        let all = std::iter::once(&self.device).chain(&self.others);
        all.map(|device| device.clone().autodiff()).collect()
    }
}

/// The configuration of a stage started as a command; `flags` are options that stand for settings.
pub fn configuration(
    global: &Global,
    stage: Stage,
    flags: Vec<(&str, Option<String>)>,
) -> Result<Config> {
    let mut given: Vec<(String, String)> =
        flags.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
    let of_all = [
        ("seed", global.seed.map(|it| it.to_string())),
        ("data.skip_bad", global.skip_bad.map(|it| it.to_string())),
    ];
    given.extend(of_all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    let config = Config::load(
        stage,
        &Sources {
            file: global.config.clone(),
            environment: environment(),
            set: global.set.clone(),
            flags: given,
        },
    )?;
    exalign::data::rows::set_max_row_bytes(config.data.max_row_bytes);
    Ok(config)
}

/// The environment's variables that are text.
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// The tokenizer of a model folder, its chat template as the settings say; none where the folder has
/// none.
pub fn tokenizer(folder: &ModelFolder, config: &Config) -> Result<Option<Tokenizer>> {
    let tokenizer = plain_tokenizer(folder)?.map(|it| it.with_chat(&config.chat)).transpose()?;
    for warning in tokenizer.iter().flat_map(Tokenizer::warnings) {
        tracing::warn!("{warning}");
    }
    Ok(tokenizer)
}

/// The settings with the day that chat templates take for today, where one of `folders` has a template
/// that reads it: the one that is set, the one that the output's record has from an earlier day, or
/// today's. So an output that is continued another day is what it would have been.
pub fn with_date(
    mut config: Config,
    folders: &[&ModelFolder],
    record: Option<&Path>,
) -> Result<Config> {
    if !config.chat.date.is_empty() {
        return Ok(config);
    }
    for folder in folders {
        let template = ChatTemplate::from_folder(folder.tokenizer_folder())?;
        if template.is_some_and(|it| it.reads_date()) {
            let kept = record.and_then(crate::record::date_in).filter(|it| !it.is_empty());
            config.chat.date = kept.unwrap_or_else(today);
            break;
        }
    }
    Ok(config)
}

/// The tokens that end a completion: the tokenizer's, or where there is none, those of the model's
/// settings.
pub fn end_of_text(folder: &ModelFolder, tokenizer: Option<&Tokenizer>) -> Vec<u32> {
    tokenizer.map_or(folder.shape.end_of_text.clone(), |it| it.all_end_of_text().to_vec())
}

/// The tokenizer of a model folder as it is; none where the folder has none.
pub fn plain_tokenizer(folder: &ModelFolder) -> Result<Option<Tokenizer>> {
    let path = folder.tokenizer_folder();
    if Tokenizer::is_at(path) {
        Tokenizer::from_folder(path, &folder.shape.end_of_text).map(Some)
    } else {
        Ok(None)
    }
}

/// The limits of the settings, within the model's positions.
pub fn limits(config: &Config, folder: &ModelFolder) -> Limits {
    let (max_length, max_prompt_length) = (config.data.max_length, config.data.max_prompt_length);
    Limits { max_length, max_prompt_length }.within(folder.shape.max_positions)
}

/// The precision that a flag names.
pub fn dtype(name: &str) -> std::result::Result<Precision, String> {
    serde_json::from_value(Value::from(name))
        .map_err(|_| format!("expected f32, bf16 or f16, found `{name}`"))
}

/// Writes records, one a line.
pub fn write_lines<T: Serialize>(path: &Path, records: impl IntoIterator<Item = T>) -> Result<()> {
    write_lines_as_made(path, |lines| records.into_iter().try_for_each(|it| lines.put(&it)))
}

/// Writes records while they are made, so that none has to stay in memory.
///
/// # Errors
/// Those of `make`, and if the file cannot be written; there is no file then.
pub fn write_lines_as_made<R>(
    path: &Path,
    make: impl FnOnce(&mut LineWriter) -> Result<R>,
) -> Result<R> {
    let mut made = None;
    let written = files::write_atomic(path, |writer| {
        let outcome = make(&mut LineWriter { path, writer });
        let is_whole = outcome.is_ok();
        made = Some(outcome);
        if is_whole { Ok(()) } else { Err(std::io::Error::other("the records end in an error")) }
    });
    match made {
        Some(outcome @ Err(_)) => outcome,
        Some(outcome) => written.and(outcome),
        None => written.and(Err(Error::Interrupted)),
    }
}

/// Where records go, one a line.
pub struct LineWriter<'a> {
    path: &'a Path,
    writer: &'a mut dyn Write,
}

impl LineWriter<'_> {
    /// Writes a record.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn put<T: Serialize>(&mut self, record: &T) -> Result<()> {
        let line = serde_json::to_string(record).map_err(std::io::Error::from);
        line.and_then(|line| writeln!(self.writer, "{line}")).map_err(Error::io(self.path, "write"))
    }
}

/// A table without lines between its rows.
pub fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    table.remove_style(TableComponent::HorizontalLines);
    table.remove_style(TableComponent::MiddleIntersections);
    table
}
