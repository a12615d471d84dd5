//! `exalign align`: EXO and DPO on groups or pairs, the reference read from its store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::data::dataset::InMemDataset;
use burn::tensor::{Device, Tensor, TensorData};
use clap::Args;
use exalign::Result;
use exalign::alignment::{Alignment, ObjectiveConfig, objective_names};
use exalign::config::{AlignSettings, Settings, Stage};
use exalign::data::{self, GroupBatch, TokenGroup, Tokenizer};
use exalign::model::ModelFolder;
use exalign::training::{Aligner, AlignmentBatch};
use serde_json::Value;

use super::reference::reference_log_probs;
use super::training::{Subject, Train, Trained, TrainingFlags, is_of_training};
use crate::context::{Context, Global, settings};
use crate::model_input::{limits, set_date, tokenizer};
use crate::stage::{self, Input, Keyed, Place, Site, Source, perform};
use crate::watch::WatchFlags;

/// Options of `exalign align`.
#[derive(Args, Debug)]
pub struct AlignArgs {
    #[arg(long, value_name = "NAME", help = objective_names(|_| true) + " [default: objective.name]")]
    objective: Option<String>,
    /// The model to start from: a Hugging Face or PEFT folder, or a hub id (owner/name[@revision])
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// The reference, π_sft [default: --model]
    #[arg(long, value_name = "MODEL")]
    reference: Option<PathBuf>,
    /// Groups with rewards, or pairs {"prompt", "chosen", "rejected"}, as texts or messages; JSON Lines,
    /// CSV, Parquet, ..
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// The folder for metrics, checkpoints and the aligned model
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Start over instead of continuing an earlier output
    #[arg(long)]
    fresh: bool,
    /// objective.beta_policy: sharpness of the policy's side, β_π
    #[arg(long, value_name = "BETA")]
    beta_policy: Option<f64>,
    /// objective.beta_reward: temperature of the rewards, β_r
    #[arg(long, value_name = "BETA")]
    beta_reward: Option<f64>,
    /// objective.temperature: divides the logits of policy and reference, τ
    #[arg(long)]
    temperature: Option<f64>,
    /// objective.epsilon: label smoothing of exo-pref
    #[arg(long)]
    epsilon: Option<f64>,
    /// objective.labels: paper, or official for the unnormalised labels of the official code
    #[arg(long)]
    labels: Option<String>,
    #[command(flatten)]
    watch: WatchFlags,
    #[command(flatten)]
    training: TrainingFlags,
}

/// Runs the command.
pub fn run(args: AlignArgs, global: &Global) -> Result<Trained> {
    let number = |value: Option<f64>| value.map(|value| format!("{value:?}"));
    let mut flags = args.training.settings();
    flags.extend([
        ("objective.name", args.objective),
        ("objective.beta_policy", number(args.beta_policy)),
        ("objective.beta_reward", number(args.beta_reward)),
        ("objective.temperature", number(args.temperature)),
        ("objective.epsilon", number(args.epsilon)),
        ("objective.labels", args.labels),
    ]);
    let settings = settings(global, Stage::Align, flags)?;
    let align = Align {
        reference: args.reference.unwrap_or_else(|| args.model.clone()).into(),
        model: args.model.into(),
        data: args.data.into(),
        settings,
    };
    let context = Context::for_training(global)?.watched(args.watch, None)?;
    perform(align, &Place::Folder(args.out), args.fresh, &context)
}

/// Alignment of a model with groups or pairs.
pub struct Align {
    pub model: Source,
    pub reference: Source,
    pub data: Source,
    pub settings: AlignSettings,
}

/// A model, its reference and what it is aligned with, as tokens.
pub struct Compared {
    folder: ModelFolder,
    reference: ModelFolder,
    tokenizer: Option<Tokenizer>,
    objective: Arc<dyn Alignment>,
    groups: Vec<TokenGroup>,
}

impl Keyed for Align {
    const NAME: &'static str = "align";

    fn settings(&self) -> Value {
        self.settings.shaping()
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        vec![self.model.model("model"), self.reference.weights("reference"), self.data.file("data")]
    }
}

impl stage::Stage for Align {
    type Opened = Compared;
    type Summary = Trained;

    fn open(&mut self, record: Option<&Path>) -> Result<Compared> {
        let AlignSettings { train, objective } = &mut self.settings;
        let folder = ModelFolder::open(&self.model.path)?;
        set_date(&mut train.chat, &[&folder], record)?;
        let objective = objective.init()?;
        // Rounded as the policy is, so that the two are alike where nothing is learned yet.
        let reference = ModelFolder::open(&self.reference.path)?.kept_as(train.training.compute);
        let tokenizer = tokenizer(&folder, &train.chat)?;
        let data = &train.data.tokens;
        let (mut groups, intake) = data::read_alignment_tokens(
            &self.data.path,
            data.skip_bad,
            tokenizer.as_ref(),
            &limits(data, &folder),
            folder.shape.vocab_size,
            |num_completions| objective.check(num_completions),
        )?;
        intake.tell(&self.data.path);
        groups.iter_mut().for_each(TokenGroup::chosen_first);
        Ok(Compared { folder, reference, tokenizer, objective, groups })
    }

    fn make(self, opened: Compared, site: &Site<'_>) -> Result<Trained> {
        let Compared { folder, reference, tokenizer, objective, groups } = opened;
        let AlignSettings { train, objective: ObjectiveConfig { temperature, .. } } = self.settings;
        let reference =
            reference_log_probs(&reference, temperature, &[&groups], &site.context.device)?;
        let referenced = |(group, reference)| Referenced { group, reference };
        let records = groups.into_iter().zip(reference).map(referenced).collect();
        let device = site.context.device.clone().autodiff();
        let subject = Subject::new(folder, tokenizer, &train)?;
        let saved = subject.clone();
        Train {
            name: objective.name(),
            settings: &train,
            records: Arc::new(InMemDataset::new(records)),
            load: &|checkpoint| {
                let decoder = subject.load_decoder(checkpoint, &device)?;
                Ok(Aligner::new(decoder, objective.clone(), temperature))
            },
            save: Arc::new(move |aligner: &Aligner<_>, precision, target| {
                saved.save_decoder(&aligner.policy, precision, target)
            }),
            batch: Arc::new(|records: &[Referenced], device| {
                (alignment_batch(records, device), records.len() as f64)
            }),
        }
        .run(site)
    }

    fn owns(name: &str) -> bool {
        is_of_training(name)
    }
}

/// A group with Σ log-prob of every completion under the reference.
#[derive(Clone, Debug)]
struct Referenced {
    group: TokenGroup,
    reference: Vec<f64>,
}

impl AsRef<TokenGroup> for Referenced {
    fn as_ref(&self) -> &TokenGroup {
        &self.group
    }
}

fn alignment_batch(records: &[Referenced], device: &Device) -> AlignmentBatch {
    let table = |row: fn(&Referenced) -> &Vec<f64>| {
        let values: Vec<f32> = records.iter().flat_map(row).map(|&value| value as f32).collect();
        let columns = values.len() / records.len();
        Tensor::<2>::from_data(TensorData::new(values, [records.len(), columns]), device)
    };
    AlignmentBatch {
        groups: GroupBatch::new(records.iter().map(|record| &record.group), device),
        reference: table(|record| &record.reference),
        rewards: table(|record| &record.group.rewards),
    }
}
