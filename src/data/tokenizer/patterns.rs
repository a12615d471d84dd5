//! Regular expressions of a tokenizer that can take too many steps.
//!
//! Where an expression backtracks too often, `tokenizers` stops silently and reads the rest of the text as
//! one piece: the ids then differ from those that its file defines. Expressions at risk are tried on a text
//! before the text is encoded, and a text that they fail on is refused, with the expression in the error.

use std::collections::BTreeMap;

use fancy_regex::Regex;
use serde_json::Value;
use tokenizers::pre_tokenizers::split::SplitPattern;
use tokenizers::{
    OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, PreTokenizerWrapper,
};

/// The part of most expressions that goes back: no farther than a run of blanks is long.
const BLANKS: &str = r"\s+(?!\S)";
/// The bytes of a text in which no run is as long as the most steps back.
const TAME_LENGTH: usize = 1 << 18;

/// What only an expression with steps back has.
const MARKS: [&str; 11] =
    ["(?=", "(?!", "(?<", "(?>", "(?(", "\\k", "\\g", "\\G", "\\K", "++", "*+"];

/// The expressions of a tokenizer that go back.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    of_pre_tokenizer: BTreeMap<String, Regex>,
    of_normalizer: BTreeMap<String, Regex>,
}

impl Patterns {
    pub fn of(tokenizer: &tokenizers::Tokenizer) -> Self {
        let of_normalizer = tokenizer.get_normalizer().map(serde_json::to_value);
        let of_pre_tokenizer = tokenizer.get_pre_tokenizer().map(serde_json::to_value);
        let found = |part: Option<serde_json::Result<Value>>| {
            let mut found = BTreeMap::new();
            collect(&part.and_then(Result::ok).unwrap_or_default(), &mut found);
            found
        };
        Self { of_normalizer: found(of_normalizer), of_pre_tokenizer: found(of_pre_tokenizer) }
    }

    /// Refuses a text that an expression takes too many steps for.
    pub fn check(&self, tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<(), String> {
        // Runs of blanks alone go back, as far as they are long.
        let is_tame = |(pattern, _): (&String, _)| !goes_back(&pattern.replace(BLANKS, ""));
        let all_tame = self.of_pre_tokenizer.iter().all(is_tame) && self.of_normalizer.is_empty();
        if all_tame && (self.of_pre_tokenizer.is_empty() || text.len() < TAME_LENGTH) {
            return Ok(());
        }
        self.of_normalizer.iter().try_for_each(|(pattern, regex)| attempt(pattern, regex, text))?;
        let Some(step) = tokenizer.get_pre_tokenizer() else { return Ok(()) };
        let added = tokenizer.get_added_vocabulary();
        let mut pieces = added.extract_and_normalize(tokenizer.get_normalizer(), text);
        self.walk(step, &mut pieces, true)
    }

    /// Whether a step has one of these expressions.
    fn tracks(&self, step: &PreTokenizerWrapper) -> bool {
        match step {
            PreTokenizerWrapper::Sequence(steps) => steps.as_ref().iter().any(|it| self.tracks(it)),
            PreTokenizerWrapper::Split(split) => match &split.pattern {
                SplitPattern::Regex(pattern) => self.of_pre_tokenizer.contains_key(pattern),
                SplitPattern::String(_) => false,
            },
            _ => false,
        }
    }

    /// Cuts pieces as a pre-tokenizer does, after its expressions were tried on them; after the last step
    /// with one they need not be cut.
    fn walk(
        &self,
        step: &PreTokenizerWrapper,
        pieces: &mut PreTokenizedString,
        is_last: bool,
    ) -> Result<(), String> {
        if let PreTokenizerWrapper::Sequence(steps) = step {
            let last = steps.as_ref().iter().rposition(|it| self.tracks(it));
            let tracked = &steps.as_ref()[..last.map_or(0, |it| it + 1)];
            for (at, step) in tracked.iter().enumerate() {
                self.walk(step, pieces, is_last && Some(at) == last)?;
            }
            return Ok(());
        }
        if let PreTokenizerWrapper::Split(split) = step
            && let SplitPattern::Regex(pattern) = &split.pattern
            && let Some(regex) = self.of_pre_tokenizer.get(pattern)
        {
            for (piece, _, tokens) in
                pieces.get_splits(OffsetReferential::Original, OffsetType::None)
            {
                if tokens.is_none() {
                    attempt(pattern, regex, piece)?;
                }
            }
        }
        if is_last {
            return Ok(());
        }
        step.pre_tokenize(pieces).map_err(|error| error.to_string())
    }
}

/// Finds all that an expression finds in a text.
fn attempt(pattern: &str, regex: &Regex, text: &str) -> Result<(), String> {
    let Some(error) = regex.find_iter(text).find_map(Result::err) else { return Ok(()) };
    let pattern: String = pattern.chars().take(80).collect();
    Err(format!("its expression `{pattern}` gives up on a text of {} bytes: {error}", text.len()))
}

/// The expressions that go back in a part of a tokenizer.
fn collect(part: &Value, found: &mut BTreeMap<String, Regex>) {
    match part {
        Value::Object(map) => {
            if let Some(pattern) = map.get("Regex").and_then(Value::as_str)
                && goes_back(pattern)
                && let Ok(regex) = Regex::new(pattern)
            {
                found.insert(pattern.to_owned(), regex);
            }
            map.values().for_each(|it| collect(it, found));
        }
        Value::Array(items) => items.iter().for_each(|it| collect(it, found)),
        _ => {}
    }
}

/// Whether a number of repetitions such as `{2,}` is followed by a plus; a class such as `\p{L}` is none.
fn has_possessive_count(pattern: &str) -> bool {
    pattern.match_indices("}+").any(|(end, _)| {
        let count = pattern[..end].rsplit('{').next().unwrap_or_default();
        !count.is_empty() && count.chars().all(|it| it.is_ascii_digit() || it == ',')
    })
}

fn goes_back(pattern: &str) -> bool {
    let refers = pattern.as_bytes().windows(2).any(|it| it[0] == b'\\' && it[1].is_ascii_digit());
    refers
        || MARKS.iter().any(|mark| pattern.contains(mark))
        || pattern.contains("?+")
        || has_possessive_count(pattern)
}
