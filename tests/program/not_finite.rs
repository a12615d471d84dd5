//! Claims about numbers that are not finite: none becomes a result, whatever it came from.

use std::path::Path;

use crate::support::Workplace;
use serde_json::{Value, json};

/// What reads a model and says something of it, with what it needs.
const STAGES: [&str; 8] = [
    "sample --model model --data prompts.jsonl --out sampled --max-new-tokens 3",
    "score --model model --data groups.jsonl",
    "label --reward rewarder --data groups.jsonl --out labelled",
    "judge --judge reward:rewarder --data pairs.jsonl",
    "evaluate --policy model --reference good --reward good-rewarder --data prompts.jsonl --max-new-tokens 3",
    "evaluate --policy good --reference model --reward good-rewarder --data prompts.jsonl --max-new-tokens 3",
    "evaluate --policy good --reference good --reward rewarder --data prompts.jsonl --max-new-tokens 3",
    "align --objective exo-rw --model model --data groups.jsonl --out trained --set training.max_steps=1",
];

fn material() -> Workplace {
    let place = Workplace::new();
    place.groups("groups.jsonl", 3, 2);
    place.lines("prompts.jsonl", (1..4).map(|it| json!({ "prompt_ids": [it, it] })));
    place.lines(
        "pairs.jsonl",
        (1..4).map(|it| json!({ "prompt_ids": [it], "completion_ids": [[it, 2], [3, it, 1]] })),
    );
    place.lines(
        "labels.jsonl",
        (1..4).map(|it| json!({ "prompt_ids": [it], "completion_ids": [it, 1], "label": it == 2 })),
    );
    place
        .succeeds("reward --model model --data labels.jsonl --out made --set training.max_steps=1");
    std::fs::rename(place.path("made/model"), place.path("rewarder")).unwrap();
    for (from, to) in [("model", "good"), ("rewarder", "good-rewarder")] {
        std::fs::create_dir(place.path(to)).unwrap();
        for entry in std::fs::read_dir(place.path(from)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), place.path(to).join(entry.file_name())).unwrap();
        }
    }
    place
}

/// Writes `value` as the entry `index` of an f32 tensor whose name ends with `name`.
fn set(weights: &Path, name: &str, index: usize, value: f32) {
    let mut bytes = std::fs::read(weights).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let json: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let (_, tensor) = json.as_object().unwrap().iter().find(|(it, _)| it.ends_with(name)).unwrap();
    let start = 8 + header + tensor["data_offsets"][0].as_u64().unwrap() as usize + 4 * index;
    bytes[start..start + 4].copy_from_slice(&value.to_le_bytes());
    std::fs::write(weights, bytes).unwrap();
}

fn set_in_both(place: &Workplace, value: f32) {
    for model in ["model", "rewarder"] {
        set(&place.path(model).join("model.safetensors"), "ln_f.weight", 3, value);
    }
}

#[test]
fn weights_that_are_not_finite_are_told_at_loading() {
    for (value, found) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let place = material();
        set_in_both(&place, value);
        for stage in STAGES {
            let message = place.refuses(stage, 1);
            let expected =
                format!("ln_f.weight`: expected finite numbers, found {found} at entry 3;");
            assert!(message.contains(&expected), "{stage}: {message}");
        }
        let info = place.succeeds("info --model model");
        assert!(info.contains("expected finite numbers"), "{info}");
        let checked = place.refuses("check --model model --data groups.jsonl", 1);
        assert!(checked.contains("expected finite numbers"), "{checked}");
    }
}

#[test]
fn weights_that_make_numbers_overflow_end_every_stage_with_the_record_at_fault() {
    let place = material();
    set_in_both(&place, 3e38);
    for stage in STAGES {
        let message = place.refuses(stage, 1);
        let record = ["g0: ", "prompt 1: ", "line ", "step 1: "];
        assert!(record.iter().any(|it| message.contains(it)), "{stage}: {message}");
        assert!(message.contains("finite") || message.contains("NaN"), "{stage}: {message}");
    }
    assert!(!place.path("sampled").exists() && !place.path("labelled").exists());
    assert!(!place.path("trained/model").exists());
}

