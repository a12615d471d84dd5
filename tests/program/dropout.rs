//! Claims about trainings with dropout of what adapters read: the same bits after a stop, on any number of threads
//! and devices and however activations are kept, and no trace of it where nothing is trained.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::resume::until_done;
use crate::support::{Workplace, metrics, text};

const SETTINGS: &str = "--lora-rank 2 --set training.learning_rate=1e-3 --set training.batch_size=8 --set training.micro_batch_size=3 \
     --set training.epochs=4 --set checkpoint.every=3 --seed 5";
const DROPOUT: &str = "--set adapter.dropout=0.1";

fn workplace() -> Workplace {
    let place = Workplace::new();
    place.groups("groups.jsonl", 30, 3);
    let record = |i: usize| {
        let ids: Vec<usize> = (0..2 + i % 5).map(|t| (3 * i + t) % 22).chain([22]).collect();
        json!({ "prompt_ids": [i % 22], "chosen_ids": ids })
    };
    place.lines("data.jsonl", (0..30).map(record));
    place
}

fn align(out: &str, more: &str) -> String {
    format!(
        "align --objective exo-rw --model model --data groups.jsonl --out {out} {SETTINGS} {more}"
    )
}

fn sft(out: &str, more: &str) -> String {
    format!("sft --model model --data data.jsonl --out {out} {SETTINGS} {more}")
}

/// The factors and the lines of metrics.
fn result(dir: &Path) -> (Vec<u8>, Vec<Value>) {
    let factors = std::fs::read(dir.join("model").join("adapter_model.safetensors")).unwrap();
    (factors, metrics(dir))
}

#[test]
fn trainings_with_dropout_killed_at_any_moment_end_with_the_same_factors() {
    let place = workplace();
    for (stage, command) in [("align", align as fn(&str, &str) -> String), ("sft", sft)] {
        let [whole, killed] = ["whole", "killed"].map(|name| format!("{stage}-{name}"));
        place.succeeds(&command(&whole, DROPOUT));
        let kills = until_done(&place, &command(&killed, DROPOUT), |kills| {
            Duration::from_millis(60 + 23 * kills as u64)
        });
        assert!(kills > 0, "nothing was killed; the claim was not tried");
        let result = |out: &str| result(&place.path(out));
        assert!(result(&killed) == result(&whole), "{stage}: the factors differ");
        let [without, zero] = ["without", "zero"].map(|name| format!("{stage}-{name}"));
        place.succeeds(&command(&without, ""));
        place.succeeds(&command(&zero, "--set adapter.dropout=0"));
        assert!(result(&without) != result(&whole), "{stage}: nothing was dropped");
        assert!(result(&without) == result(&zero), "{stage}: something was dropped");
    }
}

#[test]
fn neither_threads_nor_what_is_kept_nor_devices_change_what_is_dropped() {
    let place = workplace();
    place.succeeds(&align("one", DROPOUT));
    let one = result(&place.path("one"));
    for (out, more, threads) in
        [("single", "", "1"), ("five", "", "5"), ("again", "--set training.recompute=always", "2")]
    {
        let arguments = align(out, &format!("{DROPOUT} {more}"));
        let mut command = place.exalign();
        command.args(arguments.split_whitespace()).env("RAYON_NUM_THREADS", threads);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(result(&place.path(out)) == one, "{out}");
    }
    place.succeeds(&align("devices", &format!("{DROPOUT} --device flex,flex")));
    for (one, several) in one.1.iter().zip(metrics(&place.path("devices"))) {
        for figure in ["loss", "grad_norm"] {
            let of = |line: &Value| line[figure].as_f64().unwrap();
            // Sums in another order, and what Adam makes of that.
            assert!(
                (of(one) - of(&several)).abs() < 1e-4 * (1.0 + of(one).abs()),
                "{figure}: {one} {several}"
            );
        }
    }
}

/// Weights that do not move, and the same records in every step: the gradient changes by what is dropped alone.
#[test]
fn every_step_drops_other_entries() {
    let place = workplace();
    let norms = |out: &str, more: &str| -> Vec<f64> {
        place.succeeds(&format!(
            "sft --model model --data data.jsonl --out {out} --lora-rank 2 --batch-size 30 --micro-batch-size 10 \
             --learning-rate 1e-30 --epochs 4 --set data.shuffle=false {more}"
        ));
        let lines = metrics(&place.path(out));
        lines.iter().map(|line| line["grad_norm"].as_f64().unwrap()).collect()
    };
    let (without, with) = (norms("without", ""), norms("with", "--set adapter.dropout=0.3"));
    assert!(without.iter().all(|norm| *norm == without[0]), "{without:?}");
    for (number, norm) in with.iter().enumerate() {
        let others = with[..number].iter().chain([&without[0]]);
        assert!(others.clone().all(|other| (norm / other - 1.0).abs() > 1e-4), "{with:?}");
    }
}

#[test]
fn an_adapter_trained_with_dropout_says_so_and_is_scored_without() {
    let place = workplace();
    place.succeeds(&align("out", "--set adapter.dropout=0.5"));
    let settings = place.path("out/model/adapter_config.json");
    let mut config: Value =
        serde_json::from_str(&std::fs::read_to_string(&settings).unwrap()).unwrap();
    assert_eq!(config["lora_dropout"], 0.5);
    let score = || place.succeeds("score --model out/model --data groups.jsonl");
    let with = score();
    config["lora_dropout"] = json!(0.0);
    std::fs::write(&settings, config.to_string()).unwrap();
    assert_eq!(score(), with);
}

#[test]
fn a_rate_that_is_no_share_is_refused() {
    let place = workplace();
    let refusal =
        |rate: &str| place.refuses(&sft("out", &format!("--set adapter.dropout={rate}")), 2);
    insta::assert_snapshot!(refusal("1.0"), @"error: `--set adapter.dropout`: expected a number from 0 to less than 1, found 1");
    insta::assert_snapshot!(refusal("-0.1"), @"error: `--set adapter.dropout`: expected a number from 0 to less than 1, found -0.1");
    assert!(!place.path("out").exists());
}
