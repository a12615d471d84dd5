//! `exalign sft`: fine-tuning on demonstrations.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::data::dataset::InMemDataset;
use clap::Args;
use exalign::Result;
use exalign::config::{Settings, Stage, TrainSettings};
use exalign::data::{self, Demonstration, GroupBatch, TokenGroup, Tokenizer};
use exalign::model::ModelFolder;
use exalign::training::FineTuner;
use serde_json::Value;

use super::training::{Subject, Train, Trained, TrainingFlags, is_of_training};
use crate::context::{Context, Global, settings};
use crate::model_input::{limits, set_date, tokenizer};
use crate::stage::{self, Input, Keyed, Place, Site, Source, perform};
use crate::watch::WatchFlags;

/// Options of `exalign sft`.
#[derive(Args, Debug)]
pub struct SftArgs {
    /// The model to start from: a Hugging Face or PEFT folder, or a hub id (owner/name[@revision])
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// Demonstrations {"prompt", "chosen" or "completion"}, as texts or messages, or whole texts {"text"}
    /// and conversations {"messages"}, of which every token is learned; JSON Lines, CSV, Parquet, ..
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The folder for metrics, checkpoints and the trained model
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
pub fn run(args: SftArgs, global: &Global) -> Result<Trained> {
    let settings = settings(global, Stage::Sft, args.training.settings())?;
    let sft = Sft { model: args.model.into(), data: args.data.into(), settings };
    let context = Context::for_training(global)?.watched(args.watch, None)?;
    perform(sft, &Place::Folder(args.out), args.fresh, &context)
}

/// Fine-tuning of a model on demonstrations.
pub struct Sft {
    pub model: Source,
    pub data: Source,
    pub settings: TrainSettings,
}

/// A model and its demonstrations as tokens.
pub struct Demonstrated {
    folder: ModelFolder,
    tokenizer: Option<Tokenizer>,
    groups: Vec<TokenGroup>,
}

impl Keyed for Sft {
    const NAME: &'static str = "sft";

    fn settings(&self) -> Value {
        self.settings.shaping()
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        vec![self.model.model("model"), self.data.file("data")]
    }
}

impl stage::Stage for Sft {
    type Opened = Demonstrated;
    type Summary = Trained;

    fn open(&mut self, record: Option<&Path>) -> Result<Demonstrated> {
        let folder = ModelFolder::open(&self.model.path)?;
        set_date(&mut self.settings.chat, &[&folder], record)?;
        let tokenizer = tokenizer(&folder, &self.settings.chat)?;
        let data = &self.settings.data.tokens;
        let (groups, intake) = data::read_tokens::<Demonstration>(
            &self.data.path,
            data.skip_bad,
            tokenizer.as_ref(),
            &limits(data, &folder),
            folder.shape.vocab_size,
        )?;
        intake.tell(&self.data.path);
        Ok(Demonstrated { folder, tokenizer, groups })
    }

    fn make(self, opened: Demonstrated, site: &Site<'_>) -> Result<Trained> {
        let Demonstrated { folder, tokenizer, groups } = opened;
        let device = site.context.device.clone().autodiff();
        let subject = Subject::new(folder, tokenizer, &self.settings)?;
        let saved = subject.clone();
        Train {
            name: "fine-tuning",
            settings: &self.settings,
            records: Arc::new(InMemDataset::new(groups)),
            load: &|checkpoint| {
                Ok(FineTuner { decoder: subject.load_decoder(checkpoint, &device)? })
            },
            save: Arc::new(move |tuner: &FineTuner, precision, target| {
                saved.save_decoder(&tuner.decoder, precision, target)
            }),
            batch: Arc::new(|groups: &[TokenGroup], device| {
                let batch = GroupBatch::new(groups, device);
                let tokens = batch.num_scored.iter().sum::<usize>();
                (batch, tokens as f64)
            }),
        }
        .run(site)
    }

    fn owns(name: &str) -> bool {
        is_of_training(name)
    }
}
