//! Claims about adapters that peft made: all of its settings give its numbers, before and after a
//! merge, or are refused by their name with what to do.

mod kinds;

use std::path::Path;

use crate::support::formula::{
    formula_folder, load, log_probs_of_tokens, next_token_log_probs, read_tensors, write_tensors,
};
use crate::support::{Workplace, families, text};
use burn::tensor::Device;
use exalign::model::adapter::AdapterFolder;
use exalign::model::{self, Decoder, ModelFolder, Precision};
use kinds::{kinds, write_adapter};
use serde_json::{Value, json};

#[test]
fn adapters_of_every_kind_give_the_log_probs_of_peft() {
    for kind in kinds() {
        let (base, adapter) = (formula_folder(kind.model.0), tempfile::tempdir().unwrap());
        write_adapter(adapter.path(), base.path(), &kind.config, kind.tensors);
        let found = next_token_log_probs(adapter.path());
        for (found, expected) in found.iter().zip(kind.expected) {
            // Two layers in f32 against f64, norms of columns among them.
            assert!(
                (f64::from(*found) - expected).abs() < 2e-5,
                "{}: {found} {expected}",
                kind.name
            );
        }
    }
}

#[test]
fn a_rank_of_as_many_parts_as_a_matrix_has_is_read_whole() {
    // The three matrices of c_attn have ranks of their own only where the others' entries are 0.
    let tensors: &[(&str, &[usize])] = &[
        ("transformer.h.*.attn.c_attn.lora_A.weight", &[6, 8]),
        ("transformer.h.*.attn.c_attn.lora_B.weight", &[24, 6]),
    ];
    let found = |config: Value| {
        let (base, adapter) = (formula_folder(families::GPT2.0), tempfile::tempdir().unwrap());
        write_adapter(adapter.path(), base.path(), &config, tensors);
        next_token_log_probs(adapter.path())
    };
    let plain = found(json!({ "target_modules": ["c_attn"], "r": 6, "lora_alpha": 15 }));
    let pattern = json!({ "target_modules": ["c_attn"], "r": 2, "lora_alpha": 15, "rank_pattern": { "c_attn": 6 } });
    assert_eq!(found(pattern), plain);
}

#[test]
fn a_merged_adapter_is_a_model_of_the_same_numbers() {
    for kind in kinds() {
        let (base, adapter) = (formula_folder(kind.model.0), tempfile::tempdir().unwrap());
        write_adapter(adapter.path(), base.path(), &kind.config, kind.tensors);
        let merged = tempfile::tempdir().unwrap();
        let folder = ModelFolder::open(base.path()).unwrap();
        let folder = folder.with_adapter(AdapterFolder::open(adapter.path()).unwrap()).unwrap();
        let bindings = folder.family.bindings(&folder.shape);
        let decoder = Decoder::new(folder.shape.clone(), &Device::flex());
        let decoder = folder.load(decoder, &bindings, &Device::flex()).unwrap();
        model::save(&decoder, &bindings, &folder.json, merged.path()).unwrap();
        let (merged, own) = (next_token_log_probs(merged.path()), log_probs_of_tokens(&decoder));
        assert_eq!(merged, own, "{}", kind.name);
    }
}

/// The tensors of an adapter's file: names, shapes and values.
type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

/// The log-probs of a model with an adapter whose tensors are changed after it was written.
fn log_probs_with(
    model: families::Case,
    config: &Value,
    tensors: &[(&str, &[usize])],
    change: impl Fn(&mut Tensors),
) -> Vec<f32> {
    let (base, adapter) = (formula_folder(model.0), tempfile::tempdir().unwrap());
    write_adapter(adapter.path(), base.path(), config, tensors);
    let file = adapter.path().join("adapter_model.safetensors");
    let values = read_tensors(&file);
    let mut written: Tensors = tensors
        .iter()
        .map(|(name, shape)| {
            let name = format!("base_model.model.{name}");
            let values = values[&name].clone();
            (name, shape.to_vec(), values)
        })
        .collect();
    change(&mut written);
    let bytes = |values: Vec<f32>| -> Vec<u8> { bytemuck::cast_slice(&values).to_vec() };
    let written = written.into_iter().map(|(name, shape, values)| (name, shape, bytes(values)));
    write_tensors(&file, &written.collect::<Vec<_>>());
    next_token_log_probs(adapter.path())
}

