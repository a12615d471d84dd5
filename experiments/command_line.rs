//! The command line: a contract that scripts depend on.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use exalign::{Error, Result};

use crate::stages;

/// Exact alignment of language models: EXO and DPO, from data to report.
#[derive(Debug, Parser)]
#[command(
    name = "exalign",
    version,
    max_term_width = 100,
    propagate_version = true,
    after_help = "Start here:\n  exalign run sentiment            the whole way on an embedded corpus, minutes on a laptop\n  exalign run sentiment --dry-run  what that would do\n\nExit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted (the same command continues)."
)]
pub struct CommandLine {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug, Default)]
pub struct Global {
    /// Where to compute: flex, tch, wgpu, vulkan, metal, cuda, rocm, with `:1` for the second;
    /// remote:HOST:PORT; several with commas train together [default: the fastest compiled in and
    /// present]
    #[arg(long, global = true, value_name = "NAME", help_heading = "Global options")]
    pub device: Option<String>,
    /// A TOML file with settings, over the defaults
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// One setting, over file and environment (EXALIGN_SECTION__KEY); repeatable
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", help_heading = "Global options")]
    pub set: Vec<String>,
    /// Seed of everything random
    #[arg(long, global = true, help_heading = "Global options")]
    pub seed: Option<u64>,
    /// data.skip_bad: bad records that are passed over and listed; one more is an error
    #[arg(long, global = true, value_name = "N", help_heading = "Global options")]
    pub skip_bad: Option<usize>,
    /// How logs are written to standard error
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
    /// Refuses settings for a command that has none, so that nobody believes they were heard.
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

impl Command {
    /// The name of a command that has no settings.
    pub fn without_settings(&self) -> Option<&'static str> {
        match self {
            Self::Loss(_) => Some("loss"),
            Self::Info(_) => Some("info"),
            Self::Merge(_) => Some("merge"),
            Self::MergeShards(_) => Some("merge-shards"),
            Self::Report(_) => Some("report"),
            #[cfg(feature = "remote")]
            Self::ServeDevice(_) => Some("serve-device"),
            _ => None,
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

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run an experiment end to end: data, fine-tuning, samples, labels, alignment, report
    Run(crate::run::RunArgs),
    /// Turn published sets into records
    Data(stages::data::DataArgs),
    /// Audit a file of records with a model
    Check(stages::check::CheckArgs),
    /// Fine-tune a model on demonstrations
    Sft(stages::sft::SftArgs),
    /// Train a reward model from pairs, or a classifier from labelled texts
    Reward(stages::reward::RewardArgs),
    /// Draw completions of prompts
    Sample(stages::sample::SampleArgs),
    /// Add rewards to groups
    Label(stages::label::LabelArgs),
    /// Turn groups with rewards into preference pairs
    Pairs(stages::pairs::PairsArgs),
    /// Align a model by EXO or DPO
    Align(stages::align::AlignArgs),
    /// Measure reward and KL of a policy, with intervals
    Evaluate(stages::evaluate::EvaluateArgs),
    /// Which of two answers is better: win rates by a reward model, an endpoint or people
    Judge(stages::judge::JudgeArgs),
    /// Log-probabilities of given completions
    Score(stages::score::ScoreArgs),
    /// An objective on given log-probs, in f64: loss and gradient
    Loss(stages::loss::LossArgs),
    /// Devices compiled in and found; a model's shape
    Info(stages::info::InfoArgs),
    /// Add a LoRA adapter into the weights of its base model
    Merge(stages::merge::MergeArgs),
    /// Serve a device of this machine to other processes
    #[cfg(feature = "remote")]
    ServeDevice(stages::serve_device::ServeDeviceArgs),
    /// Put the outputs of all shards of a stage together
    MergeShards(stages::merge_shards::MergeShardsArgs),
    /// The report of a run again, or of several side by side
    Report(stages::report::ReportArgs),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Command lines of the blocks in a page, continued lines joined and comments left out.
    fn commands(page: &str) -> Vec<String> {
        let blocks = page.split("```").skip(1).step_by(2).filter_map(|it| it.split_once('\n'));
        let shell = blocks.filter(|(kind, _)| ["", "sh"].contains(kind)).map(|(_, text)| text);
        shell
            .flat_map(|text| {
                text.replace("\\\n", " ").lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .map(|line| line.split('#').next().unwrap_or_default().to_owned())
            .map(|line| line.replace("cargo run --release -- ", "exalign "))
            .filter(|line| line.starts_with("exalign ") && !line.contains('…'))
            .collect()
    }

    #[test]
    fn every_command_in_the_documentation_is_one() {
        let pages = [
            include_str!("../README.md"),
            include_str!("../docs/devices.md"),
            include_str!("../docs/records.md"),
        ];
        let commands: Vec<String> = pages.into_iter().flat_map(commands).collect();
        assert!(commands.len() > 14, "{commands:?}");
        for command in commands {
            let words = command.split_whitespace();
            let parsed = CommandLine::try_parse_from(words);
            assert!(parsed.is_ok(), "{command}: {}", parsed.unwrap_err());
        }
    }
}
