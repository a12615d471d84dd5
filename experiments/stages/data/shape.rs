//! Examples of a published set → the records that the stages of an experiment read.

use std::collections::HashSet;
use std::path::Path;

use exalign::data::published::{Example, Extras, Published, Reason, SetKind};
use exalign::data::{
    Completion, Group, Intake, Limits, Located, Passage, PromptRecord, Tokenization, Tokenize,
    Tokenizer,
};
use exalign::{Error, Result};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::part::{Part, mismatched, side};

/// What the preferences are where nobody gave any.
const PROXY: &str = "a post's own summary is chosen, the summary of another post, of about the same length, is rejected";

/// Lengths in tokens; 0 of a limit: any.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Lengths {
    /// Longest prompt that is taken.
    pub max_prompt_tokens: usize,
    /// Longest answer that is taken.
    pub max_answer_tokens: usize,
    /// Of a review, the opening.
    pub opening_tokens: usize,
    /// Of a review, what is read at most.
    pub review_tokens: usize,
}

impl Lengths {
    /// Refuses openings of reviews that are nothing, or the whole of what is read.
    pub fn check(&self, kind: SetKind) -> Result<()> {
        let Self { opening_tokens, review_tokens, .. } = *self;
        if kind != SetKind::Reviews {
            return Ok(());
        }
        if opening_tokens == 0 {
            return Err(Error::usage(
                "--opening-tokens: expected at least 1, since the opening is the prompt, found 0",
            ));
        }
        if review_tokens > 0 && review_tokens <= opening_tokens {
            return Err(Error::usage(format!(
                "--review-tokens: expected more than the opening's {opening_tokens} (--opening-tokens), \
                 since what follows the opening is the answer, found {review_tokens}; 0 reads all"
            )));
        }
        Ok(())
    }
}

/// The records of a run.
#[derive(Default)]
pub struct Records {
    /// To fine-tune on.
    pub demonstrations: Vec<Value>,
    /// For the reward model: pairs, or texts with labels.
    pub labelled: Vec<Value>,
    /// To sample groups for.
    pub prompts: Vec<Value>,
    /// Prompts to evaluate on.
    pub held_out: Vec<Value>,
    /// Groups of one: the answers that people gave to the held-out prompts.
    pub chosen: Vec<Value>,
    /// As `labelled`, of the held-out part.
    pub held_out_labelled: Vec<Value>,
    /// What the pairs are, where they are a proxy.
    pub proxy: Option<&'static str>,
    /// Examples that are in one of these or more.
    pub used: usize,
}

/// How examples become records.
pub struct Shape<'a> {
    /// What the examples are of.
    pub kind: SetKind,
    /// Of the model the records are for; without one, lengths of reviews are in words.
    pub tokenizer: Option<&'a Tokenizer>,
    pub lengths: Lengths,
}

/// How many records of each kind are enough.
#[derive(Clone, Copy, Debug)]
pub struct Enough {
    pub demonstrations: usize,
    pub labelled: usize,
    pub prompts: usize,
    pub held_out: usize,
}

impl Enough {
    /// All that there are.
    pub const ALL: Self = Self {
        demonstrations: usize::MAX,
        labelled: usize::MAX,
        prompts: usize::MAX,
        held_out: usize::MAX,
    };
}

