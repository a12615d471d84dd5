//! `exalign run`: an experiment end to end, every stage kept and none done twice.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use exalign::config::{Config, ExperimentConfig, Sources};
use exalign::data::rows::set_max_row_bytes;
use exalign::data::{ChatTemplate, today};
use exalign::files::Output;
use exalign::model::ModelFolder;
use exalign::secrets::redact_json;
use exalign::{Error, Result, files};
use serde_json::{Value, json};

use crate::command_line::Global;
use crate::graph::Graph;
use crate::protocol;
use crate::record::{Record, changed_settings, or_start_over};
use crate::stages::{self, Context};
use crate::tasks::{TASKS, Task};
use crate::toy;

/// Options of `exalign run`.
#[derive(Args, Debug)]
#[command(
    after_help = "Other settings go into another --out; stages that they do not touch are taken from the \
                  earlier run. A sweep is a --config file with lists under [comparison], such as\n\n  \
                  [comparison]\n  objectives = [\"dpo-rw\", \"exo-rw\"]\n  beta_policy = [0.2, 0.5, 1.0]\n  \
                  completions = [2, 4, 8]\n  seeds = 5"
)]
pub struct RunArgs {
    /// Which experiment
    #[arg(value_enum)]
    experiment: Experiment,
    /// quick: embedded corpus, minutes; small: a real model and data, an hour; paper: its values
    #[arg(long, value_enum, default_value_t)]
    preset: Preset,
    /// Where everything goes [default: runs/EXPERIMENT-PRESET]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// The model to start from, a Hugging Face folder or hub id (small and paper) [or --set
    /// model.path]
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// The published data, files or folders as `exalign data` reads them (small and paper);
    /// repeatable [or --set data.path]
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Say which stages would run by what their records say, and why, and run none
    #[arg(long)]
    dry_run: bool,
    /// Start over where an earlier run left something, and take nothing from other runs
    #[arg(long)]
    fresh: bool,
}

/// The experiments of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Experiment {
    /// Film reviews continued with good sentiment.
    Sentiment,
    /// Forum posts summarized.
    Summarization,
    /// An assistant's reply in a conversation.
    Dialogue,
    /// Instructions followed by a chat model.
    Instruction,
    /// What EXO does differently, on distributions that can be listed; seconds.
    Toy,
}

impl Experiment {
    /// What is particular to it; the toy has no stages.
    fn task(self) -> Option<&'static dyn Task> {
        TASKS.get(self as usize).copied()
    }
}

/// How large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// Embedded corpus, a small model from nothing, minutes on two cores.
    #[default]
    Quick,
    /// A real model and real data, about an hour on two cores.
    Small,
    /// The paper's values.
    Paper,
}

impl Preset {
    /// Its name in paths and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Small => "small",
            Self::Paper => "paper",
        }
    }
}

/// Runs the command.
pub fn run(args: RunArgs, global: &Global) -> Result<()> {
    let Some(task) = args.experiment.task() else { return run_toy(args, global) };
    let mut flags = Vec::new();
    if let Some(model) = &args.model {
        flags.push(("model.path".to_owned(), json!(model.display().to_string()).to_string()));
    }
    if !args.data.is_empty() {
        let paths: Vec<String> = args.data.iter().map(|it| it.display().to_string()).collect();
        flags.push(("data.path".to_owned(), json!(paths).to_string()));
    }
    if let Some(seed) = global.seed {
        flags.push(("seed".to_owned(), seed.to_string()));
    }
    let config = ExperimentConfig::load(
        &[protocol::COMMON, task.preset(args.preset)],
        &protocol::STAGES,
        &Sources {
            file: global.config.clone(),
            environment: stages::environment(),
            set: global.set.clone(),
            flags,
        },
    )?;
    protocol::check(&config)?;
    let name = format!("{}-{}", task.name(), args.preset.name());
    let out = args.out.unwrap_or_else(|| Path::new("runs").join(&name));
    guard(&out, task, args.preset, &config, args.fresh, args.dry_run)?;
    let date = date(&out, &config)?;
    let graph = Graph::new(Context::for_training(global)?, out, name, args.dry_run, args.fresh);
    protocol::run(Run { task, preset: args.preset, config, date, graph })
}