#[test]
fn modules_that_peft_saves_three_times_after_a_resize_are_those_it_loads() {
    let tensors: [(&str, &[usize]); 2] =
        [("model.embed_tokens.weight", &[13, 8]), ("lm_head.weight", &[13, 8])];
    let saving =
        |modules: &[&str]| json!({ "target_modules": ["q_proj"], "modules_to_save": modules });
    for model in [families::LLAMA, families::QWEN2] {
        let both = ["embed_tokens", "lm_head"];
        let expected = log_probs_with(model, &saving(&both), &tensors, |_| ());
        // A head that is not trained is what a tied embedding was before the training.
        for saved in [&both[..], &both[..1]] {
            let found = log_probs_with(model, &saving(saved), &tensors, |written| {
                let head = written[1].2.clone();
                for at in 0..saved.len() {
                    let (name, shape, values) = written[at].clone();
                    let module = name.trim_end_matches(".weight");
                    let copy = |part: &str| format!("{module}.{part}.weight");
                    written.push((copy("original_module"), shape.clone(), head.clone()));
                    written.push((copy("modules_to_save"), shape, values));
                }
            });
            assert_eq!(found, expected, "{saved:?} {}", model.1);
        }
    }
}

#[test]
fn trained_tokens_of_a_resized_model_stand_in_the_embedding_that_the_adapter_brings() {
    const ROWS: [usize; 2] = [12, 3];
    let embedding = "base_model.model.model.embed_tokens.weight";
    let delta = |i: usize| 0.1 * (i as f32 - 7.0);
    for model in [families::LLAMA, families::QWEN2] {
        let tensors: [(&str, &[usize]); 2] =
            [("model.embed_tokens.weight", &[13, 8]), ("lm_head.weight", &[13, 8])];
        let is_tied = model == families::QWEN2;
        let tensors = if is_tied { &tensors[..1] } else { &tensors[..] };
        let plain = json!({ "target_modules": ["q_proj"] });
        // The same as an embedding with those rows in it.
        let expected = log_probs_with(model, &plain, tensors, |written| {
            let values = &mut written.iter_mut().find(|it| it.0 == embedding).unwrap().2;
            for (place, row) in ROWS.into_iter().enumerate() {
                for column in 0..8 {
                    values[row * 8 + column] = delta(place * 8 + column);
                }
            }
        });
        let config = json!({ "target_modules": ["q_proj"], "trainable_token_indices": ROWS });
        let found = log_probs_with(model, &config, tensors, |written| {
            let at = written.iter().position(|it| it.0 == embedding).unwrap();
            let (_, shape, values) = written.remove(at);
            // peft wraps a tied head, too, and writes the same tensors under its name.
            let wrapped = ["model.embed_tokens", "lm_head"];
            for module in &wrapped[..1 + usize::from(is_tied)] {
                let name = |part: &str| format!("base_model.model.{module}.token_adapter.{part}");
                written.push((name("base_layer.weight"), shape.clone(), values.clone()));
                let rows = (0..16).map(delta).collect();
                written.push((name("trainable_tokens_delta"), vec![2, 8], rows));
            }
        });
        assert_eq!(found, expected, "{}", model.1);
    }
    let config = json!({ "target_modules": ["o_proj"], "trainable_token_indices": [9, 11] });
    let delta: [(&str, &[usize]); 1] =
        [("model.embed_tokens.token_adapter.trainable_tokens_delta", &[2, 8])];
    insta::assert_snapshot!(refusal(config, &delta), @"A/adapter_config.json: `trainable_token_indices`: expected tokens of the 11 that the model has, found 11, and no embedding of more tokens in adapter_model.safetensors; save the adapter again with save_embedding_layers=True");
}

