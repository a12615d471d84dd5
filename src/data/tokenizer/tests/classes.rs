//! Settings of tokenizer_config.json and other files, and the ids they lead to. The expected ids are those of
//! transformers 4.57.6 (`AutoTokenizer.from_pretrained(folder)(text)`, sentencepiece installed), without an
//! end token at the end.

use super::*;

const BYTES: &str = "the cat<|endoftext|>cat</s>x";
const PIECES: &str = "the cat</s>cat<pad> x";

/// The tokenizer of a folder with these files; the first is tokenizer_config.json.
fn read(config: &Value, files: &[(&str, String)]) -> Tokenizer {
    let config = config.to_string();
    let mut all: Vec<(&str, &[u8])> = vec![("tokenizer_config.json", config.as_bytes())];
    all.extend(files.iter().map(|(name, content)| (*name, content.as_bytes())));
    Tokenizer::from_folder(folder(&all).path(), &[0]).unwrap()
}

fn on_bytes(config: &Value, blank: bool) -> Tokenizer {
    read(config, &[("tokenizer.json", byte_level(&byte_level_step(blank)).to_string())])
}

fn on_pieces(config: &Value, files: &[(&str, String)]) -> Tokenizer {
    read(config, &[files, &[("tokenizer.json", llama_like().to_string())]].concat())
}

/// The ids of a prompt, of a tokenizer that tells nothing but an end token that it leaves away.
fn ids(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let warnings = tokenizer.warnings();
    assert!(warnings.iter().all(|it| it.contains("ends every text in")), "{warnings:?}");
    tokenizer.encode_prompt(text).unwrap()
}

#[test]
fn a_byte_level_tokenizer_follows_its_class() {
    let plain = [117, 258, 33, 261, 0, 261, 61, 48, 116, 63, 121];
    let begun = [&[0], &plain[..]].concat();
    let gpt2 = json!({"tokenizer_class": "GPT2Tokenizer"});
    assert_eq!(ids(&on_bytes(&gpt2, false), BYTES), plain);
    // The settings are silent, so the blank that tokenizer.json asks for is not put in front.
    assert_eq!(ids(&on_bytes(&gpt2, true), BYTES), plain);
    let blank = json!({"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": true});
    assert_eq!(
        ids(&on_bytes(&blank, false), BYTES),
        [259, 33, 261, 0, 33, 261, 61, 48, 116, 63, 121]
    );
    // GPT-2's class keeps the post-processor it finds, GPT-NeoX's and Llama's make it anew.
    let begin = json!({"tokenizer_class": "GPT2Tokenizer", "add_bos_token": true});
    assert_eq!(ids(&on_bytes(&begin, false), BYTES), plain);
    let begin = json!({"tokenizer_class": "GPTNeoXTokenizer", "add_bos_token": true});
    assert_eq!(ids(&on_bytes(&begin, false), BYTES), begun);
    let llama = json!({
        "tokenizer_class": "LlamaTokenizerFast", "bos_token": "<|endoftext|>",
        "eos_token": "<|endoftext|>", "unk_token": null,
    });
    assert_eq!(ids(&on_bytes(&llama, false), BYTES), begun);
    let named = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": true,
        "bos_token": "<|endoftext|>",
    });
    assert_eq!(ids(&on_bytes(&named, false), BYTES), plain);
    // Special tokens that the vocabulary lacks get the next ids, in the order of their names.
    let added = json!({
        "tokenizer_class": "GPT2Tokenizer", "eos_token": "</s>",
        "pad_token": {"__type": "AddedToken", "content": "<pad>"},
    });
    let added = on_bytes(&added, false);
    assert_eq!(ids(&added, BYTES), [117, 258, 33, 261, 0, 261, 262, 121]);
    assert_eq!(added.special("eos_token"), Some(("</s>", 262)));
    assert_eq!(added.special("pad_token"), Some(("<pad>", 263)));
    assert_eq!(added.special("bos_token"), Some(("<|endoftext|>", 0)));
    assert_eq!(added.special("mask_token"), None);
    assert!(added.is_special(262) && !added.is_special(261));
    assert_eq!(added.token(259).as_deref(), Some("Ġthe"));
    let split = json!({"tokenizer_class": "Qwen2Tokenizer", "split_special_tokens": true});
    assert_eq!(
        ids(&on_bytes(&split, false), "a<|endoftext|>"),
        [98, 61, 125, 102, 111, 101, 112, 103, 117, 102, 121, 117, 125, 63]
    );
}

