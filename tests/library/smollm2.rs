//! Claims about a real model, SmolLM2-135M: its tokens, log-probs and greedy text are those of
//! `transformers`. `EXALIGN_SMOLLM2` names its folder (f32), `EXALIGN_GOLDENS` that of the numbers;
//! without both the tests are listed as skipped.

use std::path::{Path, PathBuf};

use crate::support::skipped::or_skip;
use burn::tensor::Device;
use exalign::data::{Ending, TokenGroup, Tokenizer};
use exalign::generation::{Choice, Prompt, Sampling, sample};
use exalign::model::{Decoder, ModelFolder};
use exalign::policy::token_log_probs_of;
use serde_json::Value;

fn given() -> Option<(PathBuf, Value)> {
    let folders = std::env::var("EXALIGN_SMOLLM2").ok().zip(std::env::var("EXALIGN_GOLDENS").ok());
    let (model, goldens) =
        or_skip(folders, "EXALIGN_SMOLLM2 and EXALIGN_GOLDENS do not both name a folder")?;
    let text = std::fs::read_to_string(Path::new(&goldens).join("smollm2.json")).unwrap();
    Some((PathBuf::from(model), serde_json::from_str(&text).unwrap()))
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn texts_have_the_tokens_of_transformers() {
    let Some((model, golden)) = given() else { return };
    let tokenizer = Tokenizer::from_folder(&model, &[2]).unwrap();
    for case in golden["tokenize"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode_prompt(text).unwrap(), ids(&case["ids"]), "{text:?}");
    }
}

#[test]
fn conversations_have_the_text_and_the_tokens_of_transformers() {
    let Some((model, golden)) = given() else { return };
    let tokenizer = Tokenizer::from_folder(&model, &[2]).unwrap();
    let template = tokenizer.chat_template().unwrap();
    let cases = golden["chat"].as_array().unwrap();
    let asked: Vec<&Value> =
        cases.iter().filter(|it| it["add_generation_prompt"] == true).collect();
    assert!(!asked.is_empty());
    for case in asked {
        let text = template
            .render(&case["messages"].as_array().unwrap().clone().into(), Ending::GenerationPrompt)
            .unwrap();
        assert_eq!(text, case["rendered"].as_str().unwrap());
        assert_eq!(tokenizer.encode_completion(&text).unwrap(), ids(&case["ids"]));
    }
}

#[test]
fn log_probs_and_greedy_text_are_those_of_transformers() {
    let Some((model, golden)) = given() else { return };
    let device = Device::flex();
    let folder = ModelFolder::open(&model).unwrap();
    let decoder = Decoder::new(folder.shape.clone(), &device);
    let decoder = folder.load(decoder, &folder.family.bindings(&folder.shape), &device).unwrap();
    let sum = |prompt: &[u32], completion: &[u32], temperature: f64| -> f64 {
        let group = TokenGroup {
            prompt: prompt.to_vec(),
            completions: vec![completion.to_vec()],
            ..TokenGroup::default()
        };
        let scored =
            token_log_probs_of(&decoder, &[group], temperature, &device, |_| Ok(())).unwrap();
        scored[0][0].iter().map(|&it| f64::from(it)).sum()
    };
    // Sums over up to a hundred tokens of a 30-layer model in f32.
    let close = |found: f64, expected: &Value| {
        let expected = expected.as_f64().unwrap();
        assert!((found - expected).abs() < 2e-3, "{found} {expected}");
    };

    for case in golden["text"].as_array().unwrap() {
        let text = ids(&case["ids"]);
        close(sum(&text[..1], &text[1..], 1.0), &case["sum_logprob"]);
        let greedy = Sampling {
            num_completions: 1,
            choice: Choice { temperature: 0.0, top_k: 0, top_p: 1.0 },
            max_new_tokens: 24,
            end_of_text: folder.shape.end_of_text.clone(),
            stop: None,
            seed: 0,
            log_probs: false,
        };
        let drawn = sample(&decoder, &[Prompt { number: 0, ids: text }], &greedy, &device).unwrap();
        assert_eq!(drawn[0][0].ids, ids(&case["greedy_ids"]));
    }
    let tokenizer = Tokenizer::from_folder(&model, &folder.shape.end_of_text).unwrap();
    for case in golden["completion_logprob"].as_array().unwrap() {
        let text = |field: &str| case[field].as_str().unwrap();
        let prompt = tokenizer.encode_prompt(text("prompt")).unwrap();
        let mut completion = tokenizer.encode_completion(text("completion")).unwrap();
        completion.extend(tokenizer.end_of_text());
        assert_eq!(prompt.len() as u64, case["prompt_tokens"].as_u64().unwrap());
        close(sum(&prompt, &completion, 1.0), &case["logprob"]);
        close(sum(&prompt, &completion, 0.8), &case["logprob_tau_0.8"]);
    }
}
