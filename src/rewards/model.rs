//! Rewards of completions: groups as a reward model reads them, and what it gives each completion.

use std::path::Path;

use burn::tensor::Device;

use crate::data::{
    Group, GroupBatch, Intake, Limits, Located, RewardReading, TokenGroup, Tokenization, Tokenizer,
};
use crate::model::{ModelFolder, RewardModel, reward_reading};
use crate::policy::{check_tokens, not_finite, read_in_batches};
use crate::{Error, Result};

/// A reward model that is not loaded yet, with its tokenizer.
#[derive(Clone, Debug)]
pub struct RewardScorer {
    folder: ModelFolder,
    tokenizer: Option<Tokenizer>,
    reading: RewardReading,
}

impl RewardScorer {
    /// The reward model of `folder`, which reads texts by `tokenizer`.
    ///
    /// # Errors
    /// If the folder's model gives no rewards.
    pub fn new(folder: ModelFolder, tokenizer: Option<Tokenizer>) -> Result<Self> {
        if !folder.is_classifier() {
            return Err(Error::file(
                &folder.path,
                format!(
                    "expected a reward model ({}), found {}; `exalign reward` makes one",
                    folder.family.classifier_architecture, folder.json["architectures"]
                ),
            ));
        }
        let reading = reward_reading(&folder);
        Ok(Self { folder, tokenizer, reading })
    }

    /// The tokens of a group as the reward model reads it.
    ///
    /// # Errors
    /// If the record has a text that cannot be read so.
    pub fn tokens(&self, located: &Located<Group>, intake: &mut Intake) -> Result<TokenGroup> {
        let positions = self.folder.shape.max_positions;
        let tokenization = Tokenization {
            tokenizer: self.tokenizer.as_ref(),
            limits: Limits { max_length: positions, max_prompt_length: 0 },
            vocab_size: self.folder.shape.vocab_size,
        };
        self.reading.tokens(located, &tokenization, intake)
    }

    /// The tokens of every group as the reward model reads it; `source` is the file that errors name.
    ///
    /// # Errors
    /// If a group has a text that cannot be read so.
    pub fn all_tokens(&self, source: &Path, groups: &[Group]) -> Result<Vec<TokenGroup>> {
        let mut intake = Intake::default();
        let mut tokens = |(index, group): (usize, &Group)| {
            let located = Located { file: source.into(), line: index + 1, record: group.clone() };
            self.tokens(&located, &mut intake)
        };
        groups.iter().enumerate().map(&mut tokens).collect()
    }

    /// Loads the reward model.
    ///
    /// # Errors
    /// If its weights cannot be read.
    pub fn load(&self, device: &Device) -> Result<RewardModel> {
        RewardModel::load(&self.folder, 0, device)
    }
}

/// The reward of every completion, `[group][completion]`, without autodiff; `progress` hears the number
/// of completions finished.
///
/// # Errors
/// Groups that the model cannot read; [`Error::Numeric`] where a reward is not finite; those of
/// `progress`.
pub fn rewards_of(
    model: &RewardModel,
    groups: &[TokenGroup],
    device: &Device,
    mut progress: impl FnMut(usize) -> Result<()>,
) -> Result<Vec<Vec<f64>>> {
    let mut rewards: Vec<Vec<f64>> =
        groups.iter().map(|group| vec![0.0; group.completions.len()]).collect();
    check_tokens(model.decoder.config(), groups)?;
    read_in_batches(groups, |parts, batch_groups| {
        let batch = GroupBatch::new(batch_groups, device);
        let values: Vec<f32> =
            model.rewards(&batch).into_data_as::<f32>().try_into_vec().map_err(|error| {
                Error::Numeric(format!("rewards could not be read back from the device: {error}"))
            })?;
        for (part, values) in parts.iter().zip(values.chunks(batch.num_completions)) {
            for (completion, &reward) in part.completions.clone().zip(values) {
                if !reward.is_finite() {
                    return Err(not_finite("the reward", &groups[part.group], completion));
                }
                rewards[part.group][completion] = reward.into();
            }
            progress(values.len())?;
        }
        Ok(())
    })?;
    Ok(rewards)
}
