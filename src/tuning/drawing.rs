//! Prompts of a file, and completions that are drawn for them.

use std::path::Path;

use super::{end_of_text, limits};
use crate::config::{Generation, TokenData};
use crate::data::{
    Completion, Group, Passage, PromptRecord, Tokenization, Tokenize, Tokenizer, read_records,
};
use crate::generation::{Choice, Prompt, Sample, Sampling, Stop, sample};
use crate::model::{Decoder, ModelFolder};
use crate::{Error, Result, interrupt};

/// A prompt with what is written back of it.
#[derive(Clone, Debug)]
pub struct PromptToComplete {
    /// The line the record stands in, counted from 1.
    pub line: usize,
    /// The record.
    pub record: PromptRecord,
    /// Its tokens, at least one.
    pub ids: Vec<u32>,
}

impl PromptToComplete {
    /// The prompt with what was drawn for it, as text where there is a tokenizer.
    ///
    /// # Errors
    /// If the tokens cannot be decoded.
    pub fn group(&self, drawn: &[Sample], tokenizer: Option<&Tokenizer>) -> Result<Group> {
        let log_probs = drawn.iter().any(|sample| !sample.log_probs.is_empty());
        let completion = |Sample { ids, finished, .. }: &Sample| {
            let text = tokenizer.map(|it| it.decode_after(&self.ids, ids)).transpose()?;
            Ok(Completion {
                passage: Passage { text, ..Passage::of_ids(ids.clone()) },
                finished: *finished,
            })
        };
        Ok(Group {
            id: self.record.id.clone(),
            prompt: Passage { ids: Some(self.ids.clone()), ..self.record.prompt.clone() },
            completions: drawn.iter().map(completion).collect::<Result<_>>()?,
            others: self.record.others.clone(),
            log_probs: log_probs.then(|| drawn.iter().map(|it| it.log_probs.clone()).collect()),
            ..Group::default()
        })
    }
}

/// Reads prompts and leaves room for what is to be drawn, as `generation.*` and `data.*` say.
///
/// # Errors
/// A record that is no prompt or has no token, with its file and line; more tokens than the model has positions.
pub fn read_prompts(
    path: &Path,
    (generation, data): (&Generation, &TokenData),
    folder: &ModelFolder,
    tokenizer: Option<&Tokenizer>,
) -> Result<Vec<PromptToComplete>> {
    let longest = generation.max_new_tokens;
    let positions = folder.shape.max_positions;
    if longest >= positions {
        return Err(Error::usage(format!(
            "generation.max_new_tokens: expected less than the model's {positions} positions, found {longest}"
        )));
    }
    let mut limits = limits(data, folder);
    let room = positions - longest;
    limits.max_prompt_length =
        if limits.max_prompt_length == 0 { room } else { limits.max_prompt_length.min(room) };
    let tokenization = Tokenization { tokenizer, limits, vocab_size: folder.shape.vocab_size };
    let skip_bad = data.skip_bad;
    let (prompts, intake) = read_records(path, skip_bad, |located, intake| {
        let ids = PromptRecord::tokenize(&located, &tokenization, intake)?.prompt;
        if ids.is_empty() {
            return Err(located.error(
                "`prompt`: expected at least one token to sample from, found none; write the model's \
                 begin-of-text token as `prompt_ids`",
            ));
        }
        Ok(PromptToComplete { line: located.line, record: located.record, ids })
    })?;
    intake.tell(path);
    Ok(prompts)
}

/// Draws completions of the prompts `numbers`, in batches of similar length; `keep` hears each batch. Prompts
/// seed their samples by their numbers, counted from `first`.
///
/// # Errors
/// As [`sample`]; those of `keep`.
pub fn draw(
    decoder: &Decoder,
    prompts: &[PromptToComplete],
    (mut numbers, first): (Vec<usize>, u64),
    sampling: &Sampling,
    batch_size: usize,
    mut keep: impl FnMut(Vec<usize>, Vec<Vec<Sample>>) -> Result<()>,
) -> Result<()> {
    let device = decoder.device();
    numbers.sort_by_key(|&number| (prompts[number].ids.len(), number));
    for batch in numbers.chunks(batch_size) {
        interrupt::check()?;
        let rows: Vec<Prompt> = batch
            .iter()
            .map(|&number| Prompt {
                number: first + number as u64,
                ids: prompts[number].ids.clone(),
            })
            .collect();
        keep(batch.to_vec(), sample(decoder, &rows, sampling, &device)?)?;
    }
    Ok(())
}

/// How completions are drawn, as `generation.*` says.
///
/// # Errors
/// If texts are to end completions, and there is no tokenizer.
pub fn sampling(
    generation: &Generation,
    seed: u64,
    folder: &ModelFolder,
    tokenizer: Option<&Tokenizer>,
) -> Result<Sampling> {
    Ok(Sampling {
        num_completions: generation.completions,
        choice: Choice {
            temperature: generation.temperature,
            top_k: generation.top_k,
            top_p: generation.top_p,
        },
        max_new_tokens: generation.max_new_tokens,
        end_of_text: if generation.ignore_eos {
            Vec::new()
        } else {
            end_of_text(folder, tokenizer)
        },
        stop: stop_at(&generation.stop, tokenizer)?,
        seed,
        log_probs: generation.log_probs,
    })
}

/// Ends a completion whose text holds one of `texts`.
fn stop_at(texts: &[String], tokenizer: Option<&Tokenizer>) -> Result<Option<Stop>> {
    let Some(longest) = texts.iter().map(String::len).max() else { return Ok(None) };
    let Some(tokenizer) = tokenizer.cloned() else {
        return Err(Error::usage(
            "`generation.stop`: expected a model with a tokenizer.json to look for texts, found none",
        ));
    };
    let texts = texts.to_vec();
    Ok(Some(Stop::when(move |ids| {
        // A text that has just appeared lies within its length in tokens from the end, and the
        // token before that may have begun it.
        let tail = &ids[ids.len().saturating_sub(longest + 1)..];
        tokenizer.decode_all(tail).is_ok_and(|tail| texts.iter().any(|text| tail.contains(text)))
    })))
}
