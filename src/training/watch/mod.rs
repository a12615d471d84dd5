//! Where a training shows its figures while it goes on, besides `metrics.jsonl`.
//!
//! Invariant: a watcher reads lines of metrics and changes nothing of the training. What it shows after an
//! interruption is what it would show without one.

mod figures;
mod modes;
mod screen;
mod tensorboard;

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::metrics::Metrics;
use crate::Result;
use screen::Screen;
pub use screen::leave_screen;
use tensorboard::EventFile;

/// Where a training shows its figures.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// The folder for TensorBoard's event file.
    pub tensorboard: Option<PathBuf>,
    /// Whether burn's screen of plots takes the terminal while the training goes on.
    pub tui: bool,
}

impl Watch {
    /// # Errors
    /// If a screen is asked for, and there is no terminal for it.
    pub fn check(&self) -> Result<()> {
        if self.tui { screen::check_terminal() } else { Ok(()) }
    }
}

/// A training that is watched.
#[derive(Default)]
pub struct Watchers {
    events: Option<EventFile>,
    screen: Option<Screen>,
}

impl Watchers {
    /// Starts to show the training `name`, which writes its metrics in the folder `training` and continues
    /// after `first` of `num_steps` steps. Shows the steps that are there already.
    ///
    /// # Errors
    /// If the event file cannot be written, or standard output is no terminal for the screen.
    pub fn start(
        watch: &Watch,
        name: &str,
        training: &Path,
        (first, num_steps): (usize, usize),
    ) -> Result<Self> {
        if watch.tensorboard.is_none() && !watch.tui {
            return Ok(Self::default());
        }
        let lines = lines(training);
        let folder = watch.tensorboard.as_ref();
        let events =
            folder.map(|folder| EventFile::replace(folder, training, &lines)).transpose()?;
        let screen = watch.tui.then(|| Screen::open(name, first, num_steps, &lines)).transpose()?;
        Ok(Self { events, screen })
    }

    /// Shows a step's line of metrics.
    ///
    /// # Errors
    /// [`Interrupted`](crate::Error::Interrupted) where somebody ends the program at the screen at once.
    pub fn show(&mut self, line: &Value) -> Result<()> {
        if let Some(Err(error)) = self.events.as_mut().map(|events| events.append(line)) {
            tracing::warn!(
                "{error}; the training goes on without it, and its next start writes it anew"
            );
            self.events = None;
        }
        self.screen.as_mut().map_or(Ok(()), |screen| screen.show(line))
    }
}

/// Writes the event file of a finished training, whose metrics are in the folder `training`.
///
/// # Errors
/// If the event file cannot be written.
pub fn write_events(folder: &Path, training: &Path) -> Result<()> {
    EventFile::replace(folder, training, &lines(training)).map(drop)
}

/// The metrics of the steps that are done.
fn lines(training: &Path) -> Vec<Value> {
    let found = Metrics::read(&training.join("metrics.jsonl"));
    found.lines(usize::MAX).cloned().collect()
}
