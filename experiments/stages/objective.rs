//! The options that stand for `objective.*` settings.

use clap::Args;

/// Options that stand for `objective.*` settings.
#[derive(Args, Debug, Default)]
pub struct ObjectiveFlags {
    /// objective.beta_policy: sharpness of the policy's side, β_π; the β of most papers, orpo's λ
    #[arg(long, value_name = "BETA")]
    beta_policy: Option<f64>,
    /// objective.beta_reward: temperature of the rewards, β_r
    #[arg(long, value_name = "BETA")]
    beta_reward: Option<f64>,
    /// objective.epsilon: label smoothing of exo-pref and alpha-pref
    #[arg(long)]
    epsilon: Option<f64>,
    /// objective.labels: paper, or official for the unnormalised labels of the official code
    #[arg(long)]
    labels: Option<String>,
    /// objective.alpha: the place of alpha-pref and alpha-rw between EXO (0) and DPO (1)
    #[arg(long)]
    alpha: Option<f64>,
    /// objective.label_smoothing: the share of wrong labels that cdpo and robust-dpo expect
    #[arg(long, value_name = "SHARE")]
    label_smoothing: Option<f64>,
    /// objective.gamma: the margin of simpo
    #[arg(long)]
    gamma: Option<f64>,
    /// objective.ipo_average: whether ipo reads log-ratios per token (true) or their sums (false)
    #[arg(long, value_name = "BOOL")]
    ipo_average: Option<bool>,
    /// objective.desirable_weight: kto's weight of desirable completions
    #[arg(long, value_name = "WEIGHT")]
    desirable_weight: Option<f64>,
    /// objective.undesirable_weight: kto's weight of undesirable completions
    #[arg(long, value_name = "WEIGHT")]
    undesirable_weight: Option<f64>,
    /// objective.nll_weight: adds the chosen completion's negative log-likelihood per token to any
    /// objective, so that its log-prob does not fall
    #[arg(long, value_name = "WEIGHT")]
    nll_weight: Option<f64>,
    /// objective.kl_weight: weight of the KL from the reference in rloo, grpo and ppo, TRL's β; 0: none
    /// [default: beta_policy × beta_reward]
    #[arg(long, value_name = "WEIGHT")]
    kl_weight: Option<f64>,
    /// objective.clip_range: how far the ratio to the sampling policy counts in rloo, grpo and ppo
    #[arg(long, value_name = "RANGE")]
    clip_range: Option<f64>,
    /// objective.grpo_deviation: whether grpo divides by the deviation of the group's rewards
    #[arg(long, value_name = "BOOL")]
    grpo_deviation: Option<bool>,
    /// objective.grpo_length: what grpo divides sums over tokens by; 0: each completion's own length
    #[arg(long, value_name = "TOKENS")]
    grpo_length: Option<f64>,
    /// objective.gae_lambda: how far rewards reach back past the values of ppo, from 0 to 1
    #[arg(long, value_name = "LAMBDA")]
    gae_lambda: Option<f64>,
    /// objective.value_weight: weight of ppo's loss of values
    #[arg(long, value_name = "WEIGHT")]
    value_weight: Option<f64>,
    /// objective.kl_target: the KL, in nats a completion, that ppo's weight of the KL is led by; 0: it stays
    #[arg(long, value_name = "NATS")]
    kl_target: Option<f64>,
}

impl ObjectiveFlags {
    /// As settings.
    pub fn settings(&self) -> Vec<(&'static str, Option<String>)> {
        let number = |value: Option<f64>| value.map(|value| format!("{value:?}"));
        vec![
            ("objective.beta_policy", number(self.beta_policy)),
            ("objective.beta_reward", number(self.beta_reward)),
            ("objective.epsilon", number(self.epsilon)),
            ("objective.labels", self.labels.clone()),
            ("objective.alpha", number(self.alpha)),
            ("objective.label_smoothing", number(self.label_smoothing)),
            ("objective.gamma", number(self.gamma)),
            ("objective.ipo_average", self.ipo_average.map(|value| value.to_string())),
            ("objective.desirable_weight", number(self.desirable_weight)),
            ("objective.undesirable_weight", number(self.undesirable_weight)),
            ("objective.nll_weight", number(self.nll_weight)),
            ("objective.kl_weight", number(self.kl_weight)),
            ("objective.clip_range", number(self.clip_range)),
            ("objective.grpo_deviation", self.grpo_deviation.map(|value| value.to_string())),
            ("objective.grpo_length", number(self.grpo_length)),
            ("objective.gae_lambda", number(self.gae_lambda)),
            ("objective.value_weight", number(self.value_weight)),
            ("objective.kl_target", number(self.kl_target)),
        ]
    }
}
