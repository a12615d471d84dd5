//! `exalign reward`: a reward model from pairs, or a classifier from labelled texts.

use std::path::PathBuf;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use clap::Args;
use exalign::config::{Config, Stage};
use exalign::data::{self, GroupBatch, LabelledText, TokenGroup};
use exalign::model::ModelFolder;
use exalign::training::{RewardTrainer, ScoredBatch};
use exalign::{Error, Result, files};
use serde_json::{Value, json};

use super::training::{Subject, Train, TrainingFlags};
use super::{Context, configuration, limits, tokenizer};
use crate::command_line::Global;
use crate::record::{Record, Start};

/// Options of `exalign reward`.
#[derive(Args, Debug)]
pub struct RewardArgs {
    /// A Hugging Face or PEFT folder, or a hub id (owner/name[@revision]): the model to start from
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Pairs {"prompt", "chosen", "rejected"} or texts {"text", "label": 0|1}, JSON Lines
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
        let config = &self.config;
        let folder = ModelFolder::open(&self.model)?;
        let tokenizer = tokenizer(&folder)?;
        let groups = self.read(&folder, tokenizer.as_ref())?;

        let record = Record::new("reward", json!(config), &context.device_name)
            .input("model", folder.content_hash()?)
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
                saved.save_reward_model(&trainer.model, precision, target)
            }),
            batch: Arc::new(move |groups, records, device| {
                let batch = scored_batch(records.iter().map(|&it| &groups[it]), device);
                (batch, records.len() as f64)
            }),
            devices,
        }
        .run(work)
    }

    /// Pairs (K = 2) or labelled texts (K = 1, the label as the reward), end-of-text left out.
    fn read(
        &self,
        folder: &ModelFolder,
        tokenizer: Option<&data::Tokenizer>,
    ) -> Result<Vec<TokenGroup>> {
        let (limits, skip_bad) = (limits(&self.config, folder), self.config.data.skip_bad);
        let vocabulary = folder.shape.vocab_size;
        let (mut groups, report) = if data::has_labels(&self.data)? {
            data::read_tokens::<LabelledText>(&self.data, skip_bad, tokenizer, &limits, vocabulary)?
        } else {
            data::read_alignment_tokens(&self.data, skip_bad, tokenizer, &limits, vocabulary)?
        };
        if let Some(group) = groups.iter().find(|it| it.completions.len() > 2) {
            return Err(Error::record(
                &self.data,
                group.line,
                format!(
                    "expected a pair, found a group of {}; make pairs with `exalign pairs`",
                    group.completions.len()
                ),
            ));
        }
        tracing::info!("{}: {report}", self.data.display());
        for group in &mut groups {
            group.chosen_first();
            without_end_of_text(group, &folder.shape.end_of_text);
        }
        Ok(groups)
    }
}

/// A reward model reads texts without their end-of-text token, so that a completion that was cut
/// and one that ended by itself are read alike.
pub fn without_end_of_text(group: &mut TokenGroup, end_of_text: &[u32]) {
    for completion in &mut group.completions {
        while completion.len() > 1
            && completion.last().is_some_and(|last| end_of_text.contains(last))
        {
            completion.pop();
        }
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
