//! The sections of settings, each with the ranges of its values. What a key means stands in
//! `assets/defaults/common.toml`.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

use crate::alignment::{ObjectiveConfig, objective_names};
use crate::data::{ChatSettings, Limits};
use crate::error::Error;
use crate::model::adapter::LoraConfig;
use crate::model::{Precision, WeightType};

/// A dotted key whose value makes no sense, and why.
pub type Violation = (String, String);

/// A section of the settings.
pub trait Section {
    /// The first value that makes no sense.
    fn violation(&self) -> Option<Violation>;

    /// Why its dotted `key` has no effect beside its other settings, and the way out; none where it has one.
    fn unread(&self, _key: &str) -> Option<String> {
        None
    }

    /// The same of a key that is given to several commands alike, each of which may read it.
    fn idle(&self, _key: &str) -> Option<String> {
        None
    }

    /// `data.max_row_bytes`, of the section that has it.
    fn max_row_bytes(&self) -> Option<usize> {
        None
    }
}

/// `training.*`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct Training {
    pub learning_rate: f64,
    pub epochs: usize,
    pub batch_size: usize,
    pub micro_batch_size: usize,
    pub micro_completions: usize,
    pub compute: Precision,
    pub base_dtype: WeightType,
    pub recompute: Recompute,
    pub max_steps: usize,
}

impl Section for Training {
    #[rustfmt::skip] // a table
    fn violation(&self) -> Option<Violation> {
        first([
            ("training.learning_rate", &self.learning_rate, "a number above 0", above_zero(self.learning_rate)),
            ("training.epochs", &self.epochs, "at least 1", self.epochs > 0),
            ("training.batch_size", &self.batch_size, "at least 1", self.batch_size > 0),
            ("training.base_dtype", &self.base_dtype.short_name(), "f32, bf16, q8 or q4 (the gradients of f16 vanish without a scale)", self.base_dtype != WeightType::F16),
            ("training.compute", &self.compute.short_name(), "f32 or bf16 (the gradients of f16 vanish without a scale)", self.compute != Precision::F16),
        ])
    }
}

/// Whether the backward pass computes the activations of blocks again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// Where they would not fit.
    #[default]
    Auto,
    /// It does: a third more time, half more with adapters, and the memory of one block.
    Always,
    /// It keeps them.
    Never,
}

/// `optimizer.*`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct Optimizer {
    pub schedule: LearningRateSchedule,
    pub warmup: usize,
    pub betas: [f64; 2],
    pub epsilon: f64,
    pub weight_decay: f64,
    pub clip_norm: f64,
}

impl Section for Optimizer {
    #[rustfmt::skip] // a table
    fn violation(&self) -> Option<Violation> {
        let is_decay = |beta: &f64| (0.0..1.0).contains(beta);
        first([
            ("optimizer.betas", &format!("{:?}", self.betas), "two numbers in [0, 1)", self.betas.iter().all(is_decay)),
            ("optimizer.epsilon", &self.epsilon, "a number above 0", above_zero(self.epsilon)),
            ("optimizer.weight_decay", &self.weight_decay, "a number from 0", from_zero(self.weight_decay)),
            ("optimizer.clip_norm", &self.clip_norm, "a number from 0 (0 does not clip)", from_zero(self.clip_norm)),
        ])
    }
}

/// The course of the learning rate after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LearningRateSchedule {
    /// Half a cosine down to zero.
    Cosine,
    /// As it is.
    Constant,
}

/// `checkpoint.*`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct Checkpoint {
    pub every: usize,
    pub keep: usize,
    pub best: BestBy,
}

/// The figure of validation that tells the best model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BestBy {
    /// No best model is kept.
    #[default]
    None,
    /// The lowest loss.
    Loss,
    /// The highest accuracy.
    Accuracy,
    /// The largest reward margin.
    Reward,
}

impl BestBy {
    /// The figure's name, and whether more of it is better; none where no best model is kept.
    pub fn figure(self) -> Option<(&'static str, bool)> {
        match self {
            Self::None => None,
            Self::Loss => Some(("loss", false)),
            Self::Accuracy => Some(("accuracy", true)),
            Self::Reward => Some(("reward_margin", true)),
        }
    }
}

/// `validation.*`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct ValidationSettings {
    pub every: usize,
    pub share: f64,
}

impl Section for ValidationSettings {
    fn violation(&self) -> Option<Violation> {
        let is_share = (0.0..1.0).contains(&self.share);
        first([(
            "validation.share",
            &self.share,
            "a number from 0, below 1 (0 holds nothing out)",
            is_share,
        )])
    }
}

/// `drift.*`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct DriftSettings {
    pub kl_budget: f64,
    pub prompts: usize,
    pub max_new_tokens: usize,
}

impl Section for DriftSettings {
    #[rustfmt::skip] // a table
    fn violation(&self) -> Option<Violation> {
        first([
            ("drift.kl_budget", &self.kl_budget, "nats from 0 (0 sets no budget)", from_zero(self.kl_budget)),
            ("drift.prompts", &self.prompts, "at least 2, for an interval", self.prompts > 1),
            ("drift.max_new_tokens", &self.max_new_tokens, "at least 1", self.max_new_tokens > 0),
        ])
    }
}

