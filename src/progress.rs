//! Progress of long work on standard error: a bar in a terminal, a line now and then in a file.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::printable;

/// Progress through a known number of items, with rate and remaining time.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    what: String,
    total: u64,
    done: u64,
    started: Instant,
    logged: Instant,
}

impl Progress {
    /// Starts at `done` of `total`; `what` names the work, `unit` the items.
    pub fn new(what: &str, unit: &str, done: usize, total: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
        let template = format!(
            "{{prefix:<22}} {{bar:30}} {{pos}}/{{len}} {unit}  {{per_sec}}  {{eta}} left  {{msg}}"
        );
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        let what = printable::line(what).into_owned();
        bar.set_prefix(what.clone());
        bar.set_position(done as u64);
        bar.reset_eta();
        let now = Instant::now();
        Self { bar, what, total: total as u64, done: done as u64, started: now, logged: now }
    }

    /// `count` more items are done; `message` stands behind the bar.
    pub fn advance(&mut self, count: usize, message: &str) {
        self.done += count as u64;
        self.bar.set_position(self.done);
        self.bar.set_message(printable::line(message).into_owned());
        if self.bar.is_hidden() && self.logged.elapsed() > Duration::from_secs(10) {
            self.logged = Instant::now();
            tracing::info!("{}: {} of {} {message}", self.what, self.done, self.total);
        }
    }

    /// The work is over.
    pub fn finish(self) {
        self.bar.finish_and_clear();
        tracing::debug!(
            "{}: {} in {:.1} s",
            self.what,
            self.done,
            self.started.elapsed().as_secs_f64()
        );
    }
}
