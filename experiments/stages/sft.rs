//! `exalign sft`: fine-tuning on demonstrations.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use exalign::config::{Config, Stage};
use exalign::data::{self, Demonstration, GroupBatch};
use exalign::model::ModelFolder;
use exalign::training::FineTuner;
use exalign::{Result, files};
use serde_json::{Value, json};

use super::training::{Subject, Train, TrainingFlags};
use super::{Context, configuration, limits, tokenizer, with_date};
use crate::command_line::Global;
use crate::record::{Record, Start};

/// Options of `exalign sft`.
#[derive(Args, Debug)]
pub struct SftArgs {
    /// A Hugging Face or PEFT folder, or a hub id (owner/name[@revision]): the model to start from
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Demonstrations {"prompt", "chosen" or "completion"}, as texts or messages; or {"messages"} and {"text"},
    /// all of which is learned from; JSON Lines, CSV, Parquet, ..
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

/// Runs the command.
pub fn run(args: SftArgs, global: &Global) -> Result<Value> {
    let config = configuration(global, Stage::Sft, args.training.settings())?;
    Sft { model: args.model, data: args.data, out: args.out, fresh: args.fresh, config }
        .run(&Context::for_training(global)?)
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
        let folder = ModelFolder::open(&self.model)?;
        let kept = (!self.fresh).then(|| Record::within(&self.out));
        let config = &with_date(self.config.clone(), &[&folder], kept.as_deref())?;
        let tokenizer = tokenizer(&folder, config)?;
        let (groups, intake) = data::read_tokens::<Demonstration>(
            &self.data,
            config.data.skip_bad,
            tokenizer.as_ref(),
            &limits(config, &folder),
            folder.shape.vocab_size,
        )?;
        intake.tell(&self.data);

        let record = Record::new("sft", json!(config), &context.device_name)
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
            name: "fine-tuning",
            out: self.out,
            config,
            groups,
            load: &|checkpoint| {
                Ok(FineTuner { decoder: subject.load_decoder(checkpoint, &device)? })
            },
            save: Arc::new(move |tuner: &FineTuner, precision, target| {
                saved.save_decoder(&tuner.decoder, precision, target)
            }),
            batch: Arc::new(move |groups, records, device| {
                let batch = GroupBatch::new(records.iter().map(|&it| &groups[it]), device);
                let tokens = batch.num_scored.iter().sum::<usize>();
                (batch, tokens as f64)
            }),
            devices,
        }
        .run(work)
    }
}
