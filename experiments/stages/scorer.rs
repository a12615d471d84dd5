//! A reward model in use: groups as the model reads them, and their rewards.

use std::path::Path;

use burn::tensor::Device;
use exalign::data::{
    ChatSettings, Group, GroupBatch, Intake, Limits, Located, RewardReading, TokenGroup,
    Tokenization, Tokenizer,
};
use exalign::model::{ModelFolder, Precision, RewardModel, reward_reading};
use exalign::policy::{check_tokens, not_finite, read_in_batches};
use exalign::progress::Progress;
use exalign::{Error, Result, interrupt};

use crate::model_input::{reward_folder, tokenizer};
use crate::shard::Portion;

/// A reward model with its tokenizer, ready to score groups.
pub struct Scorer {
    folder: ModelFolder,
    tokenizer: Option<Tokenizer>,
    reading: RewardReading,
}

impl Scorer {
    /// Opens a reward model's folder, or the folder of the run that made it.
    pub fn open(path: &Path, dtype: Precision, chat: &ChatSettings) -> Result<Self> {
        let folder = reward_folder(path)?.kept_as(dtype);
        if !folder.is_classifier() {
            return Err(Error::file(
                &folder.path,
                format!(
                    "expected a reward model ({}), found {}; `exalign reward` makes one",
                    folder.family.classifier_architecture, folder.json["architectures"]
                ),
            ));
        }
        let tokenizer = tokenizer(&folder, chat)?;
        let reading = reward_reading(&folder);
        Ok(Self { folder, tokenizer, reading })
    }

    /// Its own tokens of a group.
    pub fn tokens(&self, located: &Located<Group>, intake: &mut Intake) -> Result<TokenGroup> {
        let positions = self.folder.shape.max_positions;
        let tokenization = Tokenization {
            tokenizer: self.tokenizer.as_ref(),
            limits: Limits { max_length: positions, max_prompt_length: 0 },
            vocab_size: self.folder.shape.vocab_size,
        };
        self.reading.tokens(located, &tokenization, intake)
    }

    /// Its own tokens of every group; `source` is the file errors name.
    pub fn all_tokens(&self, source: &Path, groups: &[Group]) -> Result<Vec<TokenGroup>> {
        let mut intake = Intake::default();
        let mut tokens = |(index, group): (usize, &Group)| {
            let located = Located { file: source.into(), line: index + 1, record: group.clone() };
            self.tokens(&located, &mut intake)
        };
        groups.iter().enumerate().map(&mut tokens).collect()
    }

    /// The reward of every completion of a portion's groups, given by their
    /// [tokens](Self::all_tokens).
    pub fn rewards(
        &self,
        tokens: &[TokenGroup],
        portion: &Portion,
        device: &Device,
    ) -> Result<Vec<Vec<f64>>> {
        let model = RewardModel::load(&self.folder, 0, device)?;
        let records = portion.records();
        let completions = records.iter().map(|&it| tokens[it].completions.len()).sum();
        let mut progress = Progress::new("labelling", "completions", 0, completions);
        let rewards =
            portion.by_record(tokens, |block| rewards(&model, block, device, &mut progress))?;
        progress.finish();
        Ok(rewards)
    }
}

/// The reward of every completion.
fn rewards(
    model: &RewardModel,
    tokens: &[TokenGroup],
    device: &Device,
    progress: &mut Progress,
) -> Result<Vec<Vec<f64>>> {
    let mut rewards: Vec<Vec<f64>> =
        tokens.iter().map(|it| vec![0.0; it.completions.len()]).collect();
    check_tokens(model.decoder.config(), tokens)?;
    read_in_batches(tokens, |parts, groups| {
        interrupt::check()?;
        let batch = GroupBatch::new(groups, device);
        let values: Vec<f32> =
            model.rewards(&batch).into_data_as::<f32>().try_into_vec().map_err(|error| {
                Error::Numeric(format!("rewards could not be read back from the device: {error}"))
            })?;
        for (part, values) in parts.iter().zip(values.chunks(batch.num_completions)) {
            for (completion, &reward) in part.completions.clone().zip(values) {
                if !reward.is_finite() {
                    return Err(not_finite("the reward", &tokens[part.group], completion));
                }
                rewards[part.group][completion] = reward.into();
            }
            progress.advance(values.len(), "");
        }
        Ok(())
    })?;
    Ok(rewards)
}
