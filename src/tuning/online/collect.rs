//! Draws, rewards and scores the completions of a round.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use burn::tensor::Device;

use super::reference::Reference;
use super::round::{self, Beside, Learning, Round};
use super::values::{self, OldValues};
use crate::alignment::{Alignment, Takes};
use crate::config::Refresh;
use crate::data::{Group, Located, TokenGroup, Tokenizer};
use crate::generation::{Sample, Sampling};
use crate::model::adapter::with_adapters_added;
use crate::model::{Decoder, ValueHead};
use crate::policy::{token_log_probs_of, token_values_of};
use crate::rewards::{Rewards, Scores};
use crate::tuning::drawing::{PromptToComplete, draw};
use crate::tuning::reference::sums;
use crate::{Error, Result, interrupt, statistics};

/// Everything that a round is made with.
pub(super) struct Collector {
    /// The folder of rounds.
    pub folder: PathBuf,
    pub prompts: Vec<PromptToComplete>,
    pub tokenizer: Option<Tokenizer>,
    pub sampling: Sampling,
    /// Prompts that are sampled at once.
    pub batch_size: usize,
    pub refresh: Refresh,
    pub objective: Arc<dyn Alignment>,
    pub rewards: Arc<Mutex<Rewards>>,
    pub reference: Reference,
    /// τ of the log-probs under the reference.
    pub temperature: f64,
    pub device: Device,
}

/// The policy as it is when a round begins.
pub(super) struct Actor<'a> {
    /// Its decoder, its adapters beside its weights.
    pub decoder: &'a dyn Fn() -> Decoder,
    /// Its values, where the objective learns them.
    pub value: Option<&'a ValueHead>,
}

impl Collector {
    /// The round of a number, counted from 0, with completions of `prompts`: as its file says, or drawn by
    /// `policy`, where that is still the one that draws it.
    pub fn round(
        &self,
        number: usize,
        prompts: &[usize],
        policy: Option<&Actor<'_>>,
    ) -> Result<Round> {
        let path = round::path(&self.folder, number);
        if let Some(found) = round::read(&self.folder, number)? {
            return Round::new(&path, found, self.learning());
        }
        let Some(policy) = policy else {
            return Err(Error::file(
                &path,
                "expected the samples of a round that has begun, found none or damaged ones: the policy has moved on \
                 and cannot draw them again; remove the newest folder in checkpoints/, or start over with --fresh",
            ));
        };
        let (groups, beside) = self.collect(number, prompts, policy)?;
        round::write(&self.folder, number, &groups, beside)?;
        // Numbers are those of the file, so that they are the same after an interruption.
        let written = round::read(&self.folder, number)?;
        let written = written.ok_or_else(|| Error::file(&path, "cannot be read again"))?;
        Round::new(&path, written, self.learning())
    }

