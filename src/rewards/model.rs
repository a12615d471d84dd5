//! Reward models: groups as they read them, and what they give each completion.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use serde_json::Value;

use super::kind::Kind;
use super::{Opening, Reward};

use crate::data::{
    ChatSettings, Group, GroupBatch, Intake, Limits, Located, RewardReading, TokenGroup,
    Tokenization, Tokenizer,
};
use crate::model::{
    ModelFolder, RewardModel, WeightType, reward_folder, reward_reading, tokenizer,
};
use crate::policy::{check_tokens, not_finite, read_in_batches};
use crate::{Error, Result, interrupt};

/// `reward:DIR`
pub const KIND: Kind = Kind {
    name: "reward",
    argument: "DIR",
    check: |_| Ok(()),
    title: |folder| title(folder),
    shaping: |_, _| Value::Null,
    content: |folder, _| content(folder),
    open: |folder, opening| Ok(Box::new(Loaded::open(folder, opening)?)),
};

/// The name of the folder, or of the one above where it is the `model` of a run.
fn title(folder: &str) -> String {
    let names = Path::new(folder).iter().filter_map(|name| name.to_str());
    let name = names.rev().find(|name| !["model", ".", "..", "/"].contains(name));
    name.unwrap_or(KIND.name).to_owned()
}

fn content(folder: &str) -> Result<BTreeMap<String, String>> {
    let folder = reward_folder(folder.as_ref())?;
    let text = Tokenizer::hash_of(folder.tokenizer_folder(), &folder.shape.end_of_text)?;
    let weights = folder.content_hash()?;
    let named = |name: &str, hash| (name.to_owned(), hash);
    Ok([named("reward", weights), named("the reward model's tokenizer", text)].into())
}

/// A reward model that is loaded when it is asked first.
struct Loaded {
    scorer: RewardScorer,
    model: Option<RewardModel>,
    device: Device,
}

impl Loaded {
    fn open(folder: &str, opening: &Opening<'_>) -> Result<Self> {
        let scorer = RewardScorer::open(folder.as_ref(), opening.dtype, opening.chat)?;
        Ok(Self { scorer, model: None, device: opening.device.clone() })
    }
}

impl Reward for Loaded {
    fn look_at(&self, group: &Located<Group>, intake: &mut Intake) -> Result<usize> {
        Ok(self.scorer.tokens(group, intake)?.num_tokens())
    }

    fn score(&mut self, groups: &[Located<Group>]) -> Result<Vec<Vec<f64>>> {
        let mut intake = Intake::default();
        let tokens = groups.iter().map(|group| self.scorer.tokens(group, &mut intake));
        let tokens = tokens.collect::<Result<Vec<TokenGroup>>>()?;
        let model = match &mut self.model {
            Some(model) => model,
            none => none.insert(self.scorer.load(&self.device)?),
        };
        rewards_of(model, &tokens, &self.device, |_| interrupt::check())
    }
}

/// A reward model that is not loaded yet, with its tokenizer.
#[derive(Clone, Debug)]
pub struct RewardScorer {
    folder: ModelFolder,
    tokenizer: Option<Tokenizer>,
    reading: RewardReading,
}

impl RewardScorer {
    /// The reward model in the folder `path`, or in that of the run that made it, kept as `dtype`.
    ///
    /// # Errors
    /// If the folder cannot be read, or its model gives no rewards.
    pub fn open(path: &Path, dtype: WeightType, chat: &ChatSettings) -> Result<Self> {
        let folder = reward_folder(path)?.kept_as(dtype);
        let tokenizer = tokenizer(&folder, chat)?;
        Self::new(folder, tokenizer)
    }

    /// The reward model of `folder`, which reads texts by `tokenizer`.
    ///
    /// # Errors
    /// If the folder's model gives no rewards.
    pub fn new(folder: ModelFolder, tokenizer: Option<Tokenizer>) -> Result<Self> {
        folder.expect_classifier()?;
        let reading = reward_reading(&folder);
        Ok(Self { folder, tokenizer, reading })
    }

    /// The tokens of a group as the reward model reads it.
    ///
    /// # Errors
    /// If the record has a text that cannot be read so.
    pub fn tokens(&self, located: &Located<Group>, intake: &mut Intake) -> Result<TokenGroup> {
        let tokenization = Tokenization {
            tokenizer: self.tokenizer.as_ref(),
            limits: self.folder.within(Limits::default()),
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
        RewardModel::load_trained(&self.folder, device)
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
