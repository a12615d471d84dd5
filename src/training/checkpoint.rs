//! Checkpoints: a folder per step, whole or absent, checked before it is trusted.
//!
//! `DIR/checkpoints/step-N/` is a Hugging Face folder (so that it can be evaluated) with
//! `optimizer.bpk` and `state.json` beside the model; after the last step there is no optimizer's state,
//! which nothing would read. It is written under another name and renamed; `checksums.json` tells a
//! damaged one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::optim::OptimizerRecord;

use crate::files::{hash_file, read_json, write_json};
use crate::{Error, Result};

const OPTIMIZER: &str = "optimizer.bpk";
const CHECKSUMS: &str = "checksums.json";
/// Whole checkpoints: the newest, and one more should the newest turn out damaged.
const RESUMABLE: usize = 2;

/// The checkpoints of one training.
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

impl Checkpoints {
    /// Under `DIR/checkpoints`; the newest `keep` models stay (0: all).
    pub fn new(dir: &Path, keep: usize) -> Self {
        Self { folder: dir.join("checkpoints"), keep }
    }

    /// The folder of the checkpoint after `step` steps.
    pub fn path(&self, step: usize) -> PathBuf {
        self.folder.join(format!("step-{step}"))
    }

    /// Steps with a checkpoint, in order.
    pub fn steps(&self) -> Vec<usize> {
        let mut steps: Vec<usize> = std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok())
            .collect();
        steps.sort_unstable();
        steps
    }

    /// Writes the checkpoint after `step` steps; `write_model` fills the folder with the model.
    pub fn write(
        &self,
        step: usize,
        optimizer: Option<OptimizerRecord>,
        write_model: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        std::fs::create_dir_all(&self.folder).map_err(Error::io(&self.folder, "create"))?;
        let temporary = tempfile::Builder::new()
            .prefix(".step.")
            .tempdir_in(&self.folder)
            .map_err(Error::io(&self.folder, "write into"))?;
        // First, since the state is a copy that goes when it is written.
        if let Some(optimizer) = optimizer {
            optimizer.save(temporary.path().join(OPTIMIZER)).map_err(|error| {
                Error::file(temporary.path(), format!("cannot keep the optimizer's state: {error}"))
            })?;
        }
        write_model(temporary.path())?;
        write_json(&temporary.path().join("state.json"), &serde_json::json!({ "step": step }))?;
        write_json(&temporary.path().join(CHECKSUMS), &checksums(temporary.path())?)?;
        let target = self.path(step);
        if target.exists() {
            std::fs::remove_dir_all(&target).map_err(Error::io(&target, "replace"))?;
        }
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let shared = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(temporary.path(), shared)
                .map_err(Error::io(&target, "write"))?;
        }
        std::fs::rename(temporary.keep(), &target).map_err(Error::io(&target, "write"))?;
        self.prune(RESUMABLE);
        Ok(())
    }

    /// The newest undamaged checkpoint that a training of `num_steps` steps can go on from, with the
    /// optimizer's state; after the last step none is needed.
    pub fn latest(&self, num_steps: usize) -> Option<(usize, Option<OptimizerRecord>)> {
        let usable = |step: &usize| *step == num_steps || self.path(*step).join(OPTIMIZER).exists();
        self.steps().into_iter().rev().filter(usable).find_map(|step| match self.read(step) {
            Ok(optimizer) => Some((step, optimizer)),
            Err(error) => {
                tracing::warn!("passing over a damaged checkpoint: {error}");
                None
            }
        })
    }

    /// Drops what only an unfinished training needs.
    pub fn finish(&self) {
        self.prune(0);
    }

    fn read(&self, step: usize) -> Result<Option<OptimizerRecord>> {
        let folder = self.path(step);
        let expected: BTreeMap<String, String> = read_json(&folder.join(CHECKSUMS))?;
        let found = checksums(&folder)?;
        if let Some((file, _)) = expected.iter().find(|(file, hash)| found.get(*file) != Some(hash))
        {
            return Err(Error::file(folder.join(file), "its content is not what was written"));
        }
        let optimizer = folder.join(OPTIMIZER);
        let load = |_| {
            OptimizerRecord::load(&optimizer)
                .map_err(|error| Error::file(&optimizer, format!("cannot be read: {error}")))
        };
        expected.get(OPTIMIZER).map(load).transpose()
    }

    /// Keeps optimizer states of the newest `resumable` checkpoints and models as `keep` says.
    /// What cannot be removed only costs space.
    fn prune(&self, resumable: usize) {
        for (age, step) in self.steps().into_iter().rev().enumerate() {
            let folder = self.path(step);
            let outcome = if self.keep > 0 && age >= self.keep.max(resumable) {
                std::fs::remove_dir_all(&folder)
            } else if age >= resumable && folder.join(OPTIMIZER).exists() {
                std::fs::remove_file(folder.join(OPTIMIZER))
            } else {
                Ok(())
            };
            if let Err(error) = outcome {
                tracing::warn!("{}: cannot remove: {error}", folder.display());
            }
        }
        for entry in std::fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(".step.") {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Content hashes of a folder's files, the list itself left out.
fn checksums(folder: &Path) -> Result<BTreeMap<String, String>> {
    std::fs::read_dir(folder)
        .map_err(Error::io(folder, "read"))?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name != CHECKSUMS)
        .map(|name| Ok((name.clone(), hash_file(&folder.join(name))?)))
        .collect()
}
