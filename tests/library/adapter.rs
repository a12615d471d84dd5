//! Claims about LoRA adapters: PEFT's folders give PEFT's numbers, ours are the same again when they
//! are read, and merging changes nothing but where the weights are.

use std::path::Path;

use crate::support::families::{self, Case};
use crate::support::formula::{
    formula_folder, load, next_token_log_probs, read_tensors, write_tensors,
};
use burn::tensor::{DType, Device};
use exalign::model::adapter::{AdapterFolder, AdapterTarget, Adapters, LoraConfig};
use exalign::model::{Decoder, ModelFolder};
use serde_json::{Value, json};

/// An adapter in PEFT's layout: module, rank, input and output width of both layers' factors.
/// Element `i` of the tensor `name` is 0.3 sin(0.7 i + length of the name).
fn peft_folder(folder: &Path, base: &Path, config: Value, modules: &[(&str, [usize; 3])]) {
    let targets: Vec<&str> = modules.iter().filter_map(|(it, _)| it.rsplit('.').next()).collect();
    let mut settings = json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 5, "bias": "none",
        "base_model_name_or_path": base, "target_modules": targets,
    });
    for (key, value) in config.as_object().unwrap() {
        settings[key] = value.clone();
    }
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("adapter_config.json"), settings.to_string()).unwrap();
    let mut tensors = Vec::new();
    for layer in 0..2 {
        for (module, [rank, input, output]) in modules {
            let module = module.replace('*', &layer.to_string());
            for (factor, shape) in [("A", vec![*rank, *input]), ("B", vec![*output, *rank])] {
                let name = format!("base_model.model.{module}.lora_{factor}.weight");
                let values: Vec<f32> = (0..shape.iter().product())
                    .map(|i: usize| (0.3 * (0.7 * i as f64 + name.len() as f64).sin()) as f32)
                    .collect();
                tensors.push((name, shape, bytemuck::cast_slice(&values).to_vec()));
            }
        }
    }
    write_tensors(&folder.join("adapter_model.safetensors"), &tensors);
}

/// A model, an adapter's settings and modules, and the log-probs that peft 0.21 with transformers
/// 4.57.6 gives for them (f64, CPU).
struct PeftCase {
    model: Case,
    config: Value,
    modules: &'static [(&'static str, [usize; 3])],
    expected: [f64; 7],
}

fn peft_cases() -> [PeftCase; 4] {
    [
        PeftCase {
            model: families::GPT2,
            config: json!({}),
            modules: &[
                ("transformer.h.*.attn.c_attn", [2, 8, 24]),
                ("transformer.h.*.mlp.c_proj", [2, 32, 8]),
            ],
            expected: [
                -3.8434300516448507,
                -4.358660720843019,
                -1.6618721087125123,
                -3.335119712633422,
                -4.011533249469927,
                -4.278928871986117,
                -1.522962704234235,
            ],
        },
        PeftCase {
            model: families::GPT_NEOX,
            config: json!({}),
            modules: &[("gpt_neox.layers.*.attention.query_key_value", [2, 16, 48])],
            expected: [
                -1.4472135526404701,
                -2.264573351844535,
                -1.930983164677074,
                -1.5658600976884736,
                -1.8246512557047478,
                -1.9111015557235165,
                -1.6369129902697739,
            ],
        },
        PeftCase {
            model: families::LLAMA_SCALED,
            config: json!({ "rank_pattern": { "down_proj": 3 }, "alpha_pattern": { "down_proj": 4 } }),
            modules: &[
                ("model.layers.*.self_attn.q_proj", [2, 8, 16]),
                ("model.layers.*.mlp.down_proj", [3, 12, 8]),
            ],
            expected: [
                -2.081820883409815,
                -2.1845556740556478,
                -1.9364520512130907,
                -1.9380095693929964,
                -2.3332367650760824,
                -3.543719036947725,
                -1.964587367840981,
            ],
        },
        PeftCase {
            model: families::GLM,
            config: json!({ "use_rslora": true }),
            modules: &[
                ("model.layers.*.mlp.gate_up_proj", [2, 8, 24]),
                ("model.layers.*.self_attn.v_proj", [2, 8, 8]),
            ],
            expected: [
                -2.0423581942987283,
                -2.3273502958990098,
                -2.229923598502528,
                -2.267457595965884,
                -2.7492739685661793,
                -3.15958806363149,
                -1.9408787992523562,
            ],
        },
    ]
}

