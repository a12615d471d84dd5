//! Tests of the ids and texts of a folder's tokenizer.

mod classes;
mod patterns;
mod pieces;
mod seam;

use serde_json::{Value, json};
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, PaddingParams, TruncationParams};

use super::*;
use crate::skipped::or_skip;

/// The end-of-text token of [`words`].
pub const END: u32 = 1;

/// `<s>` 0, `</s>` 1, `?` 2 and the letters `a` to `z` from 3 on; `<s>` in front of prompts.
pub fn words() -> Tokenizer {
    Tokenizer::from_tokenizer(inner(), &[END]).unwrap()
}

#[test]
fn tokenizers_differ_where_an_id_of_both_is_another_token() {
    let letters = |letters: &str, added: &[&str]| {
        let vocab = letters.chars().map(String::from).zip(0..).collect();
        let model = WordLevel::builder().vocab(vocab).unk_token("a".to_owned()).build().unwrap();
        let mut tokenizer = tokenizers::Tokenizer::new(model);
        let added: Vec<AddedToken> = added.iter().map(|&it| AddedToken::from(it, true)).collect();
        tokenizer.add_special_tokens(&added);
        Tokenizer::from_tokenizer(tokenizer, &[]).unwrap()
    };
    let own = letters("abc", &["<end>"]);
    let differs = |other: &Tokenizer| [own.first_difference(other), other.first_difference(&own)];
    let [found, back] = differs(&letters("acb", &["<end>"]));
    assert_eq!(found, Some((1, "b".to_owned(), "c".to_owned())));
    assert_eq!(back, Some((1, "c".to_owned(), "b".to_owned())));
    for same in
        [("abc", &["<end>"][..]), ("abcde", &[]), ("abc", &["<stop>", "<more>"]), ("ab", &[])]
    {
        assert_eq!(differs(&letters(same.0, same.1)), [None, None], "{same:?}");
    }
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
    tokenizer.add_special_tokens(&[AddedToken::from("<s>", true), AddedToken::from("</s>", true)]);
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

/// A folder with these files.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    folder
}

/// A byte-level BPE: `<|endoftext|>` 0, the bytes from 1 on, five merges from 257 on.
fn byte_level(pre_tokenizer: &Value) -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<|endoftext|>")],
        "normalizer": null, "pre_tokenizer": pre_tokenizer, "post_processor": null,
        "decoder": byte_level_step(true),
        "model": {"type": "BPE", "vocab": byte_level_vocab(), "merges": BYTE_LEVEL_MERGES},
    })
}

const BYTE_LEVEL_MERGES: [[&str; 2]; 5] =
    [["Ġ", "t"], ["h", "e"], ["Ġt", "he"], ["c", "a"], ["ca", "t"]];

fn byte_level_vocab() -> Value {
    let bytes = (0..=255u8).map(|byte| published::visible(&[byte]));
    let merged = BYTE_LEVEL_MERGES.iter().map(|parts| parts.concat());
    let tokens = ["<|endoftext|>".to_owned()].into_iter().chain(bytes).chain(merged);
    Value::Object(tokens.zip(0..).map(|(token, id): (_, u32)| (token, json!(id))).collect())
}

fn byte_level_step(blank: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": blank, "trim_offsets": true, "use_regex": true})
}

/// A BPE as Llama 2 has it: `<unk>`, `<s>`, `</s>`, the bytes from 3 on, ▁ and the letters from 259
/// on, six merges from 286 on; ▁ is put before every text, `<s>` before that.
fn llama_like() -> Value {
    let merges = [["▁", "t"], ["h", "e"], ["▁t", "he"], ["c", "a"], ["ca", "t"], ["▁", "cat"]];
    let tokens = ["<unk>", "<s>", "</s>"].into_iter().map(str::to_owned);
    let tokens = tokens.chain((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    let tokens = tokens.chain("▁abcdefghijklmnopqrstuvwxyz".chars().map(String::from));
    let tokens = tokens.chain(merges.iter().map(|parts| parts.concat()));
    let vocab: serde_json::Map<_, _> =
        tokens.zip(0..).map(|(token, id): (_, u32)| (token, json!(id))).collect();
    let front = json!([{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]);
    let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [special(0, "<unk>"), special(1, "<s>"), special(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")]},
        "pre_tokenizer": null,
        "post_processor": {
            "type": "TemplateProcessing", "single": front, "pair": front.clone(),
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "Sequence", "decoders": [
            replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {
            "type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
            "vocab": vocab, "merges": merges,
        },
    })
}

fn special(id: u32, content: &str) -> Value {
    json!({
        "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true,
    })
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
    assert_eq!(tokenizer.front(), [0]);
    assert!(tokenizer.warnings().is_empty(), "{:?}", tokenizer.warnings());
}

#[test]
fn saving_copies_tokenizer_and_companions_byte_for_byte() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    inner().save(from.path().join("tokenizer.json"), true).unwrap();
    std::fs::create_dir(from.path().join("additional_chat_templates")).unwrap();
    let further = "additional_chat_templates/tool_use.jinja";
    for name in ["generation_config.json", "chat_template.jinja", further] {
        std::fs::write(from.path().join(name), format!("{name} \n\t")).unwrap();
    }
    std::fs::write(from.path().join("config.json"), "{} \n\t").unwrap();
    let tokenizer = Tokenizer::from_folder(from.path(), &[END]).unwrap();
    tokenizer.save(to.path()).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(to.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let all = ["additional_chat_templates", "chat_template.jinja", "generation_config.json"];
    assert_eq!(names, [&all[..], &["tokenizer.json"]].concat());
    names[0] = further.to_owned();
    for name in names {
        let read = |folder: &Path| std::fs::read(folder.join(&name)).unwrap();
        assert_eq!(read(from.path()), read(to.path()), "{name}");
    }
    let again = Tokenizer::from_folder(to.path(), &[END]).unwrap();
    assert_eq!(again.content_hash(), tokenizer.content_hash());
    let ended = Tokenizer::from_folder(to.path(), &[2]).unwrap();
    assert_ne!(ended.content_hash(), tokenizer.content_hash());
    for name in ["generation_config.json", "chat_template.jinja", further] {
        let path = to.path().join(name);
        let old = std::fs::read(&path).unwrap();
        std::fs::write(&path, "other").unwrap();
        let other = Tokenizer::from_folder(to.path(), &[END]).unwrap();
        assert_ne!(other.content_hash(), tokenizer.content_hash(), "{name}");
        std::fs::write(&path, old).unwrap();
    }
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
    let data = std::env::var_os("EXALIGN_DATA");
    let Some(data) = or_skip(data, "EXALIGN_DATA names no folder with published tokenizers") else {
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
