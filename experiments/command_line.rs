//! The command line. Scripts depend on it: names and meanings of options stay.

use clap::{Parser, Subcommand};

use crate::context::Global;
use crate::stages;

/// Exact alignment of language models: EXO and DPO, from data to report.
#[derive(Debug, Parser)]
#[command(
    name = "exalign",
    version,
    max_term_width = 100,
    propagate_version = true,
    after_help = "Start here:\n  exalign run sentiment            all stages on an embedded corpus, minutes on a laptop\n  exalign run sentiment --dry-run  the stages that would run\n\nExit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted (the same command continues)."
)]
pub struct CommandLine {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

impl Command {
    /// The name of a command that has no settings.
    pub fn without_settings(&self) -> Option<&'static str> {
        match self {
            Self::Info(_) => Some("info"),
            Self::Merge(_) => Some("merge"),
            Self::MergeShards(_) => Some("merge-shards"),
            Self::Plan(_) => Some("plan"),
            Self::Report(_) => Some("report"),
            #[cfg(feature = "remote")]
            Self::ServeDevice(_) => Some("serve-device"),
            _ => None,
        }
    }
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
    /// Add rewards to groups of completions
    Label(stages::label::LabelArgs),
    /// Turn groups with rewards into preference pairs
    Pairs(stages::pairs::PairsArgs),
    /// Align a model by EXO or DPO
    Align(Box<stages::align::AlignArgs>),
    /// Measure reward and KL of a policy, with intervals
    Evaluate(stages::evaluate::EvaluateArgs),
    /// Count how often one answer beats another, by a reward model, an endpoint or people's labels
    Judge(stages::judge::JudgeArgs),
    /// Compute log-probabilities of given completions
    Score(stages::score::ScoreArgs),
    /// Compute loss and gradient of an objective on given log-probs, in f64
    Loss(stages::loss::LossArgs),
    /// List the devices that are compiled in and found, or describe a model
    Info(stages::info::InfoArgs),
    /// Add a LoRA adapter into the weights of its base model
    Merge(stages::merge::MergeArgs),
    /// Serve a device of this machine to other processes
    #[cfg(feature = "remote")]
    ServeDevice(stages::serve_device::ServeDeviceArgs),
    /// Join the outputs of all shards of a stage
    MergeShards(stages::merge_shards::MergeShardsArgs),
    /// Write the report of a run again, or one report of several runs
    Report(stages::report::ReportArgs),
    /// Tell how many prompts, samples and seeds find a difference, by the spread of a finished run
    Plan(stages::plan::PlanArgs),
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
            include_str!("../docs/evaluation.md"),
            include_str!("../docs/memory.md"),
            include_str!("../docs/recipes.md"),
            include_str!("../docs/records.md"),
            include_str!("../docs/validation.md"),
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