impl Shape<'_> {
    /// The records of a set; what is too long or too short is counted there. Where there are `enough` of
    /// each kind, the examples after them are not looked at, unless they could change those before them.
    ///
    /// # Errors
    /// If limits are in tokens and there is no tokenizer, or a conversation has no chat template.
    pub fn records(&self, published: &mut Published, enough: Enough) -> Result<Records> {
        self.lengths.check(self.kind)?;
        let held_out =
            self.fitting(std::mem::take(&mut published.held_out), published, |parts| {
                asked(parts).filter(|part| part.answer().is_some()).count() >= enough.held_out
            })?;
        let others: HashSet<[u8; 16]> = asked(&held_out).map(Part::key).collect();
        let train = self.fitting(std::mem::take(&mut published.train), published, |parts| {
            let is_new = |part: &&Part| !others.contains(&part.key());
            parts.iter().filter(|part| part.has_label()).count() >= enough.labelled
                && demonstrations(parts).count() >= enough.demonstrations
                && asked(parts).filter(is_new).count() >= enough.prompts
        })?;
        let mut records = Records {
            demonstrations: demonstrations(&train).map(Part::demonstration).collect(),
            labelled: train.iter().filter_map(Part::labelled).collect(),
            held_out_labelled: held_out.iter().filter_map(Part::labelled).collect(),
            ..Records::default()
        };
        // A post says what its summary is about, so that another's is worse beyond doubt. Of other
        // answers nobody can say so.
        let is_proxy = records.labelled.is_empty() && self.kind == SetKind::Posts;
        if is_proxy {
            records.proxy = Some(PROXY);
            records.labelled = mismatched(&train);
            records.held_out_labelled = mismatched(&held_out);
        }
        let mut prompts = HashSet::new();
        let evaluated = prompted(&held_out);
        for part in &held_out {
            let is_asked = evaluated(part) && prompts.insert(part.key());
            if is_asked {
                records.held_out.push(part.with(vec![]));
                records.chosen.extend(part.answer());
            }
            if !(is_asked || is_proxy || part.has_label()) {
                published.drop(Reason::OtherHeldOut);
            } else {
                records.used += 1;
            }
        }
        records.used += train.len();
        let is_sampled = prompted(&train);
        records.prompts = train
            .iter()
            .filter(|it| is_sampled(it) && prompts.insert(it.key()))
            .map(|it| it.with(vec![]))
            .collect();
        Ok(records)
    }

    /// The examples that fit, in parts; so many of them, where those after them change nothing, that
    /// `is_enough` says so.
    fn fitting(
        &self,
        examples: Vec<Example>,
        published: &mut Published,
        is_enough: impl Fn(&[Part]) -> bool,
    ) -> Result<Vec<Part>> {
        /// Examples that are looked at first; then as many as before again.
        const FIRST: usize = 1024;
        let can_stop = self.are_alike(&examples);
        let mut fitting = Vec::new();
        let (mut looked_at, mut rest) = (0, examples.into_iter());
        while !(can_stop && is_enough(&fitting)) {
            let next: Vec<Example> = rest.by_ref().take(FIRST.max(looked_at)).collect();
            if next.is_empty() {
                break;
            }
            looked_at += next.len();
            let parts: Vec<std::result::Result<Part, Reason>> =
                next.into_par_iter().map(|it| self.part(it)).collect::<Result<_>>()?;
            for part in parts {
                match part {
                    Ok(part) => fitting.push(part),
                    Err(reason) => published.drop(reason),
                }
            }
        }
        published.looked_at += looked_at;
        Ok(fitting)
    }

    /// Whether each example becomes the same records whatever the others are. The sides of posts that nobody
    /// compared come from all of them; demonstrations are learned from instead of pairs where there are any.
    fn are_alike(&self, examples: &[Example]) -> bool {
        let form = |example: &Example| std::mem::discriminant(example);
        let is_compared = |example: &Example| !matches!(example, Example::Demonstration { .. });
        examples.windows(2).all(|two| form(&two[0]) == form(&two[1]))
            && (self.kind != SetKind::Posts || examples.iter().all(is_compared))
    }

    fn part(&self, example: Example) -> Result<std::result::Result<Part, Reason>> {
        let (prompt, chosen, rejected, extras) = match example {
            Example::Labelled { text, label } => return self.review(&text, label),
            Example::Demonstration { prompt, chosen, extras } => (prompt, chosen, None, extras),
            Example::Preference { prompt, chosen, rejected, extras } => {
                (prompt, chosen, Some(rejected), extras)
            }
        };
        let part = Part {
            prompt: PromptRecord { prompt, ..PromptRecord::default() },
            chosen: Completion::finished(chosen),
            rejected: rejected.map(Completion::finished),
            extras,
            review: None,
        };
        Ok(match self.too_long(&part)? {
            Some(reason) => Err(reason),
            None => Ok(part),
        })
    }

    fn too_long(&self, part: &Part) -> Result<Option<Reason>> {
        let Lengths { max_prompt_tokens, max_answer_tokens, .. } = self.lengths;
        if max_prompt_tokens == 0 && max_answer_tokens == 0 {
            return Ok(None);
        }
        let Some(tokenizer) = self.tokenizer else {
            return Err(Error::usage(
                "limits in tokens: expected a model to count them with, found none; add --model",
            ));
        };
        let tokenization = Tokenization {
            tokenizer: Some(tokenizer),
            limits: Limits::default(),
            vocab_size: usize::MAX,
        };
        let group = Group {
            prompt: part.prompt.prompt.clone(),
            completions: std::iter::once(&part.chosen).chain(&part.rejected).cloned().collect(),
            is_preference: part.rejected.is_some(),
            ..Group::default()
        };
        let located = Located { file: Path::new("the set").into(), line: 1, record: group };
        let tokens = Group::tokenize(&located, &tokenization, &mut Intake::default())
            .map_err(|error| Error::usage(without_place(error)))?;
        let longest = tokens.completions.iter().map(Vec::len).max().unwrap_or(0);
        let beyond = |limit: usize, len: usize| limit > 0 && len > limit;
        Ok(if beyond(max_prompt_tokens, tokens.prompt.len()) {
            Some(Reason::LongPrompt)
        } else if beyond(max_answer_tokens, longest) {
            Some(Reason::LongAnswer)
        } else {
            None
        })
    }

    /// A review as its opening and the rest. In token ids where there is a tokenizer, so that the
    /// seam is where the review's own tokens meet.
    fn review(&self, text: &str, label: bool) -> Result<std::result::Result<Part, Reason>> {
        let Lengths { opening_tokens, review_tokens, .. } = self.lengths;
        let limit = if review_tokens == 0 { usize::MAX } else { review_tokens };
        let (prompt, rest, whole, is_cut) = match self.tokenizer {
            Some(tokenizer) => {
                let mut ids = tokenizer.encode_prompt(text)?;
                let is_cut = ids.len() > limit;
                ids.truncate(limit);
                if ids.len() <= opening_tokens {
                    return Ok(Err(Reason::TooShort));
                }
                let (opening, rest) = ids.split_at(opening_tokens);
                let decoded = tokenizer.decode(opening)?;
                let prompt = Passage {
                    text: Some(decoded),
                    ids: Some(opening.to_vec()),
                    conversation: None,
                };
                let mut rest = rest.to_vec();
                let text = Some(tokenizer.decode(&rest)?);
                // A review that was cut does not end; one that was not, does.
                rest.extend(tokenizer.end_of_text().filter(|_| !is_cut));
                let rest = Passage { text, ids: Some(rest), conversation: None };
                (prompt, rest, Passage::of_ids(ids), is_cut)
            }
            None => {
                let Some(seam) = end_of_word(text, opening_tokens) else {
                    return Ok(Err(Reason::TooShort));
                };
                let end = end_of_word(text, limit);
                let whole = &text[..end.unwrap_or(text.len())];
                if whole[seam..].trim().is_empty() {
                    return Ok(Err(Reason::TooShort));
                }
                let rest = Passage::of_text(&whole[seam..]);
                (Passage::of_text(&text[..seam]), rest, Passage::of_text(whole), end.is_some())
            }
        };
        Ok(Ok(Part {
            prompt: PromptRecord { prompt, ..PromptRecord::default() },
            chosen: Completion { passage: rest, finished: !is_cut },
            rejected: None,
            extras: Extras::default(),
            review: Some((whole, label)),
        }))
    }
}