impl Section for Checkpoint {
    fn violation(&self) -> Option<Violation> {
        None
    }
}

/// `data.*` of a stage that reads records as they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct RecordData {
    pub skip_bad: usize,
    pub max_row_bytes: usize,
}

impl Section for RecordData {
    fn violation(&self) -> Option<Violation> {
        row_bytes(self.max_row_bytes)
    }

    fn max_row_bytes(&self) -> Option<usize> {
        Some(self.max_row_bytes)
    }
}

/// `data.*` of a stage that reads records as tokens for a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct TokenData {
    pub max_length: usize,
    pub max_prompt_length: usize,
    pub skip_bad: usize,
    pub max_row_bytes: usize,
}

impl TokenData {
    /// The limits in tokens.
    pub fn limits(&self) -> Limits {
        Limits {
            max_length: self.max_length,
            max_prompt_length: self.max_prompt_length,
            ..Limits::default()
        }
    }
}

impl Section for TokenData {
    fn violation(&self) -> Option<Violation> {
        row_bytes(self.max_row_bytes)
    }

    fn max_row_bytes(&self) -> Option<usize> {
        Some(self.max_row_bytes)
    }
}

/// `data.*` of a stage that trains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct TrainingData {
    pub shuffle: bool,
    #[serde(flatten)]
    pub tokens: TokenData,
}

impl Section for TrainingData {
    fn violation(&self) -> Option<Violation> {
        self.tokens.violation()
    }

    fn max_row_bytes(&self) -> Option<usize> {
        self.tokens.max_row_bytes()
    }
}

/// `generation.*`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct Generation {
    pub completions: usize,
    pub temperature: f64,
    pub top_p: f64,
    pub top_k: usize,
    pub max_new_tokens: usize,
    pub ignore_eos: bool,
    pub stop: Vec<String>,
    pub batch_size: usize,
    pub log_probs: bool,
}

impl Section for Generation {
    #[rustfmt::skip] // a table
    fn violation(&self) -> Option<Violation> {
        first([
            ("generation.completions", &self.completions, "at least 1", self.completions > 0),
            ("generation.temperature", &self.temperature, "a number from 0 (0 takes the most probable token)", from_zero(self.temperature)),
            ("generation.top_p", &self.top_p, "a number in (0, 1]", self.top_p > 0.0 && self.top_p <= 1.0),
            ("generation.max_new_tokens", &self.max_new_tokens, "at least 1", self.max_new_tokens > 0),
            ("generation.batch_size", &self.batch_size, "at least 1", self.batch_size > 0),
        ])
    }
}

/// `online.*`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct OnlineRounds {
    pub prompts_per_round: usize,
    pub steps_per_round: usize,
    pub rounds: usize,
    pub refresh: Refresh,
    pub reference: KeepReference,
}

impl Section for OnlineRounds {
    #[rustfmt::skip] // a table
    fn violation(&self) -> Option<Violation> {
        first([
            ("online.prompts_per_round", &self.prompts_per_round, "at least 1", self.prompts_per_round > 0),
            ("online.steps_per_round", &self.steps_per_round, "at least 1", self.steps_per_round > 0),
        ])
    }
}

/// Who draws the completions of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refresh {
    /// The policy as it is when the round begins.
    Policy,
    /// The reference, anew in each round.
    Reference,
}

/// Where the reference is between rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeepReference {
    /// In memory.
    Keep,
    /// On disk.
    Load,
}

impl Section for ObjectiveConfig {
    fn violation(&self) -> Option<Violation> {
        let temperature = ("objective.temperature", &self.temperature as &dyn Display);
        let range = "a number above 0";
        first([(temperature.0, temperature.1, range, above_zero(self.temperature))]).or_else(|| {
            let error = self.init().err()?;
            let key = match &error {
                Error::Setting { key, .. } => format!("objective.{key}"),
                _ => "objective".to_owned(),
            };
            Some((key, error.to_string()))
        })
    }

    fn unread(&self, key: &str) -> Option<String> {
        let key = key.strip_prefix("objective.")?;
        // The figures of every objective are in units of β_π.
        if key == "beta_policy" || OF_SEVERAL.contains(&key) || self.reads(key) {
            return None;
        }
        let adapters = if key == "alpha" { "; did you mean --lora-alpha?" } else { "" };
        Some(format!(
            "expected a setting that {} reads, found one that it does not; leave it out, or choose an objective that \
             does: {}{adapters}",
            self.name,
            objective_names(|entry| entry.reads.contains(&key))
        ))
    }

    fn idle(&self, key: &str) -> Option<String> {
        let key = key.strip_prefix("objective.").filter(|key| OF_SEVERAL.contains(key))?;
        (!self.reads(key)).then(|| {
            format!(
                "{} does not read it: it has no effect; objectives that do: {}",
                self.name,
                objective_names(|entry| entry.reads.contains(&key))
            )
        })
    }
}

