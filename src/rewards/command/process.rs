//! A program with pipes: lines in, lines out, and the end of what it says on standard error.
//!
//! Three threads carry its pipes, so that no full pipe stops anybody: one writes what was sent, one reads
//! lines, one keeps the tail of standard error. The program has a process group of its own, which is killed
//! whole, so that nothing that the program started stays.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The longest line that a program may answer, in bytes.
pub const LONGEST_LINE: usize = 64 << 20;

/// Lines of standard error that are kept, and characters of each.
const KEPT_LINES: usize = 12;
const KEPT_CHARS: usize = 300;

/// How long a program that closed its output may take to end by itself.
const LEAVE: Duration = Duration::from_millis(500);

/// The programs that run, by the ids of their process groups.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());

/// Kills all reward programs that run; for a process that ends without dropping what it holds.
pub fn end_programs() {
    for group in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        kill_group(group);
    }
}

/// What came from a program.
#[derive(Debug)]
pub enum Heard {
    /// A line, without its end.
    Line(Vec<u8>),
    /// The beginning of a line that is longer than [`LONGEST_LINE`].
    TooLong(Vec<u8>),
    /// Its standard output ended.
    End,
    /// Nothing so far.
    Silence,
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// None once its input is closed.
    input: Option<Sender<Vec<u8>>>,
    lines: Receiver<Heard>,
    tail: Arc<Mutex<VecDeque<String>>>,
    /// Ends when standard error does.
    errors: thread::JoinHandle<()>,
}

impl Process {
    /// Starts a program by its name or path and arguments.
    ///
    /// # Errors
    /// If the system does not start it.
    pub fn start(words: &[String]) -> std::io::Result<Self> {
        let Some((program, arguments)) = words.split_first() else {
            return Err(std::io::Error::other("no program is named"));
        };
        let mut command = Command::new(program);
        command.args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Python keeps answers in a buffer where its output is a pipe, and reads by the locale.
        for (name, value) in [("PYTHONUNBUFFERED", "1"), ("PYTHONIOENCODING", "utf-8")] {
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn()?;
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner).push(child.id());
        let (input, sent) = mpsc::channel();
        let (heard, lines) = mpsc::sync_channel(64);
        let tail: Arc<Mutex<VecDeque<String>>> = Arc::default();
        let kept = tail.clone();
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let carry = |work: Box<dyn FnOnce() + Send>| thread::Builder::new().spawn(work);
        let started =
            carry(Box::new(move || stdin.into_iter().for_each(|pipe| write(pipe, &sent))))
                .and_then(|_| {
                    carry(Box::new(move || stdout.into_iter().for_each(|pipe| read(pipe, &heard))))
                })
                .and_then(|_| {
                    carry(Box::new(move || stderr.into_iter().for_each(|pipe| keep(pipe, &kept))))
                });
        match started {
            Ok(errors) => Ok(Self { child, input: Some(input), lines, tail, errors }),
            Err(error) => {
                let _ = child.kill().and_then(|()| child.wait());
                Err(error)
            }
        }
    }

    /// Sends a line, its end included, without waiting for the program to read it.
    pub fn send(&self, line: Vec<u8>) {
        // Whether the program still reads shows in what it answers.
        let _ = self.input.as_ref().map(|input| input.send(line));
    }

    /// Closes the program's input.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// What comes next, within `patience`.
    pub fn hear(&self, patience: Duration) -> Heard {
        match self.lines.recv_timeout(patience) {
            Ok(heard) => heard,
            Err(RecvTimeoutError::Timeout) => Heard::Silence,
            Err(RecvTimeoutError::Disconnected) => Heard::End,
        }
    }

    /// What has come already.
    pub fn heard(&self) -> Heard {
        match self.lines.try_recv() {
            Ok(heard) => heard,
            Err(TryRecvError::Empty) => Heard::Silence,
            Err(TryRecvError::Disconnected) => Heard::End,
        }
    }

    /// Waits for the end of a program whose output has ended. Returns how it ended, in words; one that does
    /// not end is killed.
    pub fn ending(&mut self) -> String {
        match self.wait(LEAVE) {
            Some(status) => format!("ended ({status})"),
            None => {
                self.kill();
                "closed its standard output and went on".to_owned()
            }
        }
    }

    /// Waits so long for the program's end.
    pub fn wait(&mut self, patience: Duration) -> Option<std::process::ExitStatus> {
        let until = Instant::now() + patience;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    self.end_group();
                    return Some(status);
                }
                Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(5)),
                _ => return None,
            }
        }
    }

    /// Kills the program with all that it started.
    pub fn kill(&mut self) {
        self.end_group();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Kills what is left of the program's process group, once: later the id may be another's.
    fn end_group(&self) {
        let id = self.child.id();
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = running.iter().position(|known| *known == id) {
            running.swap_remove(place);
            kill_group(id);
        }
    }

    /// The last lines of standard error, as half a sentence that may follow a message; empty where there
    /// are none. Waits a moment for those of a program that has ended.
    pub fn last_words(&self) -> String {
        let until = Instant::now() + LEAVE;
        while !self.errors.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = tail.iter().map(|line| line.trim_end()).collect();
        match lines.is_empty() {
            true => "; it said nothing on standard error".to_owned(),
            false => format!("; its standard error ends: {}", lines.join(" | ")),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(unix)]
fn kill_group(id: u32) {
    use rustix::process::{Pid, Signal, kill_process_group};
    if let Some(group) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

#[cfg(not(unix))]
fn kill_group(_: u32) {}

/// Writes what is sent until there is no sender any more, or nobody reads.
fn write(mut stdin: ChildStdin, sent: &Receiver<Vec<u8>>) {
    for line in sent {
        if stdin.write_all(&line).and_then(|()| stdin.flush()).is_err() {
            break;
        }
    }
}

/// Reads lines until the output ends or nobody listens.
fn read(stdout: ChildStdout, heard: &SyncSender<Heard>) {
    let mut reader = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        let outcome = (&mut reader).take(LONGEST_LINE as u64 + 1).read_until(b'\n', &mut line);
        let next = match outcome {
            Ok(0) | Err(_) => break,
            Ok(_) if line.len() > LONGEST_LINE => Heard::TooLong(line),
            Ok(_) => {
                let end = line.trim_ascii_end().len();
                line.truncate(end);
                // A blank line says nothing.
                if line.is_empty() {
                    continue;
                }
                Heard::Line(line)
            }
        };
        if heard.send(next).is_err() {
            break;
        }
    }
}

/// Keeps the last lines of standard error.
fn keep(stderr: ChildStderr, kept: &Mutex<VecDeque<String>>) {
    let mut reader = BufReader::new(stderr);
    loop {
        let mut line = Vec::new();
        // A line without end is kept in pieces.
        match (&mut reader).take(1 << 16).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let text: String = String::from_utf8_lossy(&line).chars().take(KEPT_CHARS).collect();
        if text.trim().is_empty() {
            continue;
        }
        tracing::debug!("a reward program says: {}", text.trim_end());
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_LINES {
            kept.pop_front();
        }
        kept.push_back(text);
    }
}
