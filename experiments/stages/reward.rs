//! `exalign reward`: a reward model from pairs, or a classifier from labelled texts.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use clap::Args;
use exalign::config::{Config, Stage};
use exalign::data::{self, Group, GroupBatch, LabelledText, TokenGroup};
use exalign::model::{ModelFolder, RewardModel};
use exalign::training::{Checkpoints, Micro, RewardTrainer, ScoredBatch, Step, Training};
use exalign::{Result, files};
use serde_json::{Value, json};

use super::sft::TrainingFlags;
use super::{Context, configuration, limits, tokenizer, training};
use crate::command_line::Global;
use crate::record::{Record, Start};

/// Options of `exalign reward`.
#[derive(Args, Debug)]
pub struct RewardArgs {
    /// A Hugging Face folder: the model to start from
    #[arg(long, value_name = "FOLDER")]
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
        .run(&Context::new(global)?)
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
        let plan = training::plan(config, groups.len());
        let device = context.device.clone().autodiff();
        let save: Arc<dyn Fn(&RewardTrainer, &Path) -> Result<()> + Send + Sync> = {
            let (folder, tokenizer) = (folder.clone(), tokenizer.clone());
            Arc::new(move |trainer, target| {
                if let Some(tokenizer) = &tokenizer {
                    tokenizer.save(target)?;
                }
                trainer.model.save(&folder, target)
            })
        };
        let groups = Arc::new(groups);
        let training = Training {
            name: "reward model",
            dir: &self.out,
            optimization: training::optimization(config, plan.num_steps()),
            num_steps: plan.num_steps(),
            checkpoint_every: config.checkpoint.every,
            checkpoint_keep: config.checkpoint.keep,
            load: &|checkpoint| {
                let folder = checkpoint.map_or(Ok(folder.clone()), ModelFolder::open)?;
                Ok(RewardTrainer { model: RewardModel::load(&folder, config.seed, &device)? })
            },
            save: save.clone(),
            step: {
                let (plan, device) = (plan.clone(), device.clone());
                Arc::new(move |step| {
                    let planned = training::planned(&plan, step, &groups);
                    let records = planned.micro_batches.concat();
                    let micro_batches = planned
                        .micro_batches
                        .iter()
                        .map(|micro| Micro {
                            batch: scored_batch(micro.iter().map(|&it| &groups[it]), &device),
                            share: micro.len() as f64 / records.len() as f64,
                        })
                        .collect();
                    Ok(Step {
                        epoch: planned.epoch,
                        micro_batches,
                        num_groups: records.len(),
                        num_tokens: records.iter().map(|&it| groups[it].num_tokens()).sum(),
                        records: records.iter().map(|&it| training::name(&groups[it])).collect(),
                    })
                })
            },
        };
        let (trainer, outcome) = training.run()?;
        save(&trainer, &self.out.join("model"))?;
        let result = json!({
            "model": self.out.join("model"), "steps": plan.num_steps(), "loss": outcome.last_loss,
            "seconds": outcome.seconds,
        });
        work.finish(result.clone())?;
        Checkpoints::new(&self.out, config.checkpoint.keep).finish();
        Ok(result)
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
            data::read_tokens::<Group>(&self.data, skip_bad, tokenizer, &limits, vocabulary)?
        };
        tracing::info!("{}: {report}", self.data.display());
        for group in &mut groups {
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
