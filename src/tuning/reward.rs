//! Reward models from pairs, and classifiers from labelled texts.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use super::batches::Source;
use super::fit::{Fit, LOWER_LENGTH, Sizes, fit, sizes};
use super::subject::Subject;
use super::train::{Train, Trained};
use super::validation::{check, read_both};
use super::{TrainingSite, limits, tokenizer};
use crate::Result;
use crate::config::TrainSettings;
use crate::data::{
    self, Group, GroupBatch, Intake, LabelledText, Located, RewardReading, TokenGroup,
    Tokenization, Tokenize, Tokenizer,
};
use crate::files::DiskList;
use crate::model::{ModelFolder, reward_padding};
use crate::training::{RewardTrainer, ScoredBatch};

/// A model and what it is to tell apart, as tokens.
pub struct Labelled {
    folder: ModelFolder,
    tokenizer: Option<Tokenizer>,
    reading: RewardReading,
    groups: DiskList<TokenGroup>,
    held_out: DiskList<TokenGroup>,
}

impl Labelled {
    /// Reads pairs, or labelled texts, for the model of `folder`, and those of validation.
    ///
    /// # Errors
    /// A record that cannot be learned from, with its file and line; settings that contradict each other.
    pub fn open(
        folder: ModelFolder,
        data: &Path,
        validation: Option<&Path>,
        settings: &TrainSettings,
    ) -> Result<Self> {
        check(settings, None, validation)?;
        let tokenizer = tokenizer(&folder, &settings.chat)?;
        let skip_bad = settings.data.tokens.skip_bad;
        let is_text = data::has_labels(data)?;
        let padding = reward_padding(&folder);
        let reading = RewardReading { is_own: true, ends_text: !is_text, padding };
        let tokenization = Tokenization {
            tokenizer: tokenizer.as_ref(),
            limits: limits(&settings.data.tokens, &folder),
            vocab_size: folder.shape.vocab_size,
        };
        let read = |path: &Path| {
            let (groups, intake) = match is_text {
                true => texts(path, skip_bad, &tokenization, &reading)?,
                false => pairs(path, skip_bad, &tokenization, &reading)?,
            };
            intake.tell(path);
            Ok(groups)
        };
        let (groups, held_out) = read_both(data, validation, settings, read)?;
        Ok(Self { folder, tokenizer, reading, groups, held_out })
    }

    /// What the training takes of memory, and how it is cut to fit.
    ///
    /// # Errors
    /// If it cannot fit.
    pub fn fit(&self, settings: &TrainSettings, device: &Device) -> Result<Fit> {
        let of = |_| sizes(&self.groups, 0);
        fit(&self.folder, settings, &Sizes { of: &of, lower: LOWER_LENGTH }, device)
    }

    /// Trains, or goes on from the newest checkpoint at the site.
    ///
    /// # Errors
    /// As [`Training::run`](crate::training::Training::run).
    pub fn train(self, settings: &TrainSettings, site: &TrainingSite<'_>) -> Result<Trained> {
        let settings = &self.fit(settings, site.device())?.applied(settings.clone());
        let Self { folder, tokenizer, reading, groups, held_out } = self;
        let device = site.device().clone().autodiff();
        let subject = Subject::new(folder, tokenizer, settings)?;
        let saved = subject.clone();
        Train {
            name: "reward model",
            settings,
            source: Source::of_all(groups, settings),
            held_out: Some(Arc::new(held_out)),
            drift: None,
            load: &|checkpoint| {
                Ok(RewardTrainer { model: subject.load_reward_model(checkpoint, &device)? })
            },
            save: Arc::new(move |trainer: &RewardTrainer, precision, target| {
                saved.save_reward_model(&trainer.model, &reading, precision, target)
            }),
            beside: None,
            batch: Arc::new(|groups: &[TokenGroup], device| {
                (scored_batch(groups, device), groups.len() as f64)
            }),
            prepare: None,
        }
        .run(site)
    }
}

/// Labelled texts as the reward model reads them: groups of one, the label as the reward.
fn texts(
    path: &Path,
    skip_bad: usize,
    tokenization: &Tokenization<'_>,
    reading: &RewardReading,
) -> Result<(DiskList<TokenGroup>, Intake)> {
    let read = |located: Located<LabelledText>, intake: &mut Intake| {
        let mut group = LabelledText::tokenize(&located, tokenization, intake)?;
        let is_templated = located.record.is_conversation();
        for ids in &mut group.completions {
            reading.settle(ids, is_templated, tokenization);
        }
        tokenization.check(&located, "text", &group.completions[0])?;
        Ok(group)
    };
    data::list_records(path, skip_bad, read)
}

/// Pairs as the reward model reads them, the better completion first.
fn pairs(
    path: &Path,
    skip_bad: usize,
    tokenization: &Tokenization<'_>,
    reading: &RewardReading,
) -> Result<(DiskList<TokenGroup>, Intake)> {
    let read = |located: Located<Group>, intake: &mut Intake| {
        located.check_for_alignment()?;
        if located.record.completions.len() > 2 {
            return Err(located.error(format!(
                "expected a pair, found a group of {}; make pairs with `exalign pairs`",
                located.record.completions.len()
            )));
        }
        let mut tokens = reading.tokens(&located, tokenization, intake)?;
        tokens.chosen_first();
        Ok(tokens)
    };
    data::list_records(path, skip_bad, read)
}

fn scored_batch(groups: &[TokenGroup], device: &Device) -> ScoredBatch {
    let labels: Vec<f32> = groups
        .iter()
        .filter(|group| group.completions.len() == 1)
        .map(|group| group.rewards[0] as f32)
        .collect();
    let len = labels.len();
    ScoredBatch {
        batch: GroupBatch::new(groups, device),
        labels: (len > 0).then(|| Tensor::from_data(TensorData::new(labels, [len, 1]), device)),
    }
}
