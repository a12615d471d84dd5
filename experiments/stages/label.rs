//! `exalign label`: rewards for the completions of groups.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use clap::Args;
use exalign::config::{Config, Stage};
use exalign::data::{self, Ending, Group, GroupBatch, Passage, TokenGroup, Tokenizer};
use exalign::log_probs::read_in_batches;
use exalign::model::{ModelFolder, Precision, RewardModel};
use exalign::progress::Progress;
use exalign::{Error, Result, files, interrupt};
use serde_json::{Value, json};

use super::merge_shards::{shard_result, without_shard};
use super::reward::without_end_of_text;
use super::{Context, configuration, tokenizer, write_lines};
use crate::command_line::Global;
use crate::record::{Record, Start};
use crate::shard::{Portion, Shard};

/// Options of `exalign label`.
#[derive(Args, Debug)]
pub struct LabelArgs {
    /// The reward model: a folder `exalign reward` made, or its `model` folder
    #[arg(long, value_name = "FOLDER")]
    reward: PathBuf,
    /// Groups, JSON Lines: {"prompt": .., "completions": [..]}
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
        let judge = Judge::open(&self.reward, self.config.dtype)?;
        let groups: Vec<Group> = data::read_all::<Group>(&self.data, self.config.data.skip_bad)?
            .into_iter()
            .map(|it| it.record)
            .collect();
        let record = Record::new("label", json!({}), &context.device_name)
            .shard(self.shard)
            .input("reward", judge.folder.content_hash()?)
            .input("data", files::hash_file(&self.data)?);
        let work = match record.start_file(&self.out, self.fresh)? {
            Start::Done(result) => return Ok(result),
            Start::Go(work) => work,
        };
        let tokens = judge.all_tokens(&self.data, &groups)?;
        let portion = self.shard.unwrap_or(Shard::WHOLE).of_groups(&tokens)?;
        let rewards = portion.take(&judge.rewards(&tokens, &portion, &context.device)?);
        let mut labelled = portion.take(&groups);
        for (group, rewards) in labelled.iter_mut().zip(rewards) {
            group.rewards = Some(rewards);
        }
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

/// A reward model with its tokenizer, ready to judge groups.
pub struct Judge {
    pub folder: ModelFolder,
    tokenizer: Option<Tokenizer>,
}

impl Judge {
    /// Opens a reward model's folder, or the folder of the run that made it.
    pub fn open(path: &Path, precision: Precision) -> Result<Self> {
        let inner = path.join("model");
        let folder = ModelFolder::open(if ModelFolder::is_at(&inner) { &inner } else { path })?
            .kept_as(precision);
        if !folder.is_classifier() {
            return Err(Error::file(
                &folder.path,
                format!(
                    "expected a reward model ({}), found {}; `exalign reward` makes one",
                    folder.family.classifier_architecture, folder.json["architectures"]
                ),
            ));
        }
        let tokenizer = tokenizer(&folder)?;
        Ok(Self { folder, tokenizer })
    }

    /// The judge's own tokens of every group; `source` is the file errors name.
    pub fn all_tokens(&self, source: &Path, groups: &[Group]) -> Result<Vec<TokenGroup>> {
        let tokens = |(index, group)| self.tokens(source, index + 1, group);
        groups.iter().enumerate().map(tokens).collect()
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
        let completions = portion.take(tokens).iter().map(|it| it.completions.len()).sum();
        let mut progress = Progress::new("labelling", "completions", 0, completions);
        let rewards =
            portion.by_record(tokens, |block| rewards(&model, block, device, &mut progress))?;
        progress.finish();
        Ok(rewards)
    }

    /// The judge's own tokens of a group: of its text where there is one, since the policy's
    /// tokenizer may be another; of its ids otherwise. The prompt loses tokens from its left.
    fn tokens(&self, source: &Path, line: usize, group: &Group) -> Result<TokenGroup> {
        let mut tokens = TokenGroup {
            id: group.id.clone(),
            line,
            prompt: self.prompt(source, line, &group.prompt)?,
            completions: group
                .completions
                .iter()
                .map(|it| self.ids(&it.passage, Tokenizer::encode_completion))
                .collect::<Result<_>>()?,
            rewards: Vec::new(),
        };
        without_end_of_text(&mut tokens, &self.folder.shape.end_of_text);
        let longest = tokens.completions.iter().map(Vec::len).max().unwrap_or(0);
        let room = self.folder.shape.max_positions.saturating_sub(longest);
        if longest > self.folder.shape.max_positions {
            return Err(Error::record(
                source,
                line,
                format!(
                    "`completions`: expected at most the reward model's {} tokens, found {longest}",
                    self.folder.shape.max_positions
                ),
            ));
        }
        tokens.prompt.drain(..tokens.prompt.len().saturating_sub(room));
        Ok(tokens)
    }

    /// A conversation through the judge's own chat template where it has one.
    fn prompt(&self, source: &Path, line: usize, prompt: &Passage) -> Result<Vec<u32>> {
        let template = self.tokenizer.as_ref().and_then(Tokenizer::chat_template);
        let (Some(messages), Some(template)) = (&prompt.messages, template) else {
            return self.ids(prompt, Tokenizer::encode_prompt);
        };
        let text = template
            .render(&messages.clone().into(), Ending::GenerationPrompt)
            .map_err(|problem| Error::record(source, line, format!("`messages`: {problem}")))?;
        // The template has written all special tokens there are to be.
        self.ids(&Passage::of_text(text), Tokenizer::encode_completion)
    }

    fn ids(
        &self,
        passage: &Passage,
        encode: impl Fn(&Tokenizer, &str) -> Result<Vec<u32>>,
    ) -> Result<Vec<u32>> {
        match (&passage.text, &passage.ids, &self.tokenizer) {
            (Some(text), _, Some(tokenizer)) => encode(tokenizer, text),
            (_, Some(ids), _) => Ok(ids.clone()),
            _ => Err(Error::file(
                &self.folder.path,
                "expected a tokenizer, and a chat template for groups with messages, since the groups \
                 hold no token ids; put tokenizer.json or chat_template.jinja there",
            )),
        }
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
    read_in_batches(tokens, |parts, groups| {
        interrupt::check()?;
        let batch = GroupBatch::new(groups, device);
        let values: Vec<f32> =
            model.rewards(&batch).into_data_as::<f32>().try_into_vec().map_err(|error| {
                Error::Numeric(format!("rewards could not be read back from the device: {error}"))
            })?;
        for (part, values) in parts.iter().zip(values.chunks(batch.num_completions)) {
            for (completion, &reward) in part.completions.clone().zip(values) {
                rewards[part.group][completion] = reward.into();
            }
            progress.advance(values.len(), "");
        }
        Ok(())
    })?;
    Ok(rewards)
}
