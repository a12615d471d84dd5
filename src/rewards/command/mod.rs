//! Rewards of a program: groups go to it as JSON Lines, answers come back as JSON Lines.
//!
//! ```text
//! {"id": 7, "prompt": "1 + 1 =", "completions": [" 2", " 3"], "finished": [true, true], "answer": "2"} ─▶ program
//! {"rewards": [1, 0]}   or, in any order,   {"id": 7, "rewards": [1, 0]}                               ◀─ program
//! ```
//!
//! The program is started once. All groups of a call are sent while answers are read. A program that ends,
//! or gives no answer in time, is started again and asked again for the groups that it has not answered, as
//! often in a run as `reward.restarts` says. A wrong answer ends the work: asked again, a program would most
//! likely give it again.

mod exchange;
mod process;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use super::kind::Kind;
use super::{Opening, Reward};
use crate::data::{Group, Located};
use crate::secrets::redact;
use crate::{Error, Result, files, interrupt};
use exchange::{Exchange, Wrong};
use process::{Heard, LONGEST_LINE, Process};

pub use process::end_programs;

/// `command:PROGRAM`
pub const KIND: Kind = Kind {
    name: "command",
    argument: "PROGRAM",
    check: |argument| words(argument).map(|_| ()),
    title: |argument| title(&words(argument).unwrap_or_default()),
    shaping: |argument, _| json!({ "command": redact(argument) }),
    content: |argument, _| content(argument),
    open: |argument, opening| Ok(Box::new(Asked::open(argument, opening)?)),
};

/// The words of a command line, as a shell splits it.
fn words(argument: &str) -> Result<Vec<String>, String> {
    match shlex::split(argument) {
        Some(words) if !words.is_empty() => Ok(words),
        Some(_) => Err("expected a program, found nothing".to_owned()),
        None => Err(
            "expected words as a shell reads them, found a quote or a backslash without its end; \
                     close it"
                .to_owned(),
        ),
    }
}

/// The name of the script, or of the program where no word names a file with an ending.
fn title(words: &[String]) -> String {
    let is_ending = |ending: &str| !ending.chars().all(|c| c.is_ascii_digit());
    let stem = |word: &String| {
        let path = Path::new(word);
        path.extension()?.to_str().filter(|ending| is_ending(ending))?;
        path.file_stem()?.to_str().map(str::to_owned)
    };
    let script = words.iter().filter(|word| !word.starts_with('-')).find_map(stem);
    let program = words.first().and_then(|word| Path::new(word).file_name()?.to_str());
    script.or(program.map(str::to_owned)).unwrap_or_else(|| KIND.name.to_owned())
}

/// The hash of every file that the command line names.
fn content(argument: &str) -> Result<BTreeMap<String, String>> {
    let words = words(argument).map_err(Error::usage)?;
    let files = words.iter().filter(|word| Path::new(word).is_file());
    files
        .map(|word| Ok((format!("reward program {word}"), files::hash_file(word.as_ref())?)))
        .collect()
}

/// How long a program is listened to for more answers than it was asked for, once.
const MORE: Duration = Duration::from_millis(200);

/// A program that is started when it is asked first.
struct Asked {
    /// As messages call it.
    name: String,
    words: Vec<String>,
    timeout: Duration,
    restarts: usize,
    /// How often it was started again.
    restarted: usize,
    process: Option<Process>,
    /// Whether it has answered some groups and nothing more.
    is_tried: bool,
    /// Whether it has answered more than it was asked.
    is_in_doubt: bool,
}

/// Why a program does not go on.
enum Stop {
    /// It ended or is silent: it can be started again. What it did, and what to do.
    Fault(String, &'static str),
    /// It makes no sense to ask it again.
    Error(Error),
}

impl Asked {
    fn open(argument: &str, opening: &Opening<'_>) -> Result<Self> {
        let words = words(argument).map_err(Error::usage)?;
        let settings = &opening.settings.reward;
        let name = format!("command:{}", redact(argument));
        let program = Path::new(&words[0]);
        if program.components().count() > 1 && !program.is_file() {
            return Err(Error::usage(format!(
                "--reward {name}: expected a program, found no file {}; paths count from the folder of the \
                 command",
                words[0]
            )));
        }
        let timeout = Duration::from_secs_f64(settings.timeout);
        Ok(Self {
            name,
            words,
            timeout,
            restarts: settings.restarts,
            restarted: 0,
            process: None,
            is_tried: false,
            is_in_doubt: false,
        })
    }

    /// The program, started where it does not run.
    fn running(&mut self) -> Result<&mut Process> {
        let started = match self.process.take() {
            Some(process) => process,
            None => Process::start(&self.words).map_err(|error| {
                Error::usage(format!(
                    "--reward {}: {} cannot be started: {error}; a script needs `#!` and an interpreter in \
                     its first line and `chmod +x`, or its interpreter before it",
                    self.name, self.words[0]
                ))
            })?,
        };
        Ok(self.process.insert(started))
    }

