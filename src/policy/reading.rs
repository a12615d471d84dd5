//! Reads many groups in batches: a decoder's log-probability of each token of their completions.

use burn::tensor::{Device, Tensor};

use super::decoder::{scored_log_probs, scored_values};
use crate::data::{GroupBatch, TokenGroup};
use crate::model::weights::all_finite;
use crate::model::{Decoder, DecoderConfig, ValueHead};
use crate::{Error, Result};

/// Refuses groups that a model cannot read: that have ids beyond its vocabulary, as those of another
/// tokenizer may be, or more tokens than it has positions. Devices do not check what they look up.
///
/// # Errors
/// The first such group, by its line.
pub fn check_tokens(shape: &DecoderConfig, groups: &[TokenGroup]) -> Result<()> {
    const REMEDY: &str = "give a model of the same vocabulary and length, or drop the record";
    for group in groups {
        let mut ids = group.completions.iter().flatten().chain(&group.prompt);
        if let Some(id) = ids.find(|&&id| id as usize >= shape.vocab_size) {
            return Err(Error::usage(format!(
                "line {}: expected token ids below {}, the vocabulary size of the model that reads them, \
                 found {id}; {REMEDY}",
                group.line, shape.vocab_size
            )));
        }
        let longest = group.completions.iter().map(Vec::len).max().unwrap_or(0);
        let length = group.prompt.len() + longest;
        if length > shape.max_positions {
            return Err(Error::usage(format!(
                "line {}: expected at most {} tokens, the positions of the model that reads them, found \
                 {length}; {REMEDY}",
                group.line, shape.max_positions
            )));
        }
    }
    Ok(())
}

/// The log-probability of each token of each completion of each group, without autodiff.
///
/// The first token of a completion after an empty prompt has no predictor and no entry.
/// `progress` hears the number of completions finished.
///
/// # Errors
/// [`Error::Numeric`] where a log-probability is not finite; those of `progress`.
pub fn token_log_probs_of(
    decoder: &Decoder,
    groups: &[TokenGroup],
    temperature: f64,
    device: &Device,
    progress: impl FnMut(usize) -> Result<()>,
) -> Result<Vec<Vec<Vec<f32>>>> {
    check_tokens(decoder.config(), groups)?;
    let read = |batch: &GroupBatch| scored_log_probs(decoder, batch, temperature);
    read_tokens(groups, "a log-prob", device, read, progress)
}

/// The value of each token of each completion of each group, by `head` from the hidden state before the token,
/// without autodiff.
///
/// # Errors
/// As [`token_log_probs_of`].
pub fn token_values_of(
    (decoder, head): (&Decoder, &ValueHead),
    groups: &[TokenGroup],
    device: &Device,
    progress: impl FnMut(usize) -> Result<()>,
) -> Result<Vec<Vec<Vec<f32>>>> {
    check_tokens(decoder.config(), groups)?;
    let read = |batch: &GroupBatch| scored_values(decoder, head, batch);
    read_tokens(groups, "a value", device, read, progress)
}

/// A number for each scored token of each completion of each group, which is called `what`, `[scored]` of a batch.
fn read_tokens(
    groups: &[TokenGroup],
    what: &str,
    device: &Device,
    read: impl Fn(&GroupBatch) -> Tensor<1>,
    mut progress: impl FnMut(usize) -> Result<()>,
) -> Result<Vec<Vec<Vec<f32>>>> {
    let mut scored: Vec<Vec<Vec<f32>>> =
        groups.iter().map(|group| vec![Vec::new(); group.completions.len()]).collect();
    read_in_batches(groups, |parts, batch_groups| {
        let batch = GroupBatch::new(batch_groups, device);
        let any = batch.num_scored.iter().any(|&scored| scored > 0);
        let values = if any { to_f32(read(&batch)) } else { Vec::new() };
        let mut values = values.into_iter();
        let mut lengths = batch.num_scored.iter();
        for part in parts {
            for completion in part.completions.clone() {
                let len = lengths.next().copied().unwrap_or(0);
                let values: Vec<f32> = values.by_ref().take(len).collect();
                if !all_finite(&values) {
                    return Err(not_finite(what, &groups[part.group], completion));
                }
                scored[part.group][completion] = values;
            }
        }
        progress(parts.iter().map(|part| part.completions.len()).sum())
    })?;
    Ok(scored)
}

/// What to do where a model computes what is not finite.
pub(crate) const NOT_FINITE: &str = "Keep the weights as f32 or bf16 if they are f16 (--dtype), look at an adapter's lora_alpha, or take an \
     earlier checkpoint of the model";

/// Why what a model says of a completion is of no use.
pub fn not_finite(what: &str, group: &TokenGroup, completion: usize) -> Error {
    Error::Numeric(format!(
        "{}: {what} of completion {} is not finite, so that nothing can be concluded from it. {NOT_FINITE}",
        group.name(),
        completion + 1
    ))
}

/// The values of a small tensor as f32.
pub(crate) fn to_f32<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data_as::<f32>().try_into_vec().expect("converted to f32")
}

/// Some of a group's completions.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupPart {
    /// The group.
    pub group: usize,
    /// Its completions.
    pub completions: std::ops::Range<usize>,
}

/// Hands `read` all groups in batches: the same number of completions, similar lengths, a bounded
/// number of tokens. A group with more completions than a row should hold comes in parts, since
/// attention grows with the row's square.
///
/// # Errors
/// Those of `read`.
pub fn read_in_batches(
    groups: &[TokenGroup],
    mut read: impl FnMut(&[GroupPart], &[TokenGroup]) -> Result<()>,
) -> Result<()> {
    /// Tokens of a row.
    const ROW: usize = 2048;
    /// Tokens of a batch.
    const BATCH: usize = 4096;
    let mut parts: Vec<(GroupPart, TokenGroup)> = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let longest = group.completions.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let width = (ROW.saturating_sub(group.prompt.len()) / longest).max(1);
        for start in (0..group.completions.len()).step_by(width) {
            let completions = start..(start + width).min(group.completions.len());
            let part = TokenGroup {
                completions: group.completions[completions.clone()].to_vec(),
                prompt: group.prompt.clone(),
                ..TokenGroup::default()
            };
            parts.push((GroupPart { group: index, completions }, part));
        }
    }
    parts.sort_by_key(|(part, group)| (group.completions.len(), group.num_tokens(), part.group));
    let (parts, tokens): (Vec<GroupPart>, Vec<TokenGroup>) = parts.into_iter().unzip();
    let mut start = 0;
    for end in 1..=parts.len() {
        let full = end == parts.len()
            || tokens[end].completions.len() != tokens[start].completions.len()
            || (end + 1 - start) * tokens[end].num_tokens() > BATCH;
        if full {
            read(&parts[start..end], &tokens[start..end])?;
            start = end;
        }
    }
    Ok(())
}
