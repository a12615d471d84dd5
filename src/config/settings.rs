//! The settings of a stage.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

use super::sources::{Sources, merge, parse_toml, typed};
use crate::alignment::{Labels, Objective, ObjectiveConfig, ObjectiveName};
use crate::data::ChatSettings;
use crate::model::Precision;
use crate::model::adapter::LoraConfig;
use crate::{Error, Result};

/// A stage with defaults of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Fine-tuning.
    Sft,
    /// Reward models and classifiers.
    Reward,
    /// Sampling, labelling, making pairs.
    Sample,
    /// Alignment.
    Align,
    /// Evaluation.
    Evaluate,
}

impl Stage {
    /// The stage's defaults: the common ones, its own over them.
    pub(super) fn defaults(self) -> Result<toml::Table> {
        let mut table = parse_toml(
            "assets/defaults/common.toml",
            include_str!("../../assets/defaults/common.toml"),
        )?;
        let own = match self {
            Self::Sft => include_str!("../../assets/defaults/sft.toml"),
            Self::Reward => include_str!("../../assets/defaults/reward.toml"),
            Self::Sample | Self::Evaluate => "",
            Self::Align => include_str!("../../assets/defaults/align.toml"),
        };
        merge(&mut table, parse_toml("assets/defaults", own)?);
        Ok(table)
    }
}

/// All settings of a stage. What each means stands in `assets/defaults/common.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented where their values are, in assets/defaults/common.toml")]
pub struct Config {
    pub seed: u64,
    pub dtype: Precision,
    pub training: Training,
    pub optimizer: Optimizer,
    pub checkpoint: Checkpoint,
    pub data: Data,
    pub generation: Generation,
    pub objective: ObjectiveSettings,
    pub adapter: LoraConfig,
    pub judge: JudgeSettings,
    pub chat: ChatSettings,
}

/// `training.*`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct Training {
    pub learning_rate: f64,
    pub epochs: usize,
    pub batch_size: usize,
    pub micro_batch_size: usize,
    pub compute: Precision,
    pub max_steps: usize,
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
}

/// `data.*`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct Data {
    pub shuffle: bool,
    pub max_length: usize,
    pub max_prompt_length: usize,
    pub skip_bad: usize,
    /// Changes no result, so records of what was done leave it out.
    #[serde(skip_serializing, default = "max_row_bytes")]
    pub max_row_bytes: usize,
}

