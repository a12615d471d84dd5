//! Claims about what trainings take of memory: it is told before they begin, they are cut to fit, and what
//! cannot fit is refused.

use serde_json::{Value, json};

use crate::support::{Workplace, metrics};

fn align(out: &str, more: &str) -> String {
    format!(
        "align --objective exo-rw --model model --data groups.jsonl --out {out} --batch-size 4 \
         --learning-rate 1e-2 {more}"
    )
}

fn workplace() -> Workplace {
    let place = Workplace::new();
    place.groups("groups.jsonl", 8, 4);
    place
}

#[test]
fn a_dry_run_tells_what_a_training_takes_and_writes_nothing() {
    let place = workplace();
    let plan = |more: &str| -> Value {
        serde_json::from_str(&place.succeeds(&align("out", &format!("--dry-run {more}")))).unwrap()
    };
    let number = |plan: &Value, name: &str| plan[name].as_u64().unwrap();
    let whole = plan("");
    assert_eq!(number(&whole, "parameters"), number(&whole, "trained"));
    assert_eq!(whole["recompute"], false);
    let parts = ["weights", "gradients", "moments", "activations", "working"];
    let sum: u64 = parts.iter().map(|name| number(&whole, name)).sum();
    assert_eq!(number(&whole, "total"), sum);
    let adapted = plan("--lora-rank 2 --base-dtype q4 --set training.recompute=always");
    assert!(number(&adapted, "weights") < number(&whole, "weights") / 2);
    assert!(number(&adapted, "gradients") < number(&whole, "gradients"));
    assert!(number(&adapted, "activations") < number(&whole, "activations"));
    assert_eq!(adapted["recompute"], true);
    let one = plan("--micro-batch-size 1 --set training.micro_completions=1");
    assert!(number(&one, "tokens") < number(&whole, "tokens") / 4);
    assert_eq!(plan("--micro-batch-size 0")["micro_batch_size"], 4);
    assert!(!place.path("out").exists());
}

#[test]
fn a_dry_run_tells_what_a_drawing_takes_and_writes_nothing() {
    let place = workplace();
    let prompts = [[1, 2].as_slice(), &[3, 4, 5, 6], &[7]].map(|ids| json!({"prompt_ids": ids}));
    place.lines("prompts.jsonl", prompts);
    let sample = |more: &str| {
        format!(
            "sample --model model --data prompts.jsonl --out drawn.jsonl --max-new-tokens 8 --dry-run {more}"
        )
    };
    let plan =
        |more: &str| -> Value { serde_json::from_str(&place.succeeds(&sample(more))).unwrap() };
    let number = |plan: &Value, name: &str| plan[name].as_u64().unwrap();
    let two = plan("--completions 2");
    assert_eq!((number(&two, "batch_size"), number(&two, "samples")), (3, 6));
    let parts = ["weights", "prompts", "completions", "working"];
    let sum: u64 = parts.iter().map(|name| number(&two, name)).sum();
    assert_eq!(number(&two, "total"), sum);
    // Six completions of eight tokens beside three prompts that are padded to four.
    assert_eq!(number(&two, "completions"), 4 * number(&two, "prompts"));
    let more = plan("--completions 6");
    assert_eq!(number(&more, "completions"), 3 * number(&two, "completions"));
    assert_eq!(number(&more, "prompts"), number(&two, "prompts"), "encoded once for all");
    let one = plan("--completions 2 --set generation.batch_size=1");
    assert_eq!(3 * number(&one, "prompts"), number(&two, "prompts"));
    assert!(number(&plan("--dtype q4"), "weights") < number(&two, "weights") / 2);
    assert!(!place.path("drawn.jsonl").exists());

    let many = "--completions 1000000000 --set generation.batch_size=2";
    let refused = place.refuses(&sample(many).replace(" --dry-run", ""), 2);
    assert!(refused.contains("the drawing: expected what fits in the "), "{refused}");
    assert!(refused.contains("draw fewer or shorter completions"), "{refused}");
}

#[test]
fn what_saves_memory_changes_no_result_but_by_rounding() {
    let place = workplace();
    for adapters in ["", "--lora-rank 2"] {
        place.succeeds(&align("kept", &format!("{adapters} --fresh")));
        let kept = metrics(&place.path("kept"));
        for more in [
            "--set training.recompute=always",
            "--set training.micro_completions=1",
            "--set training.micro_completions=3 --set training.recompute=always --micro-batch-size 0",
        ] {
            place.succeeds(&align("again", &format!("{adapters} {more} --fresh")));
            let again = metrics(&place.path("again"));
            assert_eq!(kept.len(), again.len());
            for (kept, again) in kept.iter().zip(&again) {
                for name in ["loss", "grad_norm"] {
                    let [kept, again] = [kept, again].map(|line| line[name].as_f64().unwrap());
                    assert!(
                        (kept - again).abs() < 1e-5 * kept.abs().max(1.0),
                        "{more}: {kept} {again}"
                    );
                }
            }
        }
    }
}

#[test]
fn adapters_are_trained_beside_weights_in_few_bits_and_read_by_every_command() {
    let place = workplace();
    place.groups("pairs.jsonl", 8, 2);
    place.succeeds(
        "align --objective dpo --beta-policy 1 --model model --data pairs.jsonl --out q4 --batch-size 8 \
         --learning-rate 5e-2 --epochs 30 --lora-rank 4 --base-dtype q4",
    );
    let lines = metrics(&place.path("q4"));
    let loss = |line: &Value| line["loss"].as_f64().unwrap();
    // At the start policy and reference are one, both in four bits: the loss is ln 2.
    assert!((loss(&lines[0]) - std::f64::consts::LN_2).abs() < 1e-6, "{:?}", lines[0]);
    assert!(loss(&lines[lines.len() - 1]) < 0.8 * loss(&lines[0]), "{lines:?}");
    for dtype in ["f32", "q8", "q4"] {
        let scored =
            place.succeeds(&format!("score --model q4/model --data groups.jsonl --dtype {dtype}"));
        assert_eq!(scored.lines().count(), 8);
    }
    place.lines("prompts.jsonl", [json!({"prompt_ids": [1, 2]})]);
    for dtype in ["q8", "q4"] {
        place.succeeds(&format!(
            "sample --model model --data prompts.jsonl --out {dtype}.jsonl --completions 2 \
             --max-new-tokens 4 --dtype {dtype}"
        ));
    }
}

#[test]
fn what_makes_no_sense_or_cannot_fit_is_refused() {
    let place = workplace();
    insta::assert_snapshot!(place.refuses(&align("out", "--base-dtype q4"), 2), @"error: `--base-dtype`: expected f32 where the whole model is trained, found q4; train adapters beside frozen weights (--lora-rank 16), or leave it out");
    insta::assert_snapshot!(place.refuses(&align("out", "--lora-rank 2 --base-dtype q5"), 2), @r#"error: `--base-dtype`: expected one of f32, bf16, f16, q8, q4, found "q5""#);
    place.huge();
    let refused =
        place.refuses(&align("out", "--dry-run").replace("--model model", "--model huge"), 2);
    assert!(refused.contains("of free memory, found about "), "{refused}");
    assert!(refused.ends_with("take a smaller model, or a larger machine"), "{refused}");
    assert!(!place.path("out").exists());
}