#[test]
fn adapters_made_by_peft_give_the_log_probs_of_peft() {
    for case in peft_cases() {
        let (base, adapter) = (formula_folder(case.model.0), tempfile::tempdir().unwrap());
        peft_folder(adapter.path(), base.path(), case.config, case.modules);
        let found = next_token_log_probs(adapter.path());
        for (found, expected) in found.iter().zip(case.expected) {
            // Two layers in f32 against f64.
            assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} {expected}");
        }
    }
}

fn lora(rank: usize) -> LoraConfig {
    LoraConfig { rank, alpha: 6.0, ..LoraConfig::none() }
}

/// Adapters of every matrix of the blocks, written as a training would write them.
fn write_trained(base: &Path, config: &LoraConfig, folder: &Path) {
    let described = ModelFolder::open(base).unwrap();
    let bindings = described.family.bindings(&described.shape);
    let device = Device::flex().autodiff();
    let decoder = load(base, &device);
    let adapters = Adapters::new(config, &decoder, &bindings, 3).unwrap();
    let trained = adapters.attach(decoder, &device);
    let base = base.display().to_string();
    let target =
        AdapterTarget { bindings: &bindings, base: &base, reward: None, dtype: DType::F32 };
    Adapters::of(&trained, config, target.bindings).unwrap().write(config, target, folder).unwrap();
}

/// Puts values into the factors that are zero at the start, each parameter's apart.
fn fill_zeros(folder: &Path) {
    let file = folder.join("adapter_model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let filled: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let mut values: Vec<f32> = bytemuck::pod_collect_to_vec(view.data());
            if name.contains("lora_B") {
                let columns = view.shape()[1];
                let parts = columns / 2;
                let rows = view.shape()[0];
                for (i, value) in values.iter_mut().enumerate() {
                    // Blocks of one part each, where the parts lie one after the other.
                    let own = (i % columns) / 2 == (i / columns) * parts / rows;
                    *value = if own { (0.9 * i as f32).sin() * 0.2 } else { 0.0 };
                }
            }
            (name, view.shape().to_vec(), bytemuck::cast_slice(&values).to_vec())
        })
        .collect();
    write_tensors(&file, &filled);
}

fn adapters_of(folder: &Path, base: &Path) -> Adapters {
    let described = ModelFolder::open(base).unwrap();
    let decoder = Decoder::new(described.shape.clone(), &Device::flex());
    let bindings = described.family.bindings(&described.shape);
    AdapterFolder::open(folder).unwrap().read(&decoder, &bindings).unwrap()
}

#[test]
fn a_new_adapter_changes_nothing() {
    for (config, _) in families::ALL {
        let (base, adapter) = (formula_folder(config), tempfile::tempdir().unwrap());
        write_trained(base.path(), &lora(2), adapter.path());
        assert_eq!(next_token_log_probs(adapter.path()), next_token_log_probs(base.path()));
    }
}

#[test]
fn a_written_adapter_is_the_same_adapter_when_it_is_read() {
    // The families that keep several of our parameters in one tensor, side by side.
    for (config, _) in [families::GPT2, families::LLAMA, families::GLM] {
        let (base, first) = (formula_folder(config), tempfile::tempdir().unwrap());
        write_trained(base.path(), &lora(2), first.path());
        fill_zeros(first.path());
        let read = adapters_of(first.path(), base.path());

        let second = tempfile::tempdir().unwrap();
        let described = ModelFolder::open(base.path()).unwrap();
        let bindings = described.family.bindings(&described.shape);
        let at = base.path().display().to_string();
        let target =
            AdapterTarget { bindings: &bindings, base: &at, reward: None, dtype: DType::F32 };
        read.write(&lora(2), target, second.path()).unwrap();
        let file = |folder: &Path| read_tensors(&folder.join("adapter_model.safetensors"));
        assert_eq!(file(first.path()), file(second.path()));
        assert_eq!(read, adapters_of(second.path(), base.path()));
    }
}

