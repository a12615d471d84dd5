//! Alignment on the policy's own samples, in rounds: completions of prompts are drawn, rewarded and scored by
//! the reference, then the policy takes some steps on them.
//!
//! | part | what |
//! |---|---|
//! | `plan` | the prompts of each round and the groups of each step, by the seed alone |
//! | `collect` | draws, rewards and scores the completions of a round |
//! | `round` | a finished round in its file, from which it is read after an interruption |
//! | `values` | what a round keeps for an objective that learns a value of each token |
//! | `reference` | the reference while training: kept, loaded for each round, or the policy without adapters |
//!
//! Invariant: a round is used as its file says, whether it was drawn now or before. So a training that was
//! stopped goes on with the same samples, rewards and weights.

mod collect;
mod plan;
mod reference;
mod round;
mod values;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use burn::module::{Module, ModuleDisplay};
use burn::tensor::Device;

use super::batches::{Source, StepRecords};
use super::drawing::{PromptToComplete, read_prompts, sampling};
use super::fit::{Fit, Size, Sizes, fit};
use super::referenced::{Batching, Referenced, alignment_batch};
use super::subject::Subject;
use super::train::{Train, Trained};
use super::{TrainingSite, check_same_tokens, tokenizer};
use crate::alignment::{Alignment, Takes};
use crate::config::{BestBy, Generation, OnlineSettings};
use crate::data::{Intake, Located, Tokenizer};
use crate::model::precision::computing_in;
use crate::model::{Decoder, ModelFolder, Precision, ValueHead};
use crate::rewards::Rewards;
use crate::training::Aligner;
use crate::{Error, Result};
use collect::{Actor, Collector};
use plan::Plan;
use reference::Reference;
use round::Round;

pub use round::ROUNDS;

/// A model, its reference, and the prompts whose completions it is aligned with.
pub struct Online {
    folder: ModelFolder,
    reference: ModelFolder,
    tokenizer: Option<Tokenizer>,
    objective: Arc<dyn Alignment>,
    prompts: Vec<PromptToComplete>,
    rewards: Rewards,
}

impl Online {
    /// Reads the prompts that the model of `folder` is aligned on, by the rewards of their completions.
    ///
    /// # Errors
    /// A record that is no prompt, with its file and line; settings that contradict each other.
    pub fn open(
        [folder, reference]: [ModelFolder; 2],
        prompts: &Path,
        settings: &OnlineSettings,
        rewards: Rewards,
    ) -> Result<Self> {
        let train = &settings.align.train;
        let objective = settings.align.objective.init()?;
        check(settings, &*objective)?;
        let tokenizer = tokenizer(&folder, &train.chat)?;
        check_same_tokens(&folder, tokenizer.as_ref(), &reference)?;
        let asked = (&settings.generation, &train.data.tokens);
        let file: Arc<Path> = prompts.into();
        let prompts = read_prompts(prompts, asked, &folder, tokenizer.as_ref())?;
        check_rewards(&rewards, &file, &prompts, tokenizer.as_ref())?;
        tell_unused_groups(settings, prompts.len());
        let reference = reference.kept_as(train.reference_type());
        Ok(Self { folder, reference, tokenizer, objective, prompts, rewards })
    }

    /// What the training takes of memory, and how it is cut to fit, where every completion is as long as it may be.
    ///
    /// # Errors
    /// If it cannot fit.
    pub fn fit(&self, settings: &OnlineSettings, device: &Device) -> Result<Fit> {
        let Generation { completions, max_new_tokens, .. } = settings.generation;
        let of = |most: usize| {
            let completions = if most == 0 { completions } else { completions.min(most) };
            let scored = completions.saturating_mul(max_new_tokens);
            let size = |prompt: &PromptToComplete| Size {
                tokens: scored.saturating_add(prompt.ids.len()),
                scored,
            };
            Ok(self.prompts.iter().map(size).collect())
        };
        let lower = "lower generation.completions or generation.max_new_tokens";
        fit(&self.folder, &settings.align.train, &Sizes { of: &of, lower }, device)
    }