#[test]
fn an_adapter_on_weights_kept_narrow_is_near_that_on_wide_ones() {
    for kind in kinds() {
        let (base, adapter) = (formula_folder(kind.model.0), tempfile::tempdir().unwrap());
        write_adapter(adapter.path(), base.path(), &kind.config, kind.tensors);
        let folder = ModelFolder::open(adapter.path()).unwrap().kept_as(Precision::Bf16);
        let bindings = folder.family.bindings(&folder.shape);
        let decoder = Decoder::new(folder.shape.clone(), &Device::flex());
        let decoder = folder.load(decoder, &bindings, &Device::flex()).unwrap();
        for (found, expected) in log_probs_of_tokens(&decoder).iter().zip(kind.expected) {
            // Eight bits of mantissa through two layers.
            assert!(
                (f64::from(*found) - expected).abs() < 0.3,
                "{}: {found} {expected}",
                kind.name
            );
        }
    }
}

const QUERIES: [(&str, &[usize]); 2] = [
    ("model.layers.*.self_attn.q_proj.lora_A.weight", &[2, 8]),
    ("model.layers.*.self_attn.q_proj.lora_B.weight", &[16, 2]),
];

/// What is said of an adapter of queries with some settings, folders' paths left out.
fn refusal(config: Value, tensors: &[(&str, &[usize])]) -> String {
    let (base, adapter) = (formula_folder(families::LLAMA.0), tempfile::tempdir().unwrap());
    write_adapter(adapter.path(), base.path(), &config, tensors);
    said(adapter.path()).replace(&base.path().display().to_string(), "BASE")
}

fn said(adapter: &Path) -> String {
    let device = Device::flex();
    let error = ModelFolder::open(adapter)
        .and_then(|folder| {
            let decoder = Decoder::new(folder.shape.clone(), &device);
            folder.load(decoder, &folder.family.bindings(&folder.shape), &device)
        })
        .unwrap_err();
    error.to_string().replace(&adapter.display().to_string(), "A")
}

#[test]
fn what_is_not_read_is_refused_by_its_setting_with_the_way_out() {
    for (key, value) in [
        ("peft_type", json!("IA3")),
        ("layer_replication", json!([[0, 1]])),
        ("target_parameters", json!(["experts.up_proj"])),
        ("use_bdlora", json!({ "nblocks": 2 })),
        ("monteclora_config", json!({ "num_samples": 2 })),
        ("kasa_config", json!({ "beta": 1 })),
        ("use_qalora", json!(true)),
        ("arrow_config", json!({ "top_k": 2 })),
        ("alora_invocation_tokens", json!([1, 2])),
        ("megatron_config", json!({ "a": 1 })),
        ("init_lora_weights", json!("pissa_niter_4")),
        ("init_lora_weights", json!("loftq")),
        ("init_lora_weights", json!("tomorrow")),
    ] {
        let said = refusal(json!({ "target_modules": ["q_proj"], key: value }), &QUERIES);
        let start = format!("A/adapter_config.json: `{key}`: ");
        assert!(said.starts_with(&start), "{said}");
        let ways = ["peft", "train", "base_model_name_or_path"];
        assert!(ways.iter().any(|way| said[start.len()..].contains(way)), "{said}");
    }
    // What is without effect on numbers is no reason.
    let none = json!({ "use_dora": false, "arrow_config": null, "layer_replication": [],
        "init_lora_weights": "gaussian", "lora_dropout": 0.1, "fan_in_fan_out": true });
    let said = refusal(none, &QUERIES);
    assert!(said.starts_with("A/adapter_config.json: `target_modules`: does not take"), "{said}");
}

