//! Claims about stopping and going on: nothing is lost, nothing is done twice, and the weights are
//! the same to the bit.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{SMALL_EXPERIMENT, Workplace, metrics, text};

const SETTINGS: &str = "--set training.learning_rate=1e-3 --set training.batch_size=8 --set training.micro_batch_size=3 \
     --set training.epochs=8 --set optimizer.warmup=3 --set checkpoint.every=3 --seed 5";

pub fn weights(dir: &Path) -> Vec<u8> {
    std::fs::read(dir.join("model").join("model.safetensors")).unwrap()
}

/// Starts the command line; what it says on standard error is kept.
pub fn started(place: &Workplace, arguments: &str) -> Child {
    Command::new(assert_cmd::cargo::cargo_bin("exalign"))
        .args(arguments.split_whitespace())
        .current_dir(place.folder.path())
        .env("EXALIGN_CACHE", place.path("cache"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Starts the command line, kills it after `patience`, until it finishes by itself; the kills.
pub fn until_done(
    place: &Workplace,
    arguments: &str,
    mut patience: impl FnMut(usize) -> Duration,
) -> usize {
    for kills in 0.. {
        assert!(kills < 200, "the work never ends");
        let mut child = started(place, arguments);
        std::thread::sleep(patience(kills));
        match child.try_wait().unwrap() {
            Some(_) => {
                let output = child.wait_with_output().unwrap();
                assert!(output.status.success(), "{}", text(&output.stderr));
                return kills;
            }
            None => {
                child.kill().unwrap(); // SIGKILL
                child.wait().unwrap();
            }
        }
    }
    0
}

#[test]
fn an_alignment_killed_at_any_moment_ends_with_the_same_losses_and_the_same_weights() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 50, 4);
    let align = |out: &str| {
        format!("align --objective exo-rw --model model --data groups.jsonl --out {out} {SETTINGS}")
    };
    place.succeeds(&align("whole"));
    // Moments that grow, so that there is always one more step than before in the end.
    let kills =
        until_done(&place, &align("killed"), |kills| Duration::from_millis(60 + 23 * kills as u64));
    assert!(kills > 0, "nothing was killed; the claim was not tried");
    assert_eq!(metrics(&place.path("killed")), metrics(&place.path("whole")));
    assert_eq!(metrics(&place.path("whole")).len(), 56);
    assert!(weights(&place.path("killed")) == weights(&place.path("whole")), "the weights differ");
}

#[test]
fn adapters_killed_at_any_moment_end_with_the_same_losses_and_the_same_factors() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 30, 3);
    let align = |out: &str| {
        format!(
            "align --objective exo-rw --model model --data groups.jsonl --out {out} --lora-rank 2 {SETTINGS}"
        )
    };
    place.succeeds(&align("whole"));
    let kills =
        until_done(&place, &align("killed"), |kills| Duration::from_millis(60 + 23 * kills as u64));
    assert!(kills > 0, "nothing was killed; the claim was not tried");
    assert_eq!(metrics(&place.path("killed")), metrics(&place.path("whole")));
    let factors = |out: &str| {
        std::fs::read(place.path(out).join("model").join("adapter_model.safetensors")).unwrap()
    };
    assert!(factors("killed") == factors("whole"), "the factors differ");
}

#[test]
fn a_damaged_checkpoint_is_passed_over_for_the_one_before_it() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 50, 4);
    let align = |out: &str| {
        format!("align --objective dpo-rw --model model --data groups.jsonl --out {out} {SETTINGS}")
    };
    place.succeeds(&align("whole"));
    until_killed_after_checkpoints(&place, &align("damaged"), "damaged", 3);
    let checkpoints = place.path("damaged").join("checkpoints");
    let newest = newest_checkpoint(&checkpoints);
    let file = checkpoints.join(format!("step-{newest}")).join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let output = place.exalign().args(align("damaged").split_whitespace()).output().unwrap();
    assert!(output.status.success());
    assert!(
        text(&output.stderr).contains("passing over a damaged checkpoint"),
        "{}",
        text(&output.stderr)
    );
    assert!(weights(&place.path("damaged")) == weights(&place.path("whole")));
    assert_eq!(metrics(&place.path("damaged")), metrics(&place.path("whole")));
}

