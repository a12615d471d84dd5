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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::Keeping;
    use crate::training::checkpoint::State;

    fn checkpoints(folder: &Path) -> Checkpoints {
        Checkpoints::new(folder, Keeping { every: 10, keep: 1, num_steps: 100 })
    }

    fn write(folder: &Path) -> Result<()> {
        std::fs::write(folder.join("model.safetensors"), b"weights").unwrap();
        Ok(())
    }

    fn state(step: usize, best: Option<usize>, is_end: bool) -> State {
        State { step, metrics: "hash".to_owned(), best, is_end }
    }

    /// The step that a training goes on from.
    fn latest(checkpoints: &Checkpoints) -> Option<usize> {
        checkpoints.latest(|_| Some("hash".to_owned())).map(|(step, _)| step)
    }

    #[test]
    fn a_training_that_ended_before_its_last_step_is_found_at_its_end() {
        for (is_end, expected) in [(true, Some(20)), (false, None)] {
            let folder = tempfile::tempdir().unwrap();
            let checkpoints = checkpoints(folder.path());
            checkpoints.write(&state(20, None, is_end), None, write).unwrap();
            assert_eq!(latest(&checkpoints), expected, "without an optimizer's state");
        }
    }

    #[test]
    fn best_models_stay_as_long_as_a_checkpoint_that_counts_names_them() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = checkpoints(folder.path());
        let with_optimizer = |folder: &Path| {
            std::fs::write(folder.join("optimizer.bpk"), b"moments").unwrap();
            write(folder)
        };
        checkpoints.write_best(7, write).unwrap();
        checkpoints.write(&state(10, Some(7), false), None, with_optimizer).unwrap();
        checkpoints.write_best(12, write).unwrap();
        checkpoints.write_best(15, write).unwrap();
        assert_eq!(checkpoints.numbered(NAME), [7, 15], "no checkpoint names 12");
        checkpoints.write(&state(20, Some(15), false), None, with_optimizer).unwrap();
        checkpoints.write(&state(30, Some(15), false), None, with_optimizer).unwrap();
        assert_eq!(checkpoints.numbered(NAME), [15], "10 is none to go on from any more");
        checkpoints.finish(Some(15)).unwrap();
        assert_eq!(checkpoints.numbered(NAME), [15]);
    }

    #[test]
    fn a_checkpoint_counts_only_where_its_best_model_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = checkpoints(folder.path());
        checkpoints.write_best(7, write).unwrap();
        checkpoints.write(&state(20, Some(7), true), None, write).unwrap();
        assert_eq!(latest(&checkpoints), Some(20));
        std::fs::write(checkpoints.best(7).join("model.safetensors"), b"other").unwrap();
        assert_eq!(latest(&checkpoints), None);
    }
}
