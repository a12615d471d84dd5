//! `run.json`: what a folder (or file) was made from, and whether it is finished.
//!
//! The same command with the same settings and inputs continues or is done; with others it refuses
//! and says what differs. A lock keeps two processes from working on the same output.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use exalign::data::Tokenizer;
use exalign::files::{
    Content, Output, create_dir, read_sealed, sweep, sweep_folder, try_lock, write_sealed,
};
use exalign::secrets::{redact, redact_json};
use exalign::training::CHECKPOINTS;
use exalign::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::shard::Shard;

/// What an output was made from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The command.
    pub command: String,
    /// The full configuration and the options that shape the result, the seed among them.
    pub settings: Value,
    /// Content hashes of what was read.
    pub inputs: BTreeMap<String, String>,
    /// Versions and device; they do not decide whether the output can be continued.
    pub environment: Value,
    /// Whether the output is finished.
    pub complete: bool,
    /// What came out, once finished.
    #[serde(default)]
    pub result: Value,
    /// What the output consists of, once finished.
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

/// What to do about an output.
pub enum Start {
    /// It is finished already; the result of then.
    Done(Value),
    /// It is to be made or continued.
    Go(Box<Work>),
}

impl Record {
    /// A record of `command` on `device`.
    pub fn new(command: &str, settings: Value, device: &str) -> Self {
        Self {
            command: command.to_owned(),
            settings: redact_json(settings),
            inputs: BTreeMap::new(),
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

    /// Names an input by its content.
    pub fn input(mut self, name: &str, hash: String) -> Self {
        self.inputs.insert(name.to_owned(), hash);
        self
    }

    /// Names the tokenizer by its content, the chat template included: it shapes what is read.
    pub fn tokenizer(self, tokenizer: Option<&Tokenizer>) -> Self {
        let hash = tokenizer.map(Tokenizer::content_hash).unwrap_or_default();
        self.input("the tokenizer or chat template", hash.to_owned())
    }

    /// Notes that the output is that of a shard.
    pub fn shard(mut self, shard: Option<Shard>) -> Self {
        if let Some(shard) = shard {
            self.settings["shard"] = json!(shard);
        }
        self
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
        if self.settings.get("shard").is_some() {
            return Err(Error::usage(format!(
                "--out {}: expected a file, whose record `exalign merge-shards` reads, found a device or \
                 a pipe; name a file, or leave --shard out",
                stream.display()
            )));
        }
        Ok(Start::Go(Box::new(Work { place: None, record: self })))
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
            let differences = self.differences(&found);
            if !differences.is_empty() {
                return Err(Error::Usage(format!(
                    "{}: was made with other settings: {}. Use another --out, or --fresh to start over",
                    output.display(),
                    differences.join("; ")
                )));
            }
            if found.complete && !found.content.set_changes_aside(output, CHECKPOINTS)? {
                return Ok(Start::Done(found.result));
            }
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
        if fresh && output.is_dir() {
            for name in [CHECKPOINTS, "model"] {
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

    /// The device that it was made on.
    pub fn device(&self) -> &str {
        self.environment["device"].as_str().unwrap_or("?")
    }

    fn differences(&self, found: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        if self.command != found.command {
            differences.push(format!("command: {} → {}", found.command, self.command));
        }
        differences.extend(changed_settings(&self.settings, &found.settings));
        for (name, hash) in &self.inputs {
            if found.inputs.get(name) != Some(hash) {
                differences.push(format!("the content of {name} has changed"));
            }
        }
        differences
    }
}

impl Work {
    /// The output, a file, is finished.
    pub fn finish(self, result: Value) -> Result<()> {
        self.finish_folder(result, |_| false)
    }

    /// The output is finished: every file of it that `is_own`, by its path from the folder on, is written.
    pub fn finish_folder(mut self, result: Value, is_own: impl Fn(&str) -> bool) -> Result<()> {
        self.record.complete = true;
        self.record.result = result;
        let Some(place) = self.place else { return Ok(()) };
        self.record.content = Content::of(&place.output, is_own)?;
        write_sealed(&place.record, &self.record)
    }
}

/// What is wrong with a record, and the way out.
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
    let date = record.settings.get("chat")?.get("date")?.as_str()?;
    Some(date.to_owned())
}

/// The settings that are not what they were: dotted key, then and now.
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
