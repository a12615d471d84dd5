//! The log-probs of the reference: read from the store, or computed once and stored.

use burn::tensor::Device;

use super::load_decoder;
use crate::data::TokenGroup;
use crate::files::cache_folder;
use crate::model::ModelFolder;
use crate::policy::token_log_probs_of;
use crate::progress::Progress;
use crate::reference::ReferenceStore;
use crate::{Result, interrupt};

/// Σ log-prob of every completion under the reference, from the store; what is missing is computed,
/// the groups of different parts apart.
pub fn reference_log_probs(
    folder: &ModelFolder,
    temperature: f64,
    parts: &[&[TokenGroup]],
    device: &Device,
) -> Result<Vec<Vec<f64>>> {
    let all = reference_token_log_probs(folder, temperature, parts, device)?;
    Ok(all.iter().map(|group| sums(group)).collect())
}

/// Σ log-prob of each completion from the log-probs of its tokens.
pub(super) fn sums(group: &[Vec<f32>]) -> Vec<f64> {
    group.iter().map(|tokens| tokens.iter().map(|&it| f64::from(it)).sum()).collect()
}

/// The same of every token, `[group][completion][token]`.
pub(super) fn reference_token_log_probs(
    folder: &ModelFolder,
    temperature: f64,
    parts: &[&[TokenGroup]],
    device: &Device,
) -> Result<Vec<Vec<Vec<f32>>>> {
    let store = ReferenceStore::new(&cache_folder(), &folder.content_hash()?, temperature);
    let missing: usize = parts.iter().map(|groups| store.num_missing(groups)).sum();
    if missing == 0 {
        let groups: usize = parts.iter().map(|groups| groups.len()).sum();
        tracing::debug!("reference log-probs: all {groups} groups are in the store");
        let stored = |groups: &&[TokenGroup]| store.log_probs(groups, |_| Ok(Vec::new()));
        return Ok(parts.iter().map(stored).collect::<Result<Vec<_>>>()?.concat());
    }
    let decoder = load_decoder(folder, device)?;
    let mut progress = Progress::new("reference log-probs", "completions", 0, missing);
    let mut all = Vec::new();
    for groups in parts {
        all.extend(store.log_probs(groups, |shard| {
            token_log_probs_of(&decoder, shard, temperature, device, |finished| {
                progress.advance(finished, "");
                interrupt::check()
            })
        })?);
    }
    progress.finish();
    Ok(all)
}
