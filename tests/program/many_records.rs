//! Claims about many records and large ones: what was computed of a record is used whatever stands beside it,
//! and a large row, a large group and a long prompt are read.

use serde_json::{Value, json};

use crate::support::{Workplace, json_lines, text};

/// Completions whose log-probs under the reference are computed by an alignment with the records of `name`.
fn computed(place: &Workplace, name: &str) -> usize {
    let align = format!(
        "align --objective exo-rw --model model --data {name} --out {name}.out --fresh -v \
         --set training.max_steps=1 --set training.batch_size=4"
    );
    let output = place.exalign().args(align.split_whitespace()).output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let line = said.lines().find(|line| line.contains("reference log-probs: ")).unwrap();
    let after = line.split("reference log-probs: ").nth(1).unwrap();
    if after.starts_with("all are in the store") {
        return 0;
    }
    after.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn rows_in_front_removed_or_shuffled_cost_only_what_is_new() {
    let place = Workplace::new();
    let group = |i: usize| {
        json!({
            "prompt_ids": [i % 22, i / 22, 3], "completion_ids": [[i % 7, 22], [8, i % 5, 22]],
            "rewards": [0.5, 1.5],
        })
    };
    let groups: Vec<Value> = (0..151).map(group).collect();
    let (new, known) = groups.split_last().unwrap();
    place.lines("known.jsonl", known.to_vec());
    assert_eq!(computed(&place, "known.jsonl"), 300);
    assert_eq!(computed(&place, "known.jsonl"), 0);
    place.lines("in-front.jsonl", [new].into_iter().chain(known).cloned());
    assert_eq!(computed(&place, "in-front.jsonl"), 2);
    place.lines("fewer.jsonl", known.iter().step_by(3).cloned());
    assert_eq!(computed(&place, "fewer.jsonl"), 0);
    place.lines("reversed.jsonl", groups.iter().rev().cloned());
    assert_eq!(computed(&place, "reversed.jsonl"), 0);
}

#[test]
fn a_row_of_many_megabytes_is_refused_with_the_setting_that_takes_it() {
    let place = Workplace::new();
    place.with_letters("abcdefgh ");
    let long = "ab cd ".repeat(1 << 20);
    let rows = [
        json!({"prompt": long, "chosen": "a", "rejected": "b"}),
        json!({"prompt": "a", "chosen": "b", "rejected": "c"}),
    ];
    place.lines("pairs.jsonl", rows);
    let score =
        "score --model model --data pairs.jsonl --out scores.jsonl --set data.max_length=30";
    let refused = place.refuses(&format!("{score} --set data.max_row_bytes=4000000"), 1);
    assert!(
        refused.contains("pairs.jsonl:1: expected at most 4000000 bytes in a row")
            && refused.contains("raise data.max_row_bytes"),
        "{refused}"
    );
    place.succeeds(score);
    assert_eq!(json_lines(&place.path("scores.jsonl")).len(), 2);
}

#[test]
fn a_group_of_64_completions_has_the_log_probs_of_its_completions_one_by_one() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 3, 64);
    let groups = json_lines(&place.path("groups.jsonl"));
    let single = |group: &Value, i: usize| json!({"prompt_ids": group["prompt_ids"], "completion_ids": [group["completion_ids"][i]]});
    place.lines("single.jsonl", groups.iter().flat_map(|group| (0..64).map(|i| single(group, i))));
    for name in ["groups", "single"] {
        place.succeeds(&format!("score --model model --data {name}.jsonl --out {name}.scores"));
    }
    let all = |name: &str| -> Vec<f64> {
        let lines = json_lines(&place.path(name));
        let log_probs = lines.iter().flat_map(|line| line["log_probs"].as_array().unwrap());
        log_probs.map(|value| value.as_f64().unwrap()).collect()
    };
    let (together, apart) = (all("groups.scores"), all("single.scores"));
    assert_eq!(together.len(), 3 * 64);
    for (one, other) in together.iter().zip(&apart) {
        // Sums of a few f32 log-probs, in other batches.
        assert!((one - other).abs() < 1e-4, "{one} {other}");
    }
    assert_eq!(computed(&place, "groups.jsonl"), 3 * 64);
}
