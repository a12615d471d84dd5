//! `exalign evaluate`: reward and KL of a policy over held-out prompts, with intervals.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use exalign::config::{Config, Generation, Stage};
use exalign::data::{self, Group, TokenGroup};
use exalign::evaluation::{Drawn, Evaluation};
use exalign::generation::Sample;
use exalign::model::ModelFolder;
use exalign::policy::token_log_probs_of;
use exalign::progress::Progress;
use exalign::{Error, Result, files, interrupt};
use serde_json::{Value, json};

use super::align::reference_log_probs;
use super::label::{Judge, reward_folder};
use super::merge_shards::{in_file_order, records_of, shard_result};
use super::sample::{GenerationFlags, draw, portion, read_prompts, sampling};
use super::{Context, configuration, tokenizer, training, with_date, write_lines};
use crate::command_line::Global;
use crate::record::{Record, Start};
use crate::shard::{Portion, Shard};

/// Options of `exalign evaluate`.
#[derive(Args, Debug)]
pub struct EvaluateArgs {
    /// A Hugging Face or PEFT folder, or a hub id (owner/name[@revision]): the policy
    #[arg(long, value_name = "MODEL")]
    policy: PathBuf,
    /// The reference of the KL, π_sft
    #[arg(long, value_name = "MODEL")]
    reference: PathBuf,
    /// The reward model: a folder `exalign reward` made, or its `model` folder
    #[arg(long, value_name = "FOLDER")]
    reward: PathBuf,
    /// Held-out prompts: {"prompt": a text or messages}
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Where the drawn groups go, with their rewards
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Start over where an earlier run left something
    #[arg(long)]
    fresh: bool,
    /// Evaluate on a part of the prompts, i of n from 1; `exalign merge-shards` puts them together
    #[arg(long, value_name = "I/N", requires = "out")]
    shard: Option<Shard>,
    #[command(flatten)]
    generation: GenerationFlags,
}

/// Runs the command.
pub fn run(args: EvaluateArgs, global: &Global) -> Result<Value> {
    let config = configuration(global, Stage::Evaluate, args.generation.settings())?;
    let evaluate = Evaluate {
        policy: args.policy,
        reference: args.reference,
        reward: args.reward,
        data: args.data,
        shard: args.shard,
        config,
    };
    let context = Context::new(global)?;
    let evaluated = match args.out {
        Some(out) => evaluate.run_kept(&out, args.fresh, &context)?.0,
        None => evaluate.run(&context)?.0,
    };
    let evaluation = &evaluated.evaluation;
    tracing::info!("reward {}   KL {} nats", evaluation.reward, evaluation.kl);
    Ok(json!(evaluation))
}

/// What the shards of an evaluation come to together.
pub fn merged_result(settings: &Value, shards: &[&Value]) -> Result<Value> {
    let damaged = |error: serde_json::Error| {
        Error::usage(format!(
            "the record of a shard cannot be read: {error}; make it again with --fresh"
        ))
    };
    let drawn = |result: &&Value| -> Result<(Vec<usize>, Vec<Vec<Drawn>>)> {
        let drawn = serde_json::from_value(result["drawn"].clone()).map_err(damaged)?;
        Ok((records_of(result), drawn))
    };
    let drawn = in_file_order(shards.iter().map(drawn).collect::<Result<Vec<_>>>()?);
    let seed = settings["seed"].as_u64().unwrap_or_default();
    let seconds: f64 = shards.iter().filter_map(|it| it["seconds"].as_f64()).sum();
    Ok(json!({
        "evaluation": Evaluation::new(&drawn, seed), "drawn": drawn, "seconds": seconds,
    }))
}

/// An evaluation, of what against what.
pub struct Evaluate {
    pub policy: PathBuf,
    pub reference: PathBuf,
    pub reward: PathBuf,
    pub data: PathBuf,
    pub shard: Option<Shard>,
    pub config: Config,
}

/// What was drawn and what it came to.
pub struct Evaluated {
    pub evaluation: Evaluation,
    /// The completions with their rewards.
    pub groups: Vec<Group>,
    /// Rewards and log-ratios of the same.
    pub drawn: Vec<Vec<Drawn>>,
}

impl Evaluated {
    /// What [`Evaluate::run_kept`] left in the file `out` and its record.
    pub fn read(out: &Path) -> Result<Self> {
        let groups = data::read_all::<Group>(out, 0)?.into_iter().map(|it| it.record).collect();
        let record = Record::read(&Record::beside(out))?;
        let damaged = |error: serde_json::Error| {
            Error::file(out, format!("its record cannot be read: {error}; remove both"))
        };
        let kept = |field: &str| record.result[field].clone();
        let evaluation = serde_json::from_value(kept("evaluation")).map_err(damaged)?;
        let drawn = serde_json::from_value(kept("drawn")).map_err(damaged)?;
        Ok(Self { evaluation, groups, drawn })
    }
}

/// Refuses to draw from what has no KL, or another one than is computed.
pub fn check_generation(generation: &Generation) -> Result<()> {
    let (top_k, top_p) = (generation.top_k, generation.top_p);
    if generation.temperature == 0.0 {
        return Err(Error::usage(
            "generation.temperature: expected a number above 0, found 0: the KL is that of the policy at \
             this temperature, and at 0 there is none; `exalign sample --temperature 0` takes the most \
             probable tokens",
        ));
    }
    if top_k > 0 || top_p < 1.0 {
        return Err(Error::usage(format!(
            "generation.top_k, generation.top_p: expected 0 and 1, found {top_k} and {top_p}: the KL is that of the \
             whole policy, of which they cut the tail; `exalign sample` and `label` measure the reward alone"
        )));
    }
    Ok(())
}