fn newest_checkpoint(checkpoints: &Path) -> usize {
    std::fs::read_dir(checkpoints)
        .into_iter()
        .flatten()
        .filter_map(|it| it.unwrap().file_name().to_str()?.strip_prefix("step-")?.parse().ok())
        .max()
        .unwrap_or(0)
}

fn until_killed_after_checkpoints(place: &Workplace, arguments: &str, out: &str, step: usize) {
    let mut child = started(place, arguments);
    let checkpoints = place.path(out).join("checkpoints");
    while newest_checkpoint(&checkpoints) < 2 * step {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_finished_command_is_not_done_again_and_other_settings_are_refused() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 20, 4);
    let align = "align --objective exo-rw --model model --data groups.jsonl --out out --learning-rate 1e-3 --batch-size 8";
    place.succeeds(align);
    let before =
        std::fs::metadata(place.path("out/model/model.safetensors")).unwrap().modified().unwrap();
    place.succeeds(align);
    let after =
        std::fs::metadata(place.path("out/model/model.safetensors")).unwrap().modified().unwrap();
    assert_eq!(before, after);
    insta::assert_snapshot!(
        place.refuses(&format!("{align} --beta-policy 0.2"), 2),
        @"error: out: was made with other settings: objective.beta_policy: 0.1 → 0.2. Use another --out, or --fresh to start over"
    );
    place.succeeds(&format!("{align} --beta-policy 0.2 --fresh"));
}

#[test]
fn a_command_that_was_refused_does_not_stand_in_the_way_of_the_corrected_one() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 20, 4);
    let align = "align --objective exo-rw --model model --data groups.jsonl --out out --batch-size 8 --max-steps 2";
    place.refuses(&format!("{align} --lora-rank 2 --lora-targets c_atn"), 2);
    assert!(place.path("out/run.json").exists());
    place.succeeds(align);

    let text = |i: usize| serde_json::json!({ "prompt_ids": [i], "completion_ids": [i, 22] });
    place.lines("texts.jsonl", (0..8).map(text));
    let sft = "sft --model model --data texts.jsonl --validation texts.jsonl --out sft --max-steps 2 --set checkpoint.best";
    place.refuses(&format!("{sft}=accuracy"), 2);
    assert!(place.path("sft/metrics.jsonl").exists());
    place.succeeds(&format!("{sft}=loss"));

    place.lines("prompts.jsonl", (0..4).map(|i| serde_json::json!({ "prompt_ids": [i] })));
    let sample = "sample --model model --data prompts.jsonl --out drawn.jsonl --max-new-tokens 3 --completions";
    place.refuses(&format!("{sample} 2 --shard 1/2"), 2);
    assert!(place.path("drawn.jsonl.run.json").exists());
    place.succeeds(&format!("{sample} 3"));
}

#[test]
fn a_training_that_was_killed_is_not_replaced_by_one_with_other_settings() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 20, 4);
    let align = "align --objective exo-rw --model model --data groups.jsonl --out out --batch-size 4 --epochs 400 \
                 --set checkpoint.every=1";
    until_killed_after_checkpoints(&place, align, "out", 1);
    insta::assert_snapshot!(
        place.refuses(&format!("{align} --beta-policy 0.2"), 2),
        @"error: out: was made with other settings: objective.beta_policy: 0.1 → 0.2. Use another --out, or --fresh to start over"
    );
}

#[test]
fn sampling_that_was_killed_draws_the_same_completions() {
    let place = Workplace::new();
    place.lines(
        "prompts.jsonl",
        (0..300).map(|i| serde_json::json!({"prompt_ids": [i % 22, (i * 3) % 22]})),
    );
    let sample = |out: &str| {
        format!(
            "sample --model model --data prompts.jsonl --out {out} --completions 8 --max-new-tokens 24 \
             --set generation.batch_size=4 --seed 3"
        )
    };
    place.succeeds(&sample("whole.jsonl"));
    let read = |name: &str| std::fs::read_to_string(place.path(name)).unwrap_or_default();
    // Killed three times, each in the middle: some groups are drawn, and more than the time before.
    let mut before = 0;
    for _ in 0..3 {
        let mut child = started(&place, &sample("killed.jsonl"));
        let drawn = || read("killed.jsonl.partial").lines().count();
        while drawn() < before + 8 {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!place.path("killed.jsonl").exists(), "nothing is finished");
        before = drawn();
        assert!((8..300).contains(&before), "{before} of 300 groups are drawn");
    }
    place.succeeds(&sample("killed.jsonl"));
    assert_eq!(read("killed.jsonl"), read("whole.jsonl"));
    assert!(!place.path("killed.jsonl.partial").exists());
}

