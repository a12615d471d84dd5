//! Text ↔ token ids, as a model folder's tokenizer says.
//!
//! The ids are those of transformers' `AutoTokenizer.from_pretrained(folder)` in its fast form: its
//! tokenizer.json, changed as the class of tokenizer_config.json changes it, with the special tokens of all
//! files. [`Tokenizer::warnings`] lists the differences.

mod class_rules;
mod folder;
mod patterns;
mod pieces;
mod published;
mod scores;
mod seam;
mod special_tokens;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use self::class_rules::Class;
use self::folder::TokenizerFolder;
pub use self::folder::{COMPANIONS, GENERATION, companion_files};
use self::patterns::Patterns;
use self::pieces::Pieces;
use self::special_tokens::SpecialTokens;
use super::{ChatSettings, ChatTemplate, Ends};
use crate::files::{write_atomic, write_json};
use crate::panics::quietly;
use crate::{Error, Result};

/// About how many bytes of a long text are read at a time.
const PIECE: usize = 1 << 18;
/// The longest text that is read whole where it has no pieces, in bytes.
const MAX_WHOLE: usize = 1 << 22;

/// A tokenizer with the end-of-text tokens of its model. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    /// The same without what it puts in front of a text, for text that goes on.
    continuing: Arc<tokenizers::Tokenizer>,
    patterns: Arc<Patterns>,
    /// The ids that it puts in front of a text.
    front: Vec<u32>,
    ends: Ends,
    vocab_size: usize,
    hash: String,
    chat_template: Option<ChatTemplate>,
    /// Where a chat template stands that is not read, for the message that there is none.
    other_template: Option<Arc<Path>>,
    /// Names of special tokens, their texts and ids.
    special: Arc<Vec<(String, String, u32)>>,
    warnings: Arc<Vec<String>>,
    /// Names, relative to the folder, and bytes of the files it came with, tokenizer.json among them.
    files: Arc<Vec<(String, Vec<u8>)>>,
}

impl Tokenizer {
    /// Whether a folder has a tokenizer, be it one that is read or one that is refused by name.
    pub fn is_at(folder: &Path) -> bool {
        folder::has_tokenizer(folder)
    }

    /// Reads the tokenizer of a model folder: `tokenizer.json`, or where it is missing the
    /// `tokenizer.model` or the `vocab.json` and `merges.txt` that the tokenizer's class reads.
    /// `end_of_text` are the ids that end a text, the first of them the one that training appends.
    ///
    /// # Errors
    /// If the folder has no tokenizer, or one of a kind that is not read.
    pub fn from_folder(folder: &Path, end_of_text: &[u32]) -> Result<Self> {
        quietly(|| Self::read(folder, end_of_text)).unwrap_or_else(|panic| {
            let problem = panic.replace('\n', " ");
            Err(Error::file(folder, format!("its files cannot be read as a tokenizer: {problem}")))
        })
    }

    fn read(folder: &Path, end_of_text: &[u32]) -> Result<Self> {
        let chat_template = ChatTemplate::from_folder(folder)?;
        let mut folder = TokenizerFolder::read(folder)?;
        let class = Class::of(&folder);
        let mut warnings = Vec::new();
        if !class.known {
            let name = class.name.as_deref().unwrap_or_default();
            warnings.push(format!(
                "tokenizer_config.json: the rules of `tokenizer_class` {name} are not known here; \
                 the ids are those of the tokenizer as its files describe it, without what that \
                 class changes"
            ));
        }
        let mut inner = folder.tokenizer(&class, &mut warnings)?;
        let own: BTreeMap<_, _> = inner.get_added_tokens_decoder().into_iter().collect();
        let special_tokens = SpecialTokens::read(&folder, &class, &own)?;
        // A class names an end that a tokenizer may not have; transformers adds it then, beyond the
        // ids that the model knows.
        let has_end = special_tokens.with_ids(&inner).iter().any(|(name, ..)| name == "eos_token");
        special_tokens.add_to(&mut inner);
        class_rules::apply(&mut inner, &class, &folder.config, &special_tokens, &mut warnings)?;
        warnings.extend(class_rules::not_followed(&folder.config));
        let special = special_tokens.with_ids(&inner);
        let tokenizer = Self::new(inner, end_of_text, folder.files)?;
        warnings.extend(ends_left_away(&tokenizer.inner, &class)?);
        let mut tokenizer =
            Self { special: Arc::new(special), warnings: Arc::new(warnings), ..tokenizer };
        let own_end = tokenizer.special("eos_token").map(|(_, id)| id);
        let own_end = own_end.filter(|_| has_end || end_of_text.is_empty());
        tokenizer.ends = Ends::of(&tokenizer, chat_template.as_ref(), own_end, end_of_text);
        Ok(Self { chat_template, ..tokenizer })
    }

