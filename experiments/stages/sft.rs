//! `exalign sft`: fine-tuning on demonstrations.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use exalign::config::{Config, Stage};
use exalign::data::{self, Demonstration, GroupBatch};
use exalign::model::ModelFolder;
use exalign::training::{Checkpoints, FineTuner, Micro, Step, Training};
use exalign::{Result, files};
use serde_json::{Value, json};

use super::{Context, configuration, limits, tokenizer, training};
use crate::command_line::Global;
use crate::record::{Record, Start};

/// Options of `exalign sft`.
#[derive(Args, Debug)]
pub struct SftArgs {
    /// A Hugging Face folder: the model to start from
    #[arg(long, value_name = "FOLDER")]
    model: PathBuf,
    /// Demonstrations, JSON Lines: {"prompt": .., "chosen": ..}
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Where metrics, checkpoints and the trained model go
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Start over where an earlier run left something
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    training: TrainingFlags,
}

/// Options that stand for `training.*` settings.
#[derive(Args, Debug, Default)]
pub struct TrainingFlags {
    /// training.learning_rate: the peak of the schedule
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// training.batch_size: groups (or texts) an optimizer step
    #[arg(long, value_name = "GROUPS")]
    batch_size: Option<usize>,
    /// training.micro_batch_size: groups in memory at once
    #[arg(long, value_name = "GROUPS")]
    micro_batch_size: Option<usize>,
    /// training.epochs: passes over the data
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// training.max_steps: stop after so many steps; 0: do not
    #[arg(long, value_name = "N")]
    max_steps: Option<usize>,
}

impl TrainingFlags {
    /// As settings.
    pub fn settings(&self) -> Vec<(&'static str, Option<String>)> {
        vec![
            ("training.learning_rate", self.learning_rate.map(|it| format!("{it:?}"))),
            ("training.batch_size", self.batch_size.map(|it| it.to_string())),
            ("training.micro_batch_size", self.micro_batch_size.map(|it| it.to_string())),
            ("training.epochs", self.epochs.map(|it| it.to_string())),
            ("training.max_steps", self.max_steps.map(|it| it.to_string())),
        ]
    }
}

/// Runs the command.
pub fn run(args: SftArgs, global: &Global) -> Result<Value> {
    let config = configuration(global, Stage::Sft, args.training.settings())?;
    Sft { model: args.model, data: args.data, out: args.out, fresh: args.fresh, config }
        .run(&Context::new(global)?)
}

/// Fine-tuning, from where to where.
pub struct Sft {
    pub model: PathBuf,
    pub data: PathBuf,
    pub out: PathBuf,
    pub fresh: bool,
    pub config: Config,
}

impl Sft {
    pub fn run(self, context: &Context) -> Result<Value> {
        let config = &self.config;
        let folder = ModelFolder::open(&self.model)?;
        let tokenizer = tokenizer(&folder)?;
        let (groups, report) = data::read_tokens::<Demonstration>(
            &self.data,
            config.data.skip_bad,
            tokenizer.as_ref(),
            &limits(config, &folder),
            folder.shape.vocab_size,
        )?;
        tracing::info!("{}: {report}", self.data.display());

        let record = Record::new("sft", json!(config), &context.device_name)
            .input("model", folder.content_hash()?)
            .input("data", files::hash_file(&self.data)?);
        let work = match record.start_folder(&self.out, self.fresh)? {
            Start::Done(result) => return Ok(result),
            Start::Go(work) => work,
        };
        let plan = training::plan(config, groups.len());
        let device = context.device.clone().autodiff();
        let save = training::decoder_saver(&folder, tokenizer);
        let save_trained = save.clone();
        let groups = Arc::new(groups);
        let training = Training {
            name: "fine-tuning",
            dir: &self.out,
            optimization: training::optimization(config, plan.num_steps()),
            num_steps: plan.num_steps(),
            checkpoint_every: config.checkpoint.every,
            checkpoint_keep: config.checkpoint.keep,
            load: &|checkpoint| {
                let folder = checkpoint.map_or(Ok(folder.clone()), ModelFolder::open)?;
                Ok(FineTuner { decoder: training::load_decoder(&folder, &device)? })
            },
            save: Arc::new(move |tuner: &FineTuner, target| save(&tuner.decoder, target)),
            step: {
                let (plan, device) = (plan.clone(), device.clone());
                Arc::new(move |step| {
                    let planned = training::planned(&plan, step, &groups);
                    let mut micro_batches: Vec<Micro<GroupBatch>> = planned
                        .micro_batches
                        .iter()
                        .map(|records| {
                            let batch =
                                GroupBatch::new(records.iter().map(|&it| &groups[it]), &device);
                            let scored = batch.num_scored.iter().sum::<usize>();
                            Micro { batch, share: scored as f64 }
                        })
                        .collect();
                    let scored: f64 = micro_batches.iter().map(|micro| micro.share).sum();
                    micro_batches.iter_mut().for_each(|micro| micro.share /= scored);
                    let records = planned.micro_batches.concat();
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
        let (tuner, outcome) = training.run()?;
        save_trained(&tuner.decoder, &self.out.join("model"))?;
        let result = json!({
            "model": self.out.join("model"), "steps": plan.num_steps(), "loss": outcome.last_loss,
            "seconds": outcome.seconds,
        });
        work.finish(result.clone())?;
        Checkpoints::new(&self.out, config.checkpoint.keep).finish();
        Ok(result)
    }
}
