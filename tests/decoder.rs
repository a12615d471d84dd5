//! Claims about the decoder: its numbers are those of `transformers`.
//!
//! The golden models lie outside the project; `EXALIGN_GOLDENS` names their folder.

use std::path::{Path, PathBuf};

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use exalign::data::{GroupBatch, TokenGroup};
use exalign::log_probs::Policy;
use exalign::model::{Decoder, ModelFolder};
use serde_json::Value;

fn golden_models() -> Vec<PathBuf> {
    let Ok(folder) = std::env::var("EXALIGN_GOLDENS") else {
        println!("skipped: EXALIGN_GOLDENS names no folder of golden models");
        return Vec::new();
    };
    ["gpt2-tied", "llama-tied-gqa-theta1e4", "llama-untied-gqa-llama3rope"]
        .map(|name| Path::new(&folder).join("models").join(name))
        .into()
}

fn load(folder: &Path, device: &Device) -> Decoder {
    let folder = ModelFolder::open(folder).unwrap();
    let decoder = Decoder::new(folder.shape.clone(), device);
    folder.load(decoder, &folder.family.bindings(&folder.shape), device).unwrap()
}

fn golden(folder: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(folder.join("golden.json")).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// The real tokens of each row and where its completion begins.
fn rows(golden: &Value) -> Vec<(Vec<u32>, usize)> {
    (0..golden["input_ids"].as_array().unwrap().len())
        .map(|i| {
            let len = ids(&golden["attention_mask"][i]).iter().sum::<u32>() as usize;
            (
                ids(&golden["input_ids"][i])[..len].to_vec(),
                golden["completion_start"][i].as_u64().unwrap() as usize,
            )
        })
        .collect()
}

fn logits(decoder: &Decoder, tokens: &[u32], device: &Device) -> Vec<f32> {
    let n = tokens.len();
    let ints =
        |values: Vec<i64>| Tensor::<2, Int>::from_data(TensorData::new(values, [1, n]), device);
    let mask = Tensor::<2, Bool>::tril_mask([n, n], 0, device).reshape([1, 1, n, n]);
    let hidden = decoder.hidden(
        ints(tokens.iter().map(|&token| token.into()).collect()),
        ints((0..n as i64).collect()),
        &mask,
    );
    let width = decoder.config().hidden_size;
    decoder.logits(hidden.reshape([n, width])).into_data().try_into_vec().unwrap()
}

#[test]
fn logits_are_those_of_transformers() {
    let device = Device::flex();
    for folder in golden_models() {
        let (decoder, golden) = (load(&folder, &device), golden(&folder));
        for (i, (tokens, _)) in rows(&golden).into_iter().enumerate() {
            let expected = golden["logits"][i]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(|row| row.as_array().unwrap());
            for (ours, theirs) in logits(&decoder, &tokens, &device).into_iter().zip(expected) {
                let difference = (f64::from(ours) - theirs.as_f64().unwrap()).abs();
                assert!(difference < 1e-4, "{}: row {i} differs by {difference}", folder.display());
            }
        }
    }
}

#[test]
fn completion_log_probs_are_those_of_transformers() {
    let device = Device::flex();
    for folder in golden_models() {
        let (decoder, golden) = (load(&folder, &device), golden(&folder));
        for (i, (tokens, start)) in rows(&golden).into_iter().enumerate() {
            let group = TokenGroup {
                id: None,
                line: 1,
                prompt: tokens[..start].to_vec(),
                completions: vec![tokens[start..].to_vec()],
                rewards: vec![],
            };
            let ours: f32 =
                decoder.log_probs(&GroupBatch::new([&group], &device), 1.0).into_scalar();
            let theirs = golden["completion_logprob"][i].as_f64().unwrap();
            assert!(
                (f64::from(ours) - theirs).abs() < 1e-4,
                "{}: {ours} {theirs}",
                folder.display()
            );
        }
    }
}
