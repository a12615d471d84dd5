//! `exalign sft`: fine-tuning on demonstrations.

use std::path::{Path, PathBuf};

use clap::Args;
use exalign::Result;
use exalign::config::{Settings, Stage, TrainSettings};
use exalign::model::ModelFolder;
use exalign::tuning::{Demonstrated, Trained};
use serde_json::Value;

use super::training::{Answer, TrainingFlags, is_of_training, planned, shaping};
use crate::context::{Context, Global, settings};
use crate::model_input::set_date;
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
pub fn run(args: SftArgs, global: &Global) -> Result<Answer> {
    let settings = settings(global, Stage::Sft, args.training.settings())?;
    let validation = args.training.validation.map(Source::from);
    let sft = Sft { model: args.model.into(), data: args.data.into(), validation, settings };
    if args.training.dry_run {
        let context = Context::for_training(global)?;
        return planned(sft, &context, |sft, opened, device| opened.fit(&sft.settings, device));
    }
    let context = Context::for_training(global)?.watched(args.watch, None)?;
    perform(sft, &Place::Folder(args.out), args.fresh, &context).map(Answer::Trained)
}

/// Fine-tuning of a model on demonstrations.
pub struct Sft {
    pub model: Source,
    pub data: Source,
    pub validation: Option<Source>,
    pub settings: TrainSettings,
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
        let folder = ModelFolder::open(&self.model.path)?;
        set_date(&mut self.settings.chat, &[&folder], record)?;
        let validation = self.validation.as_ref().map(|file| &*file.path);
        Demonstrated::open(folder, &self.data.path, validation, &self.settings)
    }

    fn make(self, opened: Demonstrated, site: &Site<'_>) -> Result<Trained> {
        opened.train(&self.settings, &site.training()?)
    }

    fn owns(name: &str) -> bool {
        is_of_training(name)
    }
}
