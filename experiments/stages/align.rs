//! `exalign align`: objectives on groups or pairs, the reference read from its store.

use std::path::{Path, PathBuf};

use clap::Args;
use exalign::alignment::objective_names;
use exalign::config::{AlignSettings, Asking, OnlineSettings, Settings, Stage};
use exalign::model::ModelFolder;
use exalign::tuning::{Compared, Online, Trained};
use exalign::{Error, Result};
use serde_json::Value;

use super::objective::ObjectiveFlags;
use super::online::{self, AlignOnline, OnlineFlags};
use super::training::{Answer, TrainingFlags, is_of_training, planned, shaping};
use crate::context::{Context, Global, settings};
use crate::model_input::set_date;
use crate::rewarding::Rewarding;
use crate::stage::{self, Input, Keyed, Place, Site, Source, perform};
use crate::watch::WatchFlags;

/// Options of `exalign align`.
#[derive(Args, Debug)]
pub struct AlignArgs {
    #[arg(long, value_name = "NAME", help = objective_names(|_| true) + ", or a sum: exo-pref+0.1*nll [default: objective.name]")]
    objective: Option<String>,
    /// The model to start from: a Hugging Face or PEFT folder, or a hub id (owner/name[@revision])
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// The reference, π_sft [default: --model]
    #[arg(long, value_name = "MODEL")]
    reference: Option<PathBuf>,
    /// Groups with rewards, pairs {"prompt", "chosen", "rejected"}, for kto completions with labels
    /// {"prompt", "completion", "label"}, or with --online prompts, as texts or messages; JSON Lines, CSV,
    /// Parquet, ..
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The folder for metrics, checkpoints and the aligned model
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Start over instead of continuing an earlier output
    #[arg(long)]
    fresh: bool,
    /// objective.temperature: divides the logits of policy and reference, τ
    #[arg(long)]
    temperature: Option<f64>,
    #[command(flatten)]
    numbers: ObjectiveFlags,
    /// drift.kl_budget: end at the validation whose KL from the reference, by samples, reaches this
    #[arg(long, value_name = "NATS")]
    kl_budget: Option<f64>,
    #[command(flatten)]
    watch: WatchFlags,
    #[command(flatten)]
    training: TrainingFlags,
    #[command(flatten)]
    own_samples: OnlineFlags,
}

impl AlignArgs {
    /// As settings.
    fn settings(&self) -> Vec<(&'static str, Option<String>)> {
        let mut flags = self.training.settings();
        flags.extend(self.numbers.settings());
        flags.extend([
            ("objective.name", self.objective.clone()),
            ("objective.temperature", self.temperature.map(|value| format!("{value:?}"))),
            ("drift.kl_budget", self.kl_budget.map(|value| format!("{value:?}"))),
        ]);
        flags
    }

    /// Refuses a reference that nothing is compared with.
    fn check_reference(&self, settings: &AlignSettings) -> Result<()> {
        match &self.reference {
            Some(reference) if !needs_reference(settings) => Err(Error::usage(format!(
                "--reference {}: {} needs no reference; leave --reference out, or choose another objective",
                reference.display(),
                settings.objective.name
            ))),
            _ => Ok(()),
        }
    }
}

/// Runs the command.
pub fn run(args: AlignArgs, global: &Global) -> Result<Answer> {
    if args.own_samples.online {
        return run_online(args, global);
    }
    let settings: AlignSettings = settings(global, Stage::Align, args.settings())?;
    args.check_reference(&settings)?;
    let align = Align {
        reference: args.reference.unwrap_or_else(|| args.model.clone()).into(),
        model: args.model.into(),
        data: args.data.into(),
        validation: args.training.validation.map(Source::from),
        settings,
    };
    if args.training.dry_run {
        let fit = |align: &Align, opened: &Compared, device: &_| {
            opened.fit(&align.settings.train, device)
        };
        return planned(align, &Context::for_training(global)?, fit);
    }
    let context = Context::for_training(global)?.watched(args.watch, None)?;
    perform(align, &Place::Folder(args.out), args.fresh, &context).map(Answer::Trained)
}

/// Runs the command on the policy's own samples.
fn run_online(args: AlignArgs, global: &Global) -> Result<Answer> {
    if let Some(file) = &args.training.validation {
        return Err(Error::usage(format!(
            "--validation {}: expected none with --online, whose rounds are of new samples; each round's `reward` and \
             `drift` in metrics.jsonl tell how it goes",
            file.display()
        )));
    }
    let mut flags = args.settings();
    flags.extend(args.own_samples.settings(args.temperature));
    let settings: Asking<OnlineSettings> = settings(global, Stage::Online, flags)?;
    args.check_reference(&settings.own.align)?;
    let context = Context::for_training(global)?.watched(args.watch, None)?;
    let align = AlignOnline {
        reference: args.reference.unwrap_or_else(|| args.model.clone()).into(),
        model: args.model.into(),
        prompts: args.data.into(),
        reward: Rewarding::new(online::given(args.own_samples.reward)?, settings.rewards),
        device: context.device.clone(),
        settings: settings.own,
    };
    if args.training.dry_run {
        let fit =
            |align: &AlignOnline, opened: &Online, device: &_| opened.fit(&align.settings, device);
        return planned(align, &context, fit);
    }
    perform(align, &Place::Folder(args.out), args.fresh, &context).map(Answer::Trained)
}

/// Whether anything is compared with the reference.
fn needs_reference(settings: &AlignSettings) -> bool {
    settings.objective.needs_reference() || settings.drift.kl_budget > 0.0
}

/// Alignment of a model with groups or pairs.
pub struct Align {
    pub model: Source,
    pub reference: Source,
    pub data: Source,
    pub validation: Option<Source>,
    pub settings: AlignSettings,
}

impl Keyed for Align {
    const NAME: &'static str = "align";

    fn settings(&self) -> Value {
        shaping(self.settings.shaping(), self.validation.as_ref())
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        let mut inputs = vec![self.model.model("model"), self.data.file("data")];
        if needs_reference(&self.settings) {
            inputs.push(self.reference.weights("reference"));
        }
        inputs.extend(self.validation.iter().map(|file| file.file("validation")));
        inputs
    }
}

impl stage::Stage for Align {
    type Opened = Compared;
    type Summary = Trained;

    fn open(&mut self, record: Option<&Path>) -> Result<Compared> {
        let folder = ModelFolder::open(&self.model.path)?;
        set_date(&mut self.settings.train.chat, &[&folder], record)?;
        let reference = ModelFolder::open(&self.reference.path)?;
        let validation = self.validation.as_ref().map(|file| &*file.path);
        Compared::open([folder, reference], &self.data.path, validation, &self.settings)
    }

    fn make(self, opened: Compared, site: &Site<'_>) -> Result<Trained> {
        opened.train(self.settings, &site.training()?)
    }

    fn owns(name: &str) -> bool {
        is_of_training(name)
    }
}
