//! Models whose weights follow a formula, written as Hugging Face folders.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::Device;
use exalign::data::TokenGroup;
use exalign::log_probs::token_log_probs_of;
use exalign::model::{self, Decoder, ModelFolder};
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
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("config.json"), config).unwrap();
    let described = ModelFolder::open(folder).unwrap();
    let device = Device::flex();
    let decoder = Decoder::new(described.shape.clone(), &device);
    let bindings = described.family.bindings(&described.shape);
    // Written once as it is for the shapes, then again with the formula's values.
    model::save(&decoder, &bindings, &described.json, folder).unwrap();
    let file = folder.join("model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let values: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let scale = f64::from(view.shape().len() == 1 && name.ends_with("weight"));
            let values: Vec<f32> = (0..view.shape().iter().product())
                .map(|i: usize| ((1.3 * i as f64 + name.len() as f64).sin() * 0.35 + scale) as f32)
                .collect();
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
