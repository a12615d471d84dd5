//! `exalign reward`: a reward model from pairs, or a classifier from labelled texts.

use std::path::{Path, PathBuf};

use clap::Args;
use exalign::Result;
use exalign::config::{Settings, Stage, TrainSettings};
use exalign::model::ModelFolder;
use exalign::tuning::{Labelled, Trained};
use serde_json::Value;

use super::training::{Answer, TrainingFlags, is_of_training, planned, shaping};
use crate::context::{Context, Global, settings};
use crate::model_input::set_date;
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
pub fn run(args: RewardArgs, global: &Global) -> Result<Answer> {
    let settings = settings(global, Stage::Reward, args.training.settings())?;
    let validation = args.training.validation.map(Source::from);
    let reward = Reward { model: args.model.into(), data: args.data.into(), validation, settings };
    if args.training.dry_run {
        let context = Context::for_training(global)?;
        return planned(reward, &context, |reward, opened, device| {
            opened.fit(&reward.settings, device)
        });
    }
    let context = Context::for_training(global)?.watched(args.watch, None)?;
    perform(reward, &Place::Folder(args.out), args.fresh, &context).map(Answer::Trained)
}

/// Training of a reward model on pairs, or of a classifier on labelled texts.
pub struct Reward {
    pub model: Source,
    pub data: Source,
    pub validation: Option<Source>,
    pub settings: TrainSettings,
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
        let folder = ModelFolder::open(&self.model.path)?;
        set_date(&mut self.settings.chat, &[&folder], record)?;
        let validation = self.validation.as_ref().map(|file| &*file.path);
        Labelled::open(folder, &self.data.path, validation, &self.settings)
    }

    fn make(self, opened: Labelled, site: &Site<'_>) -> Result<Trained> {
        opened.train(&self.settings, &site.training()?)
    }

    fn owns(name: &str) -> bool {
        is_of_training(name)
    }
}
