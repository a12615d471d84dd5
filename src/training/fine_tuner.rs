//! Supervised fine-tuning: the negative log-likelihood of demonstrated completions, per token.

use burn::module::Module;

use super::step::{MicroLoss, Trainable};
use crate::data::GroupBatch;
use crate::deferred::Deferred;
use crate::model::Decoder;
use crate::policy::scored_log_probs;

/// A decoder being fine-tuned on groups of one demonstration each.
///
/// The loss is a mean over tokens: a micro-batch's share of its step is its share of the tokens.
#[derive(Module, Debug)]
pub struct FineTuner {
    /// The model.
    pub decoder: Decoder,
}

impl Trainable for FineTuner {
    type Batch = GroupBatch;

    fn deferred(&self) -> Option<&Deferred> {
        self.decoder.deferred()
    }

    fn loss(&self, batch: &GroupBatch) -> MicroLoss {
        (scored_log_probs(&self.decoder, batch, 1.0).mean().neg(), Vec::new())
    }
}
