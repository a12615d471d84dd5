//! Groups with what an objective needs to know of them besides their tokens.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use super::batches::Prepare;
use crate::data::{GroupBatch, TokenGroup};
use crate::model::Decoder;
use crate::policy::token_log_probs_of;
use crate::training::{Aligner, AlignmentBatch};

/// A group with what the objective needs to know of it.
#[derive(Clone, Debug)]
pub(super) struct Referenced {
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
pub(super) fn referenced(
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
        let sums = log_probs.iter().map(|group| group[0].iter().map(|&it| f64::from(it)).sum());
        let ratios =
            sums.zip(&reference).map(|(policy, reference): (f64, &f64)| policy - reference);
        let mean = ratios.sum::<f64>() / pairs.len() as f64;
        records.iter_mut().for_each(|record| record.mismatched_kl = mean);
        Ok(())
    })
}

/// The batch of some records.
pub(super) fn alignment_batch(records: &[Referenced], device: &Device) -> AlignmentBatch {
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