impl Evaluate {
    /// Draws from the policy at τ, scores what was drawn under both models at τ, and judges it.
    /// Also returns which prompts those were.
    pub fn run(self, context: &Context) -> Result<(Evaluated, Portion)> {
        let config = &self.config;
        let temperature = config.generation.temperature;
        check_generation(&config.generation)?;
        let folder = ModelFolder::open(&self.policy)?.kept_as(config.dtype);
        let reference = ModelFolder::open(&self.reference)?.kept_as(config.dtype);
        let judge = Judge::open(&self.reward, config)?;
        let tokenizer = tokenizer(&folder, config)?;
        let prompts = read_prompts(&self.data, config, &folder, tokenizer.as_ref())?;

        let policy = training::load_decoder(&folder, &context.device)?;
        let batch_size = config.generation.batch_size;
        let portion = portion(self.shard, &prompts, batch_size)?;
        let mine = portion.records();
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); prompts.len()];
        let mut progress = Progress::new("sampling", "prompts", 0, mine.len());
        let sampling = sampling(config, &folder, tokenizer.as_ref())?;
        draw(&policy, &prompts, mine, &sampling, batch_size, |numbers, drawn| {
            progress.advance(numbers.len(), "");
            for (number, drawn) in numbers.into_iter().zip(drawn) {
                samples[number] = drawn;
            }
            Ok(())
        })?;
        progress.finish();

        let tokens: Vec<TokenGroup> = prompts
            .iter()
            .zip(&samples)
            .enumerate()
            .map(|(number, (prompt, samples))| TokenGroup {
                id: prompt.record.id.clone(),
                line: number + 1,
                prompt: prompt.ids.clone(),
                completions: samples.iter().map(|it| it.ids.clone()).collect(),
                rewards: Vec::new(),
            })
            .collect();
        let ours = portion.by_record(&tokens, |block| {
            token_log_probs_of(&policy, block, temperature, &context.device, |_| interrupt::check())
        })?;
        drop(policy);
        let blocks = portion.items(&tokens);
        let mut theirs = reference_log_probs(
            &reference,
            &reference.content_hash()?,
            temperature,
            &blocks.iter().map(Vec::as_slice).collect::<Vec<_>>(),
            &context.device,
        )?
        .into_iter();
        let theirs =
            portion.by_record(&tokens, |block| Ok(theirs.by_ref().take(block.len()).collect()))?;

        let groups: Vec<Group> = prompts
            .iter()
            .zip(&samples)
            .map(|(prompt, samples)| prompt.group(samples, tokenizer.as_ref()))
            .collect::<Result<_>>()?;
        let judged = judge.all_tokens(&self.data, &groups)?;
        let rewards = judge.rewards(&judged, &portion, &context.device)?;
        let drawn: Vec<Vec<Drawn>> = rewards
            .iter()
            .zip(ours.iter().zip(&theirs))
            .map(|(rewards, (ours, theirs))| {
                rewards
                    .iter()
                    .zip(ours.iter().zip(theirs))
                    .map(|(&reward, (ours, theirs))| Drawn {
                        reward,
                        log_ratio: ours.iter().copied().map(f64::from).sum::<f64>() - theirs,
                    })
                    .collect()
            })
            .collect();
        let mut groups = portion.take(&groups);
        for (group, rewards) in groups.iter_mut().zip(portion.take(&rewards)) {
            group.rewards = Some(rewards);
        }
        let drawn = portion.take(&drawn);
        Ok((Evaluated { evaluation: Evaluation::new(&drawn, config.seed), groups, drawn }, portion))
    }

    /// Like [`run`](Self::run), keeping what came out in the file `out` and its record, and taking
    /// it from there where it was kept before. Also returns the record's result.
    pub fn run_kept(
        mut self,
        out: &Path,
        fresh: bool,
        context: &Context,
    ) -> Result<(Evaluated, Value)> {
        let shard = self.shard;
        let policy = ModelFolder::open(&self.policy)?;
        let kept = (!fresh).then(|| Record::beside(out));
        let read = [&policy, &reward_folder(&self.reward)?];
        self.config = with_date(self.config, &read, kept.as_deref())?;
        let settings = json!({
            "seed": self.config.seed, "dtype": self.config.dtype,
            "generation": self.config.generation, "data": self.config.data, "chat": self.config.chat,
        });
        let record = Record::new("evaluate", settings, &context.device_name)
            .shard(shard)
            .input("policy", policy.content_hash()?)
            .input("reference", ModelFolder::open(&self.reference)?.content_hash()?)
            .tokenizer(tokenizer(&policy, &self.config)?.as_ref())
            .input("data", files::hash_file(&self.data)?);
        let record = Judge::open(&self.reward, &self.config)?.note(record)?;
        match record.start_file(out, fresh)? {
            Start::Done(result) => Ok((Evaluated::read(out)?, result)),
            Start::Go(work) => {
                let started = Instant::now();
                let (evaluated, portion) = self.run(context)?;
                write_lines(out, &evaluated.groups)?;
                let result = json!({
                    "evaluation": evaluated.evaluation, "drawn": evaluated.drawn,
                    "seconds": started.elapsed().as_secs_f64(),
                });
                let result = match shard {
                    Some(_) => shard_result(result, out, &portion)?,
                    None => result,
                };
                work.finish(result.clone())?;
                Ok((evaluated, result))
            }
        }
    }
}
