//! A reward model of the command line at work on a portion of a file.

use burn::tensor::Device;
use exalign::data::TokenGroup;
use exalign::progress::Progress;
use exalign::rewards::{RewardScorer, rewards_of};
use exalign::{Result, interrupt};

use crate::shard::Portion;

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
