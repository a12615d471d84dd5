//! Tokenizers: tokenizer.json and what stands beside it.

use std::path::Path;

use exalign::data::Tokenizer;
use serde_json::{Map, Value, json};

use super::mutation::try_all;

fn byte_level() -> Value {
    let visible = |byte: u8| match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
        _ => char::from_u32(256 + u32::from(byte)).unwrap(),
    };
    let bytes = (0..=255).map(|byte| visible(byte).to_string());
    let tokens =
        ["<|end|>".to_owned()].into_iter().chain(bytes).chain(["he".to_owned(), "the".to_owned()]);
    let vocab: Map<String, Value> = tokens.zip(0..).map(|(it, id)| (it, json!(id))).collect();
    let step = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": {"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0},
        "padding": null,
        "added_tokens": [{"id": 0, "content": "<|end|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Replace", "pattern": {"Regex": "a+"}, "content": "b"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "\\p{N}{1,3}"}, "behavior": "Isolated", "invert": false}, step.clone()]},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<|end|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<|end|>": {"id": "<|end|>", "ids": [0], "tokens": ["<|end|>"]}}},
        "decoder": step,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": [["h", "e"], ["t", "he"]]},
    })
}

fn unigram() -> Value {
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [{"id": 0, "content": "<unk>", "single_word": false, "lstrip": true, "rstrip": true,
            "normalized": true, "special": true}],
        "normalizer": {"type": "Prepend", "prepend": "▁"},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["▁", -2.5], ["a", -3.0], ["▁the", -1.25], ["b", -7.125]]},
    })
}

fn settings() -> Value {
    json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "bos_token": {"content": "<|end|>"},
        "added_tokens_decoder": {"0": {"content": "<|end|>", "special": true}, "300": {"content": "<new>"}},
        "additional_special_tokens": ["<new>"], "model_max_length": 1000, "add_bos_token": true,
        "chat_template": "{% for m in messages %}{{ m.role }}: {{ m['content'] }}\n{% endfor %}",
    })
}

const FILES: [&str; 5] = [
    "tokenizer.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
];

fn seeds() -> Vec<Vec<u8>> {
    let map =
        json!({"eos_token": {"content": "<|end|>", "normalized": false}, "pad_token": "<|end|>"});
    let added = json!({"<more>": 400, "<|end|>": 0});
    [byte_level(), unigram(), settings(), map, added].map(|it| it.to_string().into_bytes()).into()
}

fn read(folder: &Path) {
    let Ok(tokenizer) = Tokenizer::from_folder(folder, &[0]) else { return };
    for text in ["", "the cat <|end|> 12345", " é\u{301}\n\n中文 \0 <new>"] {
        let ids = tokenizer.encode_prompt(text).unwrap_or_default();
        let _ = tokenizer.encode_completion(text);
        let _ = tokenizer.encode_continuation(text);
        let _ = tokenizer.decode(&ids);
        let _ = tokenizer.decode_after(&ids, &[0, 1, 300, u32::MAX]);
    }
    let _ = (tokenizer.token(u32::MAX), tokenizer.is_special(7), tokenizer.vocab_size());
}

#[test]
fn tokenizers_are_read_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let seeds = seeds();
    try_all("tokenizer", 1000, &seeds, |seed, bytes| {
        for place in [0, 2, 3, 4] {
            std::fs::write(folder.path().join(FILES[place]), &seeds[place]).unwrap();
        }
        std::fs::write(folder.path().join(FILES[seed]), bytes).unwrap();
        read(folder.path());
    });
}

/// A sentencepiece model in its protocol buffers: pieces of text, score and type; the model's type.
fn sentencepiece(model_type: u8) -> Vec<u8> {
    let pieces = [
        ("<unk>", 2),
        ("<s>", 3),
        ("</s>", 3),
        ("▁", 1),
        ("a", 1),
        ("▁the", 1),
        ("b", 1),
        ("<0x0A>", 6),
    ];
    let mut out = Vec::new();
    for (number, (text, kind)) in pieces.into_iter().enumerate() {
        let mut piece = vec![0x0a, text.len() as u8];
        piece.extend(text.bytes());
        piece.push(0x15);
        piece.extend((-(number as f32)).to_le_bytes());
        piece.extend([0x18, kind]);
        out.extend([0x0a, piece.len() as u8]);
        out.extend(piece);
    }
    out.extend([0x12, 0x02, 0x18, model_type]);
    out
}

#[test]
fn tokenizers_of_older_forms_are_read_or_refused() {
    let forms: [&[(&str, Vec<u8>)]; 3] = [
        &[
            ("tokenizer.model", sentencepiece(1)),
            ("tokenizer_config.json", br#"{"tokenizer_class": "LlamaTokenizer"}"#.to_vec()),
        ],
        &[
            ("tokenizer.model", sentencepiece(2)),
            ("tokenizer_config.json", br#"{"tokenizer_class": "LlamaTokenizer"}"#.to_vec()),
        ],
        &[
            ("vocab.json", byte_level()["model"]["vocab"].to_string().into_bytes()),
            ("merges.txt", b"#version: 0.2\nh e\nt he\n".to_vec()),
            ("tokenizer_config.json", br#"{"tokenizer_class": "GPT2Tokenizer"}"#.to_vec()),
        ],
    ];
    let folders: Vec<_> = forms
        .iter()
        .map(|files| {
            let folder = tempfile::tempdir().unwrap();
            let write =
                |(name, bytes): &(&str, Vec<u8>)| std::fs::write(folder.path().join(name), bytes);
            files.iter().try_for_each(write).unwrap();
            assert!(Tokenizer::from_folder(folder.path(), &[0]).is_ok());
            folder
        })
        .collect();
    let files =
        forms.iter().enumerate().flat_map(|(form, files)| files.iter().map(move |it| (form, it)));
    let files: Vec<_> = files.collect();
    let seeds: Vec<_> = files.iter().map(|(_, (_, bytes))| bytes.clone()).collect();
    try_all("older-tokenizer", 300, &seeds, |seed, bytes| {
        let (form, (name, whole)) = files[seed];
        let path = folders[form].path().join(name);
        std::fs::write(&path, bytes).unwrap();
        read(folders[form].path());
        std::fs::write(&path, whole).unwrap();
    });
}

/// Changes that were found so, and others that stand for their kind.
#[test]
fn what_was_found_once_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let write = |json: &str| std::fs::write(folder.path().join("tokenizer.json"), json).unwrap();
    let whole = byte_level().to_string();
    for (from, to) in [
        (r#""decoder":{"type":"ByteLevel""#, r#""decoder":-Infinity,"x":{"type":"ByteLevel""#),
        (r#""ids":[0]"#, r#""ids":[4294967295]"#),
        (r#""the":258"#, r#""the":4294967295"#),
        (r#""the":258"#, r#""the":1000000000000000000"#),
        (r#"{"id":0,"content""#, r#"{"id":4294967295,"content""#),
        (r#""content":"<|end|>","single"#, r#""content":"","single"#),
        (r#"\\p{N}{1,3}"#, r#"(((((a*)*)*)*)*)*b"#),
        (r#"\\p{N}{1,3}"#, r#"a{1000}{1000}{1000}"#),
    ] {
        assert!(whole.contains(from), "{from}");
        write(&whole.replacen(from, to, 1));
        read(folder.path());
    }
    write(&format!(r#"{{"model": {}"#, "[".repeat(100_000)));
    read(folder.path());
}