    /// Wraps a tokenizer that comes from no folder.
    ///
    /// # Errors
    /// If the tokenizer has no JSON form.
    pub fn from_tokenizer(tokenizer: tokenizers::Tokenizer, end_of_text: &[u32]) -> Result<Self> {
        let json = tokenizer
            .to_string(true)
            .map_err(|error| Error::usage(format!("the tokenizer has no JSON form: {error}")))?;
        Self::new(tokenizer, end_of_text, vec![("tokenizer.json".to_owned(), json.into_bytes())])
    }

    fn new(
        mut tokenizer: tokenizers::Tokenizer,
        end_of_text: &[u32],
        files: Vec<(String, Vec<u8>)>,
    ) -> Result<Self> {
        // Settings of whoever saved the file; they would cut and fill what is encoded here.
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(failed("set up"))?;

        // Ids may have gaps, so the number of entries says too little.
        let vocab_size =
            tokenizer.get_vocab(true).into_values().max().map_or(0, |it| it as usize + 1);
        let [front, _] = around(&tokenizer)?;
        let inner = Arc::new(tokenizer);
        let continuing = seam::without_beginning(&inner)?.map_or_else(|| inner.clone(), Arc::new);
        Ok(Self {
            patterns: Arc::new(Patterns::of(&inner)),
            inner,
            continuing,
            front,
            ends: Ends::of_config(end_of_text),
            vocab_size,
            hash: hash(&files, end_of_text),
            chat_template: None,
            other_template: None,
            special: Arc::default(),
            warnings: Arc::default(),
            files: Arc::new(files),
        })
    }

