//! `exalign label`: rewards for the completions of groups.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use clap::Args;
use exalign::config::{Config, Stage};
use exalign::data::{
    self, Group, GroupBatch, Intake, Limits, Located, RewardReading, TokenGroup, Tokenization,
    Tokenizer,
};
use exalign::model::{ModelFolder, RewardModel, reward_reading};
use exalign::policy::{check_tokens, not_finite, read_in_batches};
use exalign::progress::Progress;
use exalign::{Error, Result, files, interrupt};
use serde_json::{Value, json};

use super::merge_shards::{shard_result, without_shard};
use super::{Context, configuration, tokenizer, with_date, write_lines};
use crate::command_line::Global;
use crate::record::{Record, Start};
use crate::shard::{Portion, Shard};

/// Options of `exalign label`.
#[derive(Args, Debug)]
pub struct LabelArgs {
    /// The reward model: a folder `exalign reward` made, or its `model` folder
    #[arg(long, value_name = "FOLDER")]
    reward: PathBuf,
    /// Groups: {"prompt": .., "completions": [..]}, as texts or messages
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Where the groups with "rewards" go
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Start over where an earlier run left something
    #[arg(long)]
    fresh: bool,
    /// Label a part of the groups, i of n from 1; `exalign merge-shards` puts them together
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// dtype: what the weights are kept as in memory: f32, bf16 or f16
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<String>,
}

/// Runs the command.
pub fn run(args: LabelArgs, global: &Global) -> Result<Value> {
    let config = configuration(global, Stage::Sample, vec![("dtype", args.dtype)])?;
    let stage = Label {
        reward: args.reward,
        data: args.data,
        out: args.out,
        fresh: args.fresh,
        shard: args.shard,
        config,
    };
    stage.run(&Context::new(global)?).map(without_shard)
}

/// Labelling, from where to where.
pub struct Label {
    pub reward: PathBuf,
    pub data: PathBuf,
    pub out: PathBuf,
    pub fresh: bool,
    pub shard: Option<Shard>,
    pub config: Config,
}

impl Label {
    pub fn run(self, context: &Context) -> Result<Value> {
        let kept = (!self.fresh).then(|| Record::beside(&self.out));
        let config = with_date(self.config, &[&reward_folder(&self.reward)?], kept.as_deref())?;
        let judge = Judge::open(&self.reward, &config)?;
        let skip_bad = config.data.skip_bad;
        let (read, intake) =
            data::read_records(&self.data, skip_bad, |located: Located<Group>, intake| {
                let tokens = judge.tokens(&located, intake)?;
                Ok((located.record, tokens))
            })?;
        let (groups, tokens): (Vec<Group>, Vec<TokenGroup>) = read.into_iter().unzip();
        intake.tell(&self.data);
        let settings = json!({ "dtype": config.dtype, "chat": config.chat });
        let record = Record::new("label", settings, &context.device_name)
            .shard(self.shard)
            .input("data", files::hash_file(&self.data)?);
        let record = judge.note(record)?;
        let work = match record.start_file(&self.out, self.fresh)? {
            Start::Done(result) => return Ok(result),
            Start::Go(work) => work,
        };
        let portion = self.shard.unwrap_or(Shard::WHOLE).of_groups(&tokens)?;
        let rewards = portion.take(&judge.rewards(&tokens, &portion, &context.device)?);
        drop(tokens);
        let mine: HashSet<usize> = portion.records().into_iter().collect();
        let groups = groups.into_iter().enumerate().filter(|(record, _)| mine.contains(record));
        let labelled: Vec<Group> = groups
            .zip(rewards)
            .map(|((_, group), rewards)| Group { rewards: Some(rewards), ..group })
            .collect();
        write_lines(&self.out, &labelled)?;
        let result = summary(&labelled);
        let result = match self.shard {
            Some(_) => shard_result(result, &self.out, &portion)?,
            None => result,
        };
        work.finish(result.clone())?;
        Ok(result)
    }
}

/// What a labelling came to.
fn summary(groups: &[Group]) -> Value {
    let all: Vec<f64> =
        groups.iter().filter_map(|it| it.rewards.as_ref()).flatten().copied().collect();
    json!({
        "groups": groups.len(), "completions": all.len(),
        "mean_reward": all.iter().sum::<f64>() / all.len().max(1) as f64,
    })
}

