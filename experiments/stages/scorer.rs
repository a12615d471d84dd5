//! A reward model of the command line at work on a portion of a file.

use std::path::Path;

use burn::tensor::Device;
use exalign::data::{ChatSettings, TokenGroup};
use exalign::model::Precision;
use exalign::progress::Progress;
use exalign::rewards::{RewardScorer, rewards_of};
use exalign::tuning::{reward_folder, tokenizer};
use exalign::{Result, interrupt};

use crate::shard::Portion;

/// Opens a reward model's folder, or the folder of the run that made it.
pub fn open_scorer(path: &Path, dtype: Precision, chat: &ChatSettings) -> Result<RewardScorer> {
    let folder = reward_folder(path)?.kept_as(dtype);
    let tokenizer = tokenizer(&folder, chat)?;
    RewardScorer::new(folder, tokenizer)
}

/// The reward of every completion of a portion's groups, given by the scorer's own tokens.
pub fn portion_rewards(
    scorer: &RewardScorer,
    tokens: &[TokenGroup],
    portion: &Portion,
    device: &Device,
) -> Result<Vec<Vec<f64>>> {
    let model = scorer.load(device)?;
    let records = portion.records();
    let completions = records.iter().map(|&record| tokens[record].completions.len()).sum();
    let mut progress = Progress::new("labelling", "completions", 0, completions);
    let rewards = portion.by_record(tokens, |block| {
        rewards_of(&model, block, device, |finished| {
            progress.advance(finished, "");
            interrupt::check()
        })
    })?;
    progress.finish();
    Ok(rewards)
}
