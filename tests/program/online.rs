//! Claims about alignment on the policy's own samples: what a round draws, keeps and teaches, and that nothing of it
//! is lost.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::resume::{started, until_done};
use crate::support::{Workplace, json_lines, text};

/// Rewards a completion by how many of its tokens are even, a quarter each.
const EVEN: &str = r#"#!/bin/sh
while IFS= read -r line; do
    printf '%s\n' "$line" | awk '{
        ids = $0; sub(/.*"completion_ids":\[\[/, "", ids); sub(/\]\].*/, "", ids)
        n = split(ids, lists, /\],\[/); out = ""
        for (i = 1; i <= n; i++) {
            m = split(lists[i], tokens, ","); even = 0
            for (j = 1; j <= m; j++) if (tokens[j] % 2 == 0) even++
            out = out (i > 1 ? "," : "") even / 4
        }
        printf "{\"rewards\":[%s]}\n", out
    }'
done
"#;

const ROUNDS: &str = "--set generation.completions=5 --max-new-tokens 6 --prompts-per-round 4 --learning-rate 1e-2 --batch-size 4 \
     --micro-batch-size 3 --set checkpoint.every=2 --seed 3";

/// A folder with a model, prompts and a program that rewards.
pub fn workplace() -> Workplace {
    let place = Workplace::new();
    let prompt =
        |i: usize| json!({ "id": format!("p{i}"), "prompt_ids": [(i * 5) % 22, (i * 7 + 1) % 22] });
    place.lines("prompts.jsonl", (0..10).map(prompt));
    let path = place.write("even.sh", EVEN);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    place
}

pub fn online(objective: &str, out: &str, rounds: usize) -> String {
    format!(
        "align --online --objective {objective} --model model --data prompts.jsonl --reward command:./even.sh \
         --out {out} --rounds {rounds} {ROUNDS}"
    )
}

/// The lines of metrics without times and memory.
pub fn metrics(place: &Workplace, out: &str) -> Vec<Value> {
    let mut lines = crate::support::metrics(&place.path(out));
    for line in &mut lines {
        line.as_object_mut().unwrap().retain(|key, _| !key.ends_with("_seconds"));
    }
    lines
}

pub fn round(place: &Workplace, out: &str, number: usize) -> Vec<Value> {
    json_lines(&place.path(out).join(format!("rounds/round-{number:04}.jsonl")))
}

pub fn figure(line: &Value, name: &str) -> f64 {
    line[name].as_f64().unwrap_or_else(|| panic!("{name} in {line}"))
}

#[test]
fn rounds_are_kept_as_records_and_the_policy_learns_from_them() {
    let place = workplace();
    place.succeeds(&format!("{} --beta-policy 1 --beta-reward 0.3", online("exo-rw", "out", 30)));
    let lines = metrics(&place, "out");
    assert_eq!(lines.len(), 30);
    assert!(figure(&lines[29], "reward") > figure(&lines[0], "reward") + 0.25, "{lines:?}");
    let first = &lines[0];
    // The policy is π_sft when it begins, and its samples are its own.
    assert!(figure(first, "drift").abs() < 1e-5, "{first}");
    assert!((figure(first, "effective_sample_size") - 5.0).abs() < 1e-4, "{first}");
    let groups = round(&place, "out", 1);
    assert_eq!(groups.len(), 4);
    for group in &groups {
        for (i, ids) in group["completion_ids"].as_array().unwrap().iter().enumerate() {
            let ids = ids.as_array().unwrap();
            let even = ids.iter().filter(|id| id.as_u64().unwrap() % 2 == 0).count();
            assert_eq!(group["rewards"][i].as_f64().unwrap(), even as f64 / 4.0, "{group}");
            assert_eq!(group["log_probs"][i].as_array().unwrap().len(), ids.len());
        }
    }
    // Its deviation is that of a sample, as torch's `std`.
    let rewards = groups.iter().flat_map(|it| it["rewards"].as_array().unwrap().clone());
    let rewards: Vec<f64> = rewards.map(|it| it.as_f64().unwrap()).collect();
    let mean = rewards.iter().sum::<f64>() / 20.0;
    let squares: f64 = rewards.iter().map(|it| (it - mean).powi(2)).sum();
    assert!((figure(first, "reward") - mean).abs() < 1e-12, "{first}");
    assert!((figure(first, "reward_std") - (squares / 19.0).sqrt()).abs() < 1e-12, "{first}");
    // Any objective learns from them afterwards, and knows who drew them.
    let later = |objective: &str| {
        let data = "--data out/rounds/round-0030.jsonl --batch-size 4";
        place.succeeds(&format!(
            "align --objective {objective} --model model {data} --out {objective}"
        ));
        metrics(&place, objective).remove(0)
    };
    assert!(figure(&later("dpo-rw"), "effective_sample_size") < 4.9);
    assert!(later("dpo-list").get("effective_sample_size").is_none());
    later("grpo");
}

