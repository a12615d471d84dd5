//! Checkpoints: a folder per step, complete or absent, checked before it is used.
//!
//! `DIR/checkpoints/step-N/` is a Hugging Face folder (so that it can be evaluated), with `optimizer.bpk` and
//! `state.json` beside the model. The last step keeps no optimizer state, since nothing would read it. A
//! checkpoint is written under another name, and renamed once all of it has reached the disk; damage shows in
//! `checksums.json`. `state.json` also records the content of `metrics.jsonl` at that step, so that a
//! training continues from a checkpoint only if its metrics agree.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::optim::OptimizerRecord;
use serde::{Deserialize, Serialize};

use crate::files::{
    create_dir, hash_file, persist_folder, read_json, sync_file, temporary_folder, write_json,
};
use crate::{Error, Result};

/// The folder of a training's checkpoints, within that of the training.
pub const CHECKPOINTS: &str = "checkpoints";
const OPTIMIZER: &str = "optimizer.bpk";
const STATE: &str = "state.json";
const CHECKSUMS: &str = "checksums.json";
/// Whole checkpoints: the newest, and one more should the newest turn out damaged.
const RESUMABLE: usize = 2;

/// The checkpoints of one training.
pub struct Checkpoints {
    pub(super) folder: PathBuf,
    keeping: Keeping,
}

/// Which checkpoints there are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Keeping {
    /// Steps between checkpoints; 0 writes none. An interrupt writes one off this schedule, which is
    /// there to go on from and goes when there is a later one.
    pub every: usize,
    /// The newest models of the schedule that stay; 0 keeps all.
    pub keep: usize,
    /// The steps of the training, after the last of which there is a checkpoint.
    pub num_steps: usize,
}

impl Keeping {
    /// Whether there is to be a checkpoint after `step` steps.
    pub fn is_due(&self, step: usize) -> bool {
        self.every > 0 && (step.is_multiple_of(self.every) || step == self.num_steps)
    }
}

/// Where a training stood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Steps taken.
    pub step: usize,
    /// The hash of the lines of `metrics.jsonl` up to then.
    pub metrics: String,
    /// The step of the best model so far, where one is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<usize>,
    /// Whether the training ended here, before its last step.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_end: bool,
}

impl Checkpoints {
    /// Under `DIR/checkpoints`.
    pub fn new(dir: &Path, keeping: Keeping) -> Self {
        Self { folder: dir.join(CHECKPOINTS), keeping }
    }

    /// The folder of the checkpoint after `step` steps.
    pub fn path(&self, step: usize) -> PathBuf {
        self.folder.join(format!("step-{step}"))
    }

    /// Steps with a checkpoint, in order.
    pub fn steps(&self) -> Vec<usize> {
        self.numbered("step-")
    }

