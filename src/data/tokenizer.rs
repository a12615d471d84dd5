//! Text ↔ token ids, as a model folder's tokenizer.json says.

mod published;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{ChatTemplate, EndSource, Ends};
use crate::files::write_atomic;
use crate::{Error, Result};

/// The tokenizer itself, and beside it what servers of Hugging Face folders look for.
pub const COMPANIONS: [&str; 12] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
];

/// The files of a model folder that belong to its tokenizer and to generation, those that exist.
pub fn companion_files(folder: &Path) -> Vec<PathBuf> {
    COMPANIONS.iter().map(|name| folder.join(name)).filter(|path| path.is_file()).collect()
}

/// A tokenizer with the end-of-text tokens of its model. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    ends: Ends,
    vocab_size: usize,
    hash: String,
    chat_template: Option<ChatTemplate>,
    /// Names and bytes of the files it came with, tokenizer.json among them.
    files: Arc<Vec<(String, Vec<u8>)>>,
}

impl Tokenizer {
    /// Whether a folder has a tokenizer.
    pub fn is_at(folder: &Path) -> bool {
        ["tokenizer.json", published::FILE].iter().any(|file| folder.join(file).is_file())
    }

    /// Reads `tokenizer.json` of a model folder, or the `tokenizer.model` of those published before
    /// there was one. `end_of_text` are the ids that end a text, the
    /// first of them the one that training appends.
    pub fn from_folder(folder: &Path, end_of_text: &[u32]) -> Result<Self> {
        let mut files = companion_files(folder)
            .into_iter()
            .map(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Ok((name, std::fs::read(&path).map_err(Error::io(&path, "read"))?))
            })
            .collect::<Result<Vec<_>>>()?;
        let path = folder.join("tokenizer.json");
        let has = |file: &str| folder.join(file).is_file();
        if !has("tokenizer.json") && has(published::FILE) {
            let json = published::tokenizer_json(folder)?.to_string();
            files.push(("tokenizer.json".to_owned(), json.into_bytes()));
        }
        let json = match files.iter().find(|(name, _)| name == "tokenizer.json") {
            Some((_, json)) => json.clone(),
            None => std::fs::read(&path).map_err(Error::io(&path, "read"))?,
        };
        let tokenizer = tokenizers::Tokenizer::from_bytes(json).map_err(|error| {
            Error::file(&path, format!("cannot be read as a tokenizer: {error}"))
        })?;
        let tokenizer = Self::new(tokenizer, end_of_text, files)?;
        let chat_template = ChatTemplate::from_folder(folder)?;
        let ends = Ends::of(&tokenizer, chat_template.as_ref(), end_of_text);
        Ok(Self { chat_template, ends, ..tokenizer })
    }

    /// Wraps a tokenizer that comes from no folder.
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
        let mut hasher = blake3::Hasher::new();
        if let Some((_, json)) = files.iter().find(|(name, _)| name == "tokenizer.json") {
            hasher.update(json);
        }
        for id in end_of_text {
            hasher.update(&id.to_le_bytes());
        }
        Ok(Self {
            inner: Arc::new(tokenizer),
            ends: Ends {
                turn: end_of_text.first().map(|&id| (id, EndSource::Config)),
                all: end_of_text.to_vec(),
            },
            vocab_size,
            hash: hasher.finalize().to_hex().to_string(),
            chat_template: None,
            files: Arc::new(files),
        })
    }

    /// The ids of a text that others follow, with the special tokens this tokenizer adds.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        self.encode(text, true)
    }

    /// The ids of a text that follows another, without special tokens.
    pub fn encode_completion(&self, text: &str) -> Result<Vec<u32>> {
        self.encode(text, false)
    }

    /// The ids of a text that continues another: nothing is put in front of it.
    pub fn encode_continuation(&self, text: &str) -> Result<Vec<u32>> {
        self.encode(text, false)
    }

    /// Ids that stand in front of every text.
    pub fn front(&self) -> &[u32] {
        &[]
    }

    /// A special token by its name in tokenizer_config.json, `eos_token`.
    pub fn special(&self, _: &str) -> Option<(&str, u32)> {
        None
    }

    /// Whether an id is of a special token.
    pub fn is_special(&self, _: u32) -> bool {
        false
    }

    /// A token as the vocabulary writes it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The text of ids, special tokens kept.
    pub fn decode_all(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, false).map_err(failed("decode ids"))
    }

    /// The text that `ids` add after `before`.
    pub fn decode_after(&self, _: &[u32], ids: &[u32]) -> Result<String> {
        self.decode(ids)
    }

    /// What of tokenizer_config.json could not be honoured.
    pub fn warnings(&self) -> &[String] {
        &[]
    }

    fn encode(&self, text: &str, add_special_tokens: bool) -> Result<Vec<u32>> {
        let encoding =
            self.inner.encode_fast(text, add_special_tokens).map_err(failed("encode a text"))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of ids, special tokens skipped.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, true).map_err(failed("decode ids"))
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

    /// What makes a text of a conversation, where the model has it.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// A hash of tokenizer.json and the end-of-text tokens, in hexadecimal.
    pub fn content_hash(&self) -> &str {
        &self.hash
    }

    /// Writes tokenizer.json and its companions into `folder`, byte for byte as they were read.
    pub fn save(&self, folder: &Path) -> Result<()> {
        self.files.iter().try_for_each(|(name, content)| {
            write_atomic(&folder.join(name), |writer| writer.write_all(content))
        })
    }
}

