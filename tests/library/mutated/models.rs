//! Model folders: what describes the model, its weights, and the index of weights in parts.

use std::path::Path;

use burn::tensor::Device;
use exalign::model::{Decoder, ModelFolder, RewardModel};
use serde_json::json;

use super::mutation::try_all;
use crate::support::families;
use crate::support::formula::formula_folder;

/// Opens and loads what can be; a model that loads is one that fits the files, which are small.
pub fn load(folder: &Path) {
    let Ok(folder) = ModelFolder::open(folder) else { return };
    let device = Device::flex();
    let decoder = Decoder::new(folder.shape.clone(), &device);
    let _ = folder.load(decoder, &folder.family.bindings(&folder.shape), &device);
    let _ = RewardModel::load(&folder, 0, &device);
    let _ = folder.content_hash();
}

fn configs() -> Vec<Vec<u8>> {
    let cases = [
        families::GPT2,
        families::LLAMA,
        families::GPT_NEOX,
        families::LLAMA_SCALED,
        families::MISTRAL,
        families::QWEN3,
        families::GLM4,
        families::CHATGLM,
    ];
    cases.iter().map(|(config, _)| config.as_bytes().to_vec()).collect()
}

#[test]
fn configurations_of_models_are_read_or_refused() {
    let seeds = configs();
    let folders: Vec<_> =
        seeds.iter().map(|it| formula_folder(std::str::from_utf8(it).unwrap())).collect();
    try_all("config", 500, &seeds, |seed, bytes| {
        std::fs::write(folders[seed].path().join("config.json"), bytes).unwrap();
        load(folders[seed].path());
    });
}

/// Found so: burn's norm asserts that its ε is positive.
#[test]
fn a_norm_without_epsilon_is_refused() {
    let (config, _) = families::LLAMA;
    let folder = formula_folder(config);
    for epsilon in ["0", "-1", "-0.0", "1e-400"] {
        let config = config.replace("1e-05", epsilon);
        assert!(config.contains(epsilon));
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let error = ModelFolder::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("config.json: expected an ε of the norms above 0"), "{error}");
    }
}

#[test]
fn weights_are_read_or_refused() {
    let folders = [families::GPT2, families::LLAMA].map(|(config, _)| formula_folder(config));
    let file = |seed: usize| folders[seed].path().join("model.safetensors");
    let seeds: Vec<_> = (0..2).map(|seed| std::fs::read(file(seed)).unwrap()).collect();
    // Most changes of the whole file are changes of values, which are as good as others.
    let header = |bytes: &[u8]| 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let headers: Vec<_> = seeds.iter().map(|it| it[..header(it)].to_vec()).collect();
    try_all("safetensors", 500, &headers, |seed, bytes| {
        let values = &seeds[seed][headers[seed].len()..];
        for length_fits in [false, true] {
            let mut whole = [bytes, values].concat();
            if length_fits && bytes.len() >= 8 {
                whole[..8].copy_from_slice(&(bytes.len() as u64 - 8).to_le_bytes());
            }
            std::fs::write(file(seed), whole).unwrap();
            load(folders[seed].path());
        }
    });
}

#[test]
fn indices_of_weights_and_settings_of_generation_are_read_or_refused() {
    let folder = formula_folder(families::GPT2.0);
    let single = folder.path().join("model.safetensors");
    let part = folder.path().join("model-00001-of-00001.safetensors");
    std::fs::rename(&single, &part).unwrap();
    let tensors = ["transformer.wte.weight", "transformer.wpe.weight"];
    let map = tensors.map(|it| (it.to_owned(), json!("model-00001-of-00001.safetensors")));
    let index = json!({
        "metadata": {"total_size": 100}, "weight_map": map.into_iter().collect::<serde_json::Map<_, _>>(),
    });
    let generation = json!({"eos_token_id": [10, 9], "temperature": 0.5});
    let seeds = [index, generation].map(|it| it.to_string().into_bytes());
    let names = ["model.safetensors.index.json", "generation_config.json"];
    try_all("index", 300, &seeds, |seed, bytes| {
        names.iter().zip(&seeds).for_each(|(name, whole)| {
            std::fs::write(folder.path().join(name), whole).unwrap();
        });
        std::fs::write(folder.path().join(names[seed]), bytes).unwrap();
        load(folder.path());
    });
}
