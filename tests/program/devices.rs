//! Claims about devices on the command line: what is there is listed, what is not there is named
//! with what adds it, and several devices train as one.

use crate::support::{Workplace, metrics, text};
use exalign::device::BACKENDS;
use serde_json::json;

#[test]
fn info_names_every_backend_with_what_it_has_or_what_adds_it() {
    let printed = Workplace::new().succeeds("info");
    for backend in &BACKENDS {
        assert!(printed.contains(backend.name), "{printed}");
        if !backend.compiled {
            assert!(printed.contains(&format!("--features {}", backend.name)), "{printed}");
        }
    }
    assert!(printed.contains("f32, bf16, f16"), "{printed}");
    assert!(printed.contains("GiB") || cfg!(not(target_os = "linux")), "{printed}");
    assert!(printed.contains("without --device: "), "{printed}");
}

#[test]
fn several_devices_train_as_one() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 26, 3);
    let align = |device: &str, micro_batch: usize, objective: &str| {
        let out = format!("{device}-{objective}");
        place.succeeds(&format!(
            "align --objective {objective} --model model --data groups.jsonl --out {out} --device {device} \
             --learning-rate 1e-3 --batch-size 8 --micro-batch-size {micro_batch} --epochs 2"
        ));
        metrics(&place.path(&out))
    };
    for objective in ["exo-rw", "dpo-rw"] {
        // A step at once on the one; on several in parts, the last of which is shorter.
        let one = align("flex", 8, objective);
        for devices in ["flex,flex", "flex,flex,flex"] {
            let several = align(devices, 3, objective);
            assert_eq!(one.len(), several.len());
            for (one, several) in one.iter().zip(&several) {
                assert_eq!(
                    (&one["groups"], &one["tokens"]),
                    (&several["groups"], &several["tokens"])
                );
                for figure in ["loss", "grad_norm", "accuracy", "reward_margin", "logps/chosen"] {
                    let of = |line: &serde_json::Value| line[figure].as_f64().unwrap();
                    // Sums in another order, and what Adam makes of that in eight steps.
                    assert!(
                        (of(one) - of(several)).abs() < 1e-4 * (1.0 + of(one).abs()),
                        "{figure}: {one} {several}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_policy_computed_in_bf16_starts_at_its_reference_and_learns() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 12, 3);
    let align = |compute: &str| {
        place.succeeds(&format!(
            "align --objective dpo-rw --model model --data groups.jsonl --out {compute} --compute {compute} \
             --learning-rate 1e-3 --batch-size 6 --set training.epochs=4 --set objective.beta_policy=1"
        ));
        metrics(&place.path(compute))
    };
    let (exact, rounded) = (align("f32"), align("bf16"));
    let loss = |line: &serde_json::Value| line["loss"].as_f64().unwrap();
    // All log-ratios are 0, and the loss is that of a uniform policy over three.
    assert!((loss(&rounded[0]) - 3f64.ln()).abs() < 1e-6, "{}", rounded[0]);
    assert!(loss(&rounded[7]) < loss(&rounded[0]), "{rounded:?}");
    for (exact, rounded) in exact.iter().zip(&rounded) {
        // Log-ratios of a few tokens, each token's within 0.15 as the parity test has it.
        assert!((loss(exact) - loss(rounded)).abs() < 0.15, "{exact} {rounded}");
    }
    assert_ne!(loss(&exact[7]), loss(&rounded[7]));
}

#[test]
fn every_way_to_cut_a_pass_is_one_pass_in_bf16_too() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 6, 4);
    let align = |name: &str, more: &str| {
        place.succeeds(&format!(
            "align --objective exo-rw --model model --data groups.jsonl --out {name} --compute bf16 \
             --learning-rate 1e-3 --batch-size 3 {more}"
        ));
        let figure = |line: &serde_json::Value, name: &str| line[name].as_f64().unwrap();
        let lines = metrics(&place.path(name));
        [0, 1].map(|step| ["loss", "grad_norm"].map(|name| figure(&lines[step], name)))
    };
    for adapters in ["", "--lora-rank 2"] {
        let run = |name: &str, more: &str| {
            align(&format!("{name}{}", adapters.len()), &format!("{adapters} {more}"))
        };
        let whole = run("whole", "--set training.recompute=never");
        for (name, more) in [
            ("again", "--set training.recompute=always"),
            ("parts", "--set training.micro_completions=2"),
            ("both", "--set training.recompute=always --set training.micro_completions=1"),
        ] {
            let cut = run(name, more);
            for (cut, whole) in cut.iter().flatten().zip(whole.iter().flatten()) {
                // Sums of several gradients that are rounded to eight bits each.
                assert!((cut - whole).abs() < 0.02 * whole.abs(), "{more}: {cut} {whole}");
            }
        }
    }
}

#[test]
fn a_reward_model_computed_in_bf16_learns_as_in_f32() {
    let place = Workplace::new();
    let pair = |i: usize| {
        let side = |from: usize| [from + i % 3, from + i % 5, 22];
        json!({ "prompt_ids": [i % 22], "chosen_ids": side(1), "rejected_ids": side(12) })
    };
    place.lines("pairs.jsonl", (0..12).map(pair));
    let losses = |compute: &str| {
        place.succeeds(&format!(
            "reward --model model --data pairs.jsonl --out {compute} --compute {compute} --learning-rate 1e-3 \
             --batch-size 6 --set training.epochs=3"
        ));
        let lines = metrics(&place.path(compute));
        lines.iter().map(|line| line["loss"].as_f64().unwrap()).collect::<Vec<_>>()
    };
    let (exact, rounded) = (losses("f32"), losses("bf16"));
    for (exact, rounded) in exact.iter().zip(&rounded) {
        assert!((exact - rounded).abs() < 0.05, "{exact} {rounded}");
    }
    assert_ne!(exact, rounded);
    assert!(rounded[5] < rounded[0], "{rounded:?}");
}

#[test]
fn what_trains_nothing_takes_one_device_and_says_how_to_use_more() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 4, 2);
    insta::assert_snapshot!(
        place.refuses("score --model model --data groups.jsonl --device flex,flex", 2),
        @"error: --device flex,flex: expected one device, since only training runs on several together; start a process for each with its part of the records (--shard i/2)"
    );
}

#[test]
fn a_gpu_named_twice_and_a_device_that_is_not_there_are_refused() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 4, 2);
    let refuses = |device: &str| {
        let align = "align --objective exo-rw --model model --data groups.jsonl --out out";
        place.refuses(&format!("{align} --device {device}"), 2)
    };
    assert!(refuses("cuda:0,cuda:0").contains("found cuda:0 twice"));
    assert!(refuses("flex,gpu").contains("expected one of cuda"));
    assert!(refuses("flex,").contains("expected one of cuda"));
    assert!(!place.path("out").exists());
}

#[test]
fn a_training_that_goes_on_on_another_device_says_so() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 4, 2);
    let align = |device: &str| {
        let arguments =
            "align --objective exo-rw --model model --data groups.jsonl --out out --device";
        let mut command = place.exalign();
        let output = command.args(arguments.split_whitespace()).arg(device).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    align("flex");
    std::fs::remove_file(place.path("out/model/model.safetensors")).unwrap();
    let said = "out: goes on on flex,flex what began on flex";
    assert!(align("flex,flex").contains(said));
    std::fs::remove_file(place.path("out/model/model.safetensors")).unwrap();
    assert!(!align("flex,flex").contains("goes on on"));
}
