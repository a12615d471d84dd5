//! `metrics.jsonl`: one line a step, the same after an interruption as without one.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::files::write_atomic;
use crate::{Error, Result};

/// The metrics that a training finds when it starts: those of the steps 1, 2, .. as far as none is
/// missing, cut or no JSON.
pub struct Found {
    path: PathBuf,
    lines: Vec<(String, Value)>,
}

impl Found {
    /// The hash of the lines of the first `steps` steps, none where they are not all there.
    pub fn hash(&self, steps: usize) -> Option<String> {
        let lines = self.lines.get(..steps)?;
        let mut hasher = blake3::Hasher::new();
        lines.iter().for_each(|(line, _)| note(&mut hasher, line));
        Some(hasher.finalize().to_hex().to_string())
    }

    /// The lines of the first `steps` steps.
    pub fn lines(&self, steps: usize) -> impl Iterator<Item = &Value> {
        self.lines.iter().take(steps).map(|(_, line)| line)
    }

    /// Keeps the lines of the first `steps` steps; what a killed process wrote after its last
    /// checkpoint is going to be written again.
    pub fn go_on(self, steps: usize) -> Result<Metrics> {
        let Self { path, mut lines } = self;
        lines.truncate(steps);
        let mut hasher = blake3::Hasher::new();
        lines.iter().for_each(|(line, _)| note(&mut hasher, line));
        write_atomic(&path, |writer| {
            lines.iter().try_for_each(|(line, _)| writeln!(writer, "{line}"))
        })?;
        let file =
            OpenOptions::new().append(true).open(&path).map_err(Error::io(&path, "write"))?;
        Ok(Metrics {
            path,
            file,
            hasher,
            seconds: lines.iter().filter_map(|(_, json)| json["seconds"].as_f64()).sum(),
            last_loss: lines.last().and_then(|(_, json)| json["loss"].as_f64()),
        })
    }
}

/// The metrics of a training while it goes on.
pub struct Metrics {
    path: PathBuf,
    file: File,
    hasher: blake3::Hasher,
    /// Seconds of the steps that were in the file when the training started.
    pub seconds: f64,
    /// The loss of the last of them.
    pub last_loss: Option<f64>,
}

impl Metrics {
    /// What is in the file `path`; nothing where there is none.
    pub fn read(path: &Path) -> Found {
        let bytes = std::fs::read(path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines = text
            .split_inclusive('\n')
            .zip(1u64..)
            .map_while(|(line, step)| {
                let line = line.strip_suffix('\n')?;
                let json: Value = serde_json::from_str(line).ok()?;
                (json["step"] == step).then(|| (line.to_owned(), json))
            })
            .collect();
        Found { path: path.to_owned(), lines }
    }

    /// Adds a step's line.
    pub fn append(&mut self, line: &Value) -> Result<()> {
        let line = line.to_string();
        self.file
            .write_all(format!("{line}\n").as_bytes())
            .map_err(Error::io(&self.path, "write"))?;
        note(&mut self.hasher, &line);
        Ok(())
    }

    /// The hash of all lines.
    pub fn hash(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    /// Makes the lines reach the disk.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(Error::io(&self.path, "write"))
    }
}

fn note(hasher: &mut blake3::Hasher, line: &str) {
    hasher.update(line.as_bytes());
    hasher.update(b"\n");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(step: usize) -> Value {
        json!({ "step": step, "loss": 0.5 / step as f64, "seconds": 2.0 })
    }

    #[test]
    fn metrics_go_on_after_the_steps_that_count_with_the_same_hash() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = Metrics::read(&path).go_on(0).unwrap();
        let hashes: Vec<String> = (1..=4)
            .map(|step| {
                metrics.append(&line(step)).unwrap();
                metrics.hash()
            })
            .collect();
        let found = Metrics::read(&path);
        assert_eq!(found.hash(3).as_ref(), Some(&hashes[2]));
        assert_eq!(found.hash(5), None);
        let mut metrics = found.go_on(2).unwrap();
        assert_eq!((metrics.seconds, metrics.last_loss), (4.0, Some(0.25)));
        metrics.append(&line(3)).unwrap();
        assert_eq!(metrics.hash(), hashes[2]);
        metrics.sync().unwrap();
    }

    #[test]
    fn a_line_that_is_cut_lost_or_changed_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = Metrics::read(&path).go_on(0).unwrap();
        (1..=3).for_each(|step| metrics.append(&line(step)).unwrap());
        let (whole, hash) = (std::fs::read(&path).unwrap(), metrics.hash());
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            for damaged in [&bytes[..], &whole[..at]] {
                std::fs::write(&path, damaged).unwrap();
                assert_ne!(Metrics::read(&path).hash(3).as_ref(), Some(&hash), "byte {at}");
            }
        }
    }
}
