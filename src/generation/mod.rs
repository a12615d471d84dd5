//! Sampling completions: each prompt is encoded once for all its samples.
//!
//! A sample's random numbers depend on the seed, the prompt's number and the sample's number. So the other
//! samples of the batch change it by rounding alone. Finished samples leave the batch.

mod blocks;
mod choice;

pub use choice::{Choice, Picked};

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::data::TokenGroup;
use crate::layout::AttentionLayout;
use crate::model::Decoder;
use crate::model::cache::LayerCache;
use crate::model::weights::all_finite;
use crate::policy::{NOT_FINITE, check_tokens, to_f32};
use crate::{Error, Result, interrupt, memory};

/// How completions are drawn.
#[derive(Clone, Debug)]
pub struct Sampling {
    /// Completions for every prompt.
    pub num_completions: usize,
    /// How a token is chosen.
    pub choice: Choice,
    /// Longest completion, in tokens.
    pub max_new_tokens: usize,
    /// Tokens that end a completion; none: every completion has full length.
    pub end_of_text: Vec<u32>,
    /// What else ends one.
    pub stop: Option<Stop>,
    /// Seeds every sample.
    pub seed: u64,
    /// Whether samples tell the log-probs of their tokens.
    pub log_probs: bool,
}

/// Says of the tokens drawn so far whether they are enough. A completion that ends so has not ended
/// by itself: it holds no end-of-text token.
#[derive(Clone)]
pub struct Stop(Arc<Enough>);

type Enough = dyn Fn(&[u32]) -> bool + Send + Sync;

impl Stop {
    /// Ends a completion as soon as `enough` holds.
    pub fn when(enough: impl Fn(&[u32]) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(enough))
    }
}

impl std::fmt::Debug for Stop {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Stop")
    }
}

/// A prompt to be completed.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// Its number, which seeds its samples.
    pub number: u64,
    /// Its tokens, at least one.
    pub ids: Vec<u32>,
}

/// A drawn completion.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Its tokens, the end-of-text token included if it ended by itself.
    pub ids: Vec<u32>,
    /// Whether it ended by itself.
    pub finished: bool,
    /// The log-prob of each token under the distribution that it was drawn from: at the temperature, among
    /// the tokens that top-k and top-p leave. Empty where it is not [asked for](Sampling::log_probs).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_probs: Vec<f32>,
}

impl Sample {
    /// Whether nothing is to be added.
    fn ended(&self, sampling: &Sampling, room: usize) -> bool {
        let enough = |Stop(enough): &Stop| !self.ids.is_empty() && enough(&self.ids);
        self.finished || self.ids.len() == room || sampling.stop.as_ref().is_some_and(enough)
    }
}

