//! Reward and KL of every checkpoint of an alignment, and of π_sft itself.

use std::path::{Path, PathBuf};

use exalign::config::{DrawSettings, Settings};
use exalign::progress::stages;
use exalign::training::{Checkpoints, Keeping};
use exalign::{Error, Result};
use serde_json::Value;

use super::measured::file_of;
use crate::context::Context;
use crate::stage::{Input, Keyed, Place, Source, Step, perform};
use crate::stages::evaluate::Evaluate;

/// The evaluation of a policy at each of its checkpoints.
pub struct EvaluateCheckpoints {
    /// The folder of an alignment; none for the reference itself.
    pub aligned: Option<Source>,
    pub reference: Source,
    pub reward: Source,
    pub data: Source,
    pub settings: DrawSettings,
}

impl Keyed for EvaluateCheckpoints {
    const NAME: &'static str = "evaluate checkpoints";

    fn settings(&self) -> Value {
        self.settings.shaping()
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        vec![
            self.aligned.as_ref().unwrap_or(&self.reference).model("policy"),
            self.reference.model("reference"),
            self.reward.reward_model("reward"),
            self.data.file("data"),
        ]
    }
}

impl Step for EvaluateCheckpoints {
    fn fill(self, folder: &Path, context: &Context) -> Result<()> {
        let policies = self.policies()?;
        let count = policies.len();
        for (number, (step, policy)) in policies.into_iter().enumerate() {
            if count > 1 {
                stages::part(format!("checkpoint {} of {count}", number + 1));
            }
            let evaluate = Evaluate {
                policy: policy.into(),
                reference: self.reference.clone(),
                reward: self.reward.clone(),
                data: self.data.clone(),
                shard: None,
                settings: self.settings.clone(),
            };
            perform(evaluate, &Place::File(folder.join(file_of(step))), false, context)?;
        }
        Ok(())
    }
}

impl EvaluateCheckpoints {
    /// The policies, each with its step.
    fn policies(&self) -> Result<Vec<(usize, PathBuf)>> {
        let Some(aligned) = &self.aligned else {
            return Ok(vec![(0, self.reference.path.clone())]);
        };
        let checkpoints = Checkpoints::new(&aligned.path, Keeping::default());
        let steps = checkpoints.steps();
        if steps.is_empty() {
            return Err(Error::file(
                &aligned.path,
                "expected checkpoints to evaluate, found none; they were removed since: remove this folder's \
                 stage.json to train again",
            ));
        }
        Ok(steps.into_iter().map(|step| (step, checkpoints.path(step))).collect())
    }
}