    /// Sends the open groups and takes answers until none is open.
    fn ask(&mut self, exchange: &mut Exchange<'_>, groups: &[Located<Group>]) -> Result<(), Stop> {
        let (name, timeout, tried) = (self.name.clone(), self.timeout, self.is_tried);
        let process = self.running().map_err(Stop::Error)?;
        if let Heard::Line(line) | Heard::TooLong(line) = process.heard() {
            return Err(Stop::Error(self.unasked(&line)));
        }
        exchange.begin();
        exchange.open().into_iter().for_each(|place| process.send(exchange.line(place)));
        let mut since = Instant::now();
        while !exchange.open().is_empty() {
            match process.hear(Duration::from_millis(50)) {
                Heard::Line(line) => {
                    exchange.take(&line).map_err(|Wrong { group, problem }| {
                        Stop::Error(wrong(&name, &groups[group], &line, &problem))
                    })?;
                    since = Instant::now();
                }
                Heard::TooLong(line) => {
                    let problem = format!("expected a line of {LONGEST_LINE} bytes at most");
                    let first = exchange.open().first().copied().unwrap_or(0);
                    return Err(Stop::Error(wrong(&name, &groups[first], &line, &problem)));
                }
                Heard::End => {
                    let ending = process.ending();
                    return Err(Stop::Fault(format!("{ending} without an answer"), "find out why"));
                }
                Heard::Silence if since.elapsed() > timeout => {
                    process.kill();
                    return Err(Stop::Fault(
                        format!("gave no answer within {} s", timeout.as_secs_f64()),
                        "raise reward.timeout, or see that it answers each line at once and flushes its output",
                    ));
                }
                Heard::Silence => interrupt::check().map_err(Stop::Error)?,
            }
        }
        // A program that answers twice does so from the first group on.
        let next = if tried { process.heard() } else { process.hear(MORE) };
        match next {
            Heard::Line(line) | Heard::TooLong(line) => Err(Stop::Error(self.unasked(&line))),
            _ => {
                self.is_tried = true;
                Ok(())
            }
        }
    }

    /// The error of an answer that nobody asked for.
    fn unasked(&mut self, line: &[u8]) -> Error {
        self.is_in_doubt = true;
        let message = format!(
            "answers `{}` although every group that it was asked for has an answer, so that answers may have \
             gone to the wrong groups; write one line a group, and start again",
            shown(line)
        );
        Error::file(&self.name, redact(&message))
    }

    /// Starts the program again, or says why not.
    fn restart(
        &mut self,
        (why, remedy): (&str, &str),
        group: &Located<Group>,
        open: usize,
    ) -> Result<()> {
        let last_words =
            self.process.take().map(|process| process.last_words()).unwrap_or_default();
        let last_words = redact(&last_words);
        if self.restarted < self.restarts {
            self.restarted += 1;
            tracing::warn!(
                "{}: {why}{last_words}; it is started again ({} of {}) and asked again for {open} groups",
                self.name,
                self.restarted,
                self.restarts
            );
            return Ok(());
        }
        let others = match open {
            0 | 1 => String::new(),
            _ => format!(" and {} more", open - 1),
        };
        let again = match self.restarted {
            0 => String::new(),
            1 => ", also after a restart".to_owned(),
            times => format!(", also after {times} restarts"),
        };
        let message =
            format!("{} {why} to this group{others}{again}; {remedy}{last_words}", self.name);
        Err(group.error(message))
    }
}

/// The beginning of a line.
fn shown(line: &[u8]) -> String {
    const SHOWN: usize = 100;
    let text = String::from_utf8_lossy(line);
    let start: String = text.chars().take(SHOWN).collect();
    let more = if start.len() < text.len() { "…" } else { "" };
    format!("{start}{more}")
}

/// The error of an answer that cannot be used.
fn wrong(name: &str, group: &Located<Group>, line: &[u8], problem: &str) -> Error {
    group.error(redact(&format!("{name} answers `{}`: {problem}", shown(line))))
}

impl Reward for Asked {
    fn score(&mut self, groups: &[Located<Group>]) -> Result<Vec<Vec<f64>>> {
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let mut exchange = Exchange::new(groups);
        loop {
            match self.ask(&mut exchange, groups) {
                Ok(()) => return Ok(exchange.into_rewards()),
                Err(Stop::Fault(why, remedy)) => {
                    let open = exchange.open();
                    let first = open.first().copied().unwrap_or(0);
                    self.restart((&why, remedy), &groups[first], open.len())?;
                }
                Err(Stop::Error(error)) => {
                    self.process = None;
                    return Err(error);
                }
            }
        }
    }

    fn is_in_doubt(&self) -> bool {
        self.is_in_doubt
    }

    /// Closes the program's input and waits for its end. An answer that nobody asked for is an error: those
    /// before it may have gone to the wrong groups.
    fn close(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        process.close_input();
        let until = Instant::now() + self.timeout;
        loop {
            match process.hear(Duration::from_millis(50)) {
                Heard::Line(line) | Heard::TooLong(line) => return Err(self.unasked(&line)),
                Heard::End => {
                    let ending = process.ending();
                    tracing::debug!("{}: {ending}", self.name);
                    return Ok(());
                }
                Heard::Silence if Instant::now() > until => {
                    tracing::warn!(
                        "{}: does not end after its input was closed; it is killed",
                        self.name
                    );
                    return Ok(());
                }
                Heard::Silence => interrupt::check()?,
            }
        }
    }
}
