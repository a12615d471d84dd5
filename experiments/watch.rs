//! Where the trainings of a command show their figures: TensorBoard, burn's screen of plots.

use std::path::{Path, PathBuf};

use clap::Args;
use exalign::Result;
use exalign::training::{Watch, write_events};

/// Options of the commands that train.
#[derive(Args, Clone, Debug, Default)]
pub struct WatchFlags {
    /// Write TensorBoard event files into this folder; a run has a folder in it for every training
    #[arg(long, value_name = "DIR")]
    pub tensorboard: Option<PathBuf>,
    /// Show the training on burn's screen of plots; q or Ctrl-C ends it with a checkpoint
    #[arg(long)]
    pub tui: bool,
}

/// Where the trainings of a command show their figures.
#[derive(Clone, Debug, Default)]
pub struct Watching {
    flags: WatchFlags,
    /// The folder of a run, in which each training has one.
    run: Option<PathBuf>,
}

impl Watching {
    /// As the options say; `run` is the folder of a run of several trainings.
    ///
    /// # Errors
    /// If a screen is asked for, and there is no terminal for it.
    pub fn new(flags: WatchFlags, run: Option<PathBuf>) -> Result<Self> {
        let watching = Self { flags, run };
        watching.of(Path::new("")).check()?;
        Ok(watching)
    }

    /// Of the training in a folder.
    pub fn of(&self, training: &Path) -> Watch {
        let within = self.run.as_ref().and_then(|run| training.strip_prefix(run).ok());
        let folder = |events: &PathBuf| within.map_or(events.clone(), |within| events.join(within));
        Watch { tensorboard: self.flags.tensorboard.as_ref().map(folder), tui: self.flags.tui }
    }

    /// Shows what was finished before, if it is a training.
    ///
    /// # Errors
    /// If the event file cannot be written.
    pub fn show_finished(&self, folder: &Path) -> Result<()> {
        match self.of(folder).tensorboard {
            Some(events) if folder.join("metrics.jsonl").exists() => write_events(&events, folder),
            _ => Ok(()),
        }
    }
}