    /// The numbers behind `prefix` in the names of folders, in order.
    pub(super) fn numbered(&self, prefix: &str) -> Vec<usize> {
        let mut steps: Vec<usize> = std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok())
            .collect();
        steps.sort_unstable();
        steps
    }

    /// Writes a checkpoint; `write_model` fills the folder with the model.
    pub fn write(
        &self,
        state: &State,
        optimizer: Option<OptimizerRecord>,
        write_model: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        create_dir(&self.folder)?;
        let target = self.path(state.step);
        let temporary = temporary_folder(&target)?;
        // First, since the state is a copy that goes when it is written.
        if let Some(optimizer) = optimizer {
            let file = temporary.path().join(OPTIMIZER);
            optimizer.save(&file).map_err(|error| {
                Error::file(&file, format!("cannot keep the optimizer's state: {error}"))
            })?;
            sync_file(&file)?;
        }
        write_model(temporary.path())?;
        write_json(&temporary.path().join(STATE), state)?;
        write_checksums(temporary.path())?;
        persist_folder(temporary, &target)?;
        // Later ones were passed over, or there would be no step to take: they are worth nothing, and would
        // count as the newest.
        for step in self.steps().into_iter().filter(|it| *it > state.step) {
            remove(&self.path(step))?;
        }
        if let Err(error) = self.prune(RESUMABLE).and_then(|()| self.prune_best(state.best)) {
            // It only costs space until the end.
            tracing::warn!("{error}");
        }
        Ok(())
    }

    /// The newest undamaged checkpoint that the training can go on from, with the optimizer's state;
    /// after the last step none is needed. `metrics` tells the hash of the metrics of so many steps,
    /// none where those are not there.
    pub fn latest(
        &self,
        metrics: impl Fn(usize) -> Option<String>,
    ) -> Option<(usize, Option<OptimizerRecord>)> {
        let mut usable = self.steps().into_iter().rev().filter(|step| self.may_go_on_from(*step));
        usable.find_map(|step| match self.read(step, &metrics) {
            Ok(optimizer) => Some((step, optimizer)),
            Err(error) => {
                tracing::warn!("passing over a damaged checkpoint: {error}");
                None
            }
        })
    }

    /// Drops what only an unfinished training needs; of the best models, the one of the step `best`
    /// stays.
    ///
    /// # Errors
    /// If it cannot be removed.
    pub fn finish(&self, best: Option<usize>) -> Result<()> {
        self.prune(0)?;
        self.prune_best(best)
    }

    /// Whether the checkpoint of a step has all that a training needs to go on: after its end nothing is
    /// needed.
    pub(super) fn may_go_on_from(&self, step: usize) -> bool {
        self.is_end(step) || self.path(step).join(OPTIMIZER).exists()
    }

    fn is_end(&self, step: usize) -> bool {
        step == self.keeping.num_steps || self.state(step).is_ok_and(|state| state.is_end)
    }

    /// Where the training stood at the checkpoint of a step.
    pub(super) fn state(&self, step: usize) -> Result<State> {
        read_json(&self.path(step).join(STATE))
    }

    fn read(
        &self,
        step: usize,
        metrics: &impl Fn(usize) -> Option<String>,
    ) -> Result<Option<OptimizerRecord>> {
        let folder = self.path(step);
        let files = whole(&folder)?;
        if !self.is_end(step) && !files.contains_key(OPTIMIZER) {
            return Err(Error::file(folder.join(CHECKSUMS), format!("names no {OPTIMIZER}")));
        }
        let state = self.state(step)?;
        if state.step != step {
            let message = format!("expected step {step}, found {}", state.step);
            return Err(Error::file(folder.join(STATE), message));
        }
        if metrics(step).as_ref() != Some(&state.metrics) {
            let message =
                format!("metrics.jsonl no longer holds its first {step} lines as they were");
            return Err(Error::file(folder, message));
        }
        if let Some(best) = state.best {
            whole(&self.best(best))?;
        }
        let optimizer = folder.join(OPTIMIZER);
        let load = |_| {
            OptimizerRecord::load(&optimizer)
                .map_err(|error| Error::file(&optimizer, format!("cannot be read: {error}")))
        };
        files.get(OPTIMIZER).map(load).transpose()
    }

    /// Keeps optimizer states of the newest `resumable` checkpoints and models as [`Keeping`] says.
    fn prune(&self, resumable: usize) -> Result<()> {
        let (scheduled, extra): (Vec<usize>, Vec<usize>) =
            self.steps().into_iter().rev().partition(|step| self.keeping.is_due(*step));
        let newest = scheduled.first().copied().unwrap_or(0);
        for (age, step) in extra.into_iter().enumerate() {
            if age >= resumable || step < newest {
                remove(&self.path(step))?;
            }
        }
        let Keeping { keep, .. } = self.keeping;
        for (age, step) in scheduled.into_iter().enumerate() {
            let folder = self.path(step);
            if keep > 0 && age >= keep.max(resumable) {
                remove(&folder)?;
            } else if age >= resumable && folder.join(OPTIMIZER).exists() {
                remove(&folder.join(OPTIMIZER))?;
            }
        }
        Ok(())
    }
}

pub(super) fn remove(path: &Path) -> Result<()> {
    match path.is_dir() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    }
    .map_err(Error::io(path, "remove"))
}

/// Writes the list of a folder's files, by which damage shows.
pub(super) fn write_checksums(folder: &Path) -> Result<()> {
    write_json(&folder.join(CHECKSUMS), &checksums(folder)?)
}

/// The files of a folder with a model, each with its hash, as they were written.
///
/// # Errors
/// The file that is not what was written.
fn whole(folder: &Path) -> Result<BTreeMap<String, String>> {
    let expected: BTreeMap<String, String> = read_json(&folder.join(CHECKSUMS))?;
    let found = checksums(folder)?;
    let differs = |file: &&String| expected.get(*file) != found.get(*file);
    if let Some(file) = expected.keys().chain(found.keys()).find(differs) {
        return Err(Error::file(folder.join(file), "its content is not what was written"));
    }
    if !expected.keys().any(|file| file.ends_with(".safetensors")) {
        return Err(Error::file(folder.join(CHECKSUMS), "names no weights"));
    }
    Ok(expected)
}

/// Content hashes of a folder's files, those of folders in it among them, the list itself left out.
fn checksums(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut hashes = BTreeMap::new();
    add_checksums(folder, "", &mut hashes)?;
    hashes.remove(CHECKSUMS);
    Ok(hashes)
}

fn add_checksums(folder: &Path, within: &str, to: &mut BTreeMap<String, String>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "read"))?.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let (path, name) = (entry.path(), format!("{within}{name}"));
        if path.is_dir() {
            add_checksums(&path, &format!("{name}/"), to)?;
        } else {
            to.insert(name, hash_file(&path)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_folders_are_hashed_and_checked_too() {
        let folder = tempfile::tempdir().unwrap();
        let further = folder.path().join("additional_chat_templates");
        create_dir(&further).unwrap();
        std::fs::write(folder.path().join("model.safetensors"), "weights").unwrap();
        std::fs::write(further.join("tool_use.jinja"), "a").unwrap();
        write_checksums(folder.path()).unwrap();
        let files = whole(folder.path()).unwrap();
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(names, ["additional_chat_templates/tool_use.jinja", "model.safetensors"]);
        std::fs::write(further.join("tool_use.jinja"), "b").unwrap();
        assert!(whole(folder.path()).is_err());
    }
}
