//! `exalign run`: an experiment end to end. Every stage is kept, and none runs twice.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use exalign::config::ExperimentConfig;
use exalign::data::today;
use exalign::files::Output;
use exalign::model::ModelFolder;
use exalign::tuning::reads_date;
use exalign::{Error, Result, files};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::context::{Context, Global, sources};
use crate::graph::Graph;
use crate::protocol::base::Model;
use crate::protocol::run::Run;
use crate::protocol::{self, settings};
use crate::record::{Made, Record, or_start_over};
use crate::tasks::{Preset, TASKS, Task, task};
use crate::toy;
use crate::watch::WatchFlags;

/// Options of `exalign run`.
#[derive(Args, Debug)]
#[command(
    after_help = "A run with other settings needs another --out; it copies the stages that have not changed from \
                  the earlier run. A sweep is a --config file with lists under [comparison], such as\n\n  \
                  [comparison]\n  objectives = [\"dpo-rw\", \"exo-rw\"]\n  beta_policy = [0.2, 0.5, 1.0]\n  \
                  completions = [2, 4, 8]\n  seeds = 5"
)]
pub struct RunArgs {
    /// The experiment
    #[arg(value_parser = experiment_parser())]
    experiment: Experiment,
    /// quick: embedded corpus, minutes; small: a real model and real data, an hour; paper: the paper's
    /// values
    #[arg(long, value_enum, default_value_t)]
    preset: Preset,
    /// Where everything goes [default: runs/EXPERIMENT-PRESET]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// The model to start from, a Hugging Face folder or hub id (small and paper) [or --set
    /// model.path]
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// The published data: files, folders or hub ids, as `exalign data` reads them (small and paper);
    /// repeatable [or --set data.path]
    #[arg(long, value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Say which stages would run, and why, but run none
    #[arg(long)]
    dry_run: bool,
    /// Start over instead of continuing an earlier run, and copy nothing from other runs
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    watch: WatchFlags,
}

/// An experiment: one of the paper's tasks, or the toy, which has no stages.
#[derive(Clone, Copy, Debug)]
enum Experiment {
    Task(&'static dyn Task),
    Toy,
}

/// The name of the toy.
const TOY: &str = "toy";

/// Reads the name of an experiment.
fn experiment_parser() -> impl TypedValueParser<Value = Experiment> {
    let tasks = TASKS.iter().map(|task| PossibleValue::new(task.name()).help(task.about()));
    let toy = PossibleValue::new(TOY)
        .help("What EXO does differently, on distributions that can be listed; seconds");
    PossibleValuesParser::new(tasks.chain([toy]))
        .map(|name| task(&name).map_or(Experiment::Toy, Experiment::Task))
}

/// Runs the command.
pub fn run(args: RunArgs, global: &Global) -> Result<()> {
    let Experiment::Task(task) = args.experiment else { return run_toy(args, global) };
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
    let sources = sources(global, flags);
    let presets = [settings::COMMON, task.preset(args.preset)];
    let config = ExperimentConfig::load(&presets, &settings::STAGES, &sources)?;
    settings::check(&config)?;
    settings::refuse_unread(&config, &sources)?;
    let name = format!("{}-{}", task.name(), args.preset.name());
    let out = args.out.unwrap_or_else(|| Path::new("runs").join(&name));
    guard(&out, task, args.preset, &config, args.fresh, args.dry_run)?;
    let date = date(&out, &config)?;
    let context = Context::for_training(global)?.watched(args.watch, Some(out.clone()))?;
    let graph = Graph::new(context, out, name, args.dry_run, args.fresh);
    protocol::run(Run { task, preset: args.preset, config, graph }, &date)
}

/// The toy, which has neither models nor data nor sizes.
fn run_toy(args: RunArgs, global: &Global) -> Result<()> {
    let given = [
        ("--model", args.model.is_some()),
        ("--data", !args.data.is_empty()),
        ("--preset", args.preset != Preset::Quick),
        ("--config", global.config.is_some()),
        ("--set", !global.set.is_empty()),
        ("--tensorboard", args.watch.tensorboard.is_some()),
        ("--tui", args.watch.tui),
    ];
    match given.iter().find(|it| it.1) {
        Some((flag, _)) => Err(Error::usage(format!(
            "{flag}: `run toy` has one size and no settings but --seed and --out; leave {flag} out"
        ))),
        None => toy::run(args.out, global, args.fresh, args.dry_run),
    }
}

/// The record of a whole run.
#[derive(Serialize, Deserialize)]
struct RunRecord {
    #[serde(flatten)]
    made: Made,
    preset: String,
    exalign: String,
    /// The day it began on.
    date: Option<String>,
}

/// The day that the run in `out` began on, where the model's chat template reads it: a run that goes on
/// another day goes on as it began.
fn date(out: &Path, config: &ExperimentConfig) -> Result<String> {
    let model: Model = config.section("model")?;
    if model.path.is_empty() || !reads_date(&ModelFolder::open(Path::new(&model.path))?)? {
        return Ok(String::new());
    }
    let record = Record::within(out);
    let began = match record.exists() {
        true => files::read_sealed::<RunRecord>(&record)?.date,
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
    let out = Output::resolve(out)?;
    let out = out.path();
    let made = Made::new(&format!("run {}", task.name()), config.to_json());
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
        let record = RunRecord {
            made,
            preset: preset.name().to_owned(),
            exalign: env!("CARGO_PKG_VERSION").to_owned(),
            date: Some(today()),
        };
        return files::write_sealed(&path, &record);
    }
    let found: RunRecord = files::read_sealed(&path).map_err(or_start_over)?;
    let differences = made.differences(&found.made);
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