    /// Trains, or goes on from the newest checkpoint at the site; `site.out/rounds` has what was drawn.
    ///
    /// # Errors
    /// As [`Training::run`](crate::training::Training::run); those of the rewards.
    pub fn train(self, settings: OnlineSettings, site: &TrainingSite<'_>) -> Result<Trained> {
        let fitted = self.fit(&settings, site.device())?;
        let Self { folder, reference, tokenizer, objective, prompts, rewards } = self;
        let OnlineSettings { align, mut generation, online, .. } = settings;
        let (train, temperature) = (fitted.applied(align.train), align.objective.temperature);
        let device = site.device();
        generation.log_probs = true;
        let rewards = Arc::new(Mutex::new(rewards));
        let collector = Collector {
            folder: site.out.join(ROUNDS),
            sampling: sampling(&generation, train.seed, &folder, tokenizer.as_ref())?,
            batch_size: generation.batch_size,
            reference: Reference::new([&folder, &reference], &*objective, &train, &online, device)?,
            refresh: online.refresh,
            objective: objective.clone(),
            tokenizer: tokenizer.clone(),
            rewards: rewards.clone(),
            temperature,
            device: device.clone(),
            prompts,
        };
        let plan = Plan::new(collector.prompts.len(), &train, &online);
        let trained_on = device.clone().autodiff();
        let batching = Batching {
            tokens: objective.needs_tokens(),
            completions: train.training.micro_completions,
            weighted: true,
        };
        let subject = Subject::new(folder, tokenizer, &train)?;
        let saved = subject.clone();
        let trained = Train {
            name: objective.name(),
            settings: &train,
            source: source(plan, collector, train.training.compute),
            held_out: None,
            drift: None,
            load: &|checkpoint| {
                let decoder = subject.load_decoder(checkpoint, &trained_on)?;
                let hidden_size = decoder.config().hidden_size;
                let aligner = Aligner::new(decoder, objective.clone(), temperature);
                if objective.gae().is_none() {
                    return Ok(aligner);
                }
                Ok(aligner.with_value(match checkpoint {
                    Some(folder) => ValueHead::load(folder, hidden_size, &trained_on)?,
                    None => ValueHead::new(hidden_size, &trained_on),
                }))
            },
            save: Arc::new(move |aligner: &Aligner<_>, precision, target| {
                saved.save_decoder(&aligner.policy, precision, target)
            }),
            beside: Some(Arc::new(|aligner: &Aligner<Decoder>, _, folder: &Path| {
                aligner.value.as_ref().map_or(Ok(()), |head| head.save(folder))
            })),
            batch: Arc::new(move |records: &[Referenced], device| {
                (alignment_batch(records, batching, device), records.len() as f64)
            }),
            prepare: None,
        }
        .run(site)?;
        // What programs answer after the last round shows whether earlier answers were in order.
        rewards.lock().unwrap_or_else(PoisonError::into_inner).close()?;
        Ok(trained)
    }
}

/// The records of each step: those of its round, which the policy of the round's first step has drawn.
fn source(
    plan: Plan,
    collector: Collector,
    compute: Precision,
) -> Source<Aligner<Decoder>, Referenced> {
    let num_steps = plan.num_steps();
    let current: Mutex<Option<(usize, Arc<Round>)>> = Mutex::new(None);
    let of_step = move |step: usize, aligner: &Aligner<Decoder>| {
        let (number, turn) = plan.round_of(step);
        let (epoch, prompts) = plan.prompts(number);
        let mut current = current.lock().unwrap_or_else(PoisonError::into_inner);
        let round = match &*current {
            Some((held, round)) if *held == number => round.clone(),
            _ => {
                // The policy as the step begins is the one that draws.
                let decoder = || inference(&aligner.policy, compute);
                let value = aligner.value.as_ref().map(|head| inference(head, compute));
                let policy = Actor { decoder: &decoder, value: value.as_ref() };
                let round = collector.round(number, &prompts, (turn == 0).then_some(&policy))?;
                let round = Arc::new(round);
                *current = Some((number, round.clone()));
                round
            }
        };
        let groups = plan.groups(number, turn, round.records.len());
        let mut records: Vec<Referenced> =
            groups.into_iter().map(|group| round.records[group].clone()).collect();
        Referenced::share_lengths(&mut records);
        Ok(StepRecords {
            epoch,
            records,
            preparation: if turn == 0 { round.seconds.clone() } else { Vec::new() },
            figures: if turn == 0 { round.figures.clone() } else { Vec::new() },
        })
    };
    Source { num_steps, of_step: Arc::new(of_step) }
}

