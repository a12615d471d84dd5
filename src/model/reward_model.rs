//! A decoder with a scalar head: reward models and classifiers.

use std::path::Path;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::families::Binding;
use super::folder::{ModelFolder, classifier_json, save};
use super::weights::initialize;
use super::{Decoder, DecoderConfig};
use crate::data::GroupBatch;
use crate::{Error, Result};

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
    /// drawn from `seed`. A classifier of two labels is read as the log-odds of the second.
    ///
    /// # Errors
    /// If the folder has more labels than two, or cannot be loaded.
    pub fn load(folder: &ModelFolder, seed: u64, device: &Device) -> Result<Self> {
        let model = Self::new(&folder.shape, device);
        let mut bindings = folder.family.trunk_bindings(&folder.shape, "decoder.");
        bindings.push(Binding::score());
        match folder.num_labels() {
            None => {
                let score = initialize(model.score, &folder.shape, seed, device);
                let bindings = folder.family.trunk_bindings(&folder.shape, "");
                Ok(Self { decoder: folder.load_trunk(model.decoder, &bindings, device)?, score })
            }
            Some(1) => folder.load(model, &bindings, device),
            Some(2) => {
                let both = LinearConfig::new(folder.shape.hidden_size, 2).with_bias(false);
                let model = Self { score: both.init(device), ..model };
                let mut model = folder.load(model, &bindings, device)?;
                model.score.weight = model.score.weight.map(log_odds);
                Ok(model)
            }
            Some(labels) => Err(Error::file(
                folder.path.join("config.json"),
                format!(
                    "expected a model of 1 or 2 labels, found {labels}; only those give one reward"
                ),
            )),
        }
    }

    /// Writes the folder `AutoModelForSequenceClassification` loads.
    pub fn save(&self, described: &ModelFolder, folder: &Path) -> Result<()> {
        let mut bindings = described.family.trunk_bindings(&described.shape, "decoder.");
        bindings.push(Binding::score());
        save(self, &bindings, &classifier_json(&described.json, described.family), folder)
    }
}

/// The head of log-odds: the second label's `[hidden, 1]` less the first's.
fn log_odds(both: Tensor<2>) -> Tensor<2> {
    let tracked = both.device().is_autodiff();
    let label = |label: usize| both.clone().slice_dim(1, label..label + 1);
    let odds = (label(1) - label(0)).detach();
    if tracked { odds.require_grad() } else { odds }
}