#[test]
fn settings_and_tensors_that_contradict_each_other_are_refused() {
    let targets = |more: Value| {
        let mut config = json!({ "target_modules": ["q_proj"] });
        for (key, value) in more.as_object().unwrap() {
            config[key] = value.clone();
        }
        refusal(config, &QUERIES)
    };
    insta::assert_snapshot!(refusal(json!({ "target_modules": ["v_proj"] }), &QUERIES), @"A/adapter_config.json: `target_modules`: does not take `model.layers.0.self_attn.q_proj`, whose factors stand in adapter_model.safetensors (see also exclude_modules, layers_to_transform and modules_to_save); peft would leave them out: correct the settings, or save the adapter without them");
    insta::assert_snapshot!(targets(json!({ "exclude_modules": ["layers.1.self_attn.q_proj"] })), @"A/adapter_config.json: `target_modules`: does not take `model.layers.1.self_attn.q_proj`, whose factors stand in adapter_model.safetensors (see also exclude_modules, layers_to_transform and modules_to_save); peft would leave them out: correct the settings, or save the adapter without them");
    insta::assert_snapshot!(targets(json!({ "r": 4 })), @"A/adapter_model.safetensors: `model.layers.0.self_attn.q_proj`: expected factors of rank 4, as r and rank_pattern say, found 2; is it another model's adapter?");
    insta::assert_snapshot!(targets(json!({ "use_dora": true })), @"A/adapter_model.safetensors: `model.layers.0.self_attn.q_proj`: expected a lora_magnitude_vector, found none; is it another model's adapter?");
    insta::assert_snapshot!(targets(json!({ "modules_to_save": ["lm_head"] })), @"A/adapter_config.json: `modules_to_save`: expected the tensor `base_model.model.lm_head.weight` of `lm_head` in adapter_model.safetensors, found none; save the adapter again, or remove the module from the list");
    let said = targets(json!({ "alpha_pattern": { "(q_proj": 2 } }));
    let start =
        "A/adapter_config.json: `alpha_pattern`: expected a regular expression, found `(q_proj`";
    assert!(said.starts_with(start), "{said}");
}

#[test]
fn a_base_is_looked_for_from_the_adapters_folder_and_its_lack_is_explained() {
    let base = formula_folder(families::LLAMA.0);
    let adapter = base.path().join("adapters/first");
    std::fs::create_dir_all(&adapter).unwrap();
    let named = |name: Value| {
        let config = json!({ "target_modules": ["q_proj"], "base_model_name_or_path": name });
        write_adapter(&adapter, base.path(), &config, &QUERIES);
    };
    named(json!(base.path()));
    let whole = next_token_log_probs(&adapter);
    named(json!("../.."));
    assert_eq!(next_token_log_probs(&adapter), whole);
    named(json!("/gone/llama"));
    insta::assert_snapshot!(said(&adapter), @"A/adapter_config.json: `base_model_name_or_path`: expected the folder or hub id of the model this adapter belongs to, found `/gone/llama`, and there is no such folder here or from A; correct base_model_name_or_path there, or give the model yourself: exalign merge --model BASE --adapter A --out FOLDER");
    named(Value::Null);
    insta::assert_snapshot!(said(&adapter), @"A/adapter_config.json: `base_model_name_or_path`: expected the folder or hub id of the model this adapter belongs to, found null; correct base_model_name_or_path there, or give the model yourself: exalign merge --model BASE --adapter A --out FOLDER");
}

#[test]
fn an_adapter_of_an_adapter_is_not_taken_for_one_of_its_base() {
    let (base, first) = (formula_folder(families::LLAMA.0), tempfile::tempdir().unwrap());
    let config = json!({ "target_modules": ["q_proj"] });
    write_adapter(first.path(), base.path(), &config, &QUERIES);
    let second = tempfile::tempdir().unwrap();
    write_adapter(second.path(), first.path(), &config, &QUERIES);
    let said = said(second.path())
        .replace(&base.path().display().to_string(), "BASE")
        .replace(&first.path().display().to_string(), "FIRST");
    insta::assert_snapshot!(said, @"A: expected the adapter of a whole model, found that of another adapter, FIRST; merge that one first: exalign merge --model BASE --adapter FIRST --out FOLDER");
}

