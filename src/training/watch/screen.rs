//! burn's own screen of plots (`burn::train::renderer::tui`) for a training.
//!
//! burn puts the terminal into raw mode, in which Ctrl-C is a key like any other and means nothing. Here the
//! terminal goes on to turn Ctrl-C into a signal, so that the training ends by a checkpoint as without a
//! screen. While the screen has the terminal, log lines wait and no bar is drawn.

use std::collections::HashSet;
use std::io::{IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use burn::train::Interrupter;
use burn::train::logger::TrainingProgressLogger;
use burn::train::metric::{
    MetricAttributes, MetricDefinition, MetricEntry, MetricId, NumericAttributes, NumericEntry,
    SerializedEntry,
};
use burn::train::renderer::tui::TuiMetricsRendererWrapper;
use burn::train::renderer::{MetricState, MetricsRenderer, MetricsRendererTraining};
use serde_json::Value;

use super::figures::{Figure, Split, figures};
use super::modes::{Modes, keep_signals, modes, set_modes};
use crate::panics::quietly;
use crate::progress::terminal;
use crate::{Error, Result, interrupt};

/// The terminal's modes before the screen, while it is open.
static BEFORE: Mutex<Option<Modes>> = Mutex::new(None);
/// Between two looks at what the user chose in burn's menu.
const PAUSE: Duration = Duration::from_millis(50);
/// Ends mouse reports and the second screen, and shows the cursor.
const LEAVE: &[u8] = b"\x1b[?1006l\x1b[?1015l\x1b[?1003l\x1b[?1002l\x1b[?1000l\x1b[?1049l\x1b[?25h";

/// The screen of a training; dropping it gives the terminal back.
pub struct Screen {
    renderer: Option<TuiMetricsRendererWrapper>,
    registered: HashSet<String>,
    /// Ends the thread that listens to burn's menu.
    _open: Sender<()>,
}

impl Screen {
    /// Opens the screen of the training `name` after `first` of `num_steps` steps, whose metrics are
    /// `lines`.
    ///
    /// # Errors
    /// If standard output is no terminal.
    pub fn open(name: &str, first: usize, num_steps: usize, lines: &[Value]) -> Result<Self> {
        check_terminal()?;
        *lock(&BEFORE) = Some(modes().map_err(|error| no_terminal(&error.to_string()))?);
        terminal::hold();
        // The hook for quiet panics has to lie below burn's, which takes its own away again.
        let _ = quietly(|| ());
        let interrupter = Interrupter::new();
        let renderer = TuiMetricsRendererWrapper::new(interrupter.clone(), None);
        let (open, closed) = mpsc::channel();
        let mut screen = Self { renderer: Some(renderer), registered: HashSet::new(), _open: open };
        keep_signals().map_err(|error| no_terminal(&error.to_string()))?;
        std::thread::spawn(move || {
            while closed.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                if interrupter.should_stop() {
                    return interrupt::request();
                }
            }
        });
        screen.update(|renderer, _| renderer.start(0, first, Some(num_steps), Some(name)))?;
        lines.iter().try_for_each(|line| screen.show(line))?;
        Ok(screen)
    }

    /// Shows a step's line of metrics.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where the user ends the program at once, by burn's menu.
    pub fn show(&mut self, line: &Value) -> Result<()> {
        let step = line["step"].as_u64().unwrap_or_default() as usize;
        self.update(|renderer, registered| {
            for figure in figures(line) {
                if registered.insert(figure.name.clone()) {
                    renderer.register_metric(definition(&figure.name));
                }
                let state = state(&figure);
                match figure.split {
                    Split::Train => renderer.update_train(state),
                    Split::Validation => renderer.update_valid(state),
                }
            }
            // burn counts epochs, from 0, and items in them; here both are the steps.
            renderer.update_epoch(step.saturating_sub(1));
            renderer.update_split(step);
        })
    }

    /// Updates burn's renderer, which panics where the user ends the program by its menu.
    fn update(
        &mut self,
        update: impl FnOnce(&mut TuiMetricsRendererWrapper, &mut HashSet<String>),
    ) -> Result<()> {
        let Self { renderer, registered, .. } = self;
        let Some(renderer) = renderer else { return Ok(()) };
        quietly(|| update(renderer, registered)).map_err(|_| Error::Interrupted)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let renderer = self.renderer.take();
        let _ = quietly(|| drop(renderer));
        leave_screen();
        terminal::release();
    }
}

/// Gives the terminal back as it was before the screen, if one is open; for a program that ends at once.
pub fn leave_screen() {
    let Some(before) = lock(&BEFORE).take() else { return };
    let _ = std::io::stdout().write_all(LEAVE).and_then(|()| std::io::stdout().flush());
    let _ = set_modes(&before);
}

/// # Errors
/// If there is no terminal for the screen.
pub fn check_terminal() -> Result<()> {
    match std::io::stdout().is_terminal() {
        true => modes().map(drop).map_err(|error| no_terminal(&error.to_string())),
        false => Err(no_terminal("standard output is none")),
    }
}

fn no_terminal(found: &str) -> Error {
    Error::usage(format!(
        "--tui: expected a terminal to draw in, but {found}; leave --tui out, and the progress is shown line \
         by line"
    ))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn id(name: &str) -> MetricId {
    MetricId::new(Arc::new(name.to_owned()))
}

fn definition(name: &str) -> MetricDefinition {
    let attributes = NumericAttributes { unit: None, higher_is_better: false };
    MetricDefinition {
        metric_id: id(name),
        name: Arc::new(name.to_owned()),
        description: None,
        attributes: MetricAttributes::Numeric(attributes),
    }
}

fn state(figure: &Figure) -> MetricState {
    let value = figure.value;
    let size = value.abs();
    let shown = match size {
        _ if size == 0.0 || (1e-3..1e5).contains(&size) => format!("{value:.4}"),
        _ => format!("{value:.3e}"),
    };
    let entry = MetricEntry::new(id(&figure.name), SerializedEntry::new(shown, value.to_string()));
    MetricState::Numeric(entry, Some(NumericEntry::Value(value)))
}
