//! Claims about validation while training: its figures are those of the other commands, it changes no weight,
//! the best model is the result, a budget of drift ends a training, and a stop at any moment changes nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::resume::{until_done, weights};
use crate::support::{Workplace, json_lines, metrics, text};

const SETTINGS: &str = "--set training.learning_rate=3e-3 --set training.batch_size=8 --set training.micro_batch_size=3 \
     --set training.epochs=6 --set checkpoint.every=4 --seed 5";

/// A folder with 50 groups to train on and 22 others to validate on.
fn workplace() -> Workplace {
    let place = Workplace::new();
    place.groups("all.jsonl", 72, 4);
    let all = json_lines(&place.path("all.jsonl"));
    place.lines("groups.jsonl", all[..50].iter().cloned());
    place.lines("held.jsonl", all[50..].iter().cloned());
    place
}

fn align(out: &str, options: &str) -> String {
    format!(
        "align --objective exo-rw --model model --data groups.jsonl --out {out} {SETTINGS} {options}"
    )
}

/// The steps with a figure, and its values.
fn figures(lines: &[Value], name: &str) -> Vec<(u64, f64)> {
    let figure = |line: &Value| Some((line["step"].as_u64()?, line[name].as_f64()?));
    lines.iter().filter_map(figure).collect()
}

/// The summary that a command prints, without its time.
fn summary(printed: &str) -> Value {
    let mut summary: Value = serde_json::from_str(printed).unwrap();
    summary.as_object_mut().unwrap().remove("seconds");
    summary
}

/// The folders of checkpoints and of best models.
fn folders(out: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(out.join("checkpoints")).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into()).collect();
    names.sort();
    names
}

#[test]
fn validation_changes_no_weight_and_stands_in_the_lines_of_its_steps() {
    let place = workplace();
    place.succeeds(&align("without", ""));
    place.succeeds(&align("with", "--validation held.jsonl --kl-budget 1000"));
    assert!(weights(&place.path("with")) == weights(&place.path("without")), "the weights differ");
    let (mut with, without) = (metrics(&place.path("with")), metrics(&place.path("without")));
    let steps: Vec<u64> = figures(&with, "validation/loss").iter().map(|it| it.0).collect();
    assert_eq!(steps, [5, 10, 15, 20, 25, 30, 35, 40, 42], "a tenth of 42 steps, and the last");
    assert_eq!(figures(&with, "validation/kl").len(), 9);
    let margin = figures(&with, "validation_before/reward_margin");
    assert!(
        margin[0].0 == 1 && margin[0].1.abs() < 1e-6,
        "log-ratios are 0 but for rounding: {margin:?}"
    );
    assert_eq!(figures(&with, "validation_before/kl"), [(1, 0.0)]);
    for line in &mut with {
        line.as_object_mut().unwrap().retain(|name, _| !name.starts_with("validation"));
    }
    assert_eq!(with, without);
    let clipped = figures(&with, "clipped");
    let norms = figures(&with, "grad_norm");
    assert!(clipped.iter().zip(norms).all(|(it, norm)| it.1 == f64::from(u8::from(norm.1 > 1.0))));
}

/// The loss of fine-tuning is a mean over tokens, so that batches must be weighted by their tokens.
#[test]
fn the_validation_loss_of_fine_tuning_is_what_score_gives_the_records() {
    let place = Workplace::new();
    let record = |i: usize, name: &str| {
        let ids: Vec<usize> = (0..1 + (i * i) % 9).map(|t| (3 * i + t) % 22).chain([22]).collect();
        serde_json::json!({ "prompt_ids": [i % 22], name: ids })
    };
    place.lines("data.jsonl", (0..30).map(|i| record(i, "chosen_ids")));
    place.lines("held.jsonl", (30..41).map(|i| record(i, "chosen_ids")));
    place.lines(
        "scored.jsonl",
        (30..41).map(|i| {
            let mut record = record(i, "completion");
            record["completion_ids"] = serde_json::json!([record["completion"]]);
            record.as_object_mut().unwrap().remove("completion");
            record
        }),
    );
    // What a training drops of what adapters read is not dropped here.
    for (out, more) in [("sft", ""), ("adapters", "--lora-rank 2 --set adapter.dropout=0.5")] {
        place.succeeds(&format!(
            "sft --model model --data data.jsonl --validation held.jsonl --out {out} {SETTINGS} \
             --set training.epochs=2 {more}"
        ));
        let scores = place.succeeds(&format!("score --model {out}/model --data scored.jsonl"));
        let (mut sum, mut tokens) = (0.0, 0.0);
        for line in scores.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            sum += line["log_probs"][0].as_f64().unwrap();
            tokens += line["num_tokens"][0].as_f64().unwrap();
        }
        let (step, loss) = *figures(&metrics(&place.path(out)), "validation/loss").last().unwrap();
        assert_eq!(step, 8);
        assert!((loss + sum / tokens).abs() < 1e-5, "{out}: {loss} and {}", -sum / tokens);
    }
}

