//! `exalign evaluate`: reward and KL of a policy over held-out prompts, with intervals.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use exalign::config::{Config, Stage};
use exalign::data::{self, Group, TokenGroup};
use exalign::evaluation::{Drawn, Evaluation};
use exalign::generation::Sample;
use exalign::log_probs::token_log_probs_of;
use exalign::model::ModelFolder;
use exalign::progress::Progress;
use exalign::{Error, Result, files, interrupt};
use serde_json::{Value, json};

use super::align::reference_log_probs;
use super::label::Judge;
use super::sample::{GenerationFlags, draw, read_prompts, sampling};
use super::{Context, configuration, tokenizer, training, write_lines};
use crate::command_line::Global;
use crate::record::{Record, Start};

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
    /// Held-out prompts, JSON Lines: {"prompt": ..}
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Where the drawn groups go, with their rewards
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    generation: GenerationFlags,
}

/// Runs the command.
pub fn run(args: EvaluateArgs, global: &Global) -> Result<Value> {
    let config = configuration(global, Stage::Evaluate, args.generation.settings())?;
    let evaluated = Evaluate {
        policy: args.policy,
        reference: args.reference,
        reward: args.reward,
        data: args.data,
        config,
    }
    .run(&Context::new(global)?)?;
    if let Some(out) = args.out {
        write_lines(&out, &evaluated.groups)?;
    }
    let evaluation = &evaluated.evaluation;
    tracing::info!("reward {}   KL {} nats", evaluation.reward, evaluation.kl);
    Ok(json!(evaluation))
}

/// An evaluation, of what against what.
pub struct Evaluate {
    pub policy: PathBuf,
    pub reference: PathBuf,
    pub reward: PathBuf,
    pub data: PathBuf,
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
        let record: Record = files::read_json(&Record::beside(out))?;
        let damaged = |error: serde_json::Error| {
            Error::file(out, format!("its record cannot be read: {error}; remove both"))
        };
        let kept = |field: &str| record.result[field].clone();
        let evaluation = serde_json::from_value(kept("evaluation")).map_err(damaged)?;
        let drawn = serde_json::from_value(kept("drawn")).map_err(damaged)?;
        Ok(Self { evaluation, groups, drawn })
    }
}

impl Evaluate {
    /// Draws from the policy at τ, scores what was drawn under both models at τ, and judges it.
    pub fn run(self, context: &Context) -> Result<Evaluated> {
        let config = &self.config;
        let temperature = config.generation.temperature;
        let folder = ModelFolder::open(&self.policy)?.kept_as(config.dtype);
        let reference = ModelFolder::open(&self.reference)?.kept_as(config.dtype);
        let judge = Judge::open(&self.reward, config.dtype)?;
        let tokenizer = tokenizer(&folder)?;
        let prompts = read_prompts(&self.data, config, &folder, tokenizer.as_ref())?;

        let policy = training::load_decoder(&folder, &context.device)?;
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); prompts.len()];
        let mut progress = Progress::new("sampling", "prompts", 0, prompts.len());
        let numbers = (0..prompts.len()).collect();
        let sampling = sampling(config, &folder.shape.end_of_text, tokenizer.as_ref())?;
        let batch_size = config.generation.batch_size;
        draw(&policy, &prompts, numbers, &sampling, batch_size, |numbers, drawn| {
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
        let ours = token_log_probs_of(&policy, &tokens, temperature, &context.device, |_| {
            interrupt::check()
        })?;
        drop(policy);
        let theirs = reference_log_probs(
            &reference,
            &reference.content_hash()?,
            temperature,
            &tokens,
            &context.device,
        )?;

        let mut groups: Vec<Group> = prompts
            .iter()
            .zip(&samples)
            .map(|(prompt, samples)| prompt.group(samples, tokenizer.as_ref()))
            .collect::<Result<_>>()?;
        let rewards = judge.rewards(&self.data, &groups, &context.device)?;
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
        for (group, rewards) in groups.iter_mut().zip(rewards) {
            group.rewards = Some(rewards);
        }
        Ok(Evaluated { evaluation: Evaluation::new(&drawn, config.seed), groups, drawn })
    }

    /// Like [`run`](Self::run), keeping what came out in the file `out` and its record, and taking
    /// it from there where it was kept before. Also returns the record's result.
    pub fn run_kept(self, out: &Path, context: &Context) -> Result<(Evaluated, Value)> {
        let settings = json!({
            "seed": self.config.seed, "dtype": self.config.dtype,
            "generation": self.config.generation, "data": self.config.data,
        });
        let record = Record::new("evaluate", settings, &context.device_name)
            .input("policy", ModelFolder::open(&self.policy)?.content_hash()?)
            .input("reference", ModelFolder::open(&self.reference)?.content_hash()?)
            .input("reward", Judge::open(&self.reward, self.config.dtype)?.folder.content_hash()?)
            .input("data", files::hash_file(&self.data)?);
        match record.start_file(out, false)? {
            Start::Done(result) => Ok((Evaluated::read(out)?, result)),
            Start::Go(work) => {
                let started = Instant::now();
                let evaluated = self.run(context)?;
                write_lines(out, &evaluated.groups)?;
                let result = json!({
                    "evaluation": evaluated.evaluation, "drawn": evaluated.drawn,
                    "seconds": started.elapsed().as_secs_f64(),
                });
                work.finish(result.clone())?;
                Ok((evaluated, result))
            }
        }
    }
}
