//! The ids of a long text, read in pieces. They equal the ids of the whole text.
//!
//! While it cuts a text into words, tokenizers keeps some 270 bytes for each byte of the text, so a long text
//! is read in pieces. A piece ends after a letter, before a blank or a mark, where the pre-tokenizer begins a
//! new split even though it sees what follows. Splitting looks ahead and never back, so the rest of the text
//! is split as it is in the whole. A tokenizer of which this is not known (another kind of normalizer or
//! pre-tokenizer, expressions that look back, added tokens that span blanks) reads texts whole.

use serde_json::Value;
use tokenizers::{
    Model, ModelWrapper, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer,
};

/// How a text is cut for a tokenizer.
#[derive(Clone, Copy, Debug)]
pub struct Pieces {
    /// Bytes behind a cut that are seen before it is made: longer than any added token.
    margin: usize,
    /// Whether the text is not split before the model sees it, and no token of the model reaches over
    /// the blank in front of a word.
    keeps_words_apart: bool,
}

/// What may follow the letter that a piece ends with. An apostrophe may go on with it.
const BEHIND: &str = " \n,.:;!?()[]{}<>|/\\\"*&%$@#=+、。，！？：；（）「」《》";

impl Pieces {
    /// How a text is cut; none where its ids might be others.
    pub fn of(tokenizer: &Tokenizer) -> Option<Self> {
        let added = tokenizer.get_added_tokens_decoder();
        let reaches_over = added.values().any(|it| {
            let content = &it.content;
            let takes_blanks = it.rstrip && content.ends_with(char::is_alphabetic);
            it.single_word || takes_blanks || content.contains(char::is_whitespace)
        });
        let normalizer = json(tokenizer.get_normalizer())?;
        let pre_tokenizer = json(tokenizer.get_pre_tokenizer())?;
        if reaches_over || !is_local_normalizer(&normalizer) || !is_local_split(&pre_tokenizer) {
            return None;
        }
        let longest = added.values().map(|it| it.content.len()).max().unwrap_or(0);
        let is_whole = pre_tokenizer.is_null() || pre_tokenizer["split"] == false;
        let keeps_words_apart = is_whole && keeps_words_apart(tokenizer);
        Some(Self { margin: (2 * longest).max(1024), keeps_words_apart })
    }

    /// The ids of `text`, of which about `size` bytes are read at a time; none where no piece ends
    /// within `most` bytes. `continuing` is the tokenizer without what it puts in front of a text.
    pub fn encode(
        &self,
        [tokenizer, continuing]: [&Tokenizer; 2],
        text: &str,
        [size, most]: [usize; 2],
    ) -> tokenizers::Result<Option<Vec<u32>>> {
        let mut ids = Vec::new();
        let mut rest = text;
        while rest.len() > 2 * size.max(self.margin) {
            let is_first = rest.len() == text.len();
            let reader = if is_first { tokenizer } else { continuing };
            // In front of what follows an added token, too, the tokenizer puts what it puts.
            let may_hold_added = is_first || std::ptr::eq(tokenizer, continuing);
            let mut width = size;
            let piece = loop {
                let window = &rest[..rest.floor_char_boundary(width + self.margin)];
                match self.piece(reader, window, may_hold_added)? {
                    Some(piece) => break piece,
                    None if width < most && window.len() < rest.len() => width *= 2,
                    None => return Ok(None),
                }
            };
            ids.extend(piece.ids);
            rest = &rest[piece.len..];
        }
        let reader = if rest.len() == text.len() { tokenizer } else { continuing };
        let last = Piece::read(reader, split(reader, rest)?, rest.len())?;
        let is_read =
            rest.len() == text.len() || std::ptr::eq(tokenizer, continuing) || !last.has_added;
        ids.extend(last.ids);
        Ok(is_read.then_some(ids))
    }

    /// The longest piece that a window begins with.
    fn piece(
        &self,
        tokenizer: &Tokenizer,
        window: &str,
        may_hold_added: bool,
    ) -> tokenizers::Result<Option<Piece>> {
        let room = window.len().saturating_sub(self.margin);
        let mut splits = split(tokenizer, window)?;
        let starts = splits.get_splits(OffsetReferential::Original, OffsetType::Byte);
        let starts = starts.iter().map(|(_, (start, _), _)| *start);
        let mut end = starts.filter(|&it| it <= room && is_end(window, it)).max();
        if end.is_none() && self.keeps_words_apart {
            let blanks = window[..window.floor_char_boundary(room)].rmatch_indices(' ');
            end = blanks.map(|(at, _)| at).find(|&at| is_end(window, at));
            if let Some(end) = end {
                splits = split(tokenizer, &window[..end])?;
            }
        }
        let Some(end) = end else { return Ok(None) };
        let piece = Piece::read(tokenizer, splits, end)?;
        Ok(Some(piece).filter(|it| may_hold_added || !it.has_added))
    }
}