#[test]
fn the_best_model_is_the_result_and_stays_while_others_go() {
    let place = workplace();
    let options = "--validation held.jsonl --set validation.every=3 --set checkpoint.best=accuracy --set checkpoint.keep=1 \
                   --set optimizer.schedule=constant --set training.learning_rate=1e-2";
    let printed = summary(&place.succeeds(&align("best", options)));
    let shares = figures(&metrics(&place.path("best")), "validation/accuracy");
    let best = shares.iter().copied().reduce(|a, b| if b.1 > a.1 { b } else { a }).unwrap();
    assert!(best.0 > 3 && best.0 < 42, "the claim wants a best in the middle: {shares:?}");
    assert_eq!(printed["best"]["step"], best.0);
    assert_eq!(printed["best"]["by"], "validation/accuracy");
    assert_eq!(printed["best"]["value"], best.1);
    assert_eq!(
        folders(&place.path("best")),
        [format!("best-{}", best.0), "step-42".to_owned()].map(PathBuf::from)
    );
    // A training with a checkpoint at that step has the same model there.
    let same = "--set optimizer.schedule=constant --set training.learning_rate=1e-2";
    let every = format!("--set checkpoint.every={} --set checkpoint.keep=0", best.0);
    place.succeeds(&align("all", &format!("{same} {every}")));
    let there = place.path("all/checkpoints").join(format!("step-{}/model.safetensors", best.0));
    assert!(weights(&place.path("best")) == std::fs::read(there).unwrap(), "the weights differ");
    assert_eq!(summary(&place.succeeds(&align("best", options))), printed, "it is finished");
}

#[test]
fn a_budget_ends_the_training_and_says_where() {
    let place = workplace();
    let options = "--validation held.jsonl --set validation.every=2 --kl-budget 0.2";
    let command = align("ended", options);
    let output = place.exalign().args(command.split_whitespace()).output().unwrap();
    let (said, printed) = (text(&output.stderr), summary(&text(&output.stdout)));
    let lines = metrics(&place.path("ended"));
    let drift = figures(&lines, "validation/kl");
    let (end, before) = drift.split_last().unwrap();
    assert!(before.len() > 1 && before.iter().all(|it| it.1 < 0.2) && end.1 >= 0.2, "{drift:?}");
    assert_eq!(lines.len() as u64, end.0, "no step follows");
    assert!(end.0 < 42);
    for line in lines.iter().filter(|line| line.get("validation/kl").is_some()) {
        let [low, kl, high] = ["kl_low", "kl", "kl_high"]
            .map(|it| line[format!("validation/{it}")].as_f64().unwrap());
        assert!(low < kl && kl < high, "{line}");
    }
    assert!(
        said.contains(&format!("ended after step {} of 42: the drift is {:.3}", end.0, end.1)),
        "{said}"
    );
    assert_eq!(printed["steps"], end.0);
    assert_eq!(printed["drifted"]["step"], end.0);
    assert_eq!(printed["drifted"]["kl"], end.1);
    let record = std::fs::read_to_string(place.path("ended/run.json")).unwrap();
    assert!(record.contains("\"drifted\""), "{record}");
    // As far as that, it is the training without a budget.
    place.succeeds(&align(
        "all",
        &format!("--set checkpoint.every={} --set checkpoint.keep=0", end.0),
    ));
    let there = place.path("all/checkpoints").join(format!("step-{}/model.safetensors", end.0));
    assert!(weights(&place.path("ended")) == std::fs::read(there).unwrap(), "the weights differ");
    assert_eq!(summary(&place.succeeds(&command)), printed, "it is finished");
    assert_eq!(metrics(&place.path("ended")), lines);
}

