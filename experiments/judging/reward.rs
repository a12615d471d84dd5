//! The judge `reward`: the answer with the higher reward of a reward model wins.

use std::path::PathBuf;

use exalign::Result;
use exalign::data::Group;
use exalign::judges::{Comparison, Judge, Judgement};
use exalign::rewards::RewardScorer;
use serde_json::json;

use super::kind::{Behind, ByScores, Kind, Reading, Reads, by_scores};
use crate::shard::Shard;
use crate::stages::scorer::portion_rewards;

pub const KIND: Kind = Kind {
    name: "reward",
    command: Some(Behind::Argument("FOLDER")),
    experiment: Some(Behind::Nothing),
    needs_labels: false,
    shaping: |_, settings| json!({ "judge": "reward", "dtype": settings.dtype, "chat": settings.chat }),
    reads: |folder, _| Some(Reads::RewardModel(PathBuf::from(folder).into())),
    open: |folder, asked| match asked.reading {
        Some(reading) => {
            let settings = &reading.settings;
            let scorer = RewardScorer::open(folder.as_ref(), settings.dtype, &settings.chat)?;
            Ok(Box::new(RewardModel { scorer, reading }))
        }
        // The stages of an experiment have measured them.
        None => {
            let scores = |comparison: &Comparison| comparison.group.rewards.clone();
            Ok(Box::new(ByScores { name: "the reward model", scores }))
        }
    },
};

struct RewardModel {
    scorer: RewardScorer,
    reading: Reading,
}

impl Judge for RewardModel {
    fn name(&self) -> String {
        "reward model".to_owned()
    }

    fn judge(&mut self, comparisons: &[Comparison]) -> Result<Vec<Judgement>> {
        let groups: Vec<Group> = comparisons.iter().map(|asked| asked.group.clone()).collect();
        let mut tokens = self.scorer.all_tokens(&self.reading.file, &groups)?;
        for (tokens, comparison) in tokens.iter_mut().zip(comparisons) {
            tokens.line = comparison.line.unwrap_or(tokens.line);
        }
        let all = Shard::WHOLE.of_groups(tokens.iter().cloned().map(Ok))?;
        let rewards = portion_rewards(&self.scorer, &tokens, &all, &self.reading.device)?;
        Ok(rewards.iter().map(|rewards| by_scores(Some(rewards))).collect())
    }
}