#[test]
fn a_weight_that_f16_cannot_hold_is_refused_in_f16_alone() {
    let place = material();
    set(&place.path("model/model.safetensors"), "ln_f.weight", 0, 1.0);
    set(&place.path("model/model.safetensors"), "wte.weight", 0, 1e5);
    let message = place.refuses("score --model model --data groups.jsonl --dtype f16", 2);
    insta::assert_snapshot!(message, @"error: dtype f16: expected weights up to 65504, found larger ones in `transformer.wte.weight`; keep the weights as bf16 or f32 (--dtype bf16)");
    place.succeeds("score --model model --data groups.jsonl --dtype bf16");
}

#[test]
fn an_adapter_that_counts_too_much_is_refused() {
    let place = material();
    place.succeeds(
        "align --objective exo-rw --model model --data groups.jsonl --out adapter --lora-rank 2 \
         --set training.max_steps=2 --set training.epochs=2",
    );
    let path = place.path("adapter/model/adapter_config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut settings: Value = serde_json::from_str(&text).unwrap();
    settings["lora_alpha"] = json!(1e44);
    std::fs::write(&path, settings.to_string()).unwrap();
    for stage in [
        "score --model adapter/model --data groups.jsonl",
        "sample --model adapter/model --data prompts.jsonl --out out --max-new-tokens 3",
        "merge --model model --adapter adapter/model --out merged",
    ] {
        let message = place.refuses(stage, 1);
        assert!(message.contains("finite") && message.contains("lora_alpha"), "{stage}: {message}");
    }
    assert!(!place.path("merged/model.safetensors").exists());
}

#[test]
fn a_training_that_leaves_the_numbers_writes_no_model_and_names_the_tensor() {
    let place = material();
    place.lines("sft.jsonl", (1..4).map(|it| json!({ "prompt_ids": [it], "chosen_ids": [it, 2] })));
    let stages = [
        "sft --model good --data sft.jsonl",
        "reward --model good --data labels.jsonl",
        "align --objective exo-rw --model good --data groups.jsonl",
    ];
    for (i, stage) in stages.iter().enumerate() {
        for rank in [0, 1] {
            let arguments = format!(
                "{stage} --out out-{i}-{rank} --lora-rank {rank} --learning-rate 1e300 --set training.max_steps=1 \
                 --set optimizer.warmup=0"
            );
            let message = place.refuses(&arguments, 1);
            let named = message.strip_prefix("error: `").and_then(|it| it.split_once('`'));
            let (tensor, problem) = named.expect(&message);
            assert!(tensor.ends_with("weight") || tensor.ends_with("bias"), "{message}");
            assert_eq!(tensor.starts_with("base_model."), rank == 1, "{message}");
            assert!(problem.starts_with(": expected finite weights to write"), "{message}");
            assert!(
                !place.path(&format!("out-{i}-{rank}/model/adapter_model.safetensors")).exists()
            );
            assert!(!place.path(&format!("out-{i}-{rank}/model/model.safetensors")).exists());
        }
    }
}

#[test]
fn a_kl_of_a_cut_distribution_is_refused() {
    let place = material();
    for flag in ["--top-p 0.5", "--top-k 3"] {
        let message = place.refuses(&format!(
            "evaluate --policy good --reference good --reward good-rewarder --data prompts.jsonl {flag}"
        ), 2);
        assert!(message.contains("the KL is that of the whole policy"), "{message}");
    }
}

#[test]
fn a_kl_at_temperature_zero_is_refused() {
    let place = material();
    let message = place.refuses(
        "evaluate --policy model --reference good --reward rewarder --data prompts.jsonl --temperature 0",
        2,
    );
    assert!(
        message.contains("generation.temperature: expected a number above 0, found 0"),
        "{message}"
    );
}