#[test]
fn what_is_recorded_at_the_draw_is_what_the_model_that_drew_says_afterwards() {
    let place = workplace();
    place.succeeds(&online("exo-rw", "out", 1));
    place.succeeds(
        "score --model model --data out/rounds/round-0001.jsonl --per-token --out scored.jsonl",
    );
    let scored = json_lines(&place.path("scored.jsonl"));
    let mut compared = 0;
    for (scored, group) in scored.iter().zip(round(&place, "out", 1)) {
        for (i, list) in scored["token_log_probs"].as_array().unwrap().iter().enumerate() {
            for (t, scored) in list.as_array().unwrap().iter().enumerate() {
                let drawn = group["log_probs"][i][t].as_f64().unwrap();
                assert!((scored.as_f64().unwrap() - drawn).abs() < 1e-4, "{scored} and {drawn}");
                compared += 1;
            }
        }
    }
    assert!(compared > 50);
}

#[test]
fn exo_on_its_own_samples_begins_as_rloo_does_up_to_the_factor() {
    let place = workplace();
    let (k, beta) = (5.0, 0.3);
    let norm = |objective: &str| {
        let numbers = "--beta-policy 1 --beta-reward 0.3 --set optimizer.clip_norm=0";
        place.succeeds(&format!("{} {numbers}", online(objective, objective, 1)));
        figure(&metrics(&place, objective)[0], "grad_norm")
    };
    let ratio = norm("exo-rw") / norm("rloo");
    assert!((ratio / ((k - 1.0) / (k * beta)) - 1.0).abs() < 1e-3, "{ratio}");
}

#[test]
fn rounds_killed_at_any_moment_end_with_the_same_samples_and_the_same_weights() {
    let place = workplace();
    let trials = [("exo-rw", "--steps-per-round 2"), ("exo-pref", ""), ("rloo", "--lora-rank 2")];
    for (objective, more) in trials {
        let (whole, killed) = (format!("{objective}-whole"), format!("{objective}-killed"));
        let command = |out: &str| format!("{} {more}", online(objective, out, 4));
        place.succeeds(&command(&whole));
        let kills = until_done(&place, &command(&killed), |kills| {
            Duration::from_millis(12 + 9 * kills as u64)
        });
        assert!(kills > 1, "{objective}: {kills} kills are no trial");
        assert_eq!(metrics(&place, &killed), metrics(&place, &whole), "{objective}");
        for number in 1..=4 {
            assert_eq!(round(&place, &killed, number), round(&place, &whole, number));
        }
        let name = if more.contains("lora") { "adapter_model" } else { "model" };
        let weights = |out: &str| {
            std::fs::read(place.path(out).join(format!("model/{name}.safetensors"))).unwrap()
        };
        assert!(weights(&killed) == weights(&whole), "{objective}: the weights differ");
    }
}

#[test]
fn samples_depend_neither_on_the_batch_nor_on_threads_nor_on_where_the_reference_is() {
    let place = workplace();
    let command = |out: &str| format!("{} --beta-policy 1", online("exo-rw", out, 2));
    place.succeeds(&command("one"));
    let others = [
        ("batch", "--set generation.batch_size=1", "2"),
        ("threads", "", "1"),
        ("loaded", "--set online.reference=load", "2"),
    ];
    for (out, more, threads) in others {
        let mut started = place.exalign();
        let arguments = format!("{} {more}", command(out));
        started.args(arguments.split_whitespace()).env("RAYON_NUM_THREADS", threads);
        let output = started.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        for number in 1..=2 {
            let ids = |out: &str| -> Vec<Value> {
                let groups = round(&place, out, number).into_iter();
                groups.map(|group| group["completion_ids"].clone()).collect()
            };
            assert_eq!(ids(out), ids("one"), "{out}");
        }
    }
    assert_eq!(metrics(&place, "loaded"), metrics(&place, "one"));
}

#[test]
fn the_reference_of_adapters_is_the_policy_without_them() {
    let place = workplace();
    std::fs::create_dir(place.path("same")).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(place.path("model").join(file), place.path("same").join(file)).unwrap();
    }
    let command = |out: &str| format!("{} --lora-rank 3 --lora-alpha 24", online("exo-rw", out, 3));
    place.succeeds(&command("without"));
    // The same reference as a folder of its own.
    place.succeeds(&format!("{} --reference same", command("apart")));
    let [without, apart] = ["without", "apart"].map(|out| metrics(&place, out));
    assert!(figure(&without[2], "drift").abs() > 1e-3, "{}", without[2]);
    for (without, apart) in without.iter().zip(&apart) {
        for name in ["drift", "loss", "grad_norm"] {
            let (one, other) = (figure(without, name), figure(apart, name));
            assert!((one - other).abs() < 1e-5 * (1.0 + one.abs()), "{name}: {one} and {other}");
        }
    }
}

