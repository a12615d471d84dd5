//! PPO: a clipped policy gradient over tokens, against a learned value of each token; the KL is in the reward.
//!
//!   policy = mean of −min(ρ_t A_t, clip(ρ_t) A_t)      ρ_t = π_θ(y_t) / μ(y_t)
//!   value  = ½ mean of max((v_t − G_t)², (clip(v_t, V_t ± c) − G_t)²)      loss = policy + w value
//!
//! Means are over all tokens of a step. μ is the policy that drew the completions, V its values, v the values of
//! the policy that learns. Advantages A and returns G are of the whole round, by generalised advantage
//! estimation ([`Gae`]) of rewards r_t = −β (log μ_t − log π_sft,t) with the completion's reward at its last
//! token; β stays, or follows a target of the KL. Schulman et al. 2017, "Proximal Policy Optimization
//! Algorithms"; Ouyang et al. 2022, "Training language models to follow instructions with human feedback"; the
//! baseline of Ji et al. 2024. Numbers are those of Ziegler et al. 2019, nothing is discounted (γ = 1).

use std::sync::Arc;

use burn::tensor::Tensor;

use super::gae::Gae;
use super::log_probs::TokenValues;
use super::reinforce::ClipRange;
use super::statistics::statistics;
use super::{
    Alignment, Divergence, Entry, GroupLogProbs, KlWeight, ObjectiveConfig, Statistic, Takes,
    TokenLogProbs,
};
use crate::{Error, Result};

/// The objective in the table.
pub const ENTRY: Entry = Entry {
    name: "ppo",
    label: "PPO",
    about: "a clipped policy gradient over tokens, against a learned value of each",
    takes: Takes::Rewards,
    divergence: Divergence::Other,
    reads: &[
        "beta_policy",
        "beta_reward",
        "kl_weight",
        "clip_range",
        "clip_range_high",
        "gae_lambda",
        "value_weight",
        "value_clip_range",
        "kl_target",
        "kl_horizon",
    ],
    forms: &[],
    build: |config| {
        let ObjectiveConfig { value_weight, value_clip_range, .. } = *config;
        check("value_weight", value_weight, value_weight >= 0.0, "a number from 0")?;
        let is_range = value_clip_range > 0.0;
        check("value_clip_range", value_clip_range, is_range, "a positive number")?;
        let (clip, gae) = (ClipRange::of(config)?, gae(config)?);
        Ok(Arc::new(Ppo { clip, gae, value_weight, value_clip_range }))
    },
};

/// As the settings say.
fn gae(config: &ObjectiveConfig) -> Result<Gae> {
    let ObjectiveConfig { gae_lambda: lambda, kl_target, kl_horizon, .. } = *config;
    let kl_weight = KlWeight::of(config)?;
    check("gae_lambda", lambda, (0.0..=1.0).contains(&lambda), "a number from 0 to 1")?;
    check("kl_target", kl_target, kl_target >= 0.0, "0 (none) or a positive number of nats")?;
    check("kl_horizon", kl_horizon, kl_horizon > 0.0, "a positive number of completions")?;
    if kl_target > 0.0 && kl_weight == 0.0 {
        let message = "must be above 0 to begin with where there is a kl_target, found 0";
        return Err(Error::setting("kl_weight", message.to_owned()));
    }
    Ok(Gae { lambda, kl_weight, kl_target, kl_horizon })
}

fn check(name: &str, found: f64, is_right: bool, expected: &str) -> Result<()> {
    match is_right && found.is_finite() {
        true => Ok(()),
        false => Err(Error::setting(name, format!("must be {expected}, found {found}"))),
    }
}

/// The clipped policy gradient of groups with rewards and values, any K ≥ 1.
#[derive(Clone, Debug)]
struct Ppo {
    clip: ClipRange,
    gae: Gae,
    value_weight: f64,
    value_clip_range: f64,
}

impl Alignment for Ppo {
    fn loss(&self, log_probs: &GroupLogProbs, _: &Tensor<2>) -> Tensor<1> {
        let (tokens, values) = given(log_probs);
        self.policy_loss(tokens, values) + self.value_loss(tokens, values) * self.value_weight // [1]
    }

    fn entry(&self) -> &'static Entry {
        &ENTRY
    }

    /// The policy itself, not a tempered one, is what the samples are weighted for.
    fn beta_policy(&self) -> f64 {
        1.0
    }

    fn needs_reference(&self) -> bool {
        self.gae.kl_weight != 0.0
    }

    fn needs_proposal(&self) -> bool {
        true
    }

    fn needs_tokens(&self) -> bool {
        true
    }

    fn gae(&self) -> Option<&Gae> {
        Some(&self.gae)
    }

    fn fewest_completions(&self) -> usize {
        1
    }

    /// Also `value_loss`, the second term before its weight.
    fn statistics(&self, log_probs: &GroupLogProbs, rewards: &Tensor<2>) -> Vec<Statistic> {
        let (tokens, values) = given(log_probs);
        let value_loss = self.value_loss(tokens, values).into_data().iter::<f64>().sum();
        let mut all = statistics(self, log_probs, rewards);
        all.push(Statistic::new("value_loss", value_loss));
        all
    }
}

/// The numbers of tokens that the objective asked for.
fn given(log_probs: &GroupLogProbs) -> (&TokenLogProbs, &TokenValues) {
    let tokens = log_probs.tokens.as_ref().expect("the objective asked for tokens");
    (tokens, tokens.values.as_ref().expect("the objective asked for values"))
}

impl Ppo {
    fn policy_loss(&self, tokens: &TokenLogProbs, values: &TokenValues) -> Tensor<1> {
        let log_ratios = tokens.policy.clone() - tokens.proposal.clone(); // [groups, K, T]
        let gain = self.clip.surrogate(log_ratios, values.advantages.clone());
        values.mean(-gain, tokens)
    }

    fn value_loss(&self, tokens: &TokenLogProbs, values: &TokenValues) -> Tensor<1> {
        let TokenValues { new, old, returns, .. } = values; //               [groups, K, T]
        let range = self.value_clip_range;
        let bounded = new.clone().detach().max_pair(old.clone() - range);
        let bounded = bounded.min_pair(old.clone() + range);
        let limit = (bounded - returns.clone()).square();
        let error = (new.clone() - returns.clone()).square();
        let is_beyond = limit.clone().greater(error.clone().detach());
        values.mean(error.mask_where(is_beyond, limit) * 0.5, tokens)
    }
}
