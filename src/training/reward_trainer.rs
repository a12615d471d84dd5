//! Reward models: from pairs (Bradley–Terry) or from labelled texts (binary cross-entropy).

use burn::module::Module;
use burn::tensor::Tensor;
use burn::tensor::activation::log_sigmoid;

use super::step::{MicroLoss, Trainable};
use crate::alignment::Statistic;
use crate::data::GroupBatch;
use crate::deferred::Deferred;
use crate::model::RewardModel;

/// Texts and what is known about them.
#[derive(Clone, Debug)]
pub struct ScoredBatch {
    /// The texts.
    pub batch: GroupBatch,
    /// 1 or 0 for each text, `[groups, 1]`; none for pairs, whose first completion is the chosen.
    pub labels: Option<Tensor<2>>,
}

/// A reward model being trained.
///
/// - pairs: `−log σ(r_chosen − r_rejected)`
/// - labels: `−log σ((2 · label − 1) · r)`, so that the reward is the label's log-odds
#[derive(Module, Debug)]
pub struct RewardTrainer {
    /// The model.
    pub model: RewardModel,
}

impl Trainable for RewardTrainer {
    type Batch = ScoredBatch;

    fn deferred(&self) -> Option<&Deferred> {
        self.model.decoder.deferred()
    }

    fn loss(&self, batch: &ScoredBatch) -> MicroLoss {
        let rewards = self.model.rewards(&batch.batch); // [groups, K]
        let margin = match &batch.labels {
            Some(labels) => rewards * (labels.clone() * 2.0 - 1.0),
            None => rewards.clone().slice_dim(1, 0..1) - rewards.slice_dim(1, 1..2),
        }; // [groups, 1]
        let accuracy = margin.clone().greater_scalar(0.0).float().mean().into_scalar::<f32>();
        let mean_margin = margin.clone().mean().into_scalar::<f32>();
        let loss = log_sigmoid(margin).mean().neg();
        (
            loss,
            vec![
                Statistic::new("accuracy", accuracy.into()),
                Statistic::new("reward_margin", mean_margin.into()),
            ],
        )
    }
}
