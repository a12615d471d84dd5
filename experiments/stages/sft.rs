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
use super::validation::{check, read_both, shaping};
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
    let validation = args.training.validation.map(Source::from);
    let sft = Sft { model: args.model.into(), data: args.data.into(), validation, settings };
    let context = Context::for_training(global)?.watched(args.watch, None)?;
    perform(sft, &Place::Folder(args.out), args.fresh, &context)
}

/// Fine-tuning of a model on demonstrations.
pub struct Sft {
    pub model: Source,
    pub data: Source,
    pub validation: Option<Source>,
    pub settings: TrainSettings,
}

/// A model and its demonstrations as tokens.
pub struct Demonstrated {
    folder: ModelFolder,
    tokenizer: Option<Tokenizer>,
    groups: Vec<TokenGroup>,
    held_out: Vec<TokenGroup>,
}

impl Keyed for Sft {
    const NAME: &'static str = "sft";

    fn settings(&self) -> Value {
        shaping(self.settings.shaping(), self.validation.as_ref())
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        let validation = self.validation.iter().map(|file| file.file("validation"));
        [self.model.model("model"), self.data.file("data")].into_iter().chain(validation).collect()
    }
}

impl stage::Stage for Sft {
    type Opened = Demonstrated;
    type Summary = Trained;

    fn open(&mut self, record: Option<&Path>) -> Result<Demonstrated> {
        check(&self.settings, None, self.validation.as_ref())?;
        let folder = ModelFolder::open(&self.model.path)?;
        set_date(&mut self.settings.chat, &[&folder], record)?;
        let tokenizer = tokenizer(&folder, &self.settings.chat)?;
        let data = &self.settings.data.tokens;
        let read = |path: &Path| {
            let (groups, intake) = data::read_tokens::<Demonstration>(
                path,
                data.skip_bad,
                tokenizer.as_ref(),
                &limits(data, &folder),
                folder.shape.vocab_size,
            )?;
            intake.tell(path);
            Ok(groups)
        };
        let validation = self.validation.as_ref();
        let (groups, held_out) = read_both(&self.data, validation, &self.settings, read)?;
        Ok(Demonstrated { folder, tokenizer, groups, held_out })
    }

    fn make(self, opened: Demonstrated, site: &Site<'_>) -> Result<Trained> {
        let Demonstrated { folder, tokenizer, groups, held_out } = opened;
        let device = site.context.device.clone().autodiff();
        let subject = Subject::new(folder, tokenizer, &self.settings)?;
        let saved = subject.clone();
        Train {
            name: "fine-tuning",
            settings: &self.settings,
            records: Arc::new(InMemDataset::new(groups)),
            held_out,
            drift: None,
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
            prepare: None,
        }
        .run(site)
    }

    fn owns(name: &str) -> bool {
        is_of_training(name)
    }
}
