//! Claims about the files of a model folder: weights as trainers and the hub leave them are read, and
//! what is quantised, lost or of another format is refused with the way out.

use std::path::Path;

use crate::support::families;
use crate::support::formula::{formula_folder, next_token_log_probs, refusal};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

type Tensor = (String, Dtype, Vec<usize>, Vec<u8>);

/// A folder whose weights are what `change` makes of a model's.
fn folder(config: &str, change: impl Fn(Vec<Tensor>) -> Vec<Tensor>) -> TempDir {
    let folder = formula_folder(config);
    let file = folder.path().join("model.safetensors");
    write(&file, &change(read(&file)));
    folder
}

fn read(file: &Path) -> Vec<Tensor> {
    let bytes = std::fs::read(file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let owned = |(name, it): (String, TensorView)| {
        (name, it.dtype(), it.shape().to_vec(), it.data().to_vec())
    };
    tensors.tensors().into_iter().map(owned).collect()
}

fn write(file: &Path, tensors: &[Tensor]) {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, file).unwrap();
}

fn renamed(config: &str, rename: impl Fn(&str) -> String) -> TempDir {
    folder(config, |tensors| {
        let new = |(name, dtype, shape, bytes): Tensor| (rename(&name), dtype, shape, bytes);
        tensors.into_iter().map(new).collect()
    })
}

#[test]
fn names_that_wrappers_put_something_into_are_the_same_weights() {
    for config in [families::LLAMA.0, families::GPT2.0] {
        let plain = next_token_log_probs(formula_folder(config).path());
        let inner = |name: &str| {
            name.replace("layers.0.", "layers.0._orig_mod.")
                .replace(".h.0.", ".h.0._checkpoint_wrapped_module.")
        };
        for rename in [
            &(|name: &str| format!("_orig_mod.{name}")) as &dyn Fn(&str) -> String,
            &|name| format!("module.{name}"),
            &|name| format!("_fsdp_wrapped_module._orig_mod.{name}"),
            &|name| format!("model.{name}"),
            &|name| format!("base_model.model.{name}"),
            &inner,
        ] {
            assert_eq!(next_token_log_probs(renamed(config, rename).path()), plain);
        }
    }
    let twice = folder(families::LLAMA.0, |tensors| {
        let (name, dtype, shape, bytes) = tensors[0].clone();
        let copy = (format!("module.{name}"), dtype, shape, bytes);
        tensors.into_iter().chain([copy]).collect()
    });
    let said = refusal(twice.path());
    assert!(said.contains("are the same tensor of the model; remove one of them"), "{said}");
}

#[test]
fn doubles_are_read_and_other_types_are_named() {
    let plain = next_token_log_probs(formula_folder(families::LLAMA.0).path());
    let doubles = folder(families::LLAMA.0, |tensors| {
        tensors
            .into_iter()
            .map(|(name, _, shape, bytes)| {
                let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
                let wide: Vec<u8> =
                    values.iter().flat_map(|&it| f64::from(it).to_le_bytes()).collect();
                (name, Dtype::F64, shape, wide)
            })
            .collect()
    });
    assert_eq!(next_token_log_probs(doubles.path()), plain);
    for dtype in [Dtype::F8_E4M3, Dtype::I8] {
        let narrow = folder(families::LLAMA.0, |tensors| {
            tensors
                .into_iter()
                .map(|(name, float, shape, bytes)| match name.contains("q_proj") {
                    true => (name, dtype, shape, bytes[..bytes.len() / 4].to_vec()),
                    false => (name, float, shape, bytes),
                })
                .collect()
        });
        let said = refusal(narrow.path());
        assert!(said.contains(&format!("found {dtype:?}, which only quantised")), "{said}");
        assert!(said.contains("dequantise it in transformers"), "{said}");
    }
}

/// A model's folder with more settings.
fn with_settings(more: Value) -> TempDir {
    let folder = formula_folder(families::LLAMA.0);
    let mut config: Value = serde_json::from_str(families::LLAMA.0).unwrap();
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    folder
}

#[test]
fn quantised_weights_are_refused_by_their_method_before_a_tensor_is() {
    for (settings, method) in [
        (json!({ "quant_method": "bitsandbytes", "load_in_4bit": true }), "bitsandbytes to 4 bits"),
        (json!({ "load_in_8bit": true }), "bitsandbytes to 8 bits"),
        (json!({ "quant_method": "gptq", "bits": 4 }), "gptq to 4 bits"),
        (json!({ "quant_method": "awq", "w_bit": 4 }), "awq to 4 bits"),
        (json!({ "quant_method": "fp8" }), "fp8;"),
        (json!({ "quant_method": "compressed-tensors" }), "compressed-tensors;"),
        (json!({ "quant_method": "torchao" }), "torchao;"),
        (json!({ "quant_method": "mxfp4" }), "mxfp4;"),
    ] {
        let said = refusal(with_settings(json!({ "quantization_config": settings })).path());
        let start =
            format!("M/config.json: `quantization_config`: the weights are quantised by {method}");
        assert!(said.starts_with(&start), "{said}");
        assert!(
            said.contains("full-precision model") && said.contains("save_pretrained"),
            "{said}"
        );
        assert!(!said.contains("proj"), "{said}");
    }
    for none in [Value::Null, json!({})] {
        next_token_log_probs(with_settings(json!({ "quantization_config": none })).path());
    }
    // Nothing in config.json, but names that only quantised weights have.
    let packed = folder(families::LLAMA.0, |mut tensors| {
        tensors.push((
            "model.layers.0.self_attn.q_proj.qweight".to_owned(),
            Dtype::I8,
            vec![1],
            vec![0],
        ));
        tensors
    });
    let said = refusal(packed.path());
    assert!(
        said.contains("the weights are quantised by gptq or awq, as tensors such as"),
        "{said}"
    );
}

