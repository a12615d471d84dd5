//! `exalign reward`: a reward model from pairs, or a classifier from labelled texts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::data::dataset::InMemDataset;
use burn::tensor::{Device, Tensor, TensorData};
use clap::Args;
use exalign::Result;
use exalign::config::{Settings, Stage, TrainSettings};
use exalign::data::{
    self, Group, GroupBatch, Intake, LabelledText, Located, RewardReading, TokenGroup,
    Tokenization, Tokenize, Tokenizer,
};
use exalign::model::{ModelFolder, reward_padding};
use exalign::training::{RewardTrainer, ScoredBatch};
use serde_json::Value;

use super::training::{Subject, Train, Trained, TrainingFlags, is_of_training};
use super::validation::{check, read_both, shaping};
use crate::context::{Context, Global, settings};
use crate::model_input::{limits, set_date, tokenizer};
use crate::stage::{self, Input, Keyed, Place, Site, Source, perform};
use crate::watch::WatchFlags;

/// Options of `exalign reward`.
#[derive(Args, Debug)]
pub struct RewardArgs {
    /// The model to start from: a Hugging Face or PEFT folder, or a hub id (owner/name[@revision])
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Pairs {"prompt", "chosen", "rejected"} or texts {"text", "label": 0|1} or
    /// {"prompt", "completion", "label"}, as texts or messages; JSON Lines, CSV, Parquet, ..
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The folder for metrics, checkpoints and the reward model
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Start over instead of continuing an earlier output
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    watch: WatchFlags,
    #[command(flatten)]
    training: TrainingFlags,
}

/// Runs the command.
pub fn run(args: RewardArgs, global: &Global) -> Result<Trained> {
    let settings = settings(global, Stage::Reward, args.training.settings())?;
    let validation = args.training.validation.map(Source::from);
    let reward = Reward { model: args.model.into(), data: args.data.into(), validation, settings };
    let context = Context::for_training(global)?.watched(args.watch, None)?;
    perform(reward, &Place::Folder(args.out), args.fresh, &context)
}

/// Training of a reward model on pairs, or of a classifier on labelled texts.
pub struct Reward {
    pub model: Source,
    pub data: Source,
    pub validation: Option<Source>,
    pub settings: TrainSettings,
}

/// A model and what it is to tell apart, as tokens.
pub struct Labelled {
    folder: ModelFolder,
    tokenizer: Option<Tokenizer>,
    reading: RewardReading,
    groups: Vec<TokenGroup>,
    held_out: Vec<TokenGroup>,
}

impl Keyed for Reward {
    const NAME: &'static str = "reward";

    fn settings(&self) -> Value {
        shaping(self.settings.shaping(), self.validation.as_ref())
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        let validation = self.validation.iter().map(|file| file.file("validation"));
        [self.model.model("model"), self.data.file("data")].into_iter().chain(validation).collect()
    }
}

impl stage::Stage for Reward {
    type Opened = Labelled;
    type Summary = Trained;

    fn open(&mut self, record: Option<&Path>) -> Result<Labelled> {
        check(&self.settings, None, self.validation.as_ref())?;
        let folder = ModelFolder::open(&self.model.path)?;
        set_date(&mut self.settings.chat, &[&folder], record)?;
        let tokenizer = tokenizer(&folder, &self.settings.chat)?;
        let is_text = data::has_labels(&self.data.path)?;
        let reading = RewardReading { ends_text: !is_text, padding: reward_padding(&folder) };
        let tokenization = Tokenization {
            tokenizer: tokenizer.as_ref(),
            limits: limits(&self.settings.data.tokens, &folder),
            vocab_size: folder.shape.vocab_size,
        };
        let read = |path: &Path| {
            let (mut groups, intake) = match is_text {
                true => self.texts(path, &tokenization, &reading)?,
                false => self.pairs(path, &tokenization, &reading)?,
            };
            intake.tell(path);
            groups.iter_mut().for_each(TokenGroup::chosen_first);
            Ok(groups)
        };
        let validation = self.validation.as_ref();
        let (groups, held_out) = read_both(&self.data, validation, &self.settings, read)?;
        Ok(Labelled { folder, tokenizer, reading, groups, held_out })
    }

    fn make(self, opened: Labelled, site: &Site<'_>) -> Result<Trained> {
        let Labelled { folder, tokenizer, reading, groups, held_out } = opened;
        let device = site.context.device.clone().autodiff();
        let subject = Subject::new(folder, tokenizer, &self.settings)?;
        let saved = subject.clone();
        Train {
            name: "reward model",
            settings: &self.settings,
            records: Arc::new(InMemDataset::new(groups)),
            held_out,
            drift: None,
            load: &|checkpoint| {
                Ok(RewardTrainer { model: subject.load_reward_model(checkpoint, &device)? })
            },
            save: Arc::new(move |trainer: &RewardTrainer, precision, target| {
                saved.save_reward_model(&trainer.model, &reading, precision, target)
            }),
            batch: Arc::new(|groups: &[TokenGroup], device| {
                (scored_batch(groups, device), groups.len() as f64)
            }),
            prepare: None,
        }
        .run(site)
    }

    fn owns(name: &str) -> bool {
        is_of_training(name)
    }
}

impl Reward {
    /// Labelled texts as the reward model reads them: groups of one, the label as the reward.
    fn texts(
        &self,
        path: &Path,
        tokenization: &Tokenization<'_>,
        reading: &RewardReading,
    ) -> Result<(Vec<TokenGroup>, Intake)> {
        let read = |located: Located<LabelledText>, intake: &mut Intake| {
            let mut group = LabelledText::tokenize(&located, tokenization, intake)?;
            let is_templated = located.record.is_conversation();
            for ids in &mut group.completions {
                reading.settle(ids, is_templated, tokenization);
            }
            tokenization.check(&located, "text", &group.completions[0])?;
            Ok(group)
        };
        data::read_records(path, self.settings.data.tokens.skip_bad, read)
    }

    /// Pairs as the reward model reads them.
    fn pairs(
        &self,
        path: &Path,
        tokenization: &Tokenization<'_>,
        reading: &RewardReading,
    ) -> Result<(Vec<TokenGroup>, Intake)> {
        let read = |located: Located<Group>, intake: &mut Intake| {
            located.check_for_alignment()?;
            if located.record.completions.len() > 2 {
                return Err(located.error(format!(
                    "expected a pair, found a group of {}; make pairs with `exalign pairs`",
                    located.record.completions.len()
                )));
            }
            reading.tokens(&located, tokenization, intake)
        };
        data::read_records(path, self.settings.data.tokens.skip_bad, read)
    }
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