fn max_row_bytes() -> usize {
    8 << 20
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

impl JudgeSettings {
    /// The first key whose value makes no sense, and why.
    fn violation(&self) -> Option<(String, String)> {
        if let Some(temperature) = self.temperature.filter(|it| !(0.0..=100.0).contains(it)) {
            let message = format!("expected a number from 0, or \"none\", found {temperature}");
            return Some(("judge.temperature".to_owned(), message));
        }
        let header = &self.key_header;
        if header.is_empty() || !header.chars().all(|it| it.is_ascii_alphanumeric() || it == '-') {
            let message = format!("expected \"auto\" or the name of a header, found `{header}`");
            return Some(("judge.key_header".to_owned(), message));
        }
        let ours = ["messages", "stream"].into_iter().find(|it| self.extra.contains_key(*it))?;
        let message = format!(
            "expected a field that exalign does not send itself, found `{ours}`; leave it out"
        );
        Some((format!("judge.extra.{ours}"), message))
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

/// `objective.*`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "documented in assets/defaults/common.toml")]
pub struct ObjectiveSettings {
    pub name: ObjectiveName,
    pub beta_policy: f64,
    pub beta_reward: f64,
    pub temperature: f64,
    pub epsilon: f64,
    pub labels: Labels,
}

impl ObjectiveSettings {
    /// The objective.
    ///
    /// # Errors
    /// If a number is out of its range.
    pub fn init(&self) -> Result<Objective> {
        ObjectiveConfig {
            name: self.name,
            beta_policy: self.beta_policy,
            beta_reward: self.beta_reward,
            epsilon: self.epsilon,
            labels: self.labels,
        }
        .init()
    }
}

impl Config {
    /// The settings of `stage` from all sources.
    ///
    /// # Errors
    /// An unknown key, a value of the wrong type or out of its range; the message names the source.
    pub fn load(stage: Stage, sources: &Sources) -> Result<Self> {
        let resolved = sources.resolve(&stage.defaults()?)?;
        let config: Self = typed("the configuration", resolved.table.clone())?;
        config
            .violation()
            .map_or(Ok(config), |(key, message)| Err(resolved.complain(&key, &message)))
    }

    /// Refuses values that make no sense.
    ///
    /// # Errors
    /// The first such value, with the range that is allowed.
    pub fn validate(&self) -> Result<()> {
        self.violation()
            .map_or(Ok(()), |(key, message)| Err(Error::usage(format!("`{key}`: {message}"))))
    }

    /// The first key whose value makes no sense, and why.
    pub(super) fn violation(&self) -> Option<(String, String)> {
        let own = || self.judge.violation().or_else(|| self.chat.violation());
        self.out_of_range().or_else(own).or_else(|| {
            let message = self.objective.init().err()?.to_string();
            // The objective's message begins with the name of the number in question.
            let key = message
                .split('`')
                .nth(1)
                .map_or("objective".to_owned(), |name| format!("objective.{name}"));
            Some((key, message))
        })
    }

    #[rustfmt::skip] // a table
    fn out_of_range(&self) -> Option<(String, String)> {
        let Self { training, optimizer, generation, objective, adapter, judge, data, .. } = self;
        let above_zero = |value: f64| value > 0.0 && value.is_finite();
        let from_zero = |value: f64| value >= 0.0 && value.is_finite();
        let within_a_day = |seconds: f64| (0.0..=86_400.0).contains(&seconds);
        let decay = |betas: [f64; 2]| betas.iter().all(|beta| (0.0..1.0).contains(beta));
        let checks: [(&str, &dyn Display, &str, bool); 21] = [
            ("training.learning_rate", &training.learning_rate, "a number above 0", above_zero(training.learning_rate)),
            ("training.epochs", &training.epochs, "at least 1", training.epochs > 0),
            ("training.batch_size", &training.batch_size, "at least 1", training.batch_size > 0),
            ("training.micro_batch_size", &training.micro_batch_size, "at least 1", training.micro_batch_size > 0),
            ("training.compute", &training.compute.short_name(), "f32 or bf16 (the gradients of f16 vanish without a scale)", training.compute != Precision::F16),
            ("optimizer.betas", &format!("{:?}", optimizer.betas), "two numbers in [0, 1)", decay(optimizer.betas)),
            ("optimizer.epsilon", &optimizer.epsilon, "a number above 0", above_zero(optimizer.epsilon)),
            ("optimizer.weight_decay", &optimizer.weight_decay, "a number from 0", from_zero(optimizer.weight_decay)),
            ("optimizer.clip_norm", &optimizer.clip_norm, "a number from 0 (0 does not clip)", from_zero(optimizer.clip_norm)),
            ("data.max_row_bytes", &data.max_row_bytes, "at least 1", data.max_row_bytes > 0),
            ("generation.completions", &generation.completions, "at least 1", generation.completions > 0),
            ("generation.temperature", &generation.temperature, "a number from 0 (0 takes the most probable token)", from_zero(generation.temperature)),
            ("generation.top_p", &generation.top_p, "a number in (0, 1]", generation.top_p > 0.0 && generation.top_p <= 1.0),
            ("generation.max_new_tokens", &generation.max_new_tokens, "at least 1", generation.max_new_tokens > 0),
            ("generation.batch_size", &generation.batch_size, "at least 1", generation.batch_size > 0),
            ("adapter.alpha", &adapter.alpha, "a number above 0", above_zero(adapter.alpha)),
            ("objective.temperature", &objective.temperature, "a number above 0", above_zero(objective.temperature)),
            ("judge.concurrency", &judge.concurrency, "at least 1", judge.concurrency > 0),
            ("judge.timeout", &judge.timeout, "seconds above 0, a day at most", judge.timeout > 0.0 && within_a_day(judge.timeout)),
            ("judge.first_wait", &judge.first_wait, "seconds from 0, a day at most", within_a_day(judge.first_wait)),
            ("judge.max_wait", &judge.max_wait, "seconds from 0, a day at most", within_a_day(judge.max_wait)),
        ];
        let (key, found, expected, _) = checks.into_iter().find(|(.., holds)| !holds)?;
        Some((key.to_owned(), format!("expected {expected}, found {found}")))
    }
}