    /// The ids of a text that others follow, with the special tokens that stand in front of a text.
    /// What a post-processor adds at the end is left away.
    ///
    /// # Errors
    /// If the tokenizer cannot encode the text.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.encode(&self.inner, text)?;
        Ok(self.front.iter().copied().chain(ids).collect())
    }

    /// The ids of a text that stands for itself, without special tokens.
    ///
    /// # Errors
    /// If the tokenizer cannot encode the text.
    pub fn encode_completion(&self, text: &str) -> Result<Vec<u32>> {
        self.encode(&self.inner, text)
    }

    /// The ids of a text that goes on after another: nothing is put in front of it, so that the ids
    /// of both decode to both texts, where the first is not empty.
    ///
    /// # Errors
    /// If the tokenizer cannot encode the text.
    pub fn encode_continuation(&self, text: &str) -> Result<Vec<u32>> {
        self.encode(&self.continuing, text)
    }

    /// The ids of a text; those of a long one piece by piece.
    fn encode(&self, reader: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>> {
        guarded("encode a text", || self.patterns.check(reader, text).map_err(Into::into))?;
        if text.len() <= 2 * PIECE {
            return encode(reader, text);
        }
        let pieces = Pieces::of(reader);
        let in_pieces = || match pieces {
            Some(it) => it.encode([reader, &self.continuing], text, [PIECE, MAX_WHOLE]),
            None => Ok(None),
        };
        match guarded("encode a text", in_pieces)? {
            Some(ids) => Ok(ids),
            None if text.len() <= MAX_WHOLE => encode(reader, text),
            None => Err(Error::usage(format!(
                "expected a text of at most {MAX_WHOLE} bytes, found {}, which this tokenizer cannot read \
                 in pieces; drop the record, or cut the text",
                text.len()
            ))),
        }
    }

    /// The ids that stand in front of a text: the begin token, or nothing.
    pub fn front(&self) -> &[u32] {
        &self.front
    }

    /// The text of ids, special tokens skipped.
    ///
    /// # Errors
    /// If the tokenizer cannot decode the ids.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        guarded("decode ids", || self.inner.decode(ids, true))
    }

    /// The text of ids, special tokens written as they stand in the vocabulary.
    ///
    /// # Errors
    /// If the tokenizer cannot decode the ids.
    pub fn decode_all(&self, ids: &[u32]) -> Result<String> {
        guarded("decode ids", || self.inner.decode(ids, false))
    }

    /// The text that `ids` add after `before`, special tokens skipped. A letter that begins in
    /// `before` and ends in `ids` is part of it. Where `ids` change how whole letters of `before` are read, it is the
    /// text of `ids` alone.
    ///
    /// # Errors
    /// If the tokenizer cannot decode the ids.
    pub fn decode_after(&self, before: &[u32], ids: &[u32]) -> Result<String> {
        let after = self.decode(&[before, ids].concat())?;
        match seam::added_text(&self.decode(before)?, &after) {
            Some(added) => Ok(added.to_owned()),
            None => self.decode(ids),
        }
    }

    /// A special token by the name it has in the settings (`bos_token`, `eos_token`, `pad_token`,
    /// `unk_token`): its text and its id.
    pub fn special(&self, name: &str) -> Option<(&str, u32)> {
        let token = self.special.iter().find(|(it, ..)| it == name);
        token.map(|(_, content, id)| (content.as_str(), *id))
    }

    /// Whether an id is one of the tokens that [`Self::decode`] skips.
    pub fn is_special(&self, id: u32) -> bool {
        let added = self.inner.get_added_vocabulary();
        added.simple_id_to_token(id).is_some_and(|content| added.is_special_token(&content))
    }

    /// Whether a token was added to the vocabulary and is more than blanks.
    pub fn is_added_word(&self, id: u32) -> bool {
        let added = self.inner.get_added_vocabulary();
        added.simple_id_to_token(id).is_some_and(|content| !content.trim().is_empty())
    }

    /// A token as it is written in the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The first id that stands for another token in `other`, with both tokens. Ids that only one of the two knows
    /// do not count, nor do added tokens, which a model may have named anew.
    pub fn first_difference(&self, other: &Self) -> Option<(u32, String, String)> {
        let own = |tokenizer: &Self, id: u32| {
            let is_added = tokenizer.inner.get_added_vocabulary().simple_id_to_token(id).is_some();
            if is_added { None } else { tokenizer.token(id) }
        };
        let ids = 0..self.vocab_size.min(other.vocab_size) as u32;
        let mut both = ids.filter_map(|id| Some((id, own(self, id)?, own(other, id)?)));
        both.find(|(_, one, another)| one != another)
    }

    /// The token that ends a text, as training appends it.
    pub fn end_of_text(&self) -> Option<u32> {
        self.ends.turn.map(|(id, _)| id)
    }

    /// All tokens that end a text.
    pub fn all_end_of_text(&self) -> &[u32] {
        &self.ends.all
    }

    /// The tokens that end a turn, and where they are from.
    pub fn ends(&self) -> &Ends {
        &self.ends
    }

    /// The tokenizer of an adapter whose base has a chat template in the file `source`, which is not read.
    pub fn beside_template(self, source: &Path) -> Self {
        Self { other_template: Some(source.into()), ..self }
    }

    /// The file of a chat template that stands elsewhere and is not read, if one is known.
    pub fn other_template(&self) -> Option<&Path> {
        self.other_template.as_deref()
    }

    /// The tokenizer with its chat template as the settings say.
    ///
    /// # Errors
    /// If a setting makes no sense.
    pub fn with_chat(self, settings: &ChatSettings) -> Result<Self> {
        let chat_template = self.chat_template.map(|it| it.with_settings(settings)).transpose()?;
        Ok(Self { chat_template, ..self })
    }

    /// What makes a text of a conversation, where the model has it.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// What of the folder's settings is not followed, each with the file, the key and what differs.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// A hash of all files in a model folder that shape tokens, text or sampling, and of the
    /// end-of-text tokens, in hexadecimal; the tokenizer itself is not made.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn hash_of(folder: &Path, end_of_text: &[u32]) -> Result<String> {
        Ok(hash(&TokenizerFolder::read(folder)?.files, end_of_text))
    }

    /// A hash of all files that shape tokens, text or sampling, and of the end-of-text tokens, in
    /// hexadecimal.
    pub fn content_hash(&self) -> &str {
        &self.hash
    }

    /// Writes tokenizer.json and its companions into `folder`, byte for byte as they were read.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let own = self.files.iter().find(|(name, _)| name == GENERATION);
        let settings = self.with_ends(own.map(|(_, content)| content.as_slice()));
        let copied = self.files.iter().filter(|(name, _)| settings.is_none() || name != GENERATION);
        for (name, content) in copied {
            write_atomic(&folder.join(name), |writer| writer.write_all(content))?;
        }
        settings.map_or(Ok(()), |settings| write_json(&folder.join(GENERATION), &settings))
    }

    /// `generation_config.json` with every token that ends a turn here, the one that training appends among them: other
    /// programs stop at no other. None where it names them already, or is no object.
    fn with_ends(&self, settings: Option<&[u8]>) -> Option<Value> {
        let (turn, _) = self.ends.turn?;
        let mut settings: Map<String, Value> = match settings {
            Some(content) => serde_json::from_slice(content).ok()?,
            None => Map::new(),
        };
        let is_known = match settings.get("eos_token_id") {
            Some(Value::Array(ids)) => ids.iter().any(|id| id.as_u64() == Some(turn.into())),
            Some(id) => id.as_u64() == Some(turn.into()),
            // Those of config.json count then.
            None => self.ends.is_configured,
        };
        let ends = match self.ends.all.as_slice() {
            [only] => json!(only),
            all => json!(all),
        };
        (!is_known).then(|| {
            settings.insert("eos_token_id".to_owned(), ends);
            Value::Object(settings)
        })
    }
}

