//! `exalign align`: EXO and DPO on groups or pairs, the reference read from its store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::data::dataset::InMemDataset;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use clap::Args;
use exalign::alignment::{Alignment, ObjectiveConfig, Takes, objective_names};
use exalign::config::{AlignSettings, Settings, Stage};
use exalign::data::{self, GroupBatch, TokenGroup, Tokenizer};
use exalign::model::{Decoder, ModelFolder};
use exalign::policy::token_log_probs_of;
use exalign::training::{Aligner, AlignmentBatch, Measure};
use exalign::{Error, Result};
use serde_json::Value;

use super::objective::ObjectiveFlags;
use super::reference::reference_log_probs;
use super::training::{Prepare, Subject, Train, Trained, TrainingFlags, is_of_training};
use super::validation::{check, drift, read_both, shaping};
use crate::context::{Context, Global, settings};
use crate::model_input::{limits, set_date, tokenizer};
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
    /// Groups with rewards, pairs {"prompt", "chosen", "rejected"}, or for kto completions with labels
    /// {"prompt", "completion", "label"}, as texts or messages; JSON Lines, CSV, Parquet, ..
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
}

/// Runs the command.
pub fn run(args: AlignArgs, global: &Global) -> Result<Trained> {
    let mut flags = args.training.settings();
    flags.extend(args.numbers.settings());
    flags.extend([
        ("objective.name", args.objective),
        ("objective.temperature", args.temperature.map(|value| format!("{value:?}"))),
        ("drift.kl_budget", args.kl_budget.map(|value| format!("{value:?}"))),
    ]);
    let settings: AlignSettings = settings(global, Stage::Align, flags)?;
    if let (Some(reference), false) = (&args.reference, needs_reference(&settings)) {
        return Err(Error::usage(format!(
            "--reference {}: {} needs no reference; leave --reference out, or choose another objective",
            reference.display(),
            settings.objective.name
        )));
    }
    let align = Align {
        reference: args.reference.unwrap_or_else(|| args.model.clone()).into(),
        model: args.model.into(),
        data: args.data.into(),
        validation: args.training.validation.map(Source::from),
        settings,
    };
    let context = Context::for_training(global)?.watched(args.watch, None)?;
    perform(align, &Place::Folder(args.out), args.fresh, &context)
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

/// A model, its reference and what it is aligned with, as tokens.
pub struct Compared {
    folder: ModelFolder,
    reference: ModelFolder,
    tokenizer: Option<Tokenizer>,
    objective: Arc<dyn Alignment>,
    groups: Vec<TokenGroup>,
    held_out: Vec<TokenGroup>,
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
        let AlignSettings { train, objective, drift } = &mut self.settings;
        check(train, Some(drift), self.validation.as_ref())?;
        let folder = ModelFolder::open(&self.model.path)?;
        set_date(&mut train.chat, &[&folder], record)?;
        let objective = objective.init()?;
        // Rounded as the policy is, so that the two are alike where nothing is learned yet.
        let reference = ModelFolder::open(&self.reference.path)?.kept_as(train.training.compute);
        let tokenizer = tokenizer(&folder, &train.chat)?;
        let data = &train.data.tokens;
        let limits = limits(data, &folder);
        let read = |path: &Path| {
            let takes = |num_completions| objective.check(num_completions);
            let read = match objective.entry().takes {
                Takes::Labels => data::read_unpaired_tokens,
                Takes::Pairs | Takes::Rewards => data::read_alignment_tokens,
            };
            let (mut groups, intake) = read(
                path,
                data.skip_bad,
                tokenizer.as_ref(),
                &limits,
                folder.shape.vocab_size,
                &takes,
            )?;
            intake.tell(path);
            groups.iter_mut().for_each(TokenGroup::chosen_first);
            Ok(groups)
        };
        let (groups, held_out) = read_both(&self.data, self.validation.as_ref(), train, read)?;
        Ok(Compared { folder, reference, tokenizer, objective, groups, held_out })
    }

    fn make(self, opened: Compared, site: &Site<'_>) -> Result<Trained> {
        let Compared { folder, reference, tokenizer, objective, groups, held_out } = opened;
        let AlignSettings { train, objective: ObjectiveConfig { temperature, .. }, drift } =
            self.settings;
        let device = &site.context.device;
        let drift = (drift.kl_budget > 0.0).then(|| {
            let policy = (&folder, tokenizer.as_ref());
            let of = (temperature, train.seed);
            let measured = self::drift(&drift, policy, (&reference, device), &held_out, of)?;
            let measure: Measure<Aligner<Decoder>> =
                Arc::new(move |step, aligner| measured.figures(step, &aligner.policy));
            Ok((measure, drift.kl_budget))
        });
        let drift = drift.transpose()?;
        let max_length = limits(&train.data.tokens, &folder).max_length;
        let mismatched = match objective.needs_mismatched_kl() {
            true => [&groups, &held_out].map(|part| mismatched(part, max_length)).concat(),
            false => Vec::new(),
        };
        let parts = [&groups[..], &held_out, &mismatched];
        let log_probs = match objective.needs_reference() {
            true => reference_log_probs(&reference, temperature, &parts, device)?,
            false => {
                parts.concat().iter().map(|group| vec![0.0; group.completions.len()]).collect()
            }
        };
        let num_groups = groups.len();
        let mut records = referenced([groups, held_out].concat(), mismatched, log_probs);
        let held_out = records.split_off(num_groups);
        let trained_on = device.clone().autodiff();
        let subject = Subject::new(folder, tokenizer, &train)?;
        let saved = subject.clone();
        Train {
            name: objective.name(),
            settings: &train,
            records: Arc::new(InMemDataset::new(records)),
            held_out,
            drift,
            load: &|checkpoint| {
                let decoder = subject.load_decoder(checkpoint, &trained_on)?;
                Ok(Aligner::new(decoder, objective.clone(), temperature))
            },
            save: Arc::new(move |aligner: &Aligner<_>, precision, target| {
                saved.save_decoder(&aligner.policy, precision, target)
            }),
            batch: Arc::new(|records: &[Referenced], device| {
                (alignment_batch(records, device), records.len() as f64)
            }),
            prepare: objective.needs_mismatched_kl().then(|| prepare(temperature, device)),
        }
        .run(site)
    }

    fn owns(name: &str) -> bool {
        is_of_training(name)
    }
}