/// Where word number `count` ends, if words follow it.
fn end_of_word(text: &str, count: usize) -> Option<usize> {
    let start = text.len() - text.trim_start().len();
    let ends = text[start..].char_indices().zip(text[start..].chars().skip(1));
    let mut ends = ends.filter(|((_, one), two)| !one.is_whitespace() && two.is_whitespace());
    let ((at, last), _) = ends.nth(count.checked_sub(1)?)?;
    let end = start + at + last.len_utf8();
    (!text[end..].trim().is_empty()).then_some(end)
}

fn without_place(error: Error) -> String {
    match error {
        Error::Record { message, .. } => message,
        other => other.to_string(),
    }
}

/// What to fine-tune on: demonstrations where there are any, otherwise the chosen sides, each
/// answer once.
fn demonstrations(parts: &[Part]) -> impl Iterator<Item = &Part> {
    let own = parts.iter().any(|it| it.rejected.is_none());
    let mut seen = HashSet::new();
    parts
        .iter()
        .filter(move |it| !own || it.rejected.is_none())
        .filter(move |it| own || seen.insert((it.key(), json!(side("", "", &it.chosen.passage)))))
}

/// The first part of each prompt that prompts are taken from.
fn asked(parts: &[Part]) -> impl Iterator<Item = &Part> {
    let is_asked = prompted(parts);
    let mut seen = HashSet::new();
    parts.iter().filter(move |part| is_asked(part) && seen.insert(part.key()))
}

/// What prompts are taken from: pairs where there are any, so that the reward model knows the like
/// of them.
fn prompted(parts: &[Part]) -> impl Fn(&Part) -> bool + use<> {
    let pairs = parts.iter().any(|it| it.rejected.is_some());
    move |it| !pairs || it.rejected.is_some()
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;