#[test]
fn an_experiment_killed_at_any_moment_ends_with_the_same_weights_and_the_same_results() {
    let (whole, killed) = (Workplace::new(), Workplace::new());
    let printed = whole.succeeds(SMALL_EXPERIMENT);
    let kills = until_done(&killed, SMALL_EXPERIMENT, |kills| {
        Duration::from_millis(150 + 60 * kills as u64)
    });
    assert!(kills > 0, "nothing was killed; the claim was not tried");
    for stage in ["sft", "reward", "dpo", "exo-pref", "dpo-rw", "exo-rw"] {
        let dir = |place: &Workplace| place.path("run").join(stage);
        assert!(weights(&dir(&killed)) == weights(&dir(&whole)), "the weights of {stage} differ");
        assert_eq!(metrics(&dir(&killed)), metrics(&dir(&whole)), "{stage}");
    }
    // The table's last column is a time.
    let figures = |text: &str| -> Vec<String> {
        text.lines()
            .map(|line| line.rsplit_once("  ").map_or(line, |(row, _)| row).trim().to_owned())
            .collect()
    };
    assert_eq!(figures(&killed.succeeds(SMALL_EXPERIMENT)), figures(&printed));
}

/// The steps with a checkpoint.
fn checkpoints(dir: &Path) -> Vec<usize> {
    let keeping = exalign::training::Keeping::default();
    exalign::training::Checkpoints::new(dir, keeping).steps()
}

/// Starts the command line, and stops it by Ctrl-C as soon as `out` has a line of metrics more than
/// before, until it finishes by itself; how often it was stopped.
#[cfg(unix)]
pub fn until_done_despite_interrupts(place: &Workplace, arguments: &str, out: &str) -> usize {
    let log = place.path(out).join("metrics.jsonl");
    let steps = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
    for stops in 0..200 {
        let before = steps();
        let mut child = started(place, arguments);
        while steps() == before && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        match output.status.code() {
            Some(0) => return stops,
            code => assert_eq!(code, Some(130), "{}", text(&output.stderr)),
        }
    }
    panic!("the work never ends");
}

#[cfg(unix)]
#[test]
fn checkpoints_of_interrupts_go_when_the_training_goes_on() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 50, 4);
    for (every, expected) in [(5, vec![5, 10, 15, 20, 21]), (0, vec![])] {
        let align = |out: &str| {
            format!(
                "align --objective exo-rw --model model --data groups.jsonl --out {out}-{every} {SETTINGS} \
                 --set training.epochs=3 --set checkpoint.every={every} --set checkpoint.keep=0"
            )
        };
        place.succeeds(&align("whole"));
        let stopped = format!("stopped-{every}");
        let stops = until_done_despite_interrupts(&place, &align("stopped"), &stopped);
        assert!(stops > 2, "it was stopped {stops} times");
        let whole = place.path(&format!("whole-{every}"));
        let stopped = place.path(&stopped);
        assert_eq!(checkpoints(&whole), expected);
        assert_eq!(checkpoints(&stopped), expected);
        assert_eq!(metrics(&stopped), metrics(&whole));
        assert!(weights(&stopped) == weights(&whole), "the weights differ");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_a_checkpoint_and_exit_code_130() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 50, 4);
    let align = |out: &str| {
        format!(
            "align --objective exo-rw --model model --data groups.jsonl --out {out} {SETTINGS} --set checkpoint.every=1000"
        )
    };
    place.succeeds(&align("whole"));
    let child = started(&place, &align("stopped"));
    let log = place.path("stopped").join("metrics.jsonl");
    while std::fs::read_to_string(&log).unwrap_or_default().lines().count() < 3 {
        std::thread::sleep(Duration::from_millis(1));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("the same command continues"));
    assert!(newest_checkpoint(&place.path("stopped").join("checkpoints")) >= 3);
    place.succeeds(&align("stopped"));
    assert!(weights(&place.path("stopped")) == weights(&place.path("whole")));
    assert_eq!(checkpoints(&place.path("stopped")), [56]);
}
