//! The options that all stages with a training share, and what such a stage leaves.

use std::path::PathBuf;

use burn::tensor::Device;
use clap::Args;
use exalign::Result;
use exalign::tuning::{Fit, Trained};
use serde::Serialize;
use serde_json::Value;

use crate::context::Context;
use crate::stage::{Source, Stage};

/// Options that stand for `training.*` settings.
#[derive(Args, Debug, Default)]
pub struct TrainingFlags {
    /// training.learning_rate: peak of the learning rate
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// training.batch_size: groups (or texts) an optimizer step
    #[arg(long, value_name = "GROUPS")]
    batch_size: Option<usize>,
    /// training.micro_batch_size: groups in memory at once
    #[arg(long, value_name = "GROUPS")]
    micro_batch_size: Option<usize>,
    /// training.epochs: passes over the data
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// training.compute: type of the forward and backward passes, f32 or bf16; weights and losses stay f32
    #[arg(long, value_name = "DTYPE")]
    compute: Option<String>,
    /// training.base_dtype: with --lora-rank, type of the frozen weights in memory: f32, bf16, q8 (8.5 bits) or
    /// q4 (4.5 bits)
    #[arg(long, value_name = "DTYPE")]
    base_dtype: Option<String>,
    /// Validation records, in the form of --data: loss and figures over them are taken every
    /// validation.every steps [default: none, or validation.share of the data]
    #[arg(long, value_name = "FILE")]
    pub validation: Option<PathBuf>,
    /// Say how much memory the training takes and how it is cut to fit, and end
    #[arg(long)]
    pub dry_run: bool,
    /// training.max_steps: stop after this many steps; 0: no limit
    #[arg(long, value_name = "N")]
    max_steps: Option<usize>,
    /// dtype: type of the weights in OUT/model, f32, bf16 or f16; training itself is in f32
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<String>,
    /// adapter.rank: train LoRA adapters of this rank and no other weights; OUT/model is then a PEFT
    /// folder
    #[arg(long, value_name = "RANK")]
    lora_rank: Option<usize>,
    /// adapter.alpha: adapter output is scaled by alpha / rank
    #[arg(long, value_name = "ALPHA")]
    lora_alpha: Option<f64>,
    /// adapter.target_modules: matrices that get an adapter, such as q_proj,v_proj [default: all matrices
    /// of the blocks]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    lora_targets: Option<Vec<String>>,
}

/// What a training command prints.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// What was trained.
    Trained(Trained),
    /// What the training would take.
    Planned(Fit),
}

/// What the training of a stage would take of memory, nothing being loaded or written.
pub fn planned<S: Stage>(
    mut stage: S,
    context: &Context,
    fit: impl FnOnce(&S, &S::Opened, &Device) -> Result<Fit>,
) -> Result<Answer> {
    let opened = stage.open(None)?;
    let fit = fit(&stage, &opened, &context.device)?;
    tracing::info!("the training takes {}", fit.in_words());
    Ok(Answer::Planned(fit))
}

impl TrainingFlags {
    /// As settings.
    pub fn settings(&self) -> Vec<(&'static str, Option<String>)> {
        vec![
            ("training.learning_rate", self.learning_rate.map(|it| format!("{it:?}"))),
            ("training.batch_size", self.batch_size.map(|it| it.to_string())),
            ("training.micro_batch_size", self.micro_batch_size.map(|it| it.to_string())),
            ("training.epochs", self.epochs.map(|it| it.to_string())),
            ("training.compute", self.compute.clone()),
            ("training.base_dtype", self.base_dtype.clone()),
            ("training.max_steps", self.max_steps.map(|it| it.to_string())),
            ("dtype", self.dtype.clone()),
            ("adapter.rank", self.lora_rank.map(|it| it.to_string())),
            ("adapter.alpha", self.lora_alpha.map(|it| format!("{it:?}"))),
            ("adapter.target_modules", self.lora_targets.as_ref().map(|it| format!("{it:?}"))),
        ]
    }
}

/// Whether a file in the folder of a training is what it leaves; checkpoints come and go.
pub fn is_of_training(name: &str) -> bool {
    name.starts_with("model/") || name == "metrics.jsonl"
}

/// The settings that shape a training: those of validation only where there is one.
pub fn shaping(mut settings: Value, file: Option<&Source>) -> Value {
    let is_validated = file.is_some() || settings["validation"]["share"].as_f64() > Some(0.0);
    let has_budget = is_validated && settings["drift"]["kl_budget"].as_f64() > Some(0.0);
    let mut drop_unread = |section: &str, is_read: bool| {
        if let (false, Some(settings)) = (is_read, settings.as_object_mut()) {
            settings.remove(section);
        }
    };
    drop_unread("validation", is_validated);
    drop_unread("drift", has_budget);
    if settings["checkpoint"]["best"] == "none"
        && let Some(checkpoint) = settings["checkpoint"].as_object_mut()
    {
        checkpoint.remove("best");
    }
    settings
}
