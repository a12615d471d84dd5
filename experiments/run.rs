//! `exalign run`: an experiment end to end, every stage kept and none done twice.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, ValueEnum};
use exalign::config::{Config, ExperimentConfig, Sources};
use exalign::report::StageCost;
use exalign::{Error, Result, files};
use serde_json::Value;

use crate::command_line::Global;
use crate::record::changed_settings;
use crate::sentiment;
use crate::stages::{self, Context};

/// Options of `exalign run`.
#[derive(Args, Debug)]
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
    /// The model to start from, a Hugging Face folder (small and paper) [or --set model.path]
    #[arg(long, value_name = "FOLDER")]
    model: Option<PathBuf>,
    /// The folder of the published data (small and paper): for sentiment IMDB's train.jsonl(.gz)
    /// and test.jsonl(.gz) with "text" and "label" [or --set data.path]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Say which stages would run, and run none
    #[arg(long)]
    dry_run: bool,
    /// Start over where an earlier run left something
    #[arg(long)]
    fresh: bool,
}

/// The experiments of the paper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Experiment {
    /// Film reviews continued with positive sentiment.
    Sentiment,
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
    let Experiment::Sentiment = args.experiment;
    let flag = |key: &str, value: &Option<PathBuf>| {
        value.as_ref().map(|path| (key.to_owned(), format!("{:?}", path.display().to_string())))
    };
    let mut flags: Vec<(String, String)> =
        [flag("model.path", &args.model), flag("data.path", &args.data)]
            .into_iter()
            .flatten()
            .collect();
    if let Some(seed) = global.seed {
        flags.push(("seed".to_owned(), seed.to_string()));
    }
    let config = ExperimentConfig::load(
        sentiment::preset(args.preset),
        &sentiment::STAGES,
        &Sources {
            file: global.config.clone(),
            environment: stages::environment(),
            set: global.set.clone(),
            flags,
        },
    )?;
    let out = args
        .out
        .unwrap_or_else(|| Path::new("runs").join(format!("sentiment-{}", args.preset.name())));
    let run = Run {
        context: Context::new(global)?,
        out,
        preset: args.preset,
        config,
        dry_run: args.dry_run,
        costs: Vec::new(),
    };
    run.guard(args.fresh)?;
    sentiment::run(run)
}

/// A run of an experiment: where it is kept, its settings, and what its stages cost.
pub struct Run {
    pub context: Context,
    pub out: PathBuf,
    pub preset: Preset,
    pub config: ExperimentConfig,
    pub dry_run: bool,
    pub costs: Vec<StageCost>,
}

impl Run {
    /// A path inside the run's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.out.join(name)
    }

    /// The settings of a stage.
    pub fn settings(&self, stage: &str) -> Result<Config> {
        self.config.stage(stage)
    }

    /// Runs a stage that keeps its own record, and notes what it cost. `finished` is the file that
    /// is there once the stage is done.
    pub fn stage(
        &mut self,
        name: &str,
        finished: &Path,
        work: impl FnOnce(&Context) -> Result<Value>,
    ) -> Result<()> {
        let cached = is_complete(finished);
        if self.dry_run {
            println!("{name:<28} {}", if cached { "done before" } else { "would run" });
            return Ok(());
        }
        let started = Instant::now();
        if !cached {
            tracing::info!("stage {name}");
        }
        let result = work(&self.context)?;
        // A stage that was done before says what it cost then.
        let elapsed = if cached { 0.0 } else { started.elapsed().as_secs_f64() };
        let seconds = result["seconds"].as_f64().unwrap_or(elapsed);
        self.costs.push(StageCost {
            name: name.to_owned(),
            seconds,
            cached,
            key: short_hash(finished)?,
        });
        Ok(())
    }

    /// Refuses a folder that was made with other settings.
    fn guard(&self, fresh: bool) -> Result<()> {
        let path = self.path("run.json");
        let settings = self.config.to_json();
        if fresh && self.out.exists() && !self.dry_run {
            if !path.exists() {
                return Err(Error::file(
                    &self.out,
                    "--fresh: expected a folder of an earlier run, found no run.json; remove the folder yourself",
                ));
            }
            std::fs::remove_dir_all(&self.out).map_err(Error::io(&self.out, "remove"))?;
        }
        if path.exists() {
            let found: Value = files::read_json(&path)?;
            let differences = changed_settings(&settings, &found["settings"]);
            if !differences.is_empty() {
                return Err(Error::usage(format!(
                    "{}: was made with other settings: {}. Use another --out, or --fresh to start over",
                    self.out.display(),
                    differences.join("; ")
                )));
            }
        } else if !self.dry_run {
            files::create_dir(&self.out)?;
            files::write_json(
                &path,
                &serde_json::json!({
                    "command": "run sentiment",
                    "preset": self.preset.name(),
                    "settings": settings,
                    "exalign": env!("CARGO_PKG_VERSION"),
                }),
            )?;
        }
        Ok(())
    }
}

/// Whether the stage that leaves `finished` has left it: a folder's or file's record says so.
fn is_complete(finished: &Path) -> bool {
    let record = record_path(finished);
    match files::read_json::<Value>(&record) {
        Ok(record) => record["complete"] == true && finished.exists(),
        Err(_) => false,
    }
}

fn record_path(finished: &Path) -> PathBuf {
    if finished.is_dir() {
        finished.join("run.json")
    } else {
        let mut name = finished.as_os_str().to_owned();
        name.push(".run.json");
        PathBuf::from(name)
    }
}

/// The first digits of the hash of a stage's record.
fn short_hash(finished: &Path) -> Result<String> {
    let record = record_path(finished);
    if !record.exists() {
        return Ok(String::new());
    }
    Ok(files::hash_file(&record)?[..12].to_owned())
}