/// A policy for drawing and scoring, its adapters added into its weights.
fn inference<M: Module + ModuleDisplay>(policy: &M, compute: Precision) -> M {
    computing_in(policy.valid(), compute)
}

/// Refuses prompts whose completions cannot be rewarded, before any are drawn.
fn check_rewards(
    rewards: &Rewards,
    file: &Arc<Path>,
    prompts: &[PromptToComplete],
    tokenizer: Option<&Tokenizer>,
) -> Result<()> {
    let mut intake = Intake::default();
    for prompt in prompts {
        let record = prompt.group(&[], tokenizer)?;
        let located = Located { file: file.clone(), line: prompt.line, record };
        rewards.look_at(&located, &mut intake)?;
    }
    Ok(())
}

/// Warns where a round draws more groups than its steps learn from.
fn tell_unused_groups(settings: &OnlineSettings, num_prompts: usize) {
    let steps = settings.online.steps_per_round;
    let learned = settings.align.train.training.batch_size.saturating_mul(steps);
    let drawn = settings.online.prompts_per_round.min(num_prompts);
    if learned < drawn {
        tracing::warn!(
            "the steps of a round learn from {learned} of its {drawn} groups, and the others are drawn for nothing; raise \
             training.batch_size or online.steps_per_round, or lower online.prompts_per_round"
        );
    }
}

/// Refuses settings that do not go with rounds.
fn check(settings: &OnlineSettings, objective: &dyn Alignment) -> Result<()> {
    let OnlineSettings { align, generation, .. } = settings;
    let name = objective.name();
    if objective.entry().takes == Takes::Labels {
        return Err(Error::usage(format!(
            "--online: {name} learns from labels, which no reward gives; choose an objective on rewards or pairs, or \
             label the rounds of another training and run {name} on them"
        )));
    }
    if objective.needs_mismatched_kl() {
        return Err(Error::usage(format!(
            "--online: {name} needs completions of other prompts, which rounds do not draw; choose another objective"
        )));
    }
    let count = generation.completions;
    let fewest = if objective.gae().is_some() { 1 } else { 2 };
    if count < fewest {
        let compared = if fewest > 1 { ", which are compared" } else { "" };
        return Err(Error::usage(format!(
            "generation.completions: expected at least {fewest}{compared}, found {count}"
        )));
    }
    if objective.entry().takes != Takes::Pairs {
        objective.check(count)?;
    }
    if generation.temperature == 0.0 {
        return Err(Error::usage(
            "generation.temperature: expected a number above 0, found 0: the completions of a prompt would all be \
             the same",
        ));
    }
    if generation.temperature != align.objective.temperature {
        tracing::warn!(
            "completions are drawn at generation.temperature {} and weighed at objective.temperature {}: the policy \
             that learns is not the one that draws, and weights have more variance; --temperature sets both",
            generation.temperature,
            align.objective.temperature
        );
    }
    if generation.top_p < 1.0 || generation.top_k > 0 {
        tracing::warn!(
            "generation.top_p and generation.top_k leave completions out that the policy would draw: what is learned \
             holds among the others alone; top_p = 1 and top_k = 0 draw from all"
        );
    }
    let train = &align.train;
    let held_out = train.validation.share > 0.0 || train.checkpoint.best != BestBy::None;
    if held_out || align.drift.kl_budget > 0.0 {
        return Err(Error::usage(
            "--online: expected no validation.share, checkpoint.best or --kl-budget, which need records with \
             completions; each round's `reward` and `drift` in metrics.jsonl are of new samples",
        ));
    }
    Ok(())
}
