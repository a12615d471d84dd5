//! The log-probs of the reference: read from the store, or computed once and stored.

use std::sync::Arc;

use burn::data::dataset::Dataset;
use burn::tensor::Device;

use super::load_decoder;
use crate::data::TokenGroup;
use crate::files::cache_folder;
use crate::model::{Decoder, ModelFolder};
use crate::policy::token_log_probs_of;
use crate::progress::Progress;
use crate::reference::{GroupTokens, LookUp, Place, ReferenceStore};
use crate::{Error, Result, interrupt};

/// Σ log-prob of each completion from the log-probs of its tokens.
pub(super) fn sums(group: &[Vec<f32>]) -> Vec<f64> {
    group.iter().map(|tokens| tokens.iter().map(|&it| f64::from(it)).sum()).collect()
}

/// The log-probs of the tokens of groups under the reference, read when they are asked for.
pub(super) enum TokenLogProbs {
    /// From the store: where those of each group are.
    Stored(Arc<ReferenceStore>, Vec<Place>),
    /// Zeros, where nothing is compared with a reference.
    Zeros,
}

impl TokenLogProbs {
    /// Of the group of a number, `[completion][token]`.
    pub fn of(&self, number: usize, group: &TokenGroup) -> Result<GroupTokens> {
        match self {
            Self::Stored(store, places) => store.read(places[number], group),
            Self::Zeros => Ok(zeros(group)),
        }
    }
}

/// Zeros for the log-prob of every scored token of a group.
fn zeros(group: &TokenGroup) -> GroupTokens {
    let unscored = usize::from(group.prompt.is_empty());
    group.completions.iter().map(|ids| vec![0.0; ids.len() - unscored]).collect()
}

/// The log-probs of all tokens of the groups of each part; what is missing is computed, the groups of different
/// parts apart.
pub(super) fn reference_token_log_probs(
    folder: &ModelFolder,
    temperature: f64,
    parts: &[&dyn Dataset<TokenGroup, Error>],
    device: &Device,
) -> Result<Vec<TokenLogProbs>> {
    let mut reference = Reference::open(folder, temperature, device)?;
    let found =
        parts.iter().map(|part| reference.store.look_up(*part)).collect::<Result<Vec<_>>>()?;
    reference.expect(&found);
    let places = parts.iter().zip(found);
    let places = places.map(|(part, found)| reference.complete(*part, found));
    let places: Vec<Vec<Place>> = places.collect::<Result<_>>()?;
    let store = Arc::new(reference.finish().without_index());
    Ok(places.into_iter().map(|places| TokenLogProbs::Stored(store.clone(), places)).collect())
}

/// The store with the model that computes what is missing in it.
struct Reference<'a> {
    store: ReferenceStore,
    folder: &'a ModelFolder,
    temperature: f64,
    device: &'a Device,
    /// Loaded where something is missing.
    decoder: Option<Decoder>,
    progress: Option<Progress>,
}

impl<'a> Reference<'a> {
    fn open(folder: &'a ModelFolder, temperature: f64, device: &'a Device) -> Result<Self> {
        let store = ReferenceStore::open(&cache_folder(), &folder.content_hash()?, temperature);
        Ok(Self { store, folder, temperature, device, decoder: None, progress: None })
    }

    /// Prepares for what has been found missing.
    fn expect(&mut self, found: &[LookUp]) {
        let missing: usize = found.iter().map(|found| found.missing_completions).sum();
        match missing {
            0 => tracing::debug!("reference log-probs: all are in the store"),
            _ => {
                self.progress =
                    Some(Progress::new("reference log-probs", "completions", 0, missing));
            }
        }
    }

    /// Computes what is missing of a part.
    fn complete(
        &mut self,
        part: &dyn Dataset<TokenGroup, Error>,
        found: LookUp,
    ) -> Result<Vec<Place>> {
        let Self { store, folder, temperature, device, decoder, progress } = self;
        if found.missing_completions > 0 && decoder.is_none() {
            *decoder = Some(load_decoder(folder, device)?);
        }
        store.complete(part, found, |shard| {
            let Some(decoder) = decoder else { return Ok(Vec::new()) };
            token_log_probs_of(decoder, shard, *temperature, device, |finished| {
                if let Some(progress) = progress {
                    progress.advance(finished, "");
                }
                interrupt::check()
            })
        })
    }

    /// The store, now complete.
    fn finish(self) -> ReferenceStore {
        self.progress.into_iter().for_each(Progress::finish);
        self.store
    }
}
