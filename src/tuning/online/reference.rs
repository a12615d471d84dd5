//! The reference while training.

use std::borrow::Cow;

use burn::module::Module;
use burn::tensor::Device;

use crate::Result;
use crate::alignment::Alignment;
use crate::config::{KeepReference, OnlineRounds, TrainSettings};
use crate::model::adapter::without_adapters;
use crate::model::{Decoder, ModelFolder};
use crate::tuning::load_decoder;

/// Where the reference is between rounds.
pub(super) enum Reference {
    /// The objective needs none.
    None,
    /// In memory beside the policy: as much again as its weights.
    Kept(Box<Decoder>),
    /// On disk; it is in memory while it scores.
    OnDisk(Box<ModelFolder>),
    /// The policy without its adapters.
    WithoutAdapters,
}

impl Reference {
    /// As the settings say, for the model and the reference of two folders.
    pub fn new(
        [model, reference]: [&ModelFolder; 2],
        objective: &dyn Alignment,
        train: &TrainSettings,
        rounds: &OnlineRounds,
        device: &Device,
    ) -> Result<Self> {
        if !objective.needs_reference() {
            return Ok(Self::None);
        }
        if train.adapter.rank > 0 && model.path == reference.path {
            return Ok(Self::WithoutAdapters);
        }
        match rounds.reference {
            KeepReference::Load => Ok(Self::OnDisk(Box::new(reference.clone()))),
            KeepReference::Keep => {
                let decoder = load_decoder(reference, device)?;
                tracing::info!(
                    "the reference stays in memory beside the policy, {:.0} MB; online.reference=load loads it for \
                     each round",
                    decoder.num_params() as f64 * 4e-6
                );
                Ok(Self::Kept(Box::new(decoder)))
            }
        }
    }

    /// The decoder of the reference; none where none is needed.
    pub fn decoder(
        &self,
        policy: impl FnOnce() -> Decoder,
        device: &Device,
    ) -> Result<Option<Cow<'_, Decoder>>> {
        Ok(match self {
            Self::None => None,
            Self::Kept(decoder) => Some(Cow::Borrowed(decoder)),
            Self::OnDisk(folder) => Some(Cow::Owned(load_decoder(folder, device)?)),
            Self::WithoutAdapters => Some(Cow::Owned(without_adapters(policy()))),
        })
    }
}