/// The ids that the post-processor puts in front of a text and at its end, seen at a text that has
/// ids.
fn around(tokenizer: &tokenizers::Tokenizer) -> Result<[Vec<u32>; 2]> {
    let any = tokenizer.get_vocab(false).into_keys().next().unwrap_or_default();
    for text in ["a", "0", &any, ""] {
        let encoding = tokenizer.encode_fast(text, true).map_err(failed("encode a text"))?;
        let (ids, added) = (encoding.get_ids(), encoding.get_special_tokens_mask());
        if let Some(first) = added.iter().position(|it| *it == 0) {
            let last = added.iter().rposition(|it| *it == 0).unwrap_or(first);
            return Ok([ids[..first].to_vec(), ids[last + 1..].to_vec()]);
        }
        if text.is_empty() {
            return Ok([ids.to_vec(), Vec::new()]);
        }
    }
    Ok([Vec::new(), Vec::new()])
}

/// What is said of a post-processor that ends every text in a token.
fn ends_left_away(tokenizer: &tokenizers::Tokenizer, class: &Class) -> Result<Option<String>> {
    let [_, end] = around(tokenizer)?;
    let setting = match class.rules.ends {
        Some(_) => "tokenizer_config.json: `add_eos_token`",
        None => "tokenizer.json: `post_processor`",
    };
    let tokens: Vec<String> = end
        .iter()
        .map(|id| format!("{} ({id})", tokenizer.id_to_token(*id).unwrap_or_default()))
        .collect();
    Ok((!end.is_empty()).then(|| {
        format!(
            "{setting} ends every text in {}; a prompt is read without it, because its completion \
             follows",
            tokens.join(" ")
        )
    }))
}

fn encode(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>> {
    let encoding = guarded("encode a text", || tokenizer.encode_fast(text, false))?;
    Ok(encoding.get_ids().to_vec())
}

/// What `work` gives. The parts of a tokenizer that others made may panic.
fn guarded<T>(action: &'static str, work: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    quietly(work).unwrap_or_else(|panic| Err(panic.into())).map_err(failed(action))
}

/// A hash of files, whatever their order, and of ids.
fn hash(files: &[(String, Vec<u8>)], end_of_text: &[u32]) -> String {
    let mut files: Vec<_> = files.iter().collect();
    files.sort();
    let mut hasher = blake3::Hasher::new();
    for (name, content) in files {
        hasher.update(name.as_bytes());
        hasher.update(&[0]);
        hasher.update(blake3::hash(content).as_bytes());
    }
    for id in end_of_text {
        hasher.update(&id.to_le_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

fn failed(action: &'static str) -> impl Fn(tokenizers::Error) -> Error {
    move |error| {
        let error = error.to_string().replace('\n', " ");
        Error::usage(format!("the tokenizer cannot {action}: {error}; check its tokenizer.json"))
    }
}

#[cfg(test)]
pub(super) mod tests;