/// Keys of the objectives that are compared with each other: one script may give them to all.
const OF_SEVERAL: [&str; 3] = ["beta_reward", "epsilon", "labels"];

impl Section for LoraConfig {
    fn violation(&self) -> Option<Violation> {
        let ranks = self.rank_pattern.values().all(|&rank| rank > 0);
        let alphas = self.alpha_pattern.values().all(|&alpha| above_zero(alpha));
        first([
            ("adapter.alpha", &self.alpha, "a number above 0", above_zero(self.alpha)),
            ("adapter.rank_pattern", &format!("{:?}", self.rank_pattern), "ranks above 0", ranks),
            (
                "adapter.alpha_pattern",
                &format!("{:?}", self.alpha_pattern),
                "numbers above 0",
                alphas,
            ),
            (
                "adapter.dropout",
                &self.dropout,
                "a number from 0 to less than 1",
                (0.0..1.0).contains(&self.dropout),
            ),
        ])
    }

    fn unread(&self, key: &str) -> Option<String> {
        let key = key.strip_prefix("adapter.")?;
        (self.rank == 0 && key != "rank").then(|| {
            "expected adapters to be trained, found adapter.rank = 0, which trains all weights; give a rank \
             (--lora-rank 16), or leave it out"
                .to_owned()
        })
    }
}

impl Section for ChatSettings {
    fn violation(&self) -> Option<Violation> {
        ChatSettings::violation(self)
    }
}

/// `judge.*`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct JudgeSettings {
    pub model: String,
    pub template: String,
    pub key_variable: String,
    pub key_header: String,
    pub ca_file: String,
    pub concurrency: usize,
    pub timeout: f64,
    pub max_retries: usize,
    pub first_wait: f64,
    pub max_wait: f64,
    pub max_refused: usize,
    #[serde(with = "number_or_none")]
    pub temperature: Option<f64>,
    pub max_tokens: usize,
    pub max_completion_tokens: usize,
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl Section for JudgeSettings {
    #[rustfmt::skip] // a table
    fn violation(&self) -> Option<Violation> {
        let within_a_day = |seconds: f64| (0.0..=86_400.0).contains(&seconds);
        let temperature = self.temperature.unwrap_or(0.0);
        let is_header = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        first([
            ("judge.concurrency", &self.concurrency as &dyn Display, "at least 1", self.concurrency > 0),
            ("judge.timeout", &self.timeout, "seconds above 0, a day at most", self.timeout > 0.0 && within_a_day(self.timeout)),
            ("judge.first_wait", &self.first_wait, "seconds from 0, a day at most", within_a_day(self.first_wait)),
            ("judge.max_wait", &self.max_wait, "seconds from 0, a day at most", within_a_day(self.max_wait)),
            ("judge.temperature", &temperature, "a number from 0, or \"none\"", (0.0..=100.0).contains(&temperature)),
            ("judge.key_header", &format!("`{}`", self.key_header), "\"auto\" or the name of a header", is_header(&self.key_header)),
        ]).or_else(|| {
            let ours = ["messages", "stream"].into_iter().find(|name| self.extra.contains_key(*name))?;
            let message = format!("expected a field that exalign does not send itself, found `{ours}`; leave it out");
            Some((format!("judge.extra.{ours}"), message))
        })
    }
}

/// `reward.*`: how programs and endpoints that give rewards are asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct RewardSettings {
    pub timeout: f64,
    pub restarts: usize,
    pub template: String,
}

impl Section for RewardSettings {
    fn violation(&self) -> Option<Violation> {
        let is_time = self.timeout > 0.0 && self.timeout <= 86_400.0;
        first([("reward.timeout", &self.timeout, "seconds above 0, a day at most", is_time)])
    }
}

/// A number, or the word "none".
mod number_or_none {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(number) => to.serialize_f64(*number),
            None => to.serialize_str("none"),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(f64),
            Word(String),
        }
        match Written::deserialize(from)? {
            Written::Number(number) => Ok(Some(number)),
            Written::Word(word) if word == "none" => Ok(None),
            Written::Word(word) => {
                Err(D::Error::custom(format!("expected a number or \"none\", found `{word}`")))
            }
        }
    }
}

/// The first of `checks` (key, value, what is expected, whether it holds) that does not hold.
fn first<const N: usize>(checks: [(&str, &dyn Display, &str, bool); N]) -> Option<Violation> {
    let (key, found, expected, _) = checks.into_iter().find(|(.., holds)| !holds)?;
    Some((key.to_owned(), format!("expected {expected}, found {found}")))
}

fn row_bytes(max_row_bytes: usize) -> Option<Violation> {
    first([("data.max_row_bytes", &max_row_bytes, "at least 1", max_row_bytes > 0)])
}

fn above_zero(value: f64) -> bool {
    value > 0.0 && value.is_finite()
}

fn from_zero(value: f64) -> bool {
    value >= 0.0 && value.is_finite()
}
