//! A decoder with a scalar head: reward models and classifiers.

use std::path::Path;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::families::Binding;
use super::weights::{ModelFolder, classifier_json, initialize, save};
use super::{Decoder, DecoderConfig};
use crate::Result;
use crate::data::GroupBatch;

/// A decoder whose last hidden state of a text is read as one number.
#[derive(Module, Debug)]
pub struct RewardModel {
    /// The trunk; its vocabulary head is not used and not saved.
    pub decoder: Decoder,
    /// `[hidden, 1]`, without bias.
    pub score: Linear,
}

impl RewardModel {
    fn new(shape: &DecoderConfig, device: &Device) -> Self {
        // The trunk needs no vocabulary head of its own.
        let trunk = DecoderConfig { tied_embeddings: true, ..shape.clone() };
        let score = LinearConfig::new(shape.hidden_size, 1).with_bias(false).init(device);
        Self { decoder: Decoder::new(trunk, device), score }
    }

    /// The reward of each completion, read at its last token, `[groups, K]`.
    pub fn rewards(&self, batch: &GroupBatch) -> Tensor<2> {
        let hidden =
            self.decoder.hidden(batch.tokens.clone(), batch.positions.clone(), &batch.mask);
        let [groups, row, width] = hidden.dims();
        let last = hidden.reshape([groups * row, width]).select(0, batch.last_tokens.clone());
        self.score.forward(last).reshape([batch.num_groups, batch.num_completions])
    }

    /// Loads a saved reward model, or starts one on the trunk of a language model with a new head
    /// drawn from `seed`.
    pub fn load(folder: &ModelFolder, seed: u64, device: &Device) -> Result<Self> {
        let model = Self::new(&folder.shape, device);
        let mut bindings = folder.family.trunk_bindings(&folder.shape, "decoder.");
        if folder.is_classifier() {
            bindings.push(Binding::score());
            folder.load(model, &bindings, device)
        } else {
            let score = initialize(model.score, &folder.shape, seed, device);
            let bindings = folder.family.trunk_bindings(&folder.shape, "");
            Ok(Self { decoder: folder.load_trunk(model.decoder, &bindings, device)?, score })
        }
    }

    /// Writes the folder `AutoModelForSequenceClassification` loads.
    pub fn save(&self, described: &ModelFolder, folder: &Path) -> Result<()> {
        let mut bindings = described.family.trunk_bindings(&described.shape, "decoder.");
        bindings.push(Binding::score());
        save(self, &bindings, &classifier_json(&described.json, described.family), folder)
    }
}