#[test]
fn where_no_class_is_named_the_models_type_decides() {
    let config = json!({"add_bos_token": true, "add_eos_token": true});
    let files = |model: &str| {
        let tokenizer = byte_level(&byte_level_step(false)).to_string();
        [("tokenizer.json", tokenizer), ("config.json", json!({"model_type": model}).to_string())]
    };
    let neox = read(&config, &files("gpt_neox"));
    assert_eq!(ids(&neox, BYTES), [0, 117, 258, 33, 261, 0, 261, 61, 48, 116, 63, 121]);
    assert_eq!(neox.front(), [0]);
    let gpt2 = read(&config, &files("gpt2"));
    assert_eq!(ids(&gpt2, BYTES), [117, 258, 33, 261, 0, 261, 61, 48, 116, 63, 121]);
    assert!(gpt2.front().is_empty());
}

#[test]
fn a_tokenizer_of_pieces_follows_llamas_class() {
    let llama = |more: Value| {
        let mut config = json!({"tokenizer_class": "LlamaTokenizer"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        on_pieces(&config, &[])
    };
    let text = [288, 291, 2, 291, 63, 275, 260, 263, 65, 259, 283];
    let begun = [&[1], &text[..]].concat();
    assert_eq!(ids(&llama(json!({})), PIECES), begun);
    let ended = llama(json!({"add_bos_token": false, "add_eos_token": true}));
    assert_eq!(ids(&ended, PIECES), text);
    insta::assert_snapshot!(
        ended.warnings()[0],
        @"tokenizer_config.json: `add_eos_token` ends every text in </s> (2); a prompt is read without it, because its completion follows"
    );
    let unnamed = llama(json!({"bos_token": null, "add_bos_token": false}));
    assert_eq!(ids(&unnamed, PIECES), text);
    assert_eq!(unnamed.special("bos_token"), None);
    assert_eq!(
        ids(&llama(json!({"pad_token": "<pad>"})), PIECES),
        [1, 288, 291, 2, 291, 292, 259, 259, 283]
    );
    // How an added token is matched is the settings' to say.
    let token = |content: &str, lstrip: bool, special: bool| {
        json!({"content": content, "lstrip": lstrip, "rstrip": true, "normalized": false,
               "single_word": false, "special": special})
    };
    let matched = llama(json!({"pad_token": "<pad>", "added_tokens_decoder": {
        "2": token("</s>", true, true), "292": token("<pad>", false, false),
    }}));
    assert_eq!(ids(&matched, "the cat </s> cat<pad>  x"), [1, 288, 291, 2, 291, 292, 259, 283]);
}

#[test]
fn older_files_of_special_tokens_are_read() {
    let map = json!({"bos_token": "</s>", "pad_token": {
        "content": "<pad>", "lstrip": true, "rstrip": false, "normalized": false,
        "single_word": false,
    }});
    let files = [
        ("special_tokens_map.json", map.to_string()),
        ("added_tokens.json", json!({"<pad>": 292}).to_string()),
    ];
    let tokenizer = on_pieces(&json!({"tokenizer_class": "LlamaTokenizer"}), &files);
    assert_eq!(ids(&tokenizer, PIECES), [2, 288, 291, 2, 291, 292, 259, 259, 283]);
    let further = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": ["cat"],
        "extra_special_tokens": {"image_token": "x"},
    });
    assert_eq!(
        ids(&on_pieces(&further, &[]), PIECES),
        [1, 288, 259, 290, 2, 290, 259, 63, 275, 260, 263, 65, 259, 283]
    );
    let code = json!({"tokenizer_class": "CodeLlamaTokenizer", "add_eos_token": true});
    assert_eq!(ids(&on_pieces(&code, &[]), "the▁<PRE>cat"), [1, 288, 292, 291]);
}

