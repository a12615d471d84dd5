//! What the objectives of reinforcement learning share: the clipped surrogate of a policy that has moved on
//! from the one that drew the samples.

use burn::tensor::Tensor;

use super::{GroupLogProbs, ObjectiveConfig};
use crate::{Error, Result};

/// How far the ratio of the policy to the sampler counts: from 1 − low to 1 + high.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClipRange {
    low: f64,
    high: f64,
}

/// Log-ratios are taken as at most this far from 0, so that no ratio overflows.
pub(super) const LARGEST_LOG_RATIO: f64 = 20.0;

impl ClipRange {
    /// As the settings say.
    ///
    /// # Errors
    /// [`Error::Setting`] where a number is out of its range.
    pub fn of(config: &ObjectiveConfig) -> Result<Self> {
        let (low, high) = (config.clip_range, config.clip_range_high);
        let must = "must be a number above 0 and up to 1";
        if !(low > 0.0 && low <= 1.0) {
            return Err(Error::setting("clip_range", format!("{must}, found {low}")));
        }
        if !(high >= 0.0 && high.is_finite()) {
            let message = format!("must be 0 (as clip_range) or a positive number, found {high}");
            return Err(Error::setting("clip_range_high", message));
        }
        Ok(Self { low, high: if high == 0.0 { low } else { high } })
    }

    /// min(ρ A, clip(ρ) A), ρ = π/μ; `log_ratios` is log ρ, and advantages A are constant.
    pub fn surrogate<const D: usize>(
        self,
        log_ratios: Tensor<D>,
        advantages: Tensor<D>,
    ) -> Tensor<D> {
        let ratios = log_ratios.clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO).exp();
        let bounded = ratios.clone().detach().clamp(1.0 - self.low, 1.0 + self.high);
        let limit = bounded * advantages.clone();
        let surrogate = ratios * advantages;
        let is_beyond = limit.clone().lower(surrogate.clone().detach());
        surrogate.mask_where(is_beyond, limit)
    }
}

/// log μ(y_i | x), `[groups, K]`; that of π_sft where the completions were drawn from it.
pub(super) fn log_proposal(log_probs: &GroupLogProbs) -> Tensor<2> {
    log_probs.proposal.clone().unwrap_or_else(|| log_probs.reference.clone())
}