fn failed(action: &'static str) -> impl Fn(tokenizers::Error) -> Error {
    move |error| {
        let error = error.to_string().replace('\n', " ");
        Error::usage(format!("the tokenizer cannot {action}: {error}; check its tokenizer.json"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tokenizers::models::wordlevel::WordLevel;
    use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
    use tokenizers::processors::template::TemplateProcessing;
    use tokenizers::{AddedToken, PaddingParams, TruncationParams};

    use super::*;

    /// The end-of-text token of [`words`].
    pub const END: u32 = 1;

    /// `<s>` 0, `</s>` 1, `?` 2 and the letters `a` to `z` from 3 on; `<s>` in front of prompts.
    pub fn words() -> Tokenizer {
        Tokenizer::from_tokenizer(inner(), &[END]).unwrap()
    }

    fn inner() -> tokenizers::Tokenizer {
        let special = ["<s>", "</s>", "?"].map(str::to_owned);
        let letters = ('a'..='z').map(String::from);
        let vocab = special.into_iter().chain(letters).zip(0..).collect();
        let model = WordLevel::builder().vocab(vocab).unk_token("?".to_owned()).build().unwrap();
        let mut tokenizer = tokenizers::Tokenizer::new(model);
        let template = TemplateProcessing::builder()
            .try_single("<s> $A")
            .unwrap()
            .special_tokens(vec![("<s>", 0)])
            .build()
            .unwrap();
        tokenizer.with_pre_tokenizer(Some(WhitespaceSplit)).with_post_processor(Some(template));
        tokenizer
            .add_special_tokens(&[AddedToken::from("<s>", true), AddedToken::from("</s>", true)]);
        tokenizer
    }

    #[test]
    fn only_prompts_get_special_tokens() {
        let tokenizer = words();
        assert_eq!(tokenizer.encode_prompt("a b").unwrap(), [0, 3, 4]);
        assert_eq!(tokenizer.encode_prompt("").unwrap(), [0]);
        assert_eq!(tokenizer.encode_completion("c").unwrap(), [5]);
        assert_eq!(tokenizer.decode(&[0, 3, 4, 1]).unwrap(), "a b");
        assert_eq!(tokenizer.vocab_size(), 29);
        assert_eq!(tokenizer.end_of_text(), Some(END));
    }

    #[test]
    fn truncation_and_padding_of_the_file_are_switched_off() {
        let mut cutting = inner();
        cutting
            .with_truncation(Some(TruncationParams { max_length: 2, ..Default::default() }))
            .unwrap();
        cutting.with_padding(Some(PaddingParams::default()));
        let folder = tempfile::tempdir().unwrap();
        cutting.save(folder.path().join("tokenizer.json"), false).unwrap();
        let tokenizer = Tokenizer::from_folder(folder.path(), &[END]).unwrap();
        assert_eq!(tokenizer.encode_completion("a b c d").unwrap(), [3, 4, 5, 6]);
    }

    #[test]
    fn saving_copies_tokenizer_and_companions_byte_for_byte() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        inner().save(from.path().join("tokenizer.json"), true).unwrap();
        for name in ["generation_config.json", "chat_template.jinja", "config.json"] {
            std::fs::write(from.path().join(name), format!("{name} \n\t")).unwrap();
        }
        let tokenizer = Tokenizer::from_folder(from.path(), &[END]).unwrap();
        tokenizer.save(to.path()).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(to.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["chat_template.jinja", "generation_config.json", "tokenizer.json"]);
        for name in names {
            let read = |folder: &Path| std::fs::read(folder.join(&name)).unwrap();
            assert_eq!(read(from.path()), read(to.path()), "{name}");
        }
        let again = Tokenizer::from_folder(to.path(), &[END]).unwrap();
        assert_eq!(again.content_hash(), tokenizer.content_hash());
        let ended = Tokenizer::from_folder(to.path(), &[2]).unwrap();
        assert_ne!(ended.content_hash(), tokenizer.content_hash());
    }

    #[test]
    fn a_folder_without_a_tokenizer_is_named() {
        let error = Tokenizer::from_folder(Path::new("nowhere"), &[]).unwrap_err();
        insta::assert_snapshot!(error, @"nowhere/tokenizer.json: cannot read: No such file or directory (os error 2)");
    }

    /// Runs where EXALIGN_DATA names a folder with `tokenizers/gpt2.json.gz` and
    /// `tokenizers/gpt-neox-20b.json.gz`; the ids are those of the published tokenizers.
    #[test]
    fn published_tokenizers_give_their_published_ids() {
        let Some(data) = std::env::var_os("EXALIGN_DATA") else {
            eprintln!("skipped: EXALIGN_DATA does not name a folder with published tokenizers");
            return;
        };
        let cases: [(&str, [u32; 2], u32, usize); 2] =
            [("gpt2", [15496, 995], 50256, 50257), ("gpt-neox-20b", [12092, 1533], 0, 50277)];
        for (name, ids, end_of_text, vocab_size) in cases {
            let path = Path::new(&data).join(format!("tokenizers/{name}.json.gz"));
            let file = std::fs::File::open(path).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let mut json = std::fs::File::create(folder.path().join("tokenizer.json")).unwrap();
            std::io::copy(&mut flate2::read::GzDecoder::new(file), &mut json).unwrap();

            let tokenizer = Tokenizer::from_folder(folder.path(), &[end_of_text]).unwrap();
            assert_eq!(tokenizer.encode_prompt("Hello world").unwrap(), ids);
            assert_eq!(tokenizer.encode_completion("<|endoftext|>").unwrap(), [end_of_text]);
            assert_eq!(tokenizer.vocab_size(), vocab_size);
            let text = "A café’s\n\n  tab\tand 漢字 🙂.";
            let encoded = tokenizer.encode_completion(text).unwrap();
            assert_eq!(tokenizer.decode(&encoded).unwrap(), text);
        }
    }
}