    fn learning(&self) -> Learning<'_> {
        let pairs = self.objective.entry().takes == Takes::Pairs;
        Learning { pairs, gae: self.objective.gae() }
    }

    fn collect(
        &self,
        number: usize,
        prompts: &[usize],
        policy: &Actor<'_>,
    ) -> Result<(Vec<Group>, Beside)> {
        let started = Instant::now();
        let samples = match self.refresh {
            Refresh::Policy => {
                self.draw(&with_adapters_added((policy.decoder)()), number, prompts)?
            }
            Refresh::Reference => {
                let reference = self.reference.decoder(policy.decoder, &self.device)?;
                let reference = reference.ok_or_else(|| {
                    Error::usage("online.refresh: expected policy, since there is no reference, found reference")
                })?;
                self.draw(&reference, number, prompts)?
            }
        };
        let group = |(&prompt, samples): (&usize, &Vec<Sample>)| {
            self.prompts[prompt].group(samples, self.tokenizer.as_ref())
        };
        let mut groups: Vec<Group> =
            prompts.iter().zip(&samples).map(group).collect::<Result<_>>()?;
        let draw_seconds = started.elapsed().as_secs_f64();

        let started = Instant::now();
        let scores = self.score(number, &mut groups)?;
        let reward_seconds = started.elapsed().as_secs_f64();

        let started = Instant::now();
        let tokens: Vec<TokenGroup> =
            groups.iter().zip(1..).filter_map(|(group, line)| round::tokens(group, line)).collect();
        let reference = match self.reference.decoder(policy.decoder, &self.device)? {
            None => Vec::new(),
            Some(decoder) => {
                let (temperature, device) = (self.temperature, &self.device);
                token_log_probs_of(&decoder, &tokens, temperature, device, |_| interrupt::check())?
            }
        };
        let reference_seconds = started.elapsed().as_secs_f64();
        let mut figures = figures(number, &tokens, &samples, &scores, &reference);
        let values = self.values(number, (&tokens, &reference), policy)?;
        if let Some((gae, values)) = self.objective.gae().zip(values.as_ref()) {
            figures.extend(values.figures(gae, &tokens, &reference));
        }
        let beside = Beside {
            groups: String::new(), // known once the file is written
            reference,
            draw_seconds,
            reward_seconds,
            reference_seconds,
            figures,
            values,
        };
        Ok((groups, beside))
    }

    /// The values of a round's tokens, where the objective learns them.
    fn values(
        &self,
        number: usize,
        (groups, reference): (&[TokenGroup], &[Vec<Vec<f32>>]),
        policy: &Actor<'_>,
    ) -> Result<Option<OldValues>> {
        let Some((gae, head)) = self.objective.gae().zip(policy.value) else { return Ok(None) };
        let started = Instant::now();
        let decoder = (policy.decoder)();
        let values =
            token_values_of((&decoder, head), groups, &self.device, |_| interrupt::check())?;
        let kl_weight = values::kl_weight(gae, &self.folder, number)?;
        let seconds = started.elapsed().as_secs_f64();
        Ok(Some(OldValues::new(values, kl_weight, (groups, reference), seconds)))
    }

    /// Gives the groups of a round their rewards.
    fn score(&self, number: usize, groups: &mut [Group]) -> Result<Scores> {
        let all = Located::numbered(round::path(&self.folder, number), groups.iter().cloned());
        let scores = self.rewards.lock().unwrap_or_else(PoisonError::into_inner).score(&all)?;
        groups.iter_mut().enumerate().for_each(|(index, group)| scores.write_into(index, group));
        Ok(scores)
    }

    /// Completions of the prompts, which are in ascending order, in the same.
    fn draw(&self, decoder: &Decoder, round: usize, prompts: &[usize]) -> Result<Vec<Vec<Sample>>> {
        // No prompt has the same random numbers in two rounds.
        let numbers = (prompts.to_vec(), (round as u64 + 1) << 32);
        let mut samples = BTreeMap::new();
        draw(
            decoder,
            &self.prompts,
            numbers,
            &self.sampling,
            self.batch_size,
            |numbers, drawn| {
                samples.extend(numbers.into_iter().zip(drawn));
                Ok(())
            },
        )?;
        Ok(samples.into_values().collect())
    }
}

/// Figures of a round over all of its samples, named as TRL does where they mean the same.
fn figures(
    number: usize,
    tokens: &[TokenGroup],
    samples: &[Vec<Sample>],
    scores: &Scores,
    reference: &[Vec<Vec<f32>>],
) -> Vec<(String, f64)> {
    let all = scores.totals.concat();
    let reward = mean(&all);
    let variance = if all.len() > 1 { statistics::variance(&all) } else { 0.0 };
    let is_tied = |row: &&Vec<f64>| row.iter().all(|reward| *reward == row[0]);
    let tied = scores.totals.iter().filter(is_tied).count() as f64 / scores.totals.len() as f64;
    let samples = samples.concat();
    let lengths: Vec<f64> = samples.iter().map(|it| it.ids.len() as f64).collect();
    let cut: Vec<f64> = samples.iter().map(|it| f64::from(u8::from(!it.finished))).collect();
    let mut figures = vec![
        ("round".to_owned(), (number + 1) as f64),
        ("reward".to_owned(), reward),
        ("reward_std".to_owned(), variance.sqrt()),
        ("frac_reward_zero_std".to_owned(), tied),
        ("completions/mean_length".to_owned(), mean(&lengths)),
        ("completions/clipped_ratio".to_owned(), mean(&cut)),
    ];
    if scores.parts.len() > 1 {
        let part = |(name, rewards): &(String, Vec<Vec<f64>>)| {
            (format!("rewards/{name}/mean"), mean(&rewards.concat()))
        };
        figures.extend(scores.parts.iter().map(part));
    }
    if !reference.is_empty() {
        let drift = tokens.iter().zip(reference).flat_map(|(group, reference)| {
            let (ours, theirs) = (sums(&group.log_probs), sums(reference));
            ours.into_iter().zip(theirs).map(|(ours, theirs)| ours - theirs).collect::<Vec<_>>()
        });
        figures.push(("drift".to_owned(), mean(&drift.collect::<Vec<_>>())));
    }
    figures
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
