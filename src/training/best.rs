//! The best model of a training, a folder beside the checkpoints: `DIR/checkpoints/best-N/`.
//!
//! A checkpoint names the model that was the best when it was written, and counts only where that model is
//! whole. So a best model stays as long as the training may go on from a checkpoint that names it.

use std::path::{Path, PathBuf};

use super::checkpoint::{Checkpoints, remove, write_checksums};
use crate::Result;
use crate::files::{create_dir, persist_folder, temporary_folder};

const NAME: &str = "best-";

impl Checkpoints {
    /// The folder of the best model, which was the model after `step` steps.
    pub fn best(&self, step: usize) -> PathBuf {
        self.folder.join(format!("{NAME}{step}"))
    }

    /// Writes the best model so far; `write_model` fills the folder.
    pub(super) fn write_best(
        &self,
        step: usize,
        write_model: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<()> {
        create_dir(&self.folder)?;
        let target = self.best(step);
        let temporary = temporary_folder(&target)?;
        write_model(temporary.path())?;
        write_checksums(temporary.path())?;
        persist_folder(temporary, &target)?;
        self.prune_best(Some(step))
    }

    /// Drops best models that are no more: neither `best`, nor the best of a checkpoint that the training
    /// may go on from.
    pub(super) fn prune_best(&self, best: Option<usize>) -> Result<()> {
        let of_checkpoint = |step: &usize| self.may_go_on_from(*step).then(|| self.state(*step));
        let mut kept: Vec<Option<usize>> = vec![best];
        let states = self.steps().into_iter().filter_map(|step| of_checkpoint(&step));
        kept.extend(states.flatten().map(|state| state.best));
        for step in self.numbered(NAME).into_iter().filter(|step| !kept.contains(&Some(*step))) {
            remove(&self.best(step))?;
        }
        Ok(())
    }
}