#[test]
fn weights_that_are_not_there_are_told_from_those_of_another_format() {
    let folder = formula_folder(families::LLAMA.0);
    let at = |name: &str| folder.path().join(name);
    let rename = |from: &str, to: &str| std::fs::rename(at(from), at(to)).unwrap();
    rename("model.safetensors", "consolidated.safetensors");
    insta::assert_snapshot!(refusal(folder.path()), @"M: expected model.safetensors or model.safetensors.index.json, found consolidated.safetensors without an index that names it; fetch the index, too, or rename the only file to model.safetensors");
    rename("consolidated.safetensors", "pytorch_model.bin");
    insta::assert_snapshot!(refusal(folder.path()), @"M: expected model.safetensors, found pytorch_model.bin and its like (.bin files), which are pickles and can run code when read; convert them with transformers' save_pretrained(safe_serialization=True)");
    rename("pytorch_model.bin", "model-q8.gguf");
    insta::assert_snapshot!(refusal(folder.path()), @"M: expected model.safetensors or model.safetensors.index.json, found model-q8.gguf, which is another program's format; take the model as safetensors, or convert them with transformers' save_pretrained(safe_serialization=True)");
    let index = |file: &str| {
        let json = json!({ "weight_map": { "model.norm.weight": file } });
        std::fs::write(at("model.safetensors.index.json"), json.to_string()).unwrap();
    };
    index("model-00001-of-00002.safetensors");
    insta::assert_snapshot!(refusal(folder.path()), @"M/model.safetensors.index.json: expected the file `model-00001-of-00002.safetensors`, which it names, beside it, found none; fetch it again");
    index("../other/model.safetensors");
    insta::assert_snapshot!(refusal(folder.path()), @r#"M/model.safetensors.index.json: `weight_map.model.norm.weight`: expected a safetensors file beside the index, found "../other/model.safetensors""#);
    // One file comes before an index, which may be stale.
    rename("model-q8.gguf", "model.safetensors");
    let plain = next_token_log_probs(formula_folder(families::LLAMA.0).path());
    assert_eq!(next_token_log_probs(folder.path()), plain);
}

#[test]
fn a_tensor_in_two_shards_is_that_of_the_file_that_the_index_names() {
    let shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    for [own, other] in [shards, [shards[1], shards[0]]] {
        let folder = formula_folder(families::LLAMA.0);
        let plain = next_token_log_probs(folder.path());
        let single = folder.path().join("model.safetensors");
        let mut tensors = read(&single);
        std::fs::remove_file(single).unwrap();
        let at = tensors.iter().position(|it| it.0 == "model.embed_tokens.weight").unwrap();
        let (name, dtype, shape, bytes) = tensors.remove(at);
        let file_of = |name: &String| (name.clone(), json!(other));
        let mut map: serde_json::Map<_, _> = tensors.iter().map(|it| file_of(&it.0)).collect();
        map.insert(name.clone(), json!(own));
        let stale = vec![0; bytes.len()];
        tensors.push((name.clone(), dtype, shape.clone(), stale));
        write(&folder.path().join(other), &tensors);
        write(&folder.path().join(own), &[(name, dtype, shape, bytes)]);
        let index = json!({ "weight_map": map }).to_string();
        std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
        assert_eq!(next_token_log_probs(folder.path()), plain, "{own}");
    }
}

#[test]
fn a_tied_head_without_its_embedding_is_the_embedding() {
    let head =
        |name: &str| match name.ends_with("embed_tokens.weight") || name.ends_with("wte.weight") {
            true => "lm_head.weight".to_owned(),
            false => name.to_owned(),
        };
    for config in [families::QWEN2.0, families::GPT2.0] {
        let plain = next_token_log_probs(formula_folder(config).path());
        assert_eq!(next_token_log_probs(renamed(config, head).path()), plain);
    }
    let untied = folder(families::LLAMA.0, |mut tensors| {
        tensors.retain(|it| it.0 != "model.embed_tokens.weight");
        tensors
    });
    let said = refusal(untied.path());
    assert!(said.contains("missing tensors: model.embed_tokens.weight"), "{said}");
}

#[test]
fn weights_that_were_not_gathered_are_refused_with_who_left_them_so() {
    let empty = folder(families::LLAMA.0, |tensors| {
        let without = |(name, dtype, ..): Tensor| (name, dtype, vec![0], Vec::new());
        tensors.into_iter().map(without).collect()
    });
    let said = refusal(empty.path());
    assert!(said.contains("expected weights, found a tensor of shape [0]"), "{said}");
    assert!(said.contains("ZeRO-3") && said.contains("zero_to_fp32.py"), "{said}");
}