#[test]
fn an_adapters_tokenizer_comes_before_its_bases_and_its_settings_count_as_content() {
    let (base, adapter) = (formula_folder(families::LLAMA.0), tempfile::tempdir().unwrap());
    let write = |alpha: u32| {
        let config = json!({ "target_modules": ["q_proj"], "lora_alpha": alpha });
        write_adapter(adapter.path(), base.path(), &config, &QUERIES);
        ModelFolder::open(adapter.path()).unwrap()
    };
    let folder = write(5);
    assert_eq!(folder.tokenizer_folder(), folder.path);
    std::fs::write(adapter.path().join("tokenizer.json"), "{}").unwrap();
    assert_eq!(folder.tokenizer_folder(), adapter.path());
    let first = folder.content_hash().unwrap();
    assert_eq!(write(5).content_hash().unwrap(), first);
    assert_ne!(write(6).content_hash().unwrap(), first);
    assert_ne!(ModelFolder::open(base.path()).unwrap().content_hash().unwrap(), first);
}

#[test]
fn an_adapters_end_tokens_come_before_its_bases() {
    let (base, adapter) = (formula_folder(families::LLAMA.0), tempfile::tempdir().unwrap());
    let config = json!({ "target_modules": ["q_proj"] });
    write_adapter(adapter.path(), base.path(), &config, &QUERIES);
    let ends = |folder: &Path, tokens: Value| {
        let config = json!({ "eos_token_id": tokens }).to_string();
        std::fs::write(folder.join("generation_config.json"), config).unwrap();
        ModelFolder::open(adapter.path()).unwrap().shape.end_of_text
    };
    assert_eq!(ends(base.path(), json!([10, 4])), [10, 4]);
    assert_eq!(ends(adapter.path(), json!([7])), [10, 7]);
    let loaded = load(adapter.path(), &Device::flex());
    assert_eq!(loaded.config().end_of_text, [10, 7]);
}

#[test]
fn a_merge_carries_the_adapters_tokenizer_and_the_bases_generation_settings() {
    let place = place_with_adapter(&json!({ "target_modules": ["c_attn"] }));
    let tokenizer = |words: Value| {
        json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
            "model": { "type": "WordLevel", "vocab": words, "unk_token": "a" },
        })
        .to_string()
    };
    place.write("model/tokenizer.json", &tokenizer(json!({ "a": 0, "b": 1 })));
    place.write("model/generation_config.json", r#"{"eos_token_id": [22, 5]}"#);
    let own = tokenizer(json!({ "a": 0, "b": 1, "c": 2 }));
    place.write("adapter/tokenizer.json", &own);
    place.write("adapter/chat_template.jinja", "{{ messages }}");

    place.succeeds("merge --model model --adapter adapter --out merged");
    let read = |name: &str| std::fs::read_to_string(place.path("merged").join(name)).unwrap();
    assert_eq!(read("tokenizer.json"), own);
    assert_eq!(read("chat_template.jinja"), "{{ messages }}");
    let merged = ModelFolder::open(place.path("merged")).unwrap();
    assert_eq!(merged.shape.end_of_text, [22, 5]);
    assert_eq!(
        next_token_log_probs(&place.path("merged")),
        next_token_log_probs(&place.path("adapter"))
    );
}

#[test]
fn a_merge_that_is_refused_leaves_no_folder() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 4, 2);
    place.succeeds(
        "align --objective exo-rw --model model --data groups.jsonl --out aligned --lora-rank 2 --max-steps 1",
    );
    let weights = place.path("aligned/model/adapter_model.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes[..bytes.len() - 4]).unwrap();
    let said = place.refuses("merge --model model --adapter aligned/model --out merged", 1);
    assert!(said.contains("adapter_model.safetensors"), "{said}");
    assert!(!place.path("merged").exists());
}

