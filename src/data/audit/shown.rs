//! Records as the tokens that a model reads.

use serde::Serialize;

use super::{Entry, Kind};
use crate::data::{Located, Tokenizer};

/// A record as tokens, special ones as they are written.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownRow {
    /// The line it stands in.
    pub line: usize,
    /// The prompt; blanks are `·`, line ends `⏎`.
    pub prompt: Vec<String>,
    /// Its answers.
    pub answers: Vec<ShownAnswer>,
}

/// An answer as tokens.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ShownAnswer {
    /// What the record calls it.
    pub name: String,
    /// Its tokens.
    pub tokens: Vec<String>,
    /// Which of them ends it; none if it was cut.
    pub end: Option<usize>,
}

impl ShownRow {
    /// A record of `kind` by its tokens.
    pub(super) fn of(
        kind: Kind,
        place: &Located<()>,
        entry: &Entry,
        tokenizer: &Tokenizer,
    ) -> Self {
        let tokens = |ids: &[u32]| ids.iter().map(|&id| written(tokenizer, id)).collect();
        let answers = entry.tokens.completions.iter().enumerate().map(|(number, ids)| {
            let name = match kind {
                Kind::LabelledTexts | Kind::Texts => "text".to_owned(),
                Kind::Demonstrations | Kind::Unpaired => "answer".to_owned(),
                _ => entry.group.completion_field(number),
            };
            let end = tokenizer.end_within(ids);
            ShownAnswer { name, tokens: tokens(ids), end }
        });
        Self { line: place.line, prompt: tokens(&entry.tokens.prompt), answers: answers.collect() }
    }
}

/// A token as people read it.
fn written(tokenizer: &Tokenizer, id: u32) -> String {
    let raw = tokenizer.token(id).unwrap_or_else(|| format!("#{id}"));
    let text = match raw.strip_prefix('▁') {
        // Decoded alone, it would lose its blank.
        Some(rest) => format!(" {}", rest.replace('▁', " ")),
        None => tokenizer.decode_all(&[id]).unwrap_or_default(),
    };
    // Half a letter, or nothing to see.
    if text.is_empty() || text.contains('\u{fffd}') {
        return raw;
    }
    text.replace(' ', "·").replace('\n', "⏎").replace('\r', "␍").replace('\t', "⇥")
}