#[test]
fn two_devices_have_the_gradient_of_one() {
    let place = workplace();
    for objective in ["exo-rw", "grpo"] {
        let command = |out: &str| format!("{} --beta-policy 1", online(objective, out, 2));
        let (one, two) = (format!("{objective}-one"), format!("{objective}-two"));
        place.succeeds(&command(&one));
        place.succeeds(&format!("--device flex,flex {}", command(&two)));
        for (one, two) in metrics(&place, &one).iter().zip(&metrics(&place, &two)) {
            for name in ["loss", "grad_norm", "reward"] {
                let (one, two) = (figure(one, name), figure(two, name));
                assert!((one - two).abs() < 1e-4 * (1.0 + one.abs()), "{name}: {one} and {two}");
            }
        }
    }
}

#[test]
fn what_cannot_be_learned_so_is_refused_before_anything_is_drawn() {
    let place = workplace();
    let refused = |objective: &str, more: &str| {
        let refusal = place.refuses(&format!("{} {more}", online(objective, "out", 1)), 2);
        assert!(!place.path("out/rounds").exists(), "{refusal}");
        refusal
    };
    insta::assert_snapshot!(refused("kto", ""), @"error: --online: kto learns from labels, which no reward gives; choose an objective on rewards or pairs, or label the rounds of another training and run kto on them");
    insta::assert_snapshot!(refused("exo-rw", "--set generation.temperature=0"), @"error: generation.temperature: expected a number above 0, found 0: the completions of a prompt would all be the same");
    insta::assert_snapshot!(refused("exo-rw", "--completions 1"), @"error: generation.completions: expected at least 2, which are compared, found 1");
    insta::assert_snapshot!(refused("exo-rw", "--validation prompts.jsonl"), @"error: --validation prompts.jsonl: expected none with --online, whose rounds are of new samples; each round's `reward` and `drift` in metrics.jsonl tell how it goes");
    insta::assert_snapshot!(refused("exo-rw", "--kl-budget 3"), @"error: --online: expected no validation.share, checkpoint.best or --kl-budget, which need records with completions; each round's `reward` and `drift` in metrics.jsonl are of new samples");
    insta::assert_snapshot!(
        place.refuses("align --online --objective exo-rw --model model --data prompts.jsonl --out out", 2),
        @"error: the following required arguments were not provided:"
    );
    place.groups("groups.jsonl", 4, 3);
    insta::assert_snapshot!(
        place.refuses("align --objective rloo --model model --data groups.jsonl --out off", 1),
        @"error: groups.jsonl:1: `log_probs`: rloo learns from samples and the log-probs they were drawn with, found none; draw them with `exalign sample --log-probs`, or let it draw its own: `exalign align --online`"
    );
}

#[test]
fn groups_that_no_step_learns_from_are_told_by_their_number() {
    let place = workplace();
    let told = |batch_size: usize| {
        // 64 prompts a round, of which there are 10.
        let command = format!(
            "align --online --objective exo-rw --model model --data prompts.jsonl --reward command:./even.sh --rounds 1 \
             --completions 2 --max-new-tokens 2 --out {batch_size} --batch-size {batch_size}"
        );
        let output = place.exalign().args(command.split_whitespace()).output().unwrap();
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        said.split_once("the steps of a round learn from ").map(|(_, rest)| rest[..19].to_owned())
    };
    assert_eq!(told(7).as_deref(), Some("7 of its 10 groups,"));
    assert_eq!(told(10), None);
}

#[test]
fn what_does_not_fit_into_memory_is_refused_with_what_makes_it_smaller() {
    let place = workplace();
    let refused = |model: &str, completions: usize| {
        let command = online("exo-rw", "out", 1).replace("--model model", model);
        place.refuses(&format!("{command} --completions {completions} --dry-run"), 2)
    };
    // Parts of a group before adapters, which learn something else.
    let message = refused("--model model", 1_000_000_000);
    let parts = "; training.micro_completions=8, training.micro_batch_size=4 and training.recompute=never take ";
    assert!(message.contains(parts), "{message}");
    place.huge();
    let lower = "; lower generation.completions or generation.max_new_tokens, take a smaller model, or a larger machine";
    let message = refused("--model huge", 2);
    assert!(message.ends_with(lower), "{message}");
}

#[test]
fn a_round_that_is_lost_after_its_first_step_is_not_drawn_by_another_policy() {
    let place = workplace();
    let command =
        format!("{} --steps-per-round 500 --set checkpoint.every=1", online("exo-rw", "out", 1));
    let mut child = started(&place, &command);
    let checkpoint = place.path("out/checkpoints/step-3/optimizer.bpk");
    while !checkpoint.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::write(place.path("out/rounds/round-0001.jsonl"), "{}\n").unwrap();
    let output = place.exalign().args(command.split_whitespace()).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the policy has moved on and cannot draw them again"), "{said}");
}