/// Factors of the queries, and a head trained whole.
const QUERIES_AND_HEAD: [(&str, &[usize]); 5] = [
    ("model.layers.0.self_attn.q_proj.lora_A.weight", &[2, 8]),
    ("model.layers.0.self_attn.q_proj.lora_B.weight", &[16, 2]),
    ("model.layers.1.self_attn.q_proj.lora_A.weight", &[2, 8]),
    ("model.layers.1.self_attn.q_proj.lora_B.weight", &[16, 2]),
    ("lm_head.weight", &[11, 8]),
];

#[test]
fn names_as_a_training_or_a_bare_model_has_them_are_the_same_adapter() {
    let config = json!({ "target_modules": ["q_proj"], "modules_to_save": ["lm_head"] });
    let found = |rename: &dyn Fn(&str) -> String| {
        log_probs_with(families::LLAMA, &config, &QUERIES_AND_HEAD, |written| {
            written.iter_mut().for_each(|(name, ..)| *name = rename(name));
        })
    };
    let plain = found(&str::to_owned);
    let named = |name: &str| {
        name.replace("_A.weight", "_A.default.weight")
            .replace("_B.weight", "_B.default.weight")
            .replace("lm_head.weight", "lm_head.modules_to_save.default.weight")
    };
    for rename in [
        &named as &dyn Fn(&str) -> String,
        &|name: &str| name.replace("base_model.model.", ""),
        &|name: &str| format!("module.{name}"),
        // Of AutoModel, which has no name for the model within.
        &|name: &str| name.replace("base_model.model.model.", "base_model.model."),
    ] {
        assert_eq!(found(rename), plain, "{}", rename("base_model.model.model.a.lora_A.weight"));
    }
}

#[test]
fn tensors_that_were_not_gathered_and_values_of_settings_are_shown_as_they_stand() {
    let queries = json!({ "target_modules": ["q_proj"] });
    let empty: [(&str, &[usize]); 2] = [(QUERIES[0].0, &[0]), (QUERIES[1].0, &[0])];
    let said = refusal(queries.clone(), &empty);
    let start = "A/adapter_model.safetensors: `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`: \
                 expected weights, found a tensor of shape [0], as DeepSpeed's ZeRO-3 saves it";
    assert!(said.starts_with(start) && said.contains("zero_to_fp32.py"), "{said}");
    let deep: [(&str, &[usize]); 2] = [(QUERIES[0].0, &[2, 8, 1]), QUERIES[1]];
    let said = refusal(queries, &deep);
    assert!(said.contains("expected a matrix, found [2, 8, 1];"), "{said}");
    let text = json!({ "target_modules": ["q_proj"], "r": "4" });
    let said = refusal(text, &QUERIES);
    assert!(said.ends_with("`r`: expected a positive number, found \"4\""), "{said}");
}

#[test]
fn factors_of_a_tied_head_of_more_tokens_bring_the_embedding_of_as_many() {
    let config = json!({ "target_modules": ["lm_head"] });
    let tensors: [(&str, &[usize]); 4] = [
        ("lm_head.base_layer.weight", &[13, 8]),
        ("lm_head.lora_A.weight", &[2, 8]),
        ("lm_head.lora_B.weight", &[13, 2]),
        ("model.embed_tokens.weight", &[13, 8]),
    ];
    // The same with the embedding written out, which is the head before the training.
    let expected = log_probs_with(families::QWEN2, &config, &tensors, |written| {
        written[3].2 = written[0].2.clone();
    });
    assert_eq!(log_probs_with(families::QWEN2, &config, &tensors[..3], |_| ()), expected);
    insta::assert_snapshot!(refusal(config, &tensors[..3]), @"A/adapter_model.safetensors: expected the same vocabulary in `model.embed_tokens` and `lm_head`, found 13 tokens in the adapter's head, and no embedding but that of the base, of 11 tokens; save the adapter with `embed_tokens` among target_modules or modules_to_save, too");
}