/// The toy, which has neither models nor data nor sizes.
fn run_toy(args: RunArgs, global: &Global) -> Result<()> {
    let given = [
        ("--model", args.model.is_some()),
        ("--data", !args.data.is_empty()),
        ("--preset", args.preset != Preset::Quick),
        ("--config", global.config.is_some()),
        ("--set", !global.set.is_empty()),
    ];
    match given.iter().find(|it| it.1) {
        Some((flag, _)) => Err(Error::usage(format!(
            "{flag}: `run toy` has one size and no settings but --seed and --out; leave {flag} out"
        ))),
        None => toy::run(args.out, global, args.fresh, args.dry_run),
    }
}

/// A run of an experiment: its settings and its stages.
pub struct Run {
    pub task: &'static dyn Task,
    pub preset: Preset,
    pub config: ExperimentConfig,
    /// The day that the model's chat template takes for today; empty where it reads none.
    pub date: String,
    pub graph: Graph,
}

impl Run {
    /// The settings of a stage, with the seed of one repetition.
    pub fn settings(&self, stage: &str, seed: u64) -> Result<Config> {
        let mut config = Config { seed, ..self.config.stage(stage)? };
        if config.chat.date.is_empty() {
            config.chat.date = self.date.clone();
        }
        set_max_row_bytes(config.data.max_row_bytes);
        Ok(config)
    }
}

/// The day that the run in `out` began on, where the model's chat template reads it: a run that goes on
/// another day goes on as it began.
fn date(out: &Path, config: &ExperimentConfig) -> Result<String> {
    let model: crate::protocol::base::Model = config.section("model")?;
    if model.path.is_empty() {
        return Ok(String::new());
    }
    let folder = ModelFolder::open(Path::new(&model.path))?;
    let template = ChatTemplate::from_folder(folder.tokenizer_folder())?;
    if !template.is_some_and(|it| it.reads_date()) {
        return Ok(String::new());
    }
    let record = Record::within(out);
    let began = match record.exists() {
        true => files::read_sealed::<Value>(&record)?["date"].as_str().map(str::to_owned),
        false => None,
    };
    Ok(began.unwrap_or_else(today))
}

/// Refuses a folder that was made with other settings.
fn guard(
    out: &Path,
    task: &dyn Task,
    preset: Preset,
    config: &ExperimentConfig,
    fresh: bool,
    dry_run: bool,
) -> Result<()> {
    let path = Record::within(out);
    let settings = redact_json(config.to_json());
    let out = Output::resolve(out)?;
    let out = out.path();
    let command = format!("run {}", task.name());
    if fresh && out.exists() && !dry_run {
        if !path.exists() {
            return Err(Error::file(
                out,
                "--fresh: expected a folder of an earlier run, found no run.json; remove the folder yourself",
            ));
        }
        std::fs::remove_dir_all(out).map_err(Error::io(out, "remove"))?;
    }
    if !path.exists() {
        if dry_run {
            return Ok(());
        }
        files::create_dir(out)?;
        return files::write_sealed(
            &path,
            &json!({
                "command": command,
                "preset": preset.name(),
                "settings": settings,
                "exalign": env!("CARGO_PKG_VERSION"),
                "date": today(),
            }),
        );
    }
    let found: Value = files::read_sealed(&path).map_err(or_start_over)?;
    let mut differences = changed_settings(&settings, &found["settings"]);
    if found["command"] != command {
        differences.insert(
            0,
            format!("command: {} → {command}", found["command"].as_str().unwrap_or("?")),
        );
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{}: was made with other settings: {}. Use another --out (stages that these do not touch are taken \
         from here), or --fresh to start over",
        out.display(),
        differences.join("; ")
    )))
}
