//! `run.json`: the settings and inputs of an output folder (or file), and whether the output is finished.
//!
//! The same command with the same settings and inputs continues an unfinished output and leaves a finished
//! one alone. With other settings or inputs, the command refuses and says what differs, unless nothing of the
//! output was made yet. A lock keeps two processes from working on the same output.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use exalign::files::{
    Content, Output, create_dir, read_sealed, sweep, sweep_folder, try_lock, write_sealed,
};
use exalign::secrets::{redact, redact_json};
use exalign::training::CHECKPOINTS;
use exalign::tuning::ROUNDS;
use exalign::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::partial;

/// The settings and inputs that an output is made from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Made {
    /// The command, or the kind of stage.
    pub command: String,
    /// The settings and options that shape the result, the seed among them.
    pub settings: Value,
    /// The inputs: hashes of their contents, or keys of the stages that made them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub inputs: BTreeMap<String, String>,
}

/// Part of every key. Raise it when stages compute something else from the same settings.
const REVISION: u32 = 5;

impl Made {
    /// By `command` with `settings`.
    pub fn new(command: &str, settings: Value) -> Self {
        let (command, settings) = (command.to_owned(), redact_json(settings));
        Self { command, settings, inputs: BTreeMap::new() }
    }

    /// The key of an output made on `device`.
    pub fn key(&self, device: &str) -> String {
        let Self { command, settings, inputs } = self;
        let version = env!("CARGO_PKG_VERSION");
        let text = json!([REVISION, version, device, command, settings, inputs]).to_string();
        blake3::hash(text.as_bytes()).to_hex().to_string()
    }

    /// The differences from `then`, in words.
    pub fn differences(&self, then: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        if self.command != then.command {
            differences.push(format!("command: {} → {}", then.command, self.command));
        }
        differences.extend(changed_settings(&self.settings, &then.settings));
        differences.extend(
            self.changed_inputs(then).map(|name| format!("the content of {name} has changed")),
        );
        differences
    }

    /// The inputs that have changed.
    pub fn changed_inputs<'a>(&'a self, then: &'a Self) -> impl Iterator<Item = &'a String> {
        let is_changed = |(name, hash): &(&String, &String)| then.inputs.get(*name) != Some(hash);
        self.inputs.iter().filter(is_changed).map(|(name, _)| name)
    }
}

/// The record of an output.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The settings and inputs of the output.
    #[serde(flatten)]
    pub made: Made,
    /// Versions and device; they do not decide whether the output can be continued.
    pub environment: Value,
    /// Whether the output is finished.
    pub complete: bool,
    /// The result, once finished.
    #[serde(default)]
    result: Value,
    /// The output's files, once finished.
    #[serde(default)]
    content: Content,
}

/// An output being worked on.
pub struct Work {
    /// The record's place and the output; none where the output is no file, so that nothing is kept
    /// beside it.
    place: Option<Place>,
    record: Record,
}

/// Where an output being worked on is kept.
struct Place {
    record: PathBuf,
    output: PathBuf,
    _lock: File,
}

/// How work on an output starts.
pub enum Start {
    /// The output is finished already; its record.
    Done(Box<Record>),
    /// The output is to be made or continued.
    Go(Box<Work>),
}

impl Record {
    /// The record of what is made on `device`.
    pub fn new(made: Made, device: &str) -> Self {
        Self {
            made,
            environment: json!({
                "exalign": env!("CARGO_PKG_VERSION"),
                "burn": "0.22.1",
                "device": device,
                "command_line": command_line(),
            }),
            complete: false,
            result: Value::Null,
            content: Content::default(),
        }
    }

    /// The record at `path`.
    pub fn read(path: &Path) -> Result<Self> {
        read_sealed(path)
    }