#[test]
fn an_attached_adapter_and_a_merged_one_are_the_same_function() {
    use exalign::data::{GroupBatch, TokenGroup};
    use exalign::policy::Policy;
    for case in peft_cases() {
        let (base, folder) = (formula_folder(case.model.0), tempfile::tempdir().unwrap());
        peft_folder(folder.path(), base.path(), case.config, case.modules);
        let device = Device::flex();
        let group = TokenGroup {
            prompt: vec![1, 5],
            completions: vec![vec![3, 7, 2], vec![9, 0]],
            ..TokenGroup::default()
        };
        let batch = GroupBatch::new([&group], &device);
        let attached = adapters_of(folder.path(), base.path())
            .attach(load(base.path(), &device), &device)
            .log_probs(&batch, 0.7)
            .into_data();
        let merged = load(folder.path(), &device).log_probs(&batch, 0.7).into_data();
        attached.assert_approx_eq::<f32>(&merged, burn::tensor::Tolerance::absolute(1e-5));
    }
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let (base, adapter) = (formula_folder(families::LLAMA.0), tempfile::tempdir().unwrap());
    peft_folder(
        adapter.path(),
        base.path(),
        json!({}),
        &[("model.layers.*.self_attn.q_proj", [2, 9, 16])],
    );
    let refusal = |adapter: &Path| {
        let folder = ModelFolder::open(adapter).unwrap();
        let decoder = Decoder::new(folder.shape.clone(), &Device::flex());
        let bindings = folder.family.bindings(&folder.shape);
        let error = folder.load(decoder, &bindings, &Device::flex()).unwrap_err();
        error.to_string().replace(&adapter.display().to_string(), "A")
    };
    insta::assert_snapshot!(refusal(adapter.path()), @"A/adapter_model.safetensors: `model.layers.0.self_attn.q_proj`: expected factors [rank, 8] and [16, rank], found [2, 9] and [16, 2]; is it another model's adapter?");
    peft_folder(adapter.path(), base.path(), json!({}), &[("model.layers.*.moe", [2, 8, 8])]);
    insta::assert_snapshot!(refusal(adapter.path()), @"A/adapter_model.safetensors: expected adapters of the model's matrices, found tensors of nothing it has: base_model.model.model.layers.0.moe.lora_A.weight, base_model.model.model.layers.0.moe.lora_B.weight, base_model.model.model.layers.1.moe.lora_A.weight, base_model.model.model.layers.1.moe.lora_B.weight");
    std::fs::remove_file(adapter.path().join("adapter_model.safetensors")).unwrap();
    insta::assert_snapshot!(refusal(adapter.path()), @"A: expected adapter_model.safetensors beside adapter_config.json, found none; adapters saved as .bin are pickles: save them with safe_serialization=True");
}

#[test]
fn a_target_that_no_matrix_is_called_is_refused_with_those_there_are() {
    let base = formula_folder(families::QWEN2.0);
    let described = ModelFolder::open(base.path()).unwrap();
    let decoder = Decoder::new(described.shape.clone(), &Device::flex());
    let bindings = described.family.bindings(&described.shape);
    let config = LoraConfig { target_modules: vec!["c_attn".to_owned()], ..lora(2) };
    let error = Adapters::new(&config, &decoder, &bindings, 0).unwrap_err();
    insta::assert_snapshot!(error, @"`adapter.target_modules`: expected names among down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj, found `c_attn`");
}
