//! Progress of long work on standard error: a bar in a terminal, a line now and then in a file.

pub mod stages;
pub mod terminal;

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::printable;
use terminal::BARS;

/// Between two lines in a file, at first and at most.
const BETWEEN_LINES: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(300)];

/// Progress through a known number of items, with rate and remaining time.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    what: String,
    unit: String,
    total: u64,
    /// Items that were done when it started.
    before: u64,
    done: u64,
    started: Instant,
    logged: Instant,
}

impl Progress {
    /// Starts at `done` of `total`; `what` names the work, `unit` the items.
    pub fn new(what: &str, unit: &str, done: usize, total: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::hidden());
        let bar = BARS.add(bar);
        let template = format!("{{prefix:<19}} {{bar:20}} {{pos}}/{{len}} {unit}{{msg}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        let what = printable::line(what).into_owned();
        bar.set_prefix(what.clone());
        bar.set_position(done as u64);
        let (now, done) = (Instant::now(), done as u64);
        let unit = unit.to_owned();
        Self { bar, what, unit, total: total as u64, before: done, done, started: now, logged: now }
    }

    /// `count` more items are done; `message` stands behind the bar.
    pub fn advance(&mut self, count: usize, message: &str) {
        self.done += count as u64;
        let pace = self.pace();
        let message = match message {
            "" => String::new(),
            _ => format!(", {}", printable::line(message)),
        };
        self.bar.set_message(format!("{pace}{message}"));
        self.bar.set_position(self.done);
        if self.bar.is_hidden() && !terminal::is_held() && self.is_line_due() {
            self.logged = Instant::now();
            let Self { what, unit, done, total, .. } = self;
            let (stage, run) = (stages::label(), stages::left_in_words());
            tracing::info!("{stage}{what}: {done} of {total} {unit}{pace}{message}{run}");
        }
    }

    /// Long work says something more and more seldom.
    fn is_line_due(&self) -> bool {
        let [first, last] = BETWEEN_LINES;
        self.logged.elapsed() > (self.started.elapsed() / 6).clamp(first, last)
    }

    /// The rate and the time left, from what was done since the start.
    fn pace(&self) -> String {
        let (done, seconds) =
            ((self.done - self.before) as f64, self.started.elapsed().as_secs_f64());
        if done < 1.0 || seconds <= 0.0 {
            return String::new();
        }
        let rate = match done / seconds {
            rate if rate >= 10.0 => format!("{rate:.0}/s"),
            rate if rate >= 1.0 => format!("{rate:.1}/s"),
            rate => format!("{:.1} s each", 1.0 / rate),
        };
        let left = seconds / done * self.total.saturating_sub(self.done) as f64;
        format!(", {rate}, {} left", in_words(left))
    }

    /// The work is over.
    pub fn finish(self) {
        self.bar.finish_and_clear();
        BARS.remove(&self.bar);
        let Self { what, total, unit, .. } = self;
        tracing::debug!("{what}: {total} {unit} in {:.1} s", self.started.elapsed().as_secs_f64());
    }
}

/// A time for people: seconds, minutes or hours.
pub fn in_words(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    match seconds.round() as u64 {
        0 if seconds > 0.0 => format!("{seconds:.1} s"),
        whole @ 0..60 => format!("{whole} s"),
        whole @ 60..600 if whole % 60 > 0 => format!("{} min {} s", whole / 60, whole % 60),
        whole @ 60..7200 => format!("{} min", (whole + 30) / 60),
        whole => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_the_unit_that_people_use() {
        let said = [0.0, 0.3, 5.4, 59.7, 61.0, 120.0, 1234.0, 7199.0, 9000.0].map(in_words);
        let expected = [
            "0 s",
            "0.3 s",
            "5 s",
            "1 min",
            "1 min 1 s",
            "2 min",
            "21 min",
            "120 min",
            "2 h 30 min",
        ];
        assert_eq!(said, expected);
    }
}
