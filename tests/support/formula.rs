//! Models whose weights follow a formula, written as Hugging Face folders.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::Device;
use exalign::data::TokenGroup;
use exalign::model::{self, Decoder, ModelFolder};
use exalign::policy::token_log_probs_of;
use safetensors::tensor::{Dtype, TensorView};

/// What the models read.
pub const TOKENS: [u32; 8] = [1, 5, 3, 7, 2, 9, 0, 4];

pub fn load(folder: &Path, device: &Device) -> Decoder {
    let folder = ModelFolder::open(folder).unwrap();
    let decoder = Decoder::new(folder.shape.clone(), device);
    folder.load(decoder, &folder.family.bindings(&folder.shape), device).unwrap()
}

/// Element `i` of the tensor `name` is 0.35 sin(1.3 i + length of the name), scales about 1.
pub fn formula_folder(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    formula_of(folder.path(), config);
    folder
}

/// The same, in a folder of a name.
pub fn formula_of(folder: &Path, config: &str) {
    folder_with(folder, config, |name, shape| {
        let scale = scale_of(name, shape);
        let value = |i: usize| ((1.3 * i as f64 + name.len() as f64).sin() * 0.35 + scale) as f32;
        (0..shape.iter().product()).map(value).collect()
    });
}

/// A model whose tensors are all different, of full rank and the same bits everywhere: what
/// `families/numbers.json` is about.
pub fn drawn_folder(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    folder_with(folder.path(), config, drawn);
    folder
}

/// Numbers in [-1/2, 1/2) from a linear congruential generator, seeded with the name's FNV-1a hash;
/// scales about 1. `families/generate.py` draws the same.
fn drawn(name: &str, shape: &[usize]) -> Vec<f32> {
    let mut state = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let scale = scale_of(name, shape);
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f64 / f64::from(1 << 24) - 0.5 + scale) as f32
    };
    (0..shape.iter().product()).map(|_: usize| next()).collect()
}

/// 1 for the scales of norms, else 0.
fn scale_of(name: &str, shape: &[usize]) -> f64 {
    f64::from(shape.len() == 1 && name.ends_with("weight"))
}

/// Writes the model of `config` with the values that `values` gives for a tensor's name and shape.
fn folder_with(folder: &Path, config: &str, values: impl Fn(&str, &[usize]) -> Vec<f32>) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("config.json"), config).unwrap();
    let described = ModelFolder::open(folder).unwrap();
    let device = Device::flex();
    let decoder = Decoder::new(described.shape.clone(), &device);
    let bindings = described.family.bindings(&described.shape);
    // Written once as it is for the shapes, then again with the values.
    model::save(&decoder, &bindings, &described.json, folder).unwrap();
    let file = folder.join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let values: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let values = values(&name, view.shape());
            (name, view.shape().to_vec(), bytemuck::cast_slice(&values).to_vec())
        })
        .collect();
    write_tensors(&file, &values);
}

pub fn write_tensors(file: &Path, values: &[(String, Vec<usize>, Vec<u8>)]) {
    let views = values.iter().map(|(name, shape, bytes)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, file).unwrap();
}

pub fn read_tensors(file: &Path) -> HashMap<String, Vec<f32>> {
    let bytes = std::fs::read(file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    tensors
        .tensors()
        .into_iter()
        .map(|(name, it)| (name, bytemuck::pod_collect_to_vec(it.data())))
        .collect()
}

/// The log-probs of [`TOKENS`] after the first, of the model in a folder.
pub fn next_token_log_probs(folder: &Path) -> Vec<f32> {
    log_probs_of_tokens(&load(folder, &Device::flex()))
}

/// The log-probs of [`TOKENS`] after the first.
pub fn log_probs_of_tokens(decoder: &Decoder) -> Vec<f32> {
    let device = decoder.device();
    let group = TokenGroup {
        prompt: TOKENS[..1].to_vec(),
        completions: vec![TOKENS[1..].to_vec()],
        ..TokenGroup::default()
    };
    let scored = token_log_probs_of(decoder, &[group], 1.0, &device, |_| Ok(())).unwrap();
    scored.concat().concat()
}

/// The message of a folder that cannot be loaded, the folder's own path left out.
pub fn refusal(folder: &Path) -> String {
    let device = Device::flex();
    let error = ModelFolder::open(folder)
        .and_then(|described| {
            let decoder = Decoder::new(described.shape.clone(), &device);
            described.load(decoder, &described.family.bindings(&described.shape), &device)
        })
        .unwrap_err();
    error.to_string().replace(&folder.display().to_string(), "M")
}
