//! What the stages that train have in common.

use std::path::Path;
use std::sync::Arc;

use exalign::config::{Config, LearningRateSchedule};
use exalign::data::{TokenGroup, Tokenizer};
use exalign::model::{Decoder, ModelFolder, weights};
use exalign::training::{Optimization, Plan, PlannedStep, Schedule};
use exalign::{Result, model};

/// The order of `num_records` records, as the settings say.
pub fn plan(config: &Config, num_records: usize) -> Plan {
    let training = &config.training;
    Plan::new(
        num_records,
        training.batch_size,
        training.micro_batch_size,
        training.epochs,
        training.max_steps,
        config.data.shuffle.then_some(config.seed),
    )
}

/// Optimizer and schedule, as the settings say.
pub fn optimization(config: &Config, num_steps: usize) -> Optimization {
    let (rate, optimizer) = (config.training.learning_rate, &config.optimizer);
    Optimization {
        schedule: match optimizer.schedule {
            LearningRateSchedule::Constant => Schedule::constant(rate, optimizer.warmup),
            LearningRateSchedule::Cosine => Schedule::cosine(rate, optimizer.warmup, num_steps),
        },
        betas: optimizer.betas,
        epsilon: optimizer.epsilon,
        weight_decay: optimizer.weight_decay,
        clip_norm: optimizer.clip_norm,
    }
}

/// The micro-batches of a step over token groups, sorted by number of completions and length.
pub fn planned(plan: &Plan, step: usize, groups: &[TokenGroup]) -> PlannedStep {
    plan.step(step, |record| (groups[record].completions.len(), groups[record].num_tokens()))
}

/// How a message names a record.
pub fn name(group: &TokenGroup) -> String {
    match &group.id {
        Some(serde_json::Value::String(id)) => id.clone(),
        Some(id) => id.to_string(),
        None => format!("line {}", group.line),
    }
}

/// Loads the language model of a folder.
pub fn load_decoder(folder: &ModelFolder, device: &burn::tensor::Device) -> Result<Decoder> {
    let decoder = Decoder::new(folder.shape.clone(), device);
    folder.load(decoder, &folder.family.bindings(&folder.shape), device)
}

/// Writes language models described as `folder` is, tokenizer and companions included.
pub fn decoder_saver(
    folder: &ModelFolder,
    tokenizer: Option<Tokenizer>,
) -> Arc<dyn Fn(&Decoder, &Path) -> Result<()> + Send + Sync> {
    let folder = folder.clone();
    Arc::new(move |decoder, target| {
        if let Some(tokenizer) = &tokenizer {
            tokenizer.save(target)?;
        }
        let bindings = folder.family.bindings(&folder.shape);
        weights::save(decoder, &bindings, &model::weights::as_f32(&folder.json), target)
    })
}
