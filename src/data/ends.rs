//! The tokens that end a turn: the one that ends a completion, and all that stop sampling.

use serde::Serialize;
use serde_json::{Value, json};

use super::{ChatTemplate, Ending, Tokenizer};

/// Where the token that ends a completion is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndSource {
    /// The chat template ends turns with it.
    Template,
    /// The tokenizer's `eos_token`.
    Tokenizer,
    /// The `eos_token_id` of `config.json` or `generation_config.json`.
    Config,
}

impl EndSource {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Template => "the chat template ends turns with it",
            Self::Tokenizer => "eos_token of tokenizer_config.json",
            Self::Config => "eos_token_id of config.json",
        }
    }
}

/// The tokens that end a turn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ends {
    /// The token that is put behind a completion, and where it is from.
    pub turn: Option<(u32, EndSource)>,
    /// All that stop sampling, that one first.
    pub all: Vec<u32>,
    /// Whether `config.json` or `generation_config.json` name that one.
    pub is_configured: bool,
}

impl Ends {
    /// Those of `config.json` and `generation_config.json` alone.
    pub fn of_config(configured: &[u32]) -> Self {
        let turn = configured.first().map(|&id| (id, EndSource::Config));
        Self { turn, all: configured.to_vec(), is_configured: true }
    }

    /// The end the template writes, else the tokenizer's `eos_token`, `of_tokenizer`, else the first of
    /// the model's settings. `configured` are those of `config.json` and `generation_config.json`.
    pub fn of(
        tokenizer: &Tokenizer,
        template: Option<&ChatTemplate>,
        of_tokenizer: Option<u32>,
        configured: &[u32],
    ) -> Self {
        let named: Vec<u32> = of_tokenizer.iter().chain(configured).copied().collect();
        let of_template = template.and_then(|it| turn_end(tokenizer, it, &named));
        let turn = of_template
            .map(|id| (id, EndSource::Template))
            .or(of_tokenizer.map(|id| (id, EndSource::Tokenizer)))
            .or(configured.first().map(|&id| (id, EndSource::Config)));
        let mut all: Vec<u32> = Vec::new();
        for id in of_template.into_iter().chain(of_tokenizer).chain(configured.iter().copied()) {
            if !all.contains(&id) {
                all.push(id);
            }
        }
        let is_configured = turn.is_some_and(|(id, _)| configured.contains(&id));
        Self { turn, all, is_configured }
    }
}

impl Tokenizer {
    /// Where the token stands in `ids` that ends them, the first of several: behind it there are further ends and
    /// blanks at most, as templates write them.
    pub fn end_within(&self, ids: &[u32]) -> Option<usize> {
        let is_end = |id: &u32| self.all_end_of_text().contains(id);
        let is_blank = |ids: &[u32]| self.decode_all(ids).unwrap_or_default().trim().is_empty();
        let mut first = ids.iter().rposition(is_end)?;
        if !is_blank(&ids[first + 1..]) {
            return None;
        }
        while let Some(before) = ids[..first].iter().rposition(is_end)
            && is_blank(&ids[before + 1..first])
        {
            first = before;
        }
        Some(first)
    }
}

/// The tokens of a text that are of a kind.
fn of_kind(
    tokenizer: &Tokenizer,
    text: &str,
    is_one: fn(&Tokenizer, u32) -> bool,
) -> Option<Vec<u32>> {
    let ids = tokenizer.encode_completion(text).ok()?;
    Some(ids.into_iter().filter(|&id| is_one(tokenizer, id)).collect())
}

/// The first special token that a template writes behind the assistant's words, of several the first that the model's
/// settings name, unless it is the one that begins turns.
fn turn_end(tokenizer: &Tokenizer, template: &ChatTemplate, named: &[u32]) -> Option<u32> {
    // Words that no template writes itself.
    const ASKED: &str = "exalign-asks-where-turns-begin";
    const ANSWERED: &str = "exalign-looks-for-the-end-of-this-turn";
    const AGAIN: &str = "exalign-asks-again";
    let user = |text: &str| json!({ "role": "user", "content": text });
    let answer = json!({ "role": "assistant", "content": ANSWERED });
    let write = |messages: Vec<Value>| template.render(&messages.into(), Ending::Closed).ok();
    let written = write(vec![user(ASKED), answer.clone()])?;
    let (_, behind) = written.rsplit_once(ANSWERED)?;
    // A folder may not call its ends special; then they are tokens that were added.
    let is_end: fn(&Tokenizer, u32) -> bool =
        if of_kind(tokenizer, behind, Tokenizer::is_special)?.is_empty() {
            Tokenizer::is_added_word
        } else {
            Tokenizer::is_special
        };
    let special = |text: &str| of_kind(tokenizer, text, is_end);
    let ends = special(behind)?;
    let end = *ends.iter().find(|id| named.contains(id)).or(ends.first())?;
    let begins = || -> Option<bool> {
        let going_on = write(vec![user(ASKED), answer, user(AGAIN)])?;
        let (before, _) = going_on.split_once(ASKED)?;
        let (_, between) = going_on.split_once(ANSWERED)?;
        let (between, _) = between.split_once(AGAIN)?;
        // All that stands between two turns, and before the first as well.
        Some(special(between)?.iter().all(|&id| id == end) && special(before)?.contains(&end))
    };
    (!begins().unwrap_or(false)).then_some(end)
}
