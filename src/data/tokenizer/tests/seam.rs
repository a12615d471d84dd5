//! Tests of the seam between a prompt and its completion.

use proptest::prelude::*;

use super::*;

pub(super) fn tokenizer(json: &Value) -> Tokenizer {
    let json = json.to_string();
    let folder = folder(&[("tokenizer.json", json.as_bytes())]);
    Tokenizer::from_folder(folder.path(), &[2]).unwrap()
}

/// [`llama_like`] with another way to put ▁ in front.
pub(super) fn metaspace(scheme: &str, split: bool) -> Value {
    let mut json = llama_like();
    json["normalizer"] = Value::Null;
    json["pre_tokenizer"] = json!({
        "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split,
    });
    json
}

/// All tokenizers here that lose nothing, and whether one takes a blank that a text begins with for
/// the one it puts there.
fn all() -> Vec<(bool, Tokenizer)> {
    let sequence = json!({"type": "Sequence", "pretokenizers": [byte_level_step(false)]});
    [
        (false, llama_like()),
        (true, metaspace("always", true)),
        (true, metaspace("first", false)),
        (false, byte_level(&byte_level_step(false))),
        (false, byte_level(&sequence)),
    ]
    .map(|(takes_a_blank, json)| (takes_a_blank, tokenizer(&json)))
    .to_vec()
}

#[test]
fn nothing_is_put_before_a_text_that_goes_on() {
    let llama = tokenizer(&llama_like());
    assert_eq!(llama.encode_prompt("the").unwrap(), [1, 288]);
    assert_eq!(llama.encode_completion("cat").unwrap(), [291]);
    assert_eq!(llama.encode_continuation("cat").unwrap(), [290]);
    assert_eq!(llama.encode_continuation(" cat").unwrap(), [291]);
    assert_eq!(llama.encode_continuation("\ncat").unwrap(), [13, 290]);
    let blank = tokenizer(&byte_level(&byte_level_step(true)));
    assert_eq!(blank.encode_completion("the").unwrap(), [259]);
    assert_eq!(blank.encode_continuation("the").unwrap(), [117, 258]);
}

/// A token that is looked for in the normalised text has no ▁ of its own either.
#[test]
fn an_added_token_keeps_the_blank_before_it() {
    let mut json = llama_like();
    let mut token = special(292, "new word");
    token["normalized"] = json!(true);
    json["added_tokens"].as_array_mut().unwrap().push(token);
    let llama = tokenizer(&json);
    let prompt = llama.encode_prompt("the").unwrap();
    for text in ["cat new word", "new word", " new word cat"] {
        let ids = [&prompt[..], &llama.encode_continuation(text).unwrap()].concat();
        assert_eq!(llama.decode_all(&ids).unwrap(), format!("<s> the{text}"));
    }
}

#[test]
fn a_prompt_never_ends_in_what_the_post_processor_adds() {
    let mut json = llama_like();
    let end = json!({"SpecialToken": {"id": "</s>", "type_id": 0}});
    json["post_processor"]["single"].as_array_mut().unwrap().push(end);
    json["post_processor"]["special_tokens"]["</s>"] =
        json!({"id": "</s>", "ids": [2], "tokens": ["</s>"]});
    let llama = tokenizer(&json);
    assert_eq!(llama.encode_prompt("the cat").unwrap(), [1, 288, 291]);
    assert_eq!(llama.encode_prompt("").unwrap(), [1]);
    assert_eq!(llama.encode_prompt("the</s>").unwrap(), [1, 288, 2]);
    assert_eq!(llama.front(), [1]);
}

#[test]
fn halves_of_a_letter_are_read_together() {
    let bytes = tokenizer(&byte_level(&byte_level_step(false)));
    // é is the bytes C3 A9.
    let (before, after) = (&[98, 0xc3 + 1][..], &[0xa9 + 1, 99][..]);
    assert_eq!(bytes.decode(before).unwrap(), "a\u{fffd}");
    assert_eq!(bytes.decode_after(before, after).unwrap(), "éb");
    let llama = tokenizer(&llama_like());
    assert_eq!(llama.decode_after(&[1, 288], &[291, 0xc3 + 3]).unwrap(), " cat\u{fffd}");
    assert_eq!(llama.decode_after(&[1, 288, 0xc3 + 3], &[0xa9 + 3, 2]).unwrap(), "é");
    assert_eq!(llama.decode_after(&[1], &[291]).unwrap(), "cat");
}

#[test]
fn bytes_that_are_no_letter_take_nothing_of_the_prompt_with_them() {
    let llama = tokenizer(&llama_like());
    let prompt = [&[1, 288][..], &[0xf0, 0x9f, 0x99, 0x82].map(|byte| byte + 3)].concat();
    assert_eq!(llama.decode(&prompt).unwrap(), "the🙂");
    // The decoder reads a run of bytes as a whole.
    let both = [&prompt[..], &[0xff + 3]].concat();
    assert_eq!(llama.decode(&both).unwrap(), format!("the{}", "\u{fffd}".repeat(5)));
    assert_eq!(llama.decode_after(&prompt, &[0xff + 3]).unwrap(), "\u{fffd}");
    assert_eq!(llama.decode_after(&prompt, &[0xff + 3, 291]).unwrap(), "\u{fffd} cat");
    assert_eq!(llama.decode_after(&prompt, &[291]).unwrap(), " cat");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any text but ▁, which these tokenizers take for a blank. A pre-tokenizer that puts ▁ in front
    /// takes a blank that already stands there for it, so that the prompt itself reads without.
    #[test]
    fn prompt_and_continuation_decode_to_what_was_written(
        prompt in "[^▁]{1,20}|[ a-e\n\t]{1,20}|the cat",
        completion in "[^▁]{0,20}|[ a-e\n\t]{0,20}|the cat",
    ) {
        for (takes_a_blank, tokenizer) in all() {
            let first = tokenizer.encode_prompt(&prompt).unwrap();
            let second = tokenizer.encode_continuation(&completion).unwrap();
            let whole = tokenizer.decode(&[&first[..], &second].concat()).unwrap();
            let read = tokenizer.decode(&first).unwrap();
            let blank = if takes_a_blank { " " } else { "" };
            prop_assert_eq!(&read, prompt.strip_prefix(blank).unwrap_or(&prompt));
            prop_assert_eq!(&whole, &format!("{read}{completion}"));
            prop_assert_eq!(tokenizer.decode_after(&first, &second).unwrap(), completion.clone());
        }
    }
}
