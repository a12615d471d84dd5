//! Adapters: their settings and their weights.

use serde_json::json;

use super::models::load;
use super::mutation::try_all;
use crate::support::families;
use crate::support::formula::{formula_folder, write_tensors};

#[test]
fn adapters_are_read_or_refused() {
    let base = formula_folder(families::LLAMA.0);
    let folder = tempfile::tempdir().unwrap();
    let settings = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 5, "bias": "none",
        "base_model_name_or_path": base.path(), "target_modules": ["q_proj", "down_proj"],
        "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"^model": 3}, "modules_to_save": ["lm_head"],
        "layers_to_transform": [0, 1], "layers_pattern": "layers", "use_rslora": true,
        "trainable_token_indices": null, "exclude_modules": "nothing",
    });
    let shapes = [("self_attn.q_proj", [8, 16]), ("mlp.down_proj", [12, 8])];
    let mut tensors = vec![("base_model.model.lm_head.weight".to_owned(), vec![11, 8])];
    for layer in 0..2 {
        for (module, [input, output]) in shapes {
            let name = format!("base_model.model.model.layers.{layer}.{module}");
            tensors.push((format!("{name}.lora_A.weight"), vec![2, input]));
            tensors.push((format!("{name}.lora_B.weight"), vec![output, 2]));
        }
    }
    let values: Vec<_> = tensors
        .into_iter()
        .map(|(name, shape)| {
            let bytes = vec![0; 4 * shape.iter().product::<usize>()];
            (name, shape, bytes)
        })
        .collect();
    let weights = folder.path().join("adapter_model.safetensors");
    write_tensors(&weights, &values);
    let seeds = [settings.to_string().into_bytes(), std::fs::read(&weights).unwrap()];
    let files = ["adapter_config.json", "adapter_model.safetensors"];
    try_all("adapter", 500, &seeds, |seed, bytes| {
        files.iter().zip(&seeds).for_each(|(name, whole)| {
            std::fs::write(folder.path().join(name), whole).unwrap();
        });
        std::fs::write(folder.path().join(files[seed]), bytes).unwrap();
        load(folder.path());
    });
}
