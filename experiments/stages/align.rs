//! `exalign align`: EXO and DPO on groups or pairs, the reference read from its store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use clap::Args;
use exalign::alignment::{Alignment, Objective};
use exalign::config::{Config, Stage};
use exalign::data::{self, GroupBatch, TokenGroup, Tokenizer};
use exalign::model::ModelFolder;
use exalign::policy::token_log_probs_of;
use exalign::progress::Progress;
use exalign::reference::{ReferenceStore, cache_folder};
use exalign::training::{Aligner, AlignmentBatch};
use exalign::{Result, files, interrupt};
use serde_json::{Value, json};

use super::training::{self, Subject, Train, TrainingFlags};
use super::{Context, configuration, limits, tokenizer, with_date};
use crate::command_line::Global;
use crate::record::{Record, Start};

/// Options of `exalign align`.
#[derive(Args, Debug)]
pub struct AlignArgs {
    /// exo-pref, exo-rw, dpo or dpo-rw [default: objective.name]
    #[arg(long, value_name = "NAME")]
    objective: Option<String>,
    /// A Hugging Face or PEFT folder, or a hub id (owner/name[@revision]): the model training starts from
    #[arg(long, value_name = "MODEL")]
    model: PathBuf,
    /// The reference, π_sft [default: --model]
    #[arg(long, value_name = "MODEL")]
    reference: Option<PathBuf>,
    /// Groups with rewards, or pairs {"prompt", "chosen", "rejected"}, as texts or messages; JSON Lines, CSV, Parquet, ..
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Where metrics, checkpoints and the aligned model go
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Start over where an earlier run left something
    #[arg(long)]
    fresh: bool,
    /// objective.beta_policy: sharpness of the policy side, β_π
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
    training: TrainingFlags,
}

/// Runs the command.
pub fn run(args: AlignArgs, global: &Global) -> Result<Value> {
    let mut flags = args.training.settings();
    flags.extend([
        ("objective.name", args.objective),
        ("objective.beta_policy", args.beta_policy.map(|it| format!("{it:?}"))),
        ("objective.beta_reward", args.beta_reward.map(|it| format!("{it:?}"))),
        ("objective.temperature", args.temperature.map(|it| format!("{it:?}"))),
        ("objective.epsilon", args.epsilon.map(|it| format!("{it:?}"))),
        ("objective.labels", args.labels),
    ]);
    let config = configuration(global, Stage::Align, flags)?;
    Align {
        reference: args.reference.unwrap_or_else(|| args.model.clone()),
        model: args.model,
        data: args.data,
        out: args.out,
        fresh: args.fresh,
        config,
    }
    .run(&Context::for_training(global)?)
}

/// An alignment, from where to where.
pub struct Align {
    pub model: PathBuf,
    pub reference: PathBuf,
    pub data: PathBuf,
    pub out: PathBuf,
    pub fresh: bool,
    pub config: Config,
}

impl Align {
    pub fn run(self, context: &Context) -> Result<Value> {
        let folder = ModelFolder::open(&self.model)?;
        let kept = (!self.fresh).then(|| Record::within(&self.out));
        let config = &with_date(self.config, &[&folder], kept.as_deref())?;
        let objective = config.objective.init()?;
        let temperature = config.objective.temperature;
        // Rounded as the policy is, so that the two are alike where nothing is learned yet.
        let reference = ModelFolder::open(&self.reference)?.kept_as(config.training.compute);
        let tokenizer = tokenizer(&folder, config)?;
        let groups = read_groups(&self.data, config, &objective, &folder, tokenizer.as_ref())?;

        let reference_hash = reference.content_hash()?;
        let record = Record::new("align", json!(config), &context.device_name)
            .input("model", folder.content_hash()?)
            .input("reference", reference_hash.clone())
            .tokenizer(tokenizer.as_ref())
            .input("data", files::hash_file(&self.data)?);
        let work = match record.start_folder(&self.out, self.fresh)? {
            Start::Done(result) => return Ok(result),
            Start::Go(work) => work,
        };
        let reference = reference_log_probs(
            &reference,
            &reference_hash,
            temperature,
            &[&groups],
            &context.device,
        )?;

        let devices = context.training_devices();
        let device = devices[0].clone();
        let subject = Subject::new(folder, tokenizer, config)?;
        let saved = subject.clone();
        Train {
            name: objective.name(),
            out: self.out,
            config,
            groups,
            load: &|checkpoint| {
                let decoder = subject.load_decoder(checkpoint, &device)?;
                Ok(Aligner::new(decoder, objective.clone(), temperature))
            },
            save: Arc::new(move |aligner: &Aligner<_, _>, precision, target| {
                saved.save_decoder(&aligner.policy, precision, target)
            }),
            batch: Arc::new(move |groups, records, device| {
                (alignment_batch(records, groups, &reference, device), records.len() as f64)
            }),
            devices,
        }
        .run(work)
    }
}

/// Groups fit for `objective`, a pair's chosen completion first.
fn read_groups(
    path: &Path,
    config: &Config,
    objective: &Objective,
    folder: &ModelFolder,
    tokenizer: Option<&Tokenizer>,
) -> Result<Vec<TokenGroup>> {
    let (mut groups, intake) = data::read_alignment_tokens(
        path,
        config.data.skip_bad,
        tokenizer,
        &limits(config, folder),
        folder.shape.vocab_size,
        |num_completions| objective.check(num_completions),
    )?;
    intake.tell(path);
    groups.iter_mut().for_each(TokenGroup::chosen_first);
    Ok(groups)
}

/// Σ log-prob of every completion under the reference, from the store; what is missing is computed,
/// the groups of different parts apart.
pub fn reference_log_probs(
    folder: &ModelFolder,
    hash: &str,
    temperature: f64,
    parts: &[&[TokenGroup]],
    device: &Device,
) -> Result<Vec<Vec<f64>>> {
    let store = ReferenceStore::new(&cache_folder(), hash, temperature);
    let missing: usize = parts.iter().map(|groups| store.num_missing(groups)).sum();
    if missing == 0 {
        let groups: usize = parts.iter().map(|groups| groups.len()).sum();
        tracing::info!("reference log-probs: all {groups} groups are in the store");
        let stored = |groups: &&[TokenGroup]| store.log_probs(groups, |_| Ok(Vec::new()));
        return Ok(parts.iter().map(stored).collect::<Result<Vec<_>>>()?.concat());
    }
    let decoder = training::load_decoder(folder, device)?;
    let mut progress = Progress::new("reference log-probs", "completions", 0, missing);
    let mut sums = Vec::new();
    for groups in parts {
        sums.extend(store.log_probs(groups, |shard| {
            token_log_probs_of(&decoder, shard, temperature, device, |finished| {
                progress.advance(finished, "");
                interrupt::check()
            })
        })?);
    }
    progress.finish();
    Ok(sums)
}

fn alignment_batch(
    records: &[usize],
    groups: &[TokenGroup],
    reference: &[Vec<f64>],
    device: &Device,
) -> AlignmentBatch {
    let table = |rows: &dyn Fn(usize) -> Vec<f64>| {
        let values: Vec<f32> =
            records.iter().flat_map(|&record| rows(record)).map(|it| it as f32).collect();
        let columns = values.len() / records.len();
        Tensor::<2>::from_data(TensorData::new(values, [records.len(), columns]), device)
    };
    AlignmentBatch {
        groups: GroupBatch::new(records.iter().map(|&record| &groups[record]), device),
        reference: table(&|record| reference[record].clone()),
        rewards: table(&|record| groups[record].rewards.clone()),
    }
}
