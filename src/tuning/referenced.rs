//! Groups with what an objective needs to know of them besides their tokens.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use super::batches::Prepare;
use super::reference::sums;
use crate::data::{GroupBatch, TokenGroup};
use crate::model::Decoder;
use crate::policy::token_log_probs_of;
use crate::training::{Aligner, AlignmentBatch, GivenTokens, GivenValues};

/// A group with what the objective needs to know of it.
#[derive(Clone, Debug)]
pub(super) struct Referenced {
    group: TokenGroup,
    /// The log-prob of every scored token of every completion under the reference.
    reference: Vec<Vec<f32>>,
    /// The prompt with a completion of another prompt, and its log-prob under the reference.
    mismatched: Option<(TokenGroup, f64)>,
    /// What the policy of the step makes of such completions: their mean log-ratio.
    mismatched_kl: f64,
    /// What values and the policy learn from, where values are learned.
    valued: Option<Valued>,
    /// Scored tokens of a group, as a mean over the step.
    tokens_per_group: f64,
}

/// The values of a group's tokens when they were drawn, their advantages and their returns,
/// `[completion][token]`.
#[derive(Clone, Debug, Default)]
pub(super) struct Valued {
    pub values: Vec<Vec<f32>>,
    pub advantages: Vec<Vec<f32>>,
    pub returns: Vec<Vec<f32>>,
}

impl AsRef<TokenGroup> for Referenced {
    fn as_ref(&self) -> &TokenGroup {
        &self.group
    }
}

/// Groups with the log-probs of their completions and, after all of them, of their mismatched ones.
pub(super) fn referenced(
    groups: Vec<TokenGroup>,
    mismatched: Vec<TokenGroup>,
    mut log_probs: Vec<Vec<Vec<f32>>>,
) -> Vec<Referenced> {
    let of_mismatched = log_probs.split_off(groups.len()).into_iter().map(|row| sums(&row)[0]);
    let mut mismatched = mismatched.into_iter().zip(of_mismatched);
    let record = |(group, reference)| Referenced {
        mismatched: mismatched.next(),
        ..Referenced::new(group, reference)
    };
    groups.into_iter().zip(log_probs).map(record).collect()
}

/// Each prompt with the first completion of the next record that has another prompt (of the next record,
/// where all have the same), of at most `max_length` tokens together where that is no 0.
pub(super) fn mismatched(groups: &[TokenGroup], max_length: usize) -> Vec<TokenGroup> {
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
pub(super) fn prepare(temperature: f64, device: &Device) -> Prepare<Aligner<Decoder>, Referenced> {
    let device = device.clone();
    Arc::new(move |aligner: &Aligner<Decoder>, records: &mut [Referenced]| {
        let (pairs, reference): (Vec<TokenGroup>, Vec<f64>) =
            records.iter().filter_map(|record| record.mismatched.clone()).unzip();
        if pairs.is_empty() {
            return Ok(());
        }
        let policy = &aligner.policy;
        let log_probs = token_log_probs_of(policy, &pairs, temperature, &device, |_| Ok(()))?;
        let policy = log_probs.iter().map(|group| sums(group)[0]);
        let ratios = policy.zip(&reference).map(|(policy, reference)| policy - reference);
        let mean = ratios.sum::<f64>() / pairs.len() as f64;
        records.iter_mut().for_each(|record| record.mismatched_kl = mean);
        Ok(())
    })
}

/// How the batches of an alignment are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batching {
    /// Whether the objective needs the log-probs of tokens.
    pub tokens: bool,
    /// Completions of a group whose activations are in memory at once; 0: all.
    pub completions: usize,
}

