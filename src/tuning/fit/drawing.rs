//! What the drawing of completions takes of memory.

use burn::tensor::Device;
use serde::Serialize;

use super::{FLOAT, free_memory, weights};
use crate::config::Generation;
use crate::memory::{Bytes, in_words};
use crate::model::{DecoderConfig, ModelFolder, WeightType};
use crate::tuning::PromptToComplete;
use crate::{Error, Result};

/// What a drawing takes of memory, in bytes. The figures are estimates.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DrawingFit {
    /// Prompts in memory at once.
    pub batch_size: usize,
    /// Completions in memory at once.
    pub samples: u128,
    /// All parameters.
    pub parameters: Bytes,
    /// All weights, as they are kept.
    pub weights: Bytes,
    /// Keys and values of a batch's prompts, one copy a prompt.
    pub prompts: Bytes,
    /// Keys and values of a batch's completions at their longest.
    pub completions: Bytes,
    /// Logits, and what the prompts need while they are read.
    pub working: Bytes,
    /// All of it.
    pub total: Bytes,
    /// What is free; none where the device does not say.
    pub free: Option<Bytes>,
}

impl DrawingFit {
    /// What completions of `prompts` take, as `generation.*` says.
    ///
    /// # Errors
    /// If it is more than what is free: with what it takes, and settings that fit, if there are some.
    pub fn of(
        folder: &ModelFolder,
        generation: &Generation,
        prompts: &[PromptToComplete],
        device: &Device,
    ) -> Result<Self> {
        let mut lengths: Vec<usize> = prompts.iter().map(|prompt| prompt.ids.len()).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        let work = Work { shape: &folder.shape, generation, lengths };
        let (free, limit) = free_memory(device);
        let fit = Self { free, ..work.fit(folder.kept, generation.batch_size) };
        match limit {
            Some(limit) if fit.total > limit => Err(Error::usage(format!(
                "the drawing: expected what fits in the {} of free memory, found {}; {}",
                in_words(free.unwrap_or(0)),
                fit.in_words(),
                work.remedy(folder.kept, limit)
            ))),
            _ => Ok(fit),
        }
    }

    /// In a line for people.
    pub fn in_words(&self) -> String {
        format!(
            "about {} (weights {}, keys and values of prompts {} and of completions {}, working memory {}; {} \
             completions at once)",
            in_words(self.total),
            in_words(self.weights),
            in_words(self.prompts),
            in_words(self.completions),
            in_words(self.working),
            self.samples
        )
    }
}

/// A drawing as far as its memory goes.
struct Work<'a> {
    shape: &'a DecoderConfig,
    generation: &'a Generation,
    /// Tokens of the prompts, the longest first.
    lengths: Vec<usize>,
}

impl Work<'_> {
    fn fit(&self, kept: WeightType, batch_size: usize) -> DrawingFit {
        let shape = self.shape;
        let prompts = batch_size.min(self.lengths.len());
        let samples = prompts as u128 * self.generation.completions as u128;
        let longest = self.lengths.first().copied().unwrap_or(0);
        // Prompts of a batch are padded to the longest.
        let tokens = prompts as Bytes * longest as Bytes;
        let keys = (shape.num_kv_heads * shape.head_dim) as Bytes;
        let of_token = 2 * keys * shape.num_layers as Bytes * FLOAT;
        let (hidden, inner) = (shape.hidden_size as Bytes, shape.intermediate_size as Bytes);
        let reading = tokens * (4 * inner + 4 * hidden) * FLOAT;
        let logits = samples * shape.vocab_size as Bytes * FLOAT;
        let new_tokens = samples * self.generation.max_new_tokens as Bytes;
        let weights = weights(shape, kept);
        let (of_prompts, of_completions) = (tokens * of_token, new_tokens * of_token);
        let working = reading.max(logits);
        DrawingFit {
            batch_size: prompts,
            samples,
            parameters: shape.num_weights(),
            weights,
            prompts: of_prompts,
            completions: of_completions,
            working,
            total: weights + of_prompts + of_completions + working,
            free: None,
        }
    }

    /// Settings with which a drawing fits that else does not.
    fn remedy(&self, kept: WeightType, limit: Bytes) -> String {
        let halves = std::iter::successors(Some(self.generation.batch_size), |batch_size| {
            (*batch_size > 1).then_some(batch_size / 2)
        });
        for batch_size in halves {
            let fit = self.fit(kept, batch_size);
            if fit.total <= limit {
                return format!("generation.batch_size={batch_size} takes {}", in_words(fit.total));
            }
        }
        for narrower in [WeightType::Bf16, WeightType::Q8, WeightType::Q4] {
            let fit = self.fit(narrower, 1);
            if fit.total <= limit {
                return format!(
                    "--dtype {} with generation.batch_size=1 takes {}",
                    narrower.short_name(),
                    in_words(fit.total)
                );
            }
        }
        "draw fewer or shorter completions (generation.completions, generation.max_new_tokens), take a smaller \
         model, or a larger machine"
            .to_owned()
    }
}
