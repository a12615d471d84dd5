use super::*;
use crate::data::Tokenizer;

/// Trained by sentencepiece 0.2 on sentences of our own, scores rounded.
const BPE: &[u8] = include_bytes!("bpe.model");
const UNIGRAM: &[u8] = include_bytes!("unigram.model");
/// Ranks of our own.
const RANKS: &[u8] = include_bytes!("tiktoken.model");

fn tokenizer(model: &[u8], config: Value) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), model).unwrap();
    std::fs::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    Tokenizer::from_folder(folder.path(), &[2]).unwrap()
}

#[test]
fn a_sentencepiece_bpe_gives_the_ids_of_sentencepiece() {
    let tokenizer = tokenizer(BPE, json!({}));
    let expected: [(&str, &[u32]); 9] = [
        ("the miller", &[267, 287]),
        ("the  old   mill", &[267, 329, 329, 321, 329, 329, 268]),
        (" leading", &[329, 283, 314, 275]),
        ("trailing ", &[262, 333, 289, 331, 275, 329]),
        (
            "Zebra 漢字 ü 🙂",
            &[
                329, 93, 330, 348, 333, 336, 329, 233, 191, 165, 232, 176, 154, 329, 198, 191, 329,
                243, 162, 156, 133,
            ],
        ),
        ("a\nb\tc", &[260, 13, 348, 12, 349]),
        ("ll", &[329, 261]),
        ("numbers 12345", &[273, 323, 317, 305, 354, 355, 347, 344]),
        ("it said: \"nothing\" at all", &[327, 274, 311, 61, 329, 37, 334, 322, 275, 37, 325, 286]),
    ];
    for (text, ids) in expected {
        assert_eq!(tokenizer.encode_completion(text).unwrap(), ids, "{text:?}");
        assert_eq!(tokenizer.decode(ids).unwrap(), text);
    }
}

#[test]
fn a_sentencepiece_unigram_gives_the_ids_of_sentencepiece() {
    let tokenizer = tokenizer(UNIGRAM, json!({}));
    let expected: [(&str, &[u32]); 5] = [
        ("the miller", &[265, 284]),
        ("the  old   mill", &[265, 259, 259, 282, 259, 259, 271]),
        (" leading", &[259, 259, 309, 285, 260, 272]),
        ("a\nb\tc", &[262, 13, 277, 12, 281]),
        ("numbers 12345", &[275, 280, 294, 277, 305, 263, 259, 295, 296, 297, 276, 292]),
    ];
    for (text, ids) in expected {
        assert_eq!(tokenizer.encode_completion(text).unwrap(), ids, "{text:?}");
        assert_eq!(tokenizer.decode(ids).unwrap(), text);
    }
}

#[test]
fn ranks_give_the_ids_of_tiktoken() {
    let tokenizer = tokenizer(RANKS, json!({}));
    let expected: [(&str, &[u32]); 6] = [
        ("the miller", &[257, 266]),
        (
            "Thinking  about    mills",
            &[84, 104, 259, 107, 260, 32, 261, 98, 111, 117, 116, 270, 32, 32, 109, 105, 264, 115],
        ),
        ("12345 isn't", &[268, 52, 53, 32, 105, 115, 110, 39, 116]),
        ("é漢🙂\n\n\nx", &[272, 230, 188, 162, 240, 159, 153, 130, 269, 10, 120]),
        ("  lead", &[32, 32, 108, 101, 97, 100]),
        ("a\tb", &[97, 9, 98]),
    ];
    for (text, ids) in expected {
        assert_eq!(tokenizer.encode_completion(text).unwrap(), ids, "{text:?}");
        assert_eq!(tokenizer.decode(ids).unwrap(), text);
    }
}

#[test]
fn prompts_of_chatglm_begin_with_its_two_tokens() {
    let chatglm = tokenizer(BPE, json!({ "tokenizer_class": "ChatGLMTokenizer" }));
    // Behind the 360 pieces: [MASK], [gMASK], [sMASK], sop, eop.
    assert_eq!(chatglm.encode_prompt("the miller").unwrap(), [361, 363, 267, 287]);
    assert_eq!(chatglm.encode_completion("the miller").unwrap(), [267, 287]);
    // Behind the 276 ranks.
    let listed = json!({ "added_tokens_decoder": {
        "276": { "content": "[gMASK]" }, "277": { "content": "<sop>" },
    } });
    let glm = tokenizer(RANKS, listed);
    assert_eq!(glm.encode_prompt("").unwrap(), [276, 277]);
}

#[test]
fn a_file_that_is_neither_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(FILE), b"\xff\xfe no model").unwrap();
    let error = Tokenizer::from_folder(folder.path(), &[]).unwrap_err().to_string();
    assert!(error.contains("expected a sentencepiece model"), "{error}");
}

/// The ids are those of transformers 4.57.6 with sentencepiece installed.
#[test]
fn llamas_class_reads_a_sentencepiece_model_by_its_settings() {
    let read = |model: &[u8], more: Value| {
        let mut config = json!({"tokenizer_class": "LlamaTokenizer"});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        tokenizer(model, config).encode_prompt(" the miller</s>the  old").unwrap()
    };
    let cases: [(Value, &[u32], &[u32]); 4] = [
        (
            json!({"legacy": true}),
            &[1, 329, 267, 287, 2, 267, 329, 329, 321],
            &[1, 259, 265, 284, 2, 265, 259, 259, 282],
        ),
        (
            json!({"legacy": false}),
            &[1, 267, 287, 2, 335, 263, 329, 329, 321],
            &[1, 265, 284, 2, 264, 304, 259, 259, 282],
        ),
        (
            json!({"add_prefix_space": false}),
            &[1, 267, 287, 2, 335, 263, 329, 329, 321],
            &[1, 265, 284, 2, 264, 304, 259, 259, 282],
        ),
        (
            json!({"add_prefix_space": null}),
            &[1, 267, 287, 2, 335, 263, 329, 329, 321],
            &[1, 265, 284, 2, 264, 304, 259, 259, 282],
        ),
    ];
    for (config, bpe, unigram) in cases {
        assert_eq!(read(BPE, config.clone()), bpe, "{config}");
        assert_eq!(read(UNIGRAM, config.clone()), unigram, "{config}");
    }
}

#[test]
fn a_setting_of_the_blank_makes_llamas_tokenizer_anew() {
    let config = json!({"tokenizer_class": "LlamaTokenizer", "add_prefix_space": false});
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| std::fs::write(folder.path().join(name), content);
    write(FILE, BPE).unwrap();
    write("tokenizer_config.json", b"{\"tokenizer_class\": \"LlamaTokenizer\"}").unwrap();
    Tokenizer::from_folder(folder.path(), &[2]).unwrap().save(folder.path()).unwrap();
    let ids = || {
        let tokenizer = Tokenizer::from_folder(folder.path(), &[2]).unwrap();
        assert!(tokenizer.warnings().is_empty());
        tokenizer.encode_prompt(" the miller").unwrap()
    };
    assert_eq!(ids(), [1, 329, 267, 287]);
    write("tokenizer_config.json", config.to_string().as_bytes()).unwrap();
    assert_eq!(ids(), [1, 267, 287]);
}