/// What the shards of a labelling come to together.
pub fn merged_result(out: &Path) -> Result<Value> {
    let groups: Vec<Group> =
        data::read_all::<Group>(out, 0)?.into_iter().map(|it| it.record).collect();
    Ok(summary(&groups))
}

/// The folder of a reward model, or of the run that made it.
pub fn reward_folder(path: &Path) -> Result<ModelFolder> {
    let inner = path.join("model");
    ModelFolder::open(if ModelFolder::is_at(&inner) { &inner } else { path })
}

/// A reward model with its tokenizer, ready to judge groups.
pub struct Judge {
    pub folder: ModelFolder,
    tokenizer: Option<Tokenizer>,
    reading: RewardReading,
}

impl Judge {
    /// Opens a reward model's folder, or the folder of the run that made it.
    pub fn open(path: &Path, config: &Config) -> Result<Self> {
        let folder = reward_folder(path)?.kept_as(config.dtype);
        if !folder.is_classifier() {
            return Err(Error::file(
                &folder.path,
                format!(
                    "expected a reward model ({}), found {}; `exalign reward` makes one",
                    folder.family.classifier_architecture, folder.json["architectures"]
                ),
            ));
        }
        let tokenizer = tokenizer(&folder, config)?;
        let reading = reward_reading(&folder);
        Ok(Self { folder, tokenizer, reading })
    }

    /// What its rewards depend on, for a record of `what`.
    pub fn note(&self, record: Record) -> Result<Record> {
        let hash = self.tokenizer.as_ref().map(Tokenizer::content_hash).unwrap_or_default();
        let record = record.input("reward", self.folder.content_hash()?);
        Ok(record.input("the reward model's tokenizer", hash.to_owned()))
    }

    /// The judge's own tokens of a group.
    pub fn tokens(&self, located: &Located<Group>, intake: &mut Intake) -> Result<TokenGroup> {
        let positions = self.folder.shape.max_positions;
        let tokenization = Tokenization {
            tokenizer: self.tokenizer.as_ref(),
            limits: Limits { max_length: positions, max_prompt_length: 0 },
            vocab_size: self.folder.shape.vocab_size,
        };
        self.reading.tokens(located, &tokenization, intake)
    }

    /// The judge's own tokens of every group; `source` is the file errors name.
    pub fn all_tokens(&self, source: &Path, groups: &[Group]) -> Result<Vec<TokenGroup>> {
        let mut intake = Intake::default();
        let mut tokens = |(index, group): (usize, &Group)| {
            let located = Located { file: source.into(), line: index + 1, record: group.clone() };
            self.tokens(&located, &mut intake)
        };
        groups.iter().enumerate().map(&mut tokens).collect()
    }

    /// The reward of every completion of a portion's groups, given by their
    /// [tokens](Self::all_tokens).
    pub fn rewards(
        &self,
        tokens: &[TokenGroup],
        portion: &Portion,
        device: &Device,
    ) -> Result<Vec<Vec<f64>>> {
        let model = RewardModel::load(&self.folder, 0, device)?;
        let records = portion.records();
        let completions = records.iter().map(|&it| tokens[it].completions.len()).sum();
        let mut progress = Progress::new("labelling", "completions", 0, completions);
        let rewards =
            portion.by_record(tokens, |block| rewards(&model, block, device, &mut progress))?;
        progress.finish();
        Ok(rewards)
    }
}

/// The reward of every completion.
fn rewards(
    model: &RewardModel,
    tokens: &[TokenGroup],
    device: &Device,
    progress: &mut Progress,
) -> Result<Vec<Vec<f64>>> {
    let mut rewards: Vec<Vec<f64>> =
        tokens.iter().map(|it| vec![0.0; it.completions.len()]).collect();
    check_tokens(model.decoder.config(), tokens)?;
    read_in_batches(tokens, |parts, groups| {
        interrupt::check()?;
        let batch = GroupBatch::new(groups, device);
        let values: Vec<f32> =
            model.rewards(&batch).into_data_as::<f32>().try_into_vec().map_err(|error| {
                Error::Numeric(format!("rewards could not be read back from the device: {error}"))
            })?;
        for (part, values) in parts.iter().zip(values.chunks(batch.num_completions)) {
            for (completion, &reward) in part.completions.clone().zip(values) {
                if !reward.is_finite() {
                    return Err(not_finite("the reward", &tokens[part.group], completion));
                }
                rewards[part.group][completion] = reward.into();
            }
            progress.advance(values.len(), "");
        }
        Ok(())
    })?;
    Ok(rewards)
}