/// What is said on standard error by a command that must succeed.
fn said_by(place: &Workplace, command: &str) -> String {
    let output = place.exalign().args(command.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stderr)
}

#[test]
fn an_adapter_without_factors_is_refused_and_one_without_some_is_told_of() {
    let said = refusal(json!({ "target_modules": ["q_proj"] }), &[]);
    assert!(said.contains("expected the factors of adapters, found no tensor at all"), "{said}");
    assert!(said.contains("ZeRO-3"), "{said}");

    let place = Workplace::new();
    place.groups("groups.jsonl", 2, 2);
    let adapter = place.path("adapter");
    std::fs::create_dir(&adapter).unwrap();
    let factors: [(&str, &[usize]); 2] = [
        ("transformer.h.0.attn.c_attn.lora_A.weight", &[2, 16]),
        ("transformer.h.0.attn.c_attn.lora_B.weight", &[48, 2]),
    ];
    let told = |config: Value| {
        write_adapter(&adapter, &place.path("model"), &config, &factors);
        said_by(&place, "score --model adapter --data groups.jsonl")
    };
    let said = told(json!({ "target_modules": ["c_attn"] }));
    assert!(said.contains("the factors of the 2 modules"), "{said}");
    assert!(said.contains("found those of 1."), "{said}");
    assert!(said.contains("unchanged in transformer.h.1.attn.c_attn. Save"), "{said}");
    let said = told(json!({ "target_modules": ["c_attn"], "layers_to_transform": [0] }));
    assert!(!said.contains("expected the factors"), "{said}");
}

/// A place with an adapter of its model.
fn place_with_adapter(config: &Value) -> Workplace {
    let place = Workplace::new();
    let adapter = place.path("adapter");
    std::fs::create_dir(&adapter).unwrap();
    let factors: [(&str, &[usize]); 2] = [
        ("transformer.h.*.attn.c_attn.lora_A.weight", &[2, 16]),
        ("transformer.h.*.attn.c_attn.lora_B.weight", &[48, 2]),
    ];
    write_adapter(&adapter, &place.path("model"), config, &factors);
    place
}

#[test]
fn a_chat_template_of_the_base_is_told_of_where_the_adapters_folder_has_none() {
    let place = place_with_adapter(&json!({ "target_modules": ["c_attn"] }));
    place.with_letters("abcd");
    std::fs::copy(place.path("model/tokenizer.json"), place.path("adapter/tokenizer.json"))
        .unwrap();
    let messages = |role: &str, text: &str| json!([{ "role": role, "content": text }]);
    let pair = json!({
        "prompt": messages("user", "a"), "chosen": messages("assistant", "b"),
        "rejected": messages("assistant", "c"),
    });
    place.lines("pairs.jsonl", [pair]);
    let said = || place.refuses("score --model adapter --data pairs.jsonl", 1);
    assert!(
        said().contains("found none in its folder; put a chat_template.jinja there, or"),
        "{}",
        said()
    );
    place.write("model/chat_template.jinja", "{{ messages }}");
    let said = said();
    assert!(
        said.contains("found none in the adapter's folder, whose tokenizer is read; copy"),
        "{said}"
    );
    assert!(said.contains("model/chat_template.jinja, or write the conversation out"), "{said}");
}

#[test]
fn a_merge_into_another_model_than_the_adapter_names_says_so() {
    for (name, is_told) in
        [(json!("owner/other"), true), (json!("../model"), false), (Value::Null, false)]
    {
        let config = json!({ "target_modules": ["c_attn"], "base_model_name_or_path": name });
        let place = place_with_adapter(&config);
        let said = said_by(&place, "merge --model model --adapter adapter --out merged");
        assert_eq!(said.contains("the adapter was trained on `owner/other`"), is_told, "{said}");
        assert_eq!(said.contains("the adapter was trained on"), is_told, "{said}");
    }
}
