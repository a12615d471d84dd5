//! Claims about shards: put together they are, to the byte, what one process writes, and what is
//! not the whole of one stage is refused with the reason.

use crate::support::Workplace;
use serde_json::{Value, json};

/// A tiny model, a reward model, prompts and groups of many lengths.
fn workplace() -> Workplace {
    let place = Workplace::new();
    place.groups("groups.jsonl", 150, 3);
    let prompt =
        |i: usize| -> Vec<usize> { (0..1 + (i * 5) % 9).map(|t| (i + 3 * t) % 22).collect() };
    place.lines("prompts.jsonl", (0..61).map(|i| json!({"id": i, "prompt_ids": prompt(i)})));
    place.lines(
        "pairs.jsonl",
        (0..8).map(|i| json!({"prompt_ids": [i], "chosen_ids": [i + 1, 22], "rejected_ids": [i + 2, 3, 22]})),
    );
    place.succeeds("reward --model model --data pairs.jsonl --out reward --batch-size 8");
    place
}

/// Runs `command` whole and in `count` shards, and merges them last first; what merging prints.
fn merged(place: &Workplace, command: &str, count: usize) -> (Value, Value) {
    let parse = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
    let whole = place.succeeds(&format!("{command} --out whole.jsonl"));
    let mut shards = Vec::new();
    for index in (1..=count).rev() {
        let out = format!("{index}.jsonl");
        place.succeeds(&format!("{command} --shard {index}/{count} --out {out}"));
        shards.push(out);
    }
    let merged = place.succeeds(&format!("merge-shards {} --out merged.jsonl", shards.join(" ")));
    let read = |name: &str| std::fs::read_to_string(place.path(name)).unwrap();
    assert!(!read("whole.jsonl").is_empty());
    assert!(read("1.jsonl").lines().count() < read("whole.jsonl").lines().count());
    assert_eq!(read("merged.jsonl"), read("whole.jsonl"), "{command}");
    // The merged output counts as the stage's own: asked for again, it is not made again.
    let made = || std::fs::metadata(place.path("merged.jsonl")).unwrap().modified().unwrap();
    let before = made();
    place.succeeds(&format!("{command} --out merged.jsonl"));
    assert_eq!(made(), before);
    (without_times(parse(&merged)), without_times(parse(&whole)))
}

fn without_times(mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.remove("seconds");
    }
    value
}

#[test]
fn shards_of_samples_put_together_are_the_samples_of_one_process() {
    let place = workplace();
    let command = "sample --model model --data prompts.jsonl --completions 3 --max-new-tokens 6 \
         --set generation.batch_size=8 --seed 4";
    let (merged, whole) = merged(&place, command, 3);
    assert_eq!(merged, whole);
    assert_eq!(merged["groups"], 61);
}

#[test]
fn shards_of_labels_put_together_are_the_labels_of_one_process() {
    let place = workplace();
    let (merged, whole) = merged(&place, "label --reward reward --data groups.jsonl", 4);
    assert_eq!(merged, whole);
}

#[test]
fn shards_of_scores_put_together_are_the_scores_of_one_process() {
    let place = workplace();
    merged(&place, "score --model model --data groups.jsonl --per-token --temperature 0.7", 5);
}

#[test]
fn shards_of_an_evaluation_put_together_are_the_evaluation_of_one_process() {
    let place = workplace();
    let command = "evaluate --policy model --reference model --reward reward --data prompts.jsonl \
         --completions 3 --max-new-tokens 6 --set generation.batch_size=8 --seed 4";
    let (merged, whole) = merged(&place, command, 3);
    assert_eq!(merged, whole);
    assert!(merged["reward"]["mean"].is_number(), "{merged}");
}

#[test]
fn what_is_not_the_whole_of_one_stage_is_refused() {
    let place = workplace();
    let score = |rest: &str| {
        place.succeeds(&format!("score --model model --data groups.jsonl {rest}"));
    };
    score("--shard 1/3 --out 1.jsonl");
    score("--shard 2/3 --out 2.jsonl");
    score("--shard 2/3 --out copy.jsonl");
    score("--shard 3/3 --out 3.jsonl");
    score("--shard 3/3 --out other.jsonl --temperature 0.5");
    score("--out whole.jsonl");
    let refuses = |files: &str, code: i32| {
        place.refuses(&format!("merge-shards {files} --out merged.jsonl"), code)
    };
    insta::assert_snapshot!(refuses("2.jsonl 3.jsonl", 2), @"error: shard 1/3 is missing; run the stage with --shard 1/3");
    insta::assert_snapshot!(refuses("1.jsonl 3.jsonl", 2), @"error: shard 2/3 is missing; run the stage with --shard 2/3");
    insta::assert_snapshot!(refuses("1.jsonl 2.jsonl copy.jsonl 3.jsonl", 2), @"error: shard 2/3 is there twice: 2.jsonl and copy.jsonl");
    insta::assert_snapshot!(refuses("1.jsonl 2.jsonl other.jsonl", 2), @"error: 1.jsonl and other.jsonl are not shards of one stage: temperature: 1.0 → 0.5");
    insta::assert_snapshot!(refuses("1.jsonl 2.jsonl whole.jsonl", 1), @"error: whole.jsonl: expected the output of a stage with --shard, found one of all records");
    insta::assert_snapshot!(refuses("1.jsonl nothing.jsonl", 1), @"error: nothing.jsonl: expected a shard's output with its record nothing.jsonl.run.json, found none; run its stage with --shard, and keep both files");
    let text = std::fs::read_to_string(place.path("2.jsonl")).unwrap();
    place.write("2.jsonl", &text.replacen("log_probs", "log_props", 1));
    insta::assert_snapshot!(refuses("1.jsonl 2.jsonl 3.jsonl", 1), @"error: 2.jsonl: its content has changed since the shard was written; make it again with --fresh");
    assert!(!place.path("merged.jsonl").exists());
}

#[test]
fn more_shards_than_there_is_work_for_are_refused_before_anything_is_done() {
    let place = workplace();
    let message = place.refuses(
        "sample --model model --data prompts.jsonl --out out.jsonl --completions 2 --max-new-tokens 4 \
         --set generation.batch_size=32 --shard 3/5",
        2,
    );
    insta::assert_snapshot!(message, @"error: --shard 3/5: expected at most 2 shards, since the 61 records are worked on 32 at a time; use fewer, or for samples a smaller generation.batch_size");
    assert!(!place.path("out.jsonl").exists());
}