    /// The result.
    ///
    /// # Errors
    /// If it is not the result of a `T`.
    pub fn result<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(&self.result).map_err(|error| {
            Error::usage(format!(
                "the record of `{}` cannot be read: {error}; make it again with --fresh",
                self.made.command
            ))
        })
    }

    /// The record of the file `out`.
    pub fn beside(out: &Path) -> PathBuf {
        if let Ok(Some(path)) = Output::beside(out, ".run.json") {
            return path;
        }
        let mut name = out.as_os_str().to_owned();
        name.push(".run.json");
        PathBuf::from(name)
    }

    /// The record of the folder `dir`.
    pub fn within(dir: &Path) -> PathBuf {
        dir.join("run.json")
    }

    /// Starts on the folder `dir`, whose record is `run.json`.
    pub fn start_folder(self, dir: &Path, fresh: bool) -> Result<Start> {
        create_dir(dir)?;
        self.start(Self::within(dir), dir.join(".lock"), dir, fresh)
    }

    /// Starts on the file `out`, whose record stands beside it; beside a device or a pipe stands
    /// nothing.
    pub fn start_file(self, out: &Path, fresh: bool) -> Result<Start> {
        let output = Output::resolve(out)?;
        if let Output::Stream(stream) = &output {
            return self.start_stream(stream);
        }
        let out = output.path();
        let mut lock = out.as_os_str().to_owned();
        lock.push(".lock");
        if let Some(parent) = out.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            create_dir(parent)?;
        }
        self.start(Self::beside(out), lock.into(), out, fresh)
    }

    fn start_stream(self, stream: &Path) -> Result<Start> {
        if self.made.settings.get("shard").is_some() {
            return Err(Error::usage(format!(
                "--out {}: expected a file, whose record `exalign merge-shards` reads, found a device or \
                 a pipe; name a file, or leave --shard out",
                stream.display()
            )));
        }
        Ok(self.unkept())
    }

    /// Starts on an output without a record.
    pub fn unkept(self) -> Start {
        Start::Go(Box::new(Work { place: None, record: self }))
    }

    fn start(self, path: PathBuf, lock: PathBuf, output: &Path, fresh: bool) -> Result<Start> {
        let lock_file = File::create(&lock).map_err(Error::io(&lock, "create"))?;
        if !try_lock(&lock_file, &lock) {
            return Err(Error::file(
                output,
                "another exalign process is working on it; wait for it or use another --out",
            ));
        }
        match output.is_dir() {
            true => sweep_folder(output),
            false => [output, &path].into_iter().for_each(sweep),
        }
        if path.exists() && !fresh {
            let found = Self::read(&path).map_err(or_start_over)?;
            // A command that was refused after it had started leaves its record and nothing else.
            if found.complete || is_begun(output)? {
                self.check_same(&found, output)?;
                if found.complete && !found.content.set_changes_aside(output, CHECKPOINTS)? {
                    return Ok(Start::Done(Box::new(found)));
                }
                self.tell_another_device(&found, output);
            }
        }
        if fresh && output.is_dir() {
            for name in [CHECKPOINTS, ROUNDS, "model"] {
                let folder = output.join(name);
                if folder.exists() {
                    std::fs::remove_dir_all(&folder).map_err(Error::io(&folder, "remove"))?;
                }
            }
        }
        write_sealed(&path, &self)?;
        let place = Place { record: path, output: output.to_owned(), _lock: lock_file };
        Ok(Start::Go(Box::new(Work { place: Some(place), record: self })))
    }

    /// Refuses to go on with an output that was made with other settings or inputs.
    fn check_same(&self, found: &Self, output: &Path) -> Result<()> {
        let differences = self.made.differences(&found.made);
        if !differences.is_empty() {
            return Err(Error::Usage(format!(
                "{}: was made with other settings: {}. Use another --out, or --fresh to start over",
                output.display(),
                differences.join("; ")
            )));
        }
        Ok(())
    }

    /// Warns where an output that is going on began on another device.
    fn tell_another_device(&self, found: &Self, output: &Path) {
        if found.device() != self.device() {
            tracing::warn!(
                "{}: goes on on {} what began on {}: sums are rounded otherwise there, so that the result is \
                 not the same to the bit",
                output.display(),
                self.device(),
                found.device()
            );
        }
    }

    /// The device that it was made on.
    pub fn device(&self) -> &str {
        self.environment["device"].as_str().unwrap_or("?")
    }
}

impl Work {
    /// The output is finished: every file of it that `is_own`, by its path from the folder on, is written.
    pub fn finish(mut self, result: Value, is_own: impl Fn(&str) -> bool) -> Result<()> {
        self.record.complete = true;
        self.record.result = result;
        let Some(place) = self.place else { return Ok(()) };
        self.record.content = Content::of(&place.output, is_own)?;
        write_sealed(&place.record, &self.record)
    }
}

/// Whether anything of an output was made: its file or a part of it, or in its folder a file with content
/// besides the record.
fn is_begun(output: &Path) -> Result<bool> {
    if !output.is_dir() {
        return Ok(output.exists() || partial::is_begun(output)?);
    }
    let record = Record::within(output);
    has_content(output, &|path| path != record)
}

/// Whether a file below `folder` that `counts` has content.
fn has_content(folder: &Path, counts: &dyn Fn(&Path) -> bool) -> Result<bool> {
    let read = || Error::io(folder, "read");
    for entry in std::fs::read_dir(folder).map_err(read())? {
        let path = entry.map_err(read())?.path();
        let found = match path.is_dir() {
            true => has_content(&path, counts)?,
            false => counts(&path) && path.metadata().is_ok_and(|it| it.len() > 0),
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The error, with the advice to start over.
pub fn or_start_over(error: Error) -> Error {
    Error::usage(format!("{error}. Use another --out, or --fresh to start over"))
}

/// The command line as it was given, without secrets.
pub fn command_line() -> Vec<String> {
    std::env::args_os().map(|it| redact(&it.to_string_lossy())).collect()
}

/// The day that chat templates took for today, where the record at `path` says one.
pub fn date_in(path: &Path) -> Option<String> {
    let record = Record::read(path).ok()?;
    let date = record.made.settings.get("chat")?.get("date")?.as_str()?;
    Some(date.to_owned())
}

/// The settings that have changed: dotted key, then and now.
pub fn changed_settings(now: &Value, then: &Value) -> Vec<String> {
    let (now, then) = (flatten(now), flatten(then));
    let keys = now.keys().chain(then.keys().filter(|key| !now.contains_key(*key)));
    keys.filter(|key| now.get(*key) != then.get(*key))
        .map(|key| {
            let text = |side: &BTreeMap<String, String>| {
                side.get(key).cloned().unwrap_or_else(|| "nothing".to_owned())
            };
            format!("{key}: {} → {}", text(&then), text(&now))
        })
        .collect()
}

/// Dotted keys of nested objects.
fn flatten(value: &Value) -> BTreeMap<String, String> {
    fn walk(prefix: &str, value: &Value, into: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let key =
                        if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    walk(&key, value, into);
                }
            }
            leaf => {
                into.insert(prefix.to_owned(), leaf.to_string());
            }
        }
    }
    let mut flat = BTreeMap::new();
    walk("", value, &mut flat);
    flat
}