/// Draws completions for a batch of prompts: `samples[prompt][sample]`.
///
/// # Errors
/// [`Error::Interrupted`] after Ctrl-C; [`Error::Numeric`] where logits are not finite.
///
/// # Panics
/// If a prompt is empty or leaves no room within the model's positions.
pub fn sample(
    decoder: &Decoder,
    prompts: &[Prompt],
    sampling: &Sampling,
    device: &Device,
) -> Result<Vec<Vec<Sample>>> {
    check_memory(decoder, prompts.len(), sampling)?;
    let prompt = |it: &Prompt| TokenGroup { prompt: it.ids.clone(), ..TokenGroup::default() };
    check_tokens(decoder.config(), &prompts.iter().map(prompt).collect::<Vec<_>>())?;
    let per_group = sampling.num_completions;
    let mut samples = vec![vec![Sample::default(); per_group]; prompts.len()];
    let room = |group: usize| {
        sampling.max_new_tokens.min(decoder.config().max_positions - prompts[group].ids.len())
    };

    // Where the logits are not in the machine's memory, they are drawn from where they are.
    let stays = crate::device::has_own_memory(device)
        && blocks::takes(&sampling.choice, decoder.config().vocab_size);
    let draw = |logits: Tensor<2>, slots: &[(usize, usize)], rows: &[usize], step: usize| {
        let seed = |(group, k): (usize, usize)| {
            choice::seed(sampling.seed, prompts[group].number, k, step)
        };
        if stays {
            let draws: Vec<_> =
                slots.iter().zip(rows).map(|(&slot, &row)| (row, seed(slot))).collect();
            return blocks::pick(logits, &sampling.choice, &draws);
        }
        let [_, vocabulary] = logits.dims();
        let logits = to_f32(logits);
        let pick = |(&slot, &row): (&(usize, usize), &usize)| {
            let logits = &logits[row * vocabulary..][..vocabulary];
            all_finite(logits).then(|| sampling.choice.pick(logits, seed(slot)))
        };
        slots.par_iter().zip(rows).map(pick).collect()
    };
    let (mut logits, mut caches) = prefill(decoder, prompts, sampling.max_new_tokens, device);
    // The running batch: `rows` slots for each of `groups`; a slot holds (group, sample).
    let mut groups: Vec<usize> = (0..prompts.len()).collect();
    let mut slots: Vec<(usize, usize)> =
        groups.iter().flat_map(|&group| (0..per_group).map(move |k| (group, k))).collect();
    let mut logits_row: Vec<usize> = slots.iter().map(|&(group, _)| group).collect();
    for step in 0..sampling.max_new_tokens {
        interrupt::check()?;
        // None where the logits are no distribution: nobody may read the token of a slot that has ended.
        let drawn: Vec<Option<Picked>> = draw(logits, &slots, &logits_row, step);
        let tokens: Vec<u32> = drawn.iter().map(|it| it.map_or(0, |it| it.token)).collect();
        let mut running = vec![false; slots.len()];
        for (slot, (&(group, k), &picked)) in slots.iter().zip(&drawn).enumerate() {
            let sample = &mut samples[group][k];
            if sample.ids.len() < step || sample.ended(sampling, room(group)) {
                continue;
            }
            let Picked { token, log_prob } =
                picked.ok_or_else(|| not_finite(&prompts[group], step))?;
            sample.ids.push(token);
            if sampling.log_probs {
                sample.log_probs.push(log_prob);
            }
            sample.finished = sampling.end_of_text.contains(&token);
            running[slot] = !sample.ended(sampling, room(group));
        }
        if !running.contains(&true) {
            break;
        }
        let kept = compact(&groups, &slots, &running);
        if kept.slots.len() * 4 <= slots.len() * 3 {
            for cache in &mut caches {
                cache.keep(&kept.groups, &kept.slots);
            }
            groups = kept.groups.iter().map(|&row| groups[row]).collect();
            let tokens_kept: Vec<u32> = kept.slots.iter().map(|&slot| tokens[slot]).collect();
            slots = kept.slots.iter().map(|&slot| slots[slot]).collect();
            logits = decode(decoder, prompts, &slots, &tokens_kept, step, &mut caches, device);
        } else {
            logits = decode(decoder, prompts, &slots, &tokens, step, &mut caches, device);
        }
        logits_row = (0..slots.len()).collect();
    }
    Ok(samples)
}

/// Why no token can be drawn.
fn not_finite(prompt: &Prompt, step: usize) -> Error {
    Error::Numeric(format!(
        "prompt {}: the logits for token {} of a completion are not finite, so that none can be drawn. {NOT_FINITE}",
        prompt.number + 1,
        step + 1
    ))
}

/// Refuses more samples at once than there is memory for: what is remembered of every token, where that
/// is the machine's memory, and a row of logits for each.
fn check_memory(decoder: &Decoder, num_prompts: usize, sampling: &Sampling) -> Result<()> {
    let Sampling { num_completions, max_new_tokens, .. } = sampling;
    let config = decoder.config();
    let remembered = [2, config.num_layers, config.num_kv_heads, config.head_dim, *max_new_tokens];
    let samples = memory::product([num_prompts, *num_completions]);
    let row = memory::product([config.vocab_size, size_of::<f32>()]);
    let cache = match crate::device::has_own_memory(&decoder.device()) {
        true => 0,
        false => memory::product(remembered).saturating_mul(size_of::<f32>() as u128),
    };
    memory::check(
        samples.saturating_mul(row.saturating_add(cache)),
        &format!("{num_completions} completions of {num_prompts} prompts at once"),
        "lower generation.completions, generation.max_new_tokens or generation.batch_size",
    )
}

