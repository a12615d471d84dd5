//! Tests of regular expressions that take too many steps.

use super::*;

fn with_split(pattern: &str) -> Tokenizer {
    let split = json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let steps = json!({"type": "Sequence", "pretokenizers": [split, byte_level_step(false)]});
    let json = byte_level(&steps).to_string();
    let folder = folder(&[("tokenizer.json", json.as_bytes())]);
    Tokenizer::from_folder(folder.path(), &[]).unwrap()
}

/// The crate `tokenizers` itself stops without an error there, and returns other ids.
#[test]
fn an_expression_that_gives_up_is_an_error() {
    let doubling = with_split(r"(?:(?!x)a|(?!y)a)*b|\s+");
    let text = "a".repeat(60);
    let error = doubling.encode_prompt(&text).unwrap_err().to_string();
    assert!(error.contains("gives up on a text of 60 bytes"), "{error}");
    assert!(error.contains("check its tokenizer.json"), "{error}");
    assert!(doubling.encode_prompt("ab aab").is_ok());

    let normalizing = {
        let mut json = byte_level(&byte_level_step(false));
        json["normalizer"] =
            json!({"type": "Replace", "pattern": {"Regex": r"(?:(?!x)a|(?!y)a)*b"}, "content": ""});
        let json = json.to_string();
        let folder = folder(&[("tokenizer.json", json.as_bytes())]);
        Tokenizer::from_folder(folder.path(), &[]).unwrap()
    };
    assert!(normalizing.encode_completion(&text).is_err());
}

#[test]
fn the_expressions_of_models_give_up_on_no_text_but_endless_blanks() {
    for pattern in [published::WORDS, published::QWEN2_WORDS] {
        let tokenizer = with_split(pattern);
        for text in
            ["it's 1234 blanks   \n\n and 日本語 ", &" a".repeat(200_000), &" ".repeat(400_000)]
        {
            assert!(tokenizer.encode_prompt(text).is_ok(), "{pattern}");
        }
        let error = tokenizer.encode_prompt(&" ".repeat(1_200_000)).unwrap_err().to_string();
        assert!(error.contains("gives up"), "{error}");
    }
}