#[test]
fn a_training_with_all_of_it_killed_at_any_moment_ends_the_same() {
    let place = workplace();
    let options = "--validation held.jsonl --set validation.every=3 --set checkpoint.best=accuracy \
                   --set optimizer.schedule=constant --set training.learning_rate=1e-2";
    // How far a training drifts depends on the processor's roundings: nearly as much ends the one, and not the other.
    place.succeeds(&align("free", &format!("{options} --kl-budget 1000")));
    let drift = figures(&metrics(&place.path("free")), "validation/kl").last().unwrap().1;
    for (lora, out, budget) in [("", "full", 0.9 * drift), ("--lora-rank 2", "lora", 1000.0)] {
        let options = format!("{options} --kl-budget {budget} {lora}");
        let command = |name: &str| align(&format!("{name}-{out}"), &options);
        let whole = summary(&place.succeeds(&command("whole")));
        let kills = until_done(&place, &command("killed"), |kills| {
            Duration::from_millis(20 + 9 * kills as u64)
        });
        assert!(kills > 3, "killed {kills} times");
        same(&place, &format!("killed-{out}"), &format!("whole-{out}"));
        assert!(whole["best"]["step"].is_u64(), "{whole}");
        assert_eq!(
            whole["drifted"].is_object(),
            lora.is_empty(),
            "the one ends, the other does not"
        );
        let again = summary(&place.succeeds(&command("killed")));
        for field in ["steps", "loss", "best", "drifted"] {
            assert_eq!(again[field], whole[field], "{field}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_training_with_all_of_it_stopped_by_ctrl_c_ends_the_same() {
    let place = workplace();
    for every in [5, 0] {
        let options = format!(
            "--validation held.jsonl --set validation.every=2 --set checkpoint.best=reward --kl-budget 0.5 \
             --set checkpoint.every={every}"
        );
        let (whole, stopped) = (format!("whole-{every}"), format!("stopped-{every}"));
        place.succeeds(&align(&whole, &options));
        let stops = super::resume::until_done_despite_interrupts(
            &place,
            &align(&stopped, &options),
            &stopped,
        );
        assert!(stops > 2, "stopped {stops} times");
        same(&place, &stopped, &whole);
    }
}

/// Lines, result and kept folders are the same.
fn same(place: &Workplace, one: &str, other: &str) {
    let (one, other) = (place.path(one), place.path(other));
    assert_eq!(metrics(&one), metrics(&other));
    assert_eq!(folders(&one), folders(&other));
    let files = folders(&one).into_iter().map(|name| Path::new("checkpoints").join(name));
    for folder in files.chain([PathBuf::from("model")]) {
        for name in ["model.safetensors", "adapter_model.safetensors"] {
            let read = |out: &Path| std::fs::read(out.join(&folder).join(name)).ok();
            assert!(read(&one) == read(&other), "{} differs", folder.join(name).display());
        }
    }
}

/// A checkpoint counts only where the best model that it names is whole.
#[test]
fn a_best_model_that_is_damaged_is_made_again() {
    let place = workplace();
    let options = "--validation held.jsonl --set validation.every=3 --set checkpoint.best=loss --set training.learning_rate=1e-3";
    place.succeeds(&align("whole", options));
    let mut child = super::resume::started(&place, &align("damaged", options));
    let best = |place: &Workplace| {
        let names = folders(&place.path("damaged"));
        names.into_iter().rfind(|name| name.to_string_lossy().starts_with("best-"))
    };
    while !place.path("damaged/checkpoints/step-8/state.json").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let file =
        place.path("damaged/checkpoints").join(best(&place).unwrap()).join("model.safetensors");
    std::fs::write(&file, b"other").unwrap();
    let output =
        place.exalign().args(align("damaged", options).split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains("passing over a damaged checkpoint"),
        "{}",
        text(&output.stderr)
    );
    same(&place, "damaged", "whole");
}

#[test]
fn a_share_of_the_data_is_held_out_and_said() {
    let place = workplace();
    let command = |out: &str, options: &str| {
        format!(
            "align --objective exo-rw --model model --data all.jsonl --out {out} {SETTINGS} {options}"
        )
    };
    let output = place
        .exalign()
        .args(command("share", "--set validation.share=0.25").split_whitespace())
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let held_out: usize = said
        .split("validation: ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{said}"));
    assert!((15..22).contains(&held_out), "{said}");
    let lines = metrics(&place.path("share"));
    let groups: f64 = figures(&lines, "groups").iter().map(|it| it.1).sum();
    assert_eq!(groups, 6.0 * (72 - held_out) as f64, "they are not trained on");
    assert!(figures(&lines, "validation/loss").len() > 5);
}

#[test]
fn settings_that_contradict_each_other_or_lack_records_are_refused_with_the_way_out() {
    let place = workplace();
    let refused = |options: &str| place.refuses(&align("out", options), 2);
    insta::assert_snapshot!(refused("--set checkpoint.best=loss"), @"error: checkpoint.best: expected records to tell the best model by, found none; give --validation FILE, or hold records out: --set validation.share=0.1");
    insta::assert_snapshot!(refused("--kl-budget 3"), @"error: --kl-budget: expected prompts to measure the drift on, found none; give --validation FILE, or hold records out: --set validation.share=0.1");
    insta::assert_snapshot!(refused("--validation held.jsonl --set validation.share=0.1"), @"error: validation.share: expected 0 beside --validation held.jsonl, found 0.1; give one of the two");
    insta::assert_snapshot!(refused("--kl-budget=-1"), @"error: `--kl-budget`: expected nats from 0 (0 sets no budget), found -1");
    insta::assert_snapshot!(refused("--set validation.share=1"), @"error: `--set validation.share`: expected a number from 0, below 1 (0 holds nothing out), found 1");
    // With the same records and settings it goes on, with others it does not.
    place.succeeds(&align("out", "--validation held.jsonl --set validation.every=20"));
    insta::assert_snapshot!(refused("--validation held.jsonl --set validation.every=21"), @"error: out: was made with other settings: validation.every: 20 → 21. Use another --out, or --fresh to start over");
    insta::assert_snapshot!(refused("--validation groups.jsonl --set validation.every=20"), @"error: out: was made with other settings: the content of validation has changed. Use another --out, or --fresh to start over");
    place.lines(
        "texts.jsonl",
        (0..8).map(|i| serde_json::json!({ "prompt_ids": [i], "chosen_ids": [i, 22] })),
    );
    let sft = "sft --model model --data texts.jsonl --validation texts.jsonl --out sft --set checkpoint.best=accuracy";
    insta::assert_snapshot!(place.refuses(sft, 2), @"error: checkpoint.best: expected a figure of this training's validation, which has loss; `accuracy` is none of them");
}

#[test]
fn both_sides_of_pairs_falling_is_told_once() {
    let place = Workplace::new();
    // The chosen and the rejected begin alike and are all there is to learn: what makes the one rarer than
    // the other makes both rare.
    place.lines("pairs.jsonl", (0..16).map(|i| {
        let completion = |last: usize| -> Vec<usize> { (0..8).map(|t| (i + t) % 20).chain([last, 22]).collect() };
        serde_json::json!({ "prompt_ids": [i % 20], "completion_ids": [completion(20), completion(21)], "rewards": [1, 0] })
    }));
    let command = "align --objective dpo --model model --data pairs.jsonl --out dpo --set training.learning_rate=3e-3 \
                   --set training.batch_size=8 --set training.epochs=60 --set optimizer.schedule=constant --seed 5";
    let output = place.exalign().args(command.split_whitespace()).output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let lines = metrics(&place.path("dpo"));
    let (first, last) = (&lines[0], &lines[lines.len() - 1]);
    for side in ["logps/chosen", "logps/rejected"] {
        assert!(
            first[side].as_f64().unwrap() > last[side].as_f64().unwrap() + 1.0,
            "{first} {last}"
        );
    }
    assert_eq!(said.matches("have both fallen").count(), 1, "{said}");
}
