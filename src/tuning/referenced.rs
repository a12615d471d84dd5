//! Groups with what an objective needs to know of them besides their tokens.

use std::sync::Arc;

use burn::data::dataset::Dataset;
use burn::tensor::{Device, Tensor, TensorData};

use super::batches::Prepare;
use super::reference::{TokenLogProbs, sums};
use crate::data::{GroupBatch, TokenGroup};
use crate::files::DiskList;
use crate::model::Decoder;
use crate::policy::token_log_probs_of;
use crate::training::{Aligner, AlignmentBatch, GivenTokens, GivenValues};
use crate::{Error, Result};

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

/// Groups with what the objective needs to know of them. Each is read when it is asked for.
pub(super) struct ReferencedSet {
    groups: Arc<DiskList<TokenGroup>>,
    reference: TokenLogProbs,
    mismatched: Option<(Mismatched, TokenLogProbs)>,
}

/// The groups of two parts with the log-probs of their completions and, where there are more log-probs than
/// parts, of their mismatched ones.
pub(super) fn referenced(
    groups: [Arc<DiskList<TokenGroup>>; 2],
    mismatched: [Mismatched; 2],
    log_probs: Vec<TokenLogProbs>,
) -> [ReferencedSet; 2] {
    let mut log_probs = log_probs.into_iter();
    let sets = groups.map(|groups| {
        let reference = log_probs.next().unwrap_or(TokenLogProbs::Zeros);
        ReferencedSet { groups, reference, mismatched: None }
    });
    let mut mismatched = mismatched.into_iter();
    sets.map(|set| ReferencedSet { mismatched: mismatched.next().zip(log_probs.next()), ..set })
}

impl Dataset<Referenced, Error> for ReferencedSet {
    fn get(&self, index: usize) -> Result<Referenced> {
        let group = self.groups.get(index)?;
        let mut record = Referenced::new(group.clone(), self.reference.of(index, &group)?);
        if let Some((mismatched, log_probs)) = &self.mismatched {
            let group = mismatched.get(index)?;
            let log_prob = sums(&log_probs.of(index, &group)?)[0];
            record.mismatched = Some((group, log_prob));
        }
        Ok(record)
    }

    fn len(&self) -> usize {
        self.groups.len()
    }
}

/// Each prompt with the first completion of the next record that has another prompt (of the next record,
/// where all have the same), of at most `max_length` tokens together where that is no 0.
pub(super) struct Mismatched {
    pub groups: Arc<DiskList<TokenGroup>>,
    pub max_length: usize,
}

impl Dataset<TokenGroup, Error> for Mismatched {
    fn get(&self, index: usize) -> Result<TokenGroup> {
        let (prompt, count) = (self.groups.get(index)?.prompt, self.groups.len());
        let mut other = self.groups.get((index + 1) % count)?;
        let mut after = index + 2;
        while other.prompt == prompt && after <= index + count {
            let next = self.groups.get(after % count)?;
            if next.prompt != prompt {
                other = next;
            }
            after += 1;
        }
        let mut completion = std::mem::take(&mut other.completions[0]);
        if self.max_length > 0 {
            completion.truncate(self.max_length.saturating_sub(prompt.len()).max(1));
        }
        Ok(TokenGroup { prompt, completions: vec![completion], ..TokenGroup::default() })
    }

    fn len(&self) -> usize {
        self.groups.len()
    }
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
    /// Whether some groups say by which log-probs they were drawn. All batches then have a proposal, so that their
    /// figures do not depend on which groups come together.
    pub weighted: bool,
}

/// Whether a group says by which log-probs it was drawn, in any of the lists.
pub(super) fn any_weighted(lists: [&DiskList<TokenGroup>; 2]) -> Result<bool> {
    for group in lists.into_iter().flat_map(|list| list.iter()) {
        if !group?.log_probs.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The batch of some records.
pub(super) fn alignment_batch(
    records: &[Referenced],
    Batching { tokens, completions, weighted }: Batching,
    device: &Device,
) -> AlignmentBatch {
    let table = |row: &dyn Fn(&Referenced) -> Vec<f64>| {
        let values: Vec<f32> = records.iter().flat_map(row).map(|value| value as f32).collect();
        let columns = values.len() / records.len();
        Tensor::<2>::from_data(TensorData::new(values, [records.len(), columns]), device)
    };
    AlignmentBatch {
        groups: GroupBatch::new(records.iter().map(|record| &record.group), device),
        parts: parts(records, completions, device),
        reference: table(&|record| sums(&record.reference)),
        proposal: weighted.then(|| table(&|record| sums(record.proposal()))),
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
