//! What every command shares: its general options, its device, its settings.

use std::path::PathBuf;

use burn::tensor::Device;
use clap::{Args, ValueEnum};
use exalign::config::{Settings, Sources, Stage};
use exalign::data::rows::set_max_row_bytes;
use exalign::{Error, Result, device};

use crate::watch::{WatchFlags, Watching};

/// Options of every command.
#[derive(Args, Clone, Debug, Default)]
pub struct Global {
    /// The device to compute on: flex, tch, wgpu, vulkan, metal, cuda, rocm (`:1` is the second one), or
    /// remote:HOST:PORT; several, with commas between, train together [default: the fastest that is
    /// compiled in and present]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Global options")]
    pub device: Option<String>,
    /// A TOML file with settings, which override the defaults
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// One setting that the command reads; overrides file and environment (EXALIGN_SECTION__KEY);
    /// repeatable
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", help_heading = "Global options")]
    pub set: Vec<String>,
    /// Seed of everything random
    #[arg(long, global = true, help_heading = "Global options")]
    pub seed: Option<u64>,
    /// data.skip_bad: bad records to skip and list; one more is an error
    #[arg(long, global = true, value_name = "N", help_heading = "Global options")]
    pub skip_bad: Option<usize>,
    /// Format of the logs on standard error
    #[arg(long, global = true, value_enum, default_value_t, help_heading = "Global options")]
    pub log_format: LogFormat,
    /// Less on standard error; twice: errors only
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub quiet: u8,
    /// More on standard error; twice: everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
    /// Colours in the terminal
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        help_heading = "Global options"
    )]
    pub color: Color,
}

impl Global {
    /// Refuses settings for a command that has none, so that no setting is ignored silently.
    pub fn refuse_settings(&self, command: &str) -> Result<()> {
        let given = [
            ("--config", self.config.is_some()),
            ("--set", !self.set.is_empty()),
            ("--seed", self.seed.is_some()),
            ("--skip-bad", self.skip_bad.is_some()),
        ];
        match given.iter().find(|it| it.1) {
            Some((flag, _)) => Err(Error::usage(format!(
                "{flag}: `exalign {command}` has no settings; see `exalign {command} --help` for what it takes, and \
                 leave {flag} out"
            ))),
            None => Ok(()),
        }
    }
}

/// The spelling of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// In a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The devices that a command computes on.
#[derive(Clone, Debug)]
pub struct Context {
    /// The device of everything but the further gradients.
    pub device: Device,
    /// Further devices, which compute gradients alone.
    others: Vec<Device>,
    /// The names of the devices.
    pub device_name: String,
    /// Where trainings show their figures.
    pub watching: Watching,
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
        let watching = Watching::default();
        Ok(Self { device, others: devices.collect(), device_name, watching })
    }

    /// As it is, with trainings that show their figures as the options say; `run` is the folder of a run of
    /// several trainings.
    ///
    /// # Errors
    /// If a screen is asked for, and there is no terminal for it.
    pub fn watched(self, flags: WatchFlags, run: Option<PathBuf>) -> Result<Self> {
        Ok(Self { watching: Watching::new(flags, run)?, ..self })
    }

    /// All devices, that of everything else than gradients first.
    pub fn devices(&self) -> Vec<Device> {
        std::iter::once(&self.device).chain(&self.others).cloned().collect()
    }
}

/// The settings of a stage started as a command; `flags` are options that stand for settings.
pub fn settings<T: Settings>(
    global: &Global,
    stage: Stage,
    flags: Vec<(&str, Option<String>)>,
) -> Result<T> {
    let mut given: Vec<(String, String)> =
        flags.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect();
    let of_all = [
        ("seed", global.seed.map(|seed| seed.to_string())),
        ("data.skip_bad", global.skip_bad.map(|count| count.to_string())),
    ];
    given.extend(of_all.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))));
    let sources = sources(global, given);
    let settings = T::load(stage, &sources)?;
    // An audit is given the settings of any training.
    if stage != Stage::Check {
        settings.refuse_unread(&sources)?;
    }
    settings.max_row_bytes().into_iter().for_each(set_max_row_bytes);
    Ok(settings)
}

/// Where settings come from; `flags` are options that stand for settings, as key and value.
pub fn sources(global: &Global, flags: Vec<(String, String)>) -> Sources {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    Sources { file: global.config.clone(), environment, set: global.set.clone(), flags }
}