/// The beginning of a text.
struct Piece {
    ids: Vec<u32>,
    len: usize,
    has_added: bool,
}

impl Piece {
    /// The ids of the splits before `len`.
    fn read(
        tokenizer: &Tokenizer,
        mut splits: PreTokenizedString,
        len: usize,
    ) -> tokenizers::Result<Self> {
        let before = |splits: &PreTokenizedString| {
            let all = splits.get_splits(OffsetReferential::Original, OffsetType::Byte);
            all.iter().take_while(|(_, (start, _), _)| *start < len).count()
        };
        let num_splits = before(&splits);
        let added = splits.get_splits(OffsetReferential::Original, OffsetType::None);
        let has_added = added.iter().take(num_splits).any(|(.., tokens)| tokens.is_some());
        drop(added);
        splits.tokenize(|it| tokenizer.get_model().tokenize(it.get()))?;
        let tokens = splits.get_splits(OffsetReferential::Original, OffsetType::None);
        let tokens = tokens.iter().take(num_splits).filter_map(|(.., tokens)| tokens.as_ref());
        Ok(Self { ids: tokens.flatten().map(|it| it.id).collect(), len, has_added })
    }
}

/// A text as the model is given it.
fn split(tokenizer: &Tokenizer, text: &str) -> tokenizers::Result<PreTokenizedString> {
    let added = tokenizer.get_added_vocabulary();
    let mut splits = added.extract_and_normalize(tokenizer.get_normalizer(), text);
    if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
        pre_tokenizer.pre_tokenize(&mut splits)?;
    }
    Ok(splits)
}

/// Whether a piece may end at a byte of a text: behind a letter, before a blank or mark.
fn is_end(text: &str, at: usize) -> bool {
    let Some((before, behind)) = text.split_at_checked(at) else { return false };
    before.ends_with(char::is_alphabetic) && behind.starts_with(|it| BEHIND.contains(it))
}

/// A part of a tokenizer as JSON, null where there is none.
fn json<T: serde::Serialize>(part: Option<&T>) -> Option<Value> {
    serde_json::to_value(part).ok()
}

/// Whether a normalizer reads a text the same way in pieces, but for what it puts in front.
fn is_local_normalizer(normalizer: &Value) -> bool {
    match normalizer["type"].as_str() {
        None => normalizer.is_null(),
        Some("Sequence") => items(normalizer, "normalizers").all(is_local_normalizer),
        Some("Replace") => {
            normalizer["pattern"]["String"].as_str().is_some_and(|it| it.chars().count() == 1)
        }
        Some(name) => {
            ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Prepend", "ByteLevel"]
                .contains(&name)
        }
    }
}

/// Whether a pre-tokenizer that has begun a split goes on without regard to what was before.
fn is_local_split(pre_tokenizer: &Value) -> bool {
    match pre_tokenizer["type"].as_str() {
        None => pre_tokenizer.is_null(),
        Some("Sequence") => items(pre_tokenizer, "pretokenizers").all(is_local_split),
        Some("Split") => {
            let pattern = &pre_tokenizer["pattern"];
            pattern["String"].is_string()
                || pattern["Regex"].as_str().is_some_and(|it| !looks_back(it))
        }
        Some(name) => ["ByteLevel", "Metaspace", "Digits", "Punctuation"].contains(&name),
    }
}

/// Whether an expression may ask what is before a match.
fn looks_back(expression: &str) -> bool {
    let has_anchor = expression
        .match_indices('^')
        .any(|(at, _)| !expression[..at].ends_with('[') && !expression[..at].ends_with('\\'));
    has_anchor
        || ["(?<", r"\b", r"\B", r"\A", r"\G", r"\K"].iter().any(|it| expression.contains(it))
}

fn items<'a>(part: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    part[key].as_array().into_iter().flatten()
}

/// Whether no token of a model goes on behind a letter with the blank in front of a word, so that the
/// pairs that it merges are always those of one word.
fn keeps_words_apart(tokenizer: &Tokenizer) -> bool {
    let ModelWrapper::BPE(model) = tokenizer.get_model() else { return false };
    let is_plain = model.continuing_subword_prefix.is_none() && model.end_of_word_suffix.is_none();
    let vocab = tokenizer.get_vocab(false);
    let has_blank = ["▁", " "].iter().any(|it| vocab.contains_key(*it));
    let reaches_over = |token: &String| {
        let mut letters = token.chars().zip(token.chars().skip(1));
        letters.any(|(one, two)| one.is_alphabetic() && matches!(two, '▁' | ' '))
    };
    is_plain && has_blank && !vocab.keys().any(reaches_over)
}
