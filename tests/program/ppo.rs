//! Claims about PPO through the program: that values are learned and kept, that nothing depends on how a step is
//! cut or where a run was stopped, and that `exalign loss` shows what a step computes.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::figures::close;
use crate::online::{figure, metrics, online, round, workplace};
use crate::resume::until_done;
use crate::support::Workplace;

/// What is beside the groups of a round.
fn beside(place: &Workplace, out: &str, number: usize) -> Value {
    let path = place.path(out).join(format!("rounds/round-{number:04}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    match value.as_array() {
        Some(list) => list.iter().flat_map(numbers).collect(),
        None => vec![value.as_f64().unwrap()],
    }
}

#[test]
fn the_reward_rises_and_values_learn_to_tell_it() {
    let place = workplace();
    let more = "--steps-per-round 2 --kl-weight 0.02";
    place.succeeds(&format!("{} {more}", online("ppo", "out", 30)));
    let lines = metrics(&place, "out");
    let mean = |name: &str, range: std::ops::Range<usize>| {
        let of_round = lines.iter().filter(|line| line.get(name).is_some()).skip(range.start);
        of_round.take(range.len()).map(|line| figure(line, name)).sum::<f64>() / range.len() as f64
    };
    assert!(mean("reward", 25..30) > mean("reward", 0..5) + 0.2, "{lines:?}");
    assert!(mean("value_loss", 50..60) < mean("value_loss", 0..10), "{lines:?}");
    // A head of zeros says 0 of everything before it has learned.
    assert_eq!(figure(&lines[0], "explained_variance"), 0.0);
    assert!(numbers(&beside(&place, "out", 1)["values"]["values"]).iter().all(|it| *it == 0.0));
    assert!(numbers(&beside(&place, "out", 9)["values"]["values"]).iter().all(|it| *it != 0.0));
    // The result is a language model and nothing else; the head is for going on.
    let files = |folder: PathBuf| -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
    };
    let head = "value_head.safetensors".to_owned();
    assert!(!files(place.path("out/model")).contains(&head));
    assert!(files(place.path("out/checkpoints/step-60")).contains(&head));
    place.succeeds("score --model out/checkpoints/step-60 --data out/rounds/round-0001.jsonl");
}

#[test]
fn a_run_killed_at_any_moment_ends_with_the_same_values_and_the_same_weights() {
    let place = workplace();
    let trials = [
        ("whole", 5, "--steps-per-round 2 --kl-target 0.05 --set objective.kl_horizon=20"),
        ("adapters", 1, "--lora-rank 2 --kl-weight 0"),
    ];
    for (name, k, more) in trials {
        let (whole, killed) = (format!("{name}-whole"), format!("{name}-killed"));
        let drawn = format!("--completions {k}");
        let command = |out: &str| {
            format!("{} {more}", online("ppo", out, 4).replace("--completions 5", &drawn))
        };
        place.succeeds(&command(&whole));
        let kills = until_done(&place, &command(&killed), |kills| {
            Duration::from_millis(12 + 9 * kills as u64)
        });
        assert!(kills > 2, "{name}: {kills} kills are no trial");
        assert_eq!(metrics(&place, &killed), metrics(&place, &whole), "{name}");
        for number in 1..=4 {
            assert_eq!(round(&place, &killed, number), round(&place, &whole, number));
            let [ours, theirs] = [&killed, &whole].map(|out| beside(&place, out, number));
            assert_eq!(ours["values"]["values"], theirs["values"]["values"]);
        }
        let steps = metrics(&place, &whole).len();
        let model = if name == "whole" { "model" } else { "adapter_model" };
        for file in [model, "value_head"] {
            let bytes = |out: &str| {
                let folder = place.path(out).join(format!("checkpoints/step-{steps}"));
                std::fs::read(folder.join(format!("{file}.safetensors"))).unwrap()
            };
            assert!(bytes(&killed) == bytes(&whole), "{name}: {file} differs");
        }
    }
}

/// Each round's weight of the KL is that of the one before, led by its KL.
#[test]
fn the_weight_of_the_kl_follows_its_target() {
    let place = workplace();
    let more = "--kl-weight 0.1 --kl-target 0.05 --set objective.kl_horizon=40 --steps-per-round 2";
    place.succeeds(&format!("{} {more}", online("ppo", "out", 6)));
    let rounds = metrics(&place, "out");
    let rounds: Vec<&Value> = rounds.iter().filter(|line| line.get("round").is_some()).collect();
    assert_eq!(figure(rounds[0], "kl_weight"), 0.1);
    for (number, pair) in rounds.windows(2).enumerate() {
        let [before, after] = pair else { unreachable!("pairs") };
        let completions = 5.0 * round(&place, "out", number + 1).len() as f64;
        let error = (figure(before, "drift") / 0.05 - 1.0).clamp(-0.2, 0.2);
        let expected = figure(before, "kl_weight") * (1.0 + error * completions / 40.0);
        close(&after["kl_weight"], expected);
    }
    assert!(figure(rounds[1], "kl_weight") < 0.1, "nothing had moved yet");
}

#[test]
fn a_step_does_not_depend_on_how_it_is_cut() {
    let place = workplace();
    let command = |out: &str| format!("{} --steps-per-round 2", online("ppo", out, 2));
    let cuts = [
        ("whole", "--micro-batch-size 4"),
        ("single", "--micro-batch-size 1"),
        ("two", "--micro-batch-size 1 --device flex,flex"),
    ];
    for (out, cut) in cuts {
        place.succeeds(&format!("{} {cut}", command(out).replace("--micro-batch-size 3", "")));
    }
    for (i, whole) in metrics(&place, "whole").iter().enumerate() {
        for out in ["single", "two"] {
            let part = &metrics(&place, out)[i];
            for name in ["loss", "grad_norm", "value_loss", "accuracy"] {
                let (one, two) = (figure(whole, name), figure(part, name));
                assert!((one - two).abs() < 1e-4 * (1.0 + one.abs()), "{name}: {one} and {two}");
            }
        }
    }
}

/// The first step of a round of one prompt, from what its files say.
#[test]
fn the_loss_of_a_step_is_that_of_the_loss_command() {
    let place = workplace();
    let more = "--prompts-per-round 1 --kl-weight 0.3";
    place.succeeds(&format!(
        "{} {more}",
        online("ppo", "out", 3).replace("--prompts-per-round 4", "")
    ));
    let group = round(&place, "out", 3).remove(0);
    let beside = beside(&place, "out", 3);
    let log_probs = &group["log_probs"];
    let line = json!({
        "policy": log_probs, "proposal": log_probs, "reference": beside["reference"][0],
        "values": beside["values"]["values"][0], "rewards": group["rewards"],
    });
    place.lines("line.jsonl", [line]);
    let printed = place.succeeds("loss --objective ppo --data line.jsonl --kl-weight 0.3");
    let printed: Value = serde_json::from_str(&printed).unwrap();
    let step = &metrics(&place, "out")[2];
    close(&step["loss"], figure(&printed, "loss"));
    assert!(numbers(&printed["gradient"]).iter().any(|slope| slope.abs() > 1e-3), "{printed}");
    assert_eq!(numbers(&printed["value_gradient"]).len(), numbers(log_probs).len());
}

#[test]
fn without_rounds_ppo_is_refused_by_name() {
    let place = workplace();
    place.groups("groups.jsonl", 4, 3);
    insta::assert_snapshot!(
        place.refuses("align --objective ppo --model model --data groups.jsonl --out off", 2),
        @"error: ppo: values of tokens are learned in rounds, while the policy draws; give --online and --reward, with prompts as --data"
    );
}
