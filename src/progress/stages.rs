//! The stages of a run: which one is under way, and how long all of them will take.
//!
//! The time left is estimated from the stages that are done, by kind: a stage takes as long as others of its
//! kind took for the same amount of work. There is no number before every kind that is left has been seen.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use super::in_words;
use super::terminal::BARS;
use crate::printable;

/// The run under way.
static RUN: Mutex<Option<Run>> = Mutex::new(None);

fn run() -> MutexGuard<'static, Option<Run>> {
    RUN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stage that is going to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// What it has in common with stages that take as long.
    pub kind: String,
    /// How much there is to do, in a unit of the kind's own.
    pub amount: f64,
}

/// A run and its stages.
struct Run {
    stages: Vec<Work>,
    /// Of the stages that are done, by kind: the amount of work and the seconds.
    done: BTreeMap<String, (f64, f64)>,
    current: usize,
    name: String,
    part: String,
    started: Instant,
    stage_started: Instant,
    line: ProgressBar,
}

/// Begins a run of `stages`.
pub fn begin(stages: Vec<Work>) {
    let line = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    let line = BARS.insert(0, line);
    let text = |_: &ProgressState, out: &mut dyn std::fmt::Write| {
        let _ = out.write_str(&run().as_ref().map(Run::line).unwrap_or_default());
    };
    if let Ok(style) = ProgressStyle::with_template("{run}") {
        line.set_style(style.with_key("run", text));
    }
    line.enable_steady_tick(Duration::from_millis(500));
    let now = Instant::now();
    *run() = Some(Run {
        stages,
        done: BTreeMap::new(),
        current: 0,
        name: String::new(),
        part: String::new(),
        started: now,
        stage_started: now,
        line,
    });
}

/// The stage of number `index`, from 0, begins; the run calls it `name`.
pub fn enter(index: usize, name: &str) {
    if let Some(run) = run().as_mut() {
        (run.current, run.name) = (index, printable::line(name).into_owned());
        run.part.clear();
        run.stage_started = Instant::now();
    }
    // In a terminal the line of the run says so.
    if BARS.is_hidden() {
        tracing::info!("{}{name}", label());
    }
}

/// The stage under way is made, in so many seconds.
pub fn leave(seconds: f64) {
    let said = run().as_mut().map(|run| {
        run.note(seconds);
        run.name.clone()
    });
    if let Some(name) = said {
        tracing::info!("{}{name}: done in {}", label(), in_words(seconds));
    }
}

/// The stage of number `index`, called `name`, was made before, in so many seconds; `origin` says where it is
/// taken from.
pub fn pass(index: usize, name: &str, seconds: f64, origin: Option<&str>) {
    if let Some(run) = run().as_mut() {
        (run.current, run.name) = (index, printable::line(name).into_owned());
        run.part.clear();
        run.note(seconds);
    }
    match origin {
        Some(origin) => tracing::info!("{}{name}: taken from {origin}", label()),
        None => tracing::debug!("{}{name}: done before", label()),
    }
}

/// The stage of number `index` is not needed after all.
pub fn leave_out(index: usize) {
    if let Some(run) = run().as_mut()
        && index < run.stages.len()
    {
        run.stages.remove(index);
    }
}

/// The part of the stage that is under way, such as "checkpoint 2 of 6".
pub fn part(part: String) {
    if let Some(run) = run().as_mut() {
        run.part = part;
    }
}

/// The run is over, or ends early.
pub fn end() {
    let Some(Run { line, started, stages, .. }) = run().take() else { return };
    line.finish_and_clear();
    BARS.remove(&line);
    tracing::debug!("{} stages in {}", stages.len(), in_words(started.elapsed().as_secs_f64()));
}

/// Whether a run is under way, whose files are its own.
pub fn is_run() -> bool {
    run().is_some()
}

/// Which stage is under way, to begin a line with: `3/19 `; nothing outside of a run.
pub fn label() -> String {
    run().as_ref().map_or(String::new(), Run::label)
}

/// The time that the run has left, to end a line with, if there is a basis for a number.
pub fn left_in_words() -> String {
    let left = run().as_ref().and_then(Run::left);
    left.map_or(String::new(), |left| format!("; the whole run: about {} left", roughly(left)))
}

impl Run {
    fn label(&self) -> String {
        format!("{}/{} ", self.current + 1, self.stages.len())
    }

    /// The line in the terminal.
    fn line(&self) -> String {
        let part = match self.part.as_str() {
            "" => String::new(),
            part => format!(", {part}"),
        };
        let so_far = in_words(self.started.elapsed().as_secs_f64().floor());
        let left = self.left().map(|left| format!(", about {} left", roughly(left)));
        let left = left.unwrap_or_default();
        format!("{}{}{part} (the run: {so_far}{left})", self.label(), self.name)
    }

    fn note(&mut self, seconds: f64) {
        let Some(work) = self.stages.get(self.current) else { return };
        let (amount, time) = self.done.entry(work.kind.clone()).or_default();
        *amount += work.amount;
        *time += seconds;
    }

    /// Seconds that the rest of the run will take.
    fn left(&self) -> Option<f64> {
        left(&self.stages[self.current..], &self.done, self.stage_started.elapsed().as_secs_f64())
    }
}

/// A time that is estimated: no more exact than it can be.
fn roughly(seconds: f64) -> String {
    let unit = if seconds < 90.0 { 10.0 } else { 60.0 };
    in_words((seconds / unit).ceil() * unit)
}

/// Seconds that `stages` will take, the first of which has taken `elapsed`; none without a basis.
fn left(stages: &[Work], done: &BTreeMap<String, (f64, f64)>, elapsed: f64) -> Option<f64> {
    let estimate = |work: &Work| {
        let (amount, seconds) = done.get(&work.kind)?;
        Some(seconds / amount * work.amount)
    };
    let (current, later) = stages.split_first()?;
    // A stage that takes longer than expected says that the basis was none.
    let current = Some(estimate(current)? - elapsed).filter(|left| *left >= 0.0)?;
    later.iter().try_fold(current, |sum, work| Some(sum + estimate(work)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(kind: &str, amount: f64) -> Work {
        Work { kind: kind.to_owned(), amount }
    }

    #[test]
    fn the_time_left_is_by_kind_and_amount_and_no_number_without_a_basis() {
        let mut done = BTreeMap::from([("train".to_owned(), (2.0, 20.0))]);
        let stages = [work("train", 4.0), work("evaluate", 1.0), work("train", 1.0)];
        assert_eq!(left(&stages, &done, 5.0), None, "no evaluation was seen");
        done.insert("evaluate".to_owned(), (3.0, 6.0));
        assert_eq!(left(&stages, &done, 5.0), Some(40.0 - 5.0 + 2.0 + 10.0));
        assert_eq!(left(&stages, &done, 41.0), None, "it takes longer than others of its kind");
        assert_eq!(left(&[], &done, 0.0), None);
        assert_eq!([3.0, 61.0, 327.0].map(roughly), ["10 s", "1 min 10 s", "6 min"]);
    }
}