/// The batch of some records.
pub(super) fn alignment_batch(
    records: &[Referenced],
    Batching { tokens, completions }: Batching,
    device: &Device,
) -> AlignmentBatch {
    let table = |row: &dyn Fn(&Referenced) -> Vec<f64>| {
        let values: Vec<f32> = records.iter().flat_map(row).map(|value| value as f32).collect();
        let columns = values.len() / records.len();
        Tensor::<2>::from_data(TensorData::new(values, [records.len(), columns]), device)
    };
    let is_weighted = records.iter().any(|record| !record.group.log_probs.is_empty());
    AlignmentBatch {
        groups: GroupBatch::new(records.iter().map(|record| &record.group), device),
        parts: parts(records, completions, device),
        reference: table(&|record| sums(&record.reference)),
        proposal: is_weighted.then(|| table(&|record| sums(record.proposal()))),
        tokens: tokens.then(|| GivenTokens {
            reference: token_table(records, |record| &record.reference, device),
            proposal: token_table(records, Referenced::proposal, device),
            values: given_values(records, device),
        }),
        rewards: table(&|record| record.group.rewards.clone()),
        mismatched_kl: records[0].mismatched_kl,
    }
}

/// The groups with `most` of their completions at a time; nothing where they have no more.
fn parts(records: &[Referenced], most: usize, device: &Device) -> Vec<GroupBatch> {
    let count = records[0].group.completions.len();
    if most == 0 || count <= most {
        return Vec::new();
    }
    let part = |first: usize| {
        let some = first..(first + most).min(count);
        let group = |record: &Referenced| TokenGroup {
            prompt: record.group.prompt.clone(),
            completions: record.group.completions[some.clone()].to_vec(),
            ..TokenGroup::default()
        };
        let groups: Vec<TokenGroup> = records.iter().map(group).collect();
        GroupBatch::new(&groups, device)
    };
    (0..count).step_by(most).map(part).collect()
}

/// What values are learned from; none where they are not.
fn given_values(records: &[Referenced], device: &Device) -> Option<GivenValues> {
    let valued: Vec<&Valued> =
        records.iter().map(|record| record.valued.as_ref()).collect::<Option<_>>()?;
    Some(GivenValues {
        old: token_table(&valued, |it| &it.values, device),
        advantages: token_table(&valued, |it| &it.advantages, device),
        returns: token_table(&valued, |it| &it.returns, device),
        tokens_per_group: records[0].tokens_per_group,
    })
}

/// Numbers of tokens, `[groups, K, longest]`, zeros past the end of a completion.
fn token_table<'a, R>(
    records: &'a [R],
    of: impl Fn(&'a R) -> &'a [Vec<f32>],
    device: &Device,
) -> Tensor<3> {
    let lists: Vec<&Vec<f32>> = records.iter().flat_map(of).collect();
    let longest = lists.iter().map(|list| list.len()).max().unwrap_or(0).max(1);
    let padded = |list: &&Vec<f32>| {
        list.iter().copied().chain(std::iter::repeat(0.0)).take(longest).collect::<Vec<f32>>()
    };
    let values: Vec<f32> = lists.iter().flat_map(padded).collect();
    let shape = [records.len(), lists.len() / records.len(), longest];
    Tensor::from_data(TensorData::new(values, shape), device)
}

impl Referenced {
    /// A group with the log-probs of its completions under the reference.
    pub(super) fn new(group: TokenGroup, reference: Vec<Vec<f32>>) -> Self {
        Self {
            group,
            reference,
            mismatched: None,
            mismatched_kl: 0.0,
            valued: None,
            tokens_per_group: 0.0,
        }
    }

    /// With what values are learned from.
    pub(super) fn with_values(self, valued: Option<Valued>) -> Self {
        Self { valued, ..self }
    }

    /// Tells the records of a step how many tokens a group of theirs has, so that a mean over all tokens does
    /// not depend on how the step is cut.
    pub(super) fn share_lengths(records: &mut [Self]) {
        let count = |record: &Self| record.reference.iter().map(Vec::len).sum::<usize>();
        let mean = records.iter().map(count).sum::<usize>() as f64 / records.len() as f64;
        records.iter_mut().for_each(|record| record.tokens_per_group = mean);
    }

    /// The log-prob of every scored token under the distribution that it was drawn from.
    fn proposal(&self) -> &[Vec<f32>] {
        if self.group.log_probs.is_empty() { &self.reference } else { &self.group.log_probs }
    }
}