/// Rows of a running batch that are worth keeping.
struct Kept {
    groups: Vec<usize>,
    slots: Vec<usize>,
}

/// Groups with a running sample, each with as many slots as the fullest needs: the running ones,
/// filled up with ended ones that nobody reads any more.
fn compact(groups: &[usize], slots: &[(usize, usize)], running: &[bool]) -> Kept {
    let per_group = slots.len() / groups.len();
    let count =
        |row: usize| running[row * per_group..][..per_group].iter().filter(|&&it| it).count();
    let width = (0..groups.len()).map(count).max().unwrap_or(0);
    let rows: Vec<usize> = (0..groups.len()).filter(|&row| count(row) > 0).collect();
    let slots = rows
        .iter()
        .flat_map(|&row| {
            let mut own: Vec<usize> = (row * per_group..(row + 1) * per_group).collect();
            own.sort_by_key(|&slot| !running[slot]);
            own.truncate(width);
            own
        })
        .collect();
    Kept { groups: rows, slots }
}

/// Reads all prompts; logits after the last token of each, `[prompts, vocab]`, and the caches.
fn prefill(
    decoder: &Decoder,
    prompts: &[Prompt],
    capacity: usize,
    device: &Device,
) -> (Tensor<2>, Vec<LayerCache>) {
    let (count, longest) =
        (prompts.len(), prompts.iter().map(|it| it.ids.len()).max().unwrap_or(0));
    let mut tokens = vec![0i64; count * longest];
    let mut last = Vec::with_capacity(count);
    for (row, prompt) in prompts.iter().enumerate() {
        for (column, &token) in prompt.ids.iter().enumerate() {
            tokens[row * longest + column] = token.into();
        }
        last.push((row * longest + prompt.ids.len() - 1) as i64);
    }
    let positions: Vec<i64> = (0..count).flat_map(|_| 0..longest as i64).collect();
    let (hidden, layers) = decoder.prefill(
        ints(tokens, device).reshape([count, longest]),
        ints(positions, device).reshape([count, longest]),
        &AttentionLayout::causal(prompts.iter().map(|it| it.ids.len()), longest, device),
    );
    let width = decoder.config().hidden_size;
    let ends = hidden.reshape([count * longest, width]).select(0, ints(last, device));
    let lengths: Arc<[usize]> = prompts.iter().map(|it| it.ids.len()).collect();
    let caches =
        layers.into_iter().map(|layer| LayerCache::new(layer, lengths.clone(), capacity)).collect();
    (decoder.logits(ends), caches)
}

/// Reads the tokens just chosen in `slots`; logits for the next, `[slots, vocab]`.
fn decode(
    decoder: &Decoder,
    prompts: &[Prompt],
    slots: &[(usize, usize)],
    tokens: &[u32],
    step: usize,
    caches: &mut [LayerCache],
    device: &Device,
) -> Tensor<2> {
    // A slot that has ended may stand beyond the last position; its output is not read.
    let end = decoder.config().max_positions as i64 - 1;
    let positions = slots
        .iter()
        .map(|&(group, _)| ((prompts[group].ids.len() + step) as i64).min(end))
        .collect();
    let hidden = decoder.decode(
        ints(tokens.iter().map(|&token| token.into()).collect(), device).reshape([slots.len(), 1]),
        ints(positions, device).reshape([slots.len(), 1]),
        caches,
    );
    decoder.logits(hidden)
}

fn ints(values: Vec<i64>, device: &Device) -> Tensor<1, Int> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}