#[test]
fn vocab_and_merges_are_read_as_the_class_reads_them() {
    let lines: Vec<String> = BYTE_LEVEL_MERGES.iter().map(|parts| parts.join(" ")).collect();
    let merges = format!("#version: 0.2\n{}", lines.join("\n"));
    let read = |config: Value, merges: String, more: &[(&str, String)]| {
        let files = [("vocab.json", byte_level_vocab().to_string()), ("merges.txt", merges)];
        read(&config, &[&files, more].concat())
    };
    let text = " the cat<|im_end|>e\u{301}";
    let gpt2 = read(json!({"tokenizer_class": "GPT2Tokenizer"}), format!("{merges}\n"), &[]);
    let end = [61, 125, 106, 110, 96, 102, 111, 101, 125, 63, 102, 205, 130];
    assert_eq!(ids(&gpt2, text), [&[259, 33, 261], &end[..]].concat());
    // GPT-2's class passes over what stands behind the last line end: here the last merge.
    let config = [("config.json", json!({"model_type": "gpt2"}).to_string())];
    let cut = read(json!({}), merges.clone(), &config);
    assert_eq!(ids(&cut, text), [&[259, 33, 260, 117], &end[..]].concat());
    let begin = json!({
        "tokenizer_class": "GPT2Tokenizer", "add_bos_token": true, "bos_token": "<b>",
        "add_prefix_space": true,
    });
    assert_eq!(ids(&read(begin, format!("{merges}\r\n"), &[]), "the"), [262, 259]);
    let qwen2 = json!({"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>"});
    assert_eq!(ids(&read(qwen2, merges.clone(), &[]), text), [259, 33, 261, 262, 196, 170]);

    // What was read is saved as tokenizer.json and read again as the same.
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    gpt2.save(from.path()).unwrap();
    let again = Tokenizer::from_folder(from.path(), &[0]).unwrap();
    again.save(to.path()).unwrap();
    assert_eq!(ids(&again, text), ids(&gpt2, text));
    assert_eq!(again.content_hash(), gpt2.content_hash());
    assert!(to.path().join("tokenizer.json").is_file());
}

#[test]
fn what_no_class_reads_is_refused_by_name() {
    let error = |files: &[(&str, &[u8])]| {
        let folder = folder(files);
        assert!(Tokenizer::is_at(folder.path()));
        let error = Tokenizer::from_folder(folder.path(), &[]).unwrap_err().to_string();
        error.replace(&folder.path().display().to_string(), "M")
    };
    insta::assert_snapshot!(
        error(&[("vocab.json", b"{}"), ("merges.txt", b""), ("config.json", b"{\"model_type\": \"llama\"}")]),
        @"M/tokenizer.json: expected this file, found vocab.json and merges.txt, which LlamaTokenizer does not read; save one with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER); for GPT-2's and Qwen2's set `tokenizer_class` in tokenizer_config.json to GPT2Tokenizer or Qwen2Tokenizer"
    );
    insta::assert_snapshot!(
        error(&[("vocab.txt", b"[UNK]\n")]),
        @"M/tokenizer.json: expected a tokenizer of BPE or unigram, found vocab.txt, which is a WordPiece vocabulary as BERT has it; no model that is read here has such a tokenizer"
    );
    let word_piece = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "?", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": {"?": 0}},
    });
    insta::assert_snapshot!(
        error(&[("tokenizer.json", word_piece.to_string().as_bytes())]),
        @"M/tokenizer.json: expected a tokenizer of BPE or unigram, found WordPiece, as BERT has it; no model that is read here has such a tokenizer"
    );
    insta::assert_snapshot!(
        error(&[("vocab.json", b"{\"a\": 0}"), ("merges.txt", b"#version\na b c\n"),
                ("tokenizer_config.json", b"{\"tokenizer_class\": \"GPT2Tokenizer\"}")]),
        @r#"M/merges.txt: line 2: expected two tokens, found "a b c"; copy the file anew"#
    );
}

#[test]
fn settings_that_are_not_followed_are_told() {
    let warned = |config: Value| {
        let warnings = on_pieces(&config, &[]).warnings().to_vec();
        let named = warnings.iter().all(|it| it.starts_with("tokenizer_config.json: `"));
        assert!(named, "{warnings:?}");
        warnings.len()
    };
    assert_eq!(warned(json!({"tokenizer_class": "PreTrainedTokenizerFast"})), 0);
    assert_eq!(warned(json!({"tokenizer_class": "TokenizersBackend"})), 0);
    assert_eq!(warned(json!({"tokenizer_class": "LlamaTokenizer", "bos_token": null})), 1);
    assert_eq!(warned(json!({"tokenizer_class": "LlamaTokenizer", "add_prefix_space": true})), 1);
    assert_eq!(warned(json!({"fix_mistral_regex": true, "tokenizer_file": "elsewhere.json"})), 2);
    let unknown = on_pieces(&json!({"tokenizer_class": "T5Tokenizer"}), &[]);
    insta::assert_snapshot!(
        unknown.warnings()[0],
        @"tokenizer_config.json: the rules of `tokenizer_class` T5Tokenizer are not known here; the ids are those of the tokenizer as its files describe it, without what that class changes"
    );
}