/// A group with what the objective needs to know of it.
#[derive(Clone, Debug)]
struct Referenced {
    group: TokenGroup,
    /// Σ log-prob of every completion under the reference.
    reference: Vec<f64>,
    /// The prompt with a completion of another prompt, and its log-prob under the reference.
    mismatched: Option<(TokenGroup, f64)>,
    /// What the policy of the step makes of such completions: their mean log-ratio.
    mismatched_kl: f64,
}

impl AsRef<TokenGroup> for Referenced {
    fn as_ref(&self) -> &TokenGroup {
        &self.group
    }
}

/// Groups with the log-probs of their completions and, after all of them, of their mismatched ones.
fn referenced(
    groups: Vec<TokenGroup>,
    mismatched: Vec<TokenGroup>,
    mut log_probs: Vec<Vec<f64>>,
) -> Vec<Referenced> {
    let of_mismatched = log_probs.split_off(groups.len()).into_iter().map(|row| row[0]);
    let mut mismatched = mismatched.into_iter().zip(of_mismatched);
    let record = |(group, reference)| Referenced {
        group,
        reference,
        mismatched: mismatched.next(),
        mismatched_kl: 0.0,
    };
    groups.into_iter().zip(log_probs).map(record).collect()
}

/// Each prompt with the first completion of the next record that has another prompt (of the next record,
/// where all have the same), of at most `max_length` tokens together where that is no 0.
fn mismatched(groups: &[TokenGroup], max_length: usize) -> Vec<TokenGroup> {
    let pair = |(i, group): (usize, &TokenGroup)| {
        let mut after = groups[i + 1..].iter().chain(&groups[..=i]).peekable();
        let next = after.peek().map_or(group, |next| *next);
        let other = after.find(|other| other.prompt != group.prompt).unwrap_or(next);
        let mut completion = other.completions[0].clone();
        if max_length > 0 {
            completion.truncate(max_length.saturating_sub(group.prompt.len()).max(1));
        }
        let prompt = group.prompt.clone();
        TokenGroup { prompt, completions: vec![completion], ..TokenGroup::default() }
    };
    groups.iter().enumerate().map(pair).collect()
}

/// Estimates the KL to the reference before a step, from all of its records, so that each part of the step
/// has the same.
fn prepare(temperature: f64, device: &Device) -> Prepare<Aligner<Decoder>, Referenced> {
    let device = device.clone();
    Arc::new(move |aligner: &Aligner<Decoder>, records: &mut [Referenced]| {
        let (pairs, reference): (Vec<TokenGroup>, Vec<f64>) =
            records.iter().filter_map(|record| record.mismatched.clone()).unzip();
        if pairs.is_empty() {
            return Ok(());
        }
        let policy = aligner.policy.valid();
        let log_probs = token_log_probs_of(&policy, &pairs, temperature, &device, |_| Ok(()))?;
        let sums = log_probs.iter().map(|group| group[0].iter().map(|&it| f64::from(it)).sum());
        let ratios =
            sums.zip(&reference).map(|(policy, reference): (f64, &f64)| policy - reference);
        let mean = ratios.sum::<f64>() / pairs.len() as f64;
        records.iter_mut().for_each(|record| record.mismatched_kl = mean);
        Ok(())
    })
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
        mismatched_kl: records[0].mismatched_kl,
    }
}
