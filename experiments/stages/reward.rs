//! `exalign reward`: a reward model from pairs, or a classifier from labelled texts.

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use clap::Args;
use exalign::config::{Config, Stage};
use exalign::data::{
    self, Group, GroupBatch, LabelledText, Located, RewardReading, TokenGroup, Tokenization,
    Tokenize,
};
use exalign::model::{ModelFolder, reward_padding};
use exalign::training::{RewardTrainer, ScoredBatch};
use exalign::{Result, files};
use serde_json::{Value, json};

use super::training::{Subject, Train, TrainingFlags};
use super::{Context, configuration, limits, tokenizer, with_date};
use crate::command_line::Global;
use crate::record::{Record, Start};

/// Options of `exalign reward`.
#[derive(Args, Debug)]
pub struct RewardArgs {
    /// A Hugging Face or PEFT folder, or a hub id (owner/name[@revision]): the model to start from
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Pairs {"prompt", "chosen", "rejected"} or texts {"text", "label": 0|1} or
    /// {"prompt", "completion", "label"}, as texts or messages; JSON Lines, CSV, Parquet, ..
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Where metrics, checkpoints and the reward model go
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Start over where an earlier run left something
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    training: TrainingFlags,
}

/// Runs the command.
pub fn run(args: RewardArgs, global: &Global) -> Result<Value> {
    let config = configuration(global, Stage::Reward, args.training.settings())?;
    Reward { model: args.model, data: args.data, out: args.out, fresh: args.fresh, config }
        .run(&Context::for_training(global)?)
}

/// Training of a reward model, from where to where.
pub struct Reward {
    pub model: PathBuf,
    pub data: PathBuf,
    pub out: PathBuf,
    pub fresh: bool,
    pub config: Config,
}

impl Reward {
    pub fn run(self, context: &Context) -> Result<Value> {
        let folder = ModelFolder::open(&self.model)?;
        let kept = (!self.fresh).then(|| Record::within(&self.out));
        let config = &with_date(self.config.clone(), &[&folder], kept.as_deref())?;
        let tokenizer = tokenizer(&folder, config)?;
        let is_text = data::has_labels(&self.data)?;
        let reading = RewardReading { ends_text: !is_text, padding: reward_padding(&folder) };
        let groups = self.read(config, &folder, tokenizer.as_ref(), &reading)?;

        let record = Record::new("reward", json!(config), &context.device_name)
            .input("model", folder.content_hash()?)
            .tokenizer(tokenizer.as_ref())
            .input("data", files::hash_file(&self.data)?);
        let work = match record.start_folder(&self.out, self.fresh)? {
            Start::Done(result) => return Ok(result),
            Start::Go(work) => work,
        };
        let devices = context.training_devices();
        let device = devices[0].clone();
        let subject = Subject::new(folder, tokenizer, config)?;
        let saved = subject.clone();
        Train {
            name: "reward model",
            out: self.out,
            config,
            groups,
            load: &|checkpoint| {
                Ok(RewardTrainer { model: subject.load_reward_model(checkpoint, &device)? })
            },
            save: Arc::new(move |trainer: &RewardTrainer, precision, target| {
                saved.save_reward_model(&trainer.model, &reading, precision, target)
            }),
            batch: Arc::new(move |groups, records, device| {
                let batch = scored_batch(records.iter().map(|&it| &groups[it]), device);
                (batch, records.len() as f64)
            }),
            devices,
        }
        .run(work)
    }

    /// Pairs (K = 2) or labelled texts (K = 1, the label as the reward), as the reward model reads
    /// them.
    fn read(
        &self,
        config: &Config,
        folder: &ModelFolder,
        tokenizer: Option<&data::Tokenizer>,
        reading: &RewardReading,
    ) -> Result<Vec<TokenGroup>> {
        let tokenization = Tokenization {
            tokenizer,
            limits: limits(config, folder),
            vocab_size: folder.shape.vocab_size,
        };
        let skip_bad = config.data.skip_bad;
        let (mut groups, intake) = if data::has_labels(&self.data)? {
            data::read_records(&self.data, skip_bad, |located: Located<LabelledText>, intake| {
                let mut group = LabelledText::tokenize(&located, &tokenization, intake)?;
                let is_templated = located.record.is_conversation();
                group.completions.iter_mut().for_each(|ids| {
                    reading.settle(ids, is_templated, &tokenization);
                });
                tokenization.check(&located, "text", &group.completions[0])?;
                Ok(group)
            })?
        } else {
            data::read_records(&self.data, skip_bad, |located: Located<Group>, intake| {
                located.check_for_alignment()?;
                if located.record.completions.len() > 2 {
                    return Err(located.error(format!(
                        "expected a pair, found a group of {}; make pairs with `exalign pairs`",
                        located.record.completions.len()
                    )));
                }
                reading.tokens(&located, &tokenization, intake)
            })?
        };
        intake.tell(&self.data);
        groups.iter_mut().for_each(TokenGroup::chosen_first);
        Ok(groups)
    }
}

fn scored_batch<'a>(
    groups: impl Iterator<Item = &'a TokenGroup> + Clone,
    device: &Device,
) -> ScoredBatch {
    let labels: Vec<f32> = groups
        .clone()
        .filter(|group| group.completions.len() == 1)
        .map(|group| group.rewards[0] as f32)
        .collect();
    let len = labels.len();
    ScoredBatch {
        batch: GroupBatch::new(groups, device),
        labels: (len > 0).then(|| Tensor::from_data(TensorData::new(labels, [len, 1]), device)),
    }
}
