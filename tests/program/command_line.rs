//! Claims about the command line: what it prints is what other programs read, and what is wrong is
//! one line that says what to do, with exit code 1 or 2 and nothing half-written.

use std::path::Path;

use crate::support::{SMALL_EXPERIMENT, Workplace, json_lines, text};
use serde_json::{Value, json};

fn align(place: &Workplace, data: &str) -> String {
    place.refuses(&format!("align --objective exo-rw --model model --data {data} --out out"), 1)
}

#[test]
fn a_bad_record_is_named_by_file_line_and_field() {
    let place = Workplace::new();
    let good = r#"{"prompt_ids": [1], "completion_ids": [[2, 3], [4]], "rewards": [1.0, 0.5]}"#;
    place.write("truncated.jsonl", &format!("{good}\n{}\n", &good[..40]));
    let message = align(&place, "truncated.jsonl");
    assert!(message.starts_with("error: truncated.jsonl:2: "), "{message}");
    assert!(message.contains("truncated"), "{message}");

    place.write(
        "equal.jsonl",
        r#"{"prompt_ids": [1], "chosen_ids": [2, 3], "rejected_ids": [2, 3]}"#,
    );
    insta::assert_snapshot!(
        align(&place, "equal.jsonl"),
        @"error: equal.jsonl:1: `chosen` and `rejected` are the same text; drop the pair or pass --skip-bad 1"
    );

    place.write(
        "nan.jsonl",
        r#"{"prompt_ids": [1], "completion_ids": [[2], [4]], "rewards": [NaN, 0.5]}"#,
    );
    let message = align(&place, "nan.jsonl");
    assert!(
        message.contains("nan.jsonl:1: `rewards[0]`: expected a finite number, found NaN"),
        "{message}"
    );

    place.write("one.jsonl", r#"{"prompt_ids": [1], "completion_ids": [[2]], "rewards": [0.5]}"#);
    assert!(align(&place, "one.jsonl").contains("one.jsonl:1: `completions`: expected at least 2"));

    place.write(
        "outside.jsonl",
        r#"{"prompt_ids": [99], "completion_ids": [[2], [3]], "rewards": [0.5, 1]}"#,
    );
    let message = align(&place, "outside.jsonl");
    assert!(message.contains("outside.jsonl:1: ") && message.contains("99"), "{message}");
    assert!(!place.path("out").exists(), "nothing is written for data that is refused");
}

#[test]
fn bad_records_may_be_passed_over_in_a_stated_number() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 6, 3);
    let mut text = std::fs::read_to_string(place.path("groups.jsonl")).unwrap();
    text += "{\"prompt_ids\": [1]}\nnot json\n";
    place.write("groups.jsonl", &text);
    let align = |bad: usize| {
        format!(
            "align --objective exo-rw --model model --data groups.jsonl --out out --skip-bad {bad}"
        )
    };
    assert!(place.refuses(&align(1), 1).contains("groups.jsonl:8: "));
    place.succeeds(&align(2));
}

#[test]
fn a_pair_objective_refuses_groups_of_more_than_two() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 4, 3);
    insta::assert_snapshot!(
        place.refuses("align --objective exo-pref --model model --data groups.jsonl --out out", 1),
        @"error: groups.jsonl:1: exo-pref is defined for pairs (chosen, rejected), found a group of 3; use exo-rw with rewards, or make pairs with `exalign pairs` or pass --skip-bad 1"
    );
}

#[test]
fn a_misspelt_key_is_named_with_the_nearest_known_one() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 4, 3);
    place.write("run.toml", "[optimizer]\nwarm_up = 3\n");
    let align = "align --objective exo-rw --model model --data groups.jsonl --out out";
    let message = place.refuses(&format!("{align} --config run.toml"), 2);
    assert!(
        message.contains("optimizer.warm_up")
            && message.contains("did you mean `optimizer.warmup`?"),
        "{message}"
    );
    let message = place.refuses(&format!("{align} --set training.epoch=2"), 2);
    assert!(message.contains("did you mean `training.epochs`?"), "{message}");
    let output = place
        .exalign()
        .args(align.split_whitespace())
        .env("EXALIGN_TRAINING__BATCHSIZE", "3")
        .output()
        .unwrap();
    let message = place.refusal(&output, align, 2);
    assert!(
        message.contains("EXALIGN_TRAINING__BATCHSIZE")
            && message.contains("EXALIGN_TRAINING__BATCH_SIZE"),
        "{message}"
    );
    assert!(!place.path("out").exists());
}

#[test]
fn each_source_of_settings_stands_over_the_one_before_it() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 4, 3);
    place.write(
        "run.toml",
        "[training]\nepochs = 2\nbatch_size = 2\nlearning_rate = 1e-4\nmicro_batch_size = 1\n",
    );
    let arguments = "align --objective exo-rw --model model --data groups.jsonl --out out --config run.toml \
         --set training.batch_size=4 --learning-rate 1e-3";
    let output = place
        .exalign()
        .args(arguments.split_whitespace())
        .env("EXALIGN_TRAINING__EPOCHS", "3")
        .env("EXALIGN_TRAINING__BATCH_SIZE", "3")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let record: Value =
        serde_json::from_str(&std::fs::read_to_string(place.path("out/run.json")).unwrap())
            .unwrap();
    let training = &record["settings"]["training"];
    assert_eq!(training["micro_batch_size"], 1); // the file
    assert_eq!(training["epochs"], 3); //           the environment over the file
    assert_eq!(training["batch_size"], 4); //       --set over the environment
    assert_eq!(training["learning_rate"], 1e-3); // a flag over all
}

#[test]
fn an_output_that_cannot_be_written_and_a_model_that_cannot_be_read_say_so() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 4, 3);
    // A file stands where the folder should be: refused whoever runs the test.
    place.write("blocked", "");
    let message = place
        .refuses("align --objective exo-rw --model model --data groups.jsonl --out blocked/out", 1);
    assert!(message.contains("blocked/out: cannot create"), "{message}");
    let file = place.path("model/model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let message = place.refuses("score --model model --data groups.jsonl", 1);
    assert!(message.contains("the file is cut"), "{message}");
}

#[test]
fn an_unknown_device_or_a_missing_feature_is_wrong_use() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 4, 3);
    let message = place.refuses("score --model model --data groups.jsonl --device tpu", 2);
    assert!(message.contains("expected one of") && message.contains("flex"), "{message}");
}

#[test]
fn a_loss_that_is_not_finite_names_the_batch_and_changes_nothing() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 8, 3);
    let align = "align --objective exo-rw --model model --data groups.jsonl --out out --batch-size 4 \
         --learning-rate 1e38 --set optimizer.clip_norm=0 --set optimizer.schedule=constant --epochs 3";
    let message = place.refuses(align, 1);
    assert!(message.contains("nothing was changed by it"), "{message}");
    assert!(
        message.contains("g0") || message.contains("g1") || message.contains("g2"),
        "{message}"
    );
    assert!(!place.path("out/model").exists());
}

#[test]
fn loss_prints_the_loss_and_its_gradient() {
    let place = Workplace::new();
    let line = json!({"policy": [-1.0, -2.0], "reference": [-1.5, -1.0]});
    let output = place
        .exalign()
        .args(["loss", "--objective", "dpo", "--beta-policy", "0.5"])
        .write_stdin(line.to_string())
        .output()
        .unwrap();
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    // z = 0.5 (0.5 + 1), loss = log(1 + e^−z), gradient ∓0.5 σ(−z).
    let z: f64 = 0.75;
    let slope = 0.5 / (1.0 + z.exp());
    assert!((printed["loss"].as_f64().unwrap() - (-z).exp().ln_1p()).abs() < 1e-12);
    assert!((printed["gradient"][0].as_f64().unwrap() + slope).abs() < 1e-12);
    assert!((printed["gradient"][1].as_f64().unwrap() - slope).abs() < 1e-12);
}

#[test]
fn score_prints_sums_that_are_those_of_its_tokens() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 5, 3);
    let printed =
        place.succeeds("score --model model --data groups.jsonl --per-token --temperature 0.8");
    let lines: Vec<Value> =
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5);
    for (i, line) in lines.iter().enumerate() {
        assert_eq!(line["id"], format!("g{i}"));
        for j in 0..3 {
            let tokens = line["token_log_probs"][j].as_array().unwrap();
            assert_eq!(line["num_tokens"][j], tokens.len());
            let sum: f64 = tokens.iter().map(|it| it.as_f64().unwrap()).sum();
            assert!((line["log_probs"][j].as_f64().unwrap() - sum).abs() < 1e-9);
        }
    }
    place.succeeds("score --model model --data groups.jsonl --temperature 0.8 --out scores.jsonl");
    assert_eq!(json_lines(&place.path("scores.jsonl"))[2]["log_probs"], lines[2]["log_probs"]);
}

#[test]
fn the_stages_lead_from_prompts_to_an_evaluated_policy() {
    let place = Workplace::new();
    place
        .lines("prompts.jsonl", (0..20).map(|i| json!({"prompt_ids": [i % 22, (i * 3 + 1) % 22]})));
    place.lines(
        "texts.jsonl",
        (0..40).map(|i| json!({"text_ids": [i % 22, (i * 5 + 2) % 22], "label": i % 2})),
    );
    place.succeeds(
        "reward --model model --data texts.jsonl --out reward --learning-rate 1e-3 --batch-size 8",
    );
    place.succeeds("sample --model model --data prompts.jsonl --out samples.jsonl --completions 4 --max-new-tokens 8");
    place.succeeds("label --reward reward --data samples.jsonl --out groups.jsonl");
    place.succeeds("pairs --data groups.jsonl --out pairs.jsonl");
    let pair = &json_lines(&place.path("pairs.jsonl"))[0];
    assert!(pair["chosen_ids"].is_array() && pair["rejected_ids"].is_array(), "{pair}");
    place.succeeds("align --objective exo-pref --model model --data pairs.jsonl --out aligned --learning-rate 1e-3 --batch-size 8 --set checkpoint.every=1 --set checkpoint.keep=0");
    let printed = place.succeeds(
        "evaluate --policy aligned/model --reference model --reward reward --data prompts.jsonl --completions 4 --max-new-tokens 8 --out drawn.jsonl",
    );
    let evaluation: Value = serde_json::from_str(printed.trim()).unwrap();
    let drawn = json_lines(&place.path("drawn.jsonl"));
    let rewards: Vec<f64> = (drawn.iter())
        .flat_map(|it| it["rewards"].as_array().unwrap())
        .map(|it| it.as_f64().unwrap())
        .collect();
    assert_eq!(rewards.len(), 80);
    let number = |figure: &str, part: &str| evaluation[figure][part].as_f64().unwrap();
    assert!((number("reward", "mean") - rewards.iter().sum::<f64>() / 80.0).abs() < 1e-9);
    for figure in ["reward", "kl", "kl_low_variance", "kl_rao_blackwell"] {
        let [low, mean, high] = ["low", "mean", "high"].map(|it| number(figure, it));
        assert!(low < mean && mean < high, "{evaluation}");
    }
    assert!(number("kl", "mean").abs() > 1e-4, "it has learned something: {evaluation}");
    assert_eq!(evaluation["num_samples"], 80);
    // A policy is no distance from itself.
    let printed = place.succeeds(
        "evaluate --policy model --reference model --reward reward --data prompts.jsonl --completions 2 --max-new-tokens 8",
    );
    let same: Value = serde_json::from_str(printed.trim()).unwrap();
    assert!(same["kl"]["mean"].as_f64().unwrap().abs() < 1e-5, "{same}");
    // A checkpoint is a model folder too.
    place.succeeds("score --model aligned/checkpoints/step-1 --data pairs.jsonl");
    let pairs = json_lines(&place.path("pairs.jsonl"));
    let metrics = json_lines(&place.path("aligned/metrics.jsonl"));
    assert_eq!(metrics.len(), pairs.len().div_ceil(8));
    let whole = |line: &Value, name: &str| line[name].as_u64().unwrap();
    for (step, line) in metrics.iter().enumerate() {
        assert_eq!((whole(line, "step"), whole(line, "epoch")), (step as u64 + 1, 0));
        assert!(line["seconds"].as_f64().unwrap() > 0.0, "{line}");
        let memory = whole(line, "peak_memory_bytes");
        assert!(memory > 1 << 20 || !cfg!(target_os = "linux"), "{line}");
    }
    // Every pair once, its prompt once for both sides.
    let sum = |name: &str| metrics.iter().map(|it| whole(it, name)).sum::<u64>();
    let ids = ["prompt_ids", "chosen_ids", "rejected_ids"];
    let tokens = pairs.iter().flat_map(|it| ids.map(|name| it[name].as_array().unwrap().len()));
    assert_eq!((sum("groups"), sum("tokens")), (pairs.len() as u64, tokens.sum::<usize>() as u64));
}

#[test]
fn fine_tuning_learns_its_demonstrations() {
    let place = Workplace::new();
    place.lines(
        "demonstrations.jsonl",
        (0..32).map(|i| json!({"prompt_ids": [i % 4], "chosen_ids": [5, 6, 7, 22]})),
    );
    place.succeeds("sft --model model --data demonstrations.jsonl --out sft --learning-rate 1e-2 --batch-size 8 --epochs 16");
    let metrics = json_lines(&place.path("sft/metrics.jsonl"));
    let loss = |line: &Value| line["loss"].as_f64().unwrap();
    // Guessing among 23 tokens is log 23 = 3.1 nats.
    assert!(loss(&metrics[0]) > 2.5 && loss(metrics.last().unwrap()) < 0.5, "{metrics:?}");
    place.lines("prompts.jsonl", [json!({"prompt_ids": [1]})]);
    place.succeeds("sample --model sft/model --data prompts.jsonl --out drawn.jsonl --completions 2 --temperature 0 --max-new-tokens 8");
    let drawn = &json_lines(&place.path("drawn.jsonl"))[0];
    assert_eq!(drawn["completion_ids"], json!([[5, 6, 7, 22], [5, 6, 7, 22]]));
    assert_eq!(drawn["finished"], json!([true, true]));
}

#[test]
fn groups_pairs_and_demonstrations_are_scored_alike() {
    let place = Workplace::new();
    let scored = |record: Value| {
        place.lines("data.jsonl", [record]);
        let line = place.succeeds("score --model model --data data.jsonl");
        let line: Value = serde_json::from_str(&line).unwrap();
        line["log_probs"].as_array().unwrap().clone()
    };
    let finished = json!([false, false]);
    let group = scored(json!({
        "prompt_ids": [1, 2], "completion_ids": [[3, 4], [5]], "finished": finished,
    }));
    let pair = scored(json!({
        "prompt_ids": [1, 2], "chosen_ids": [3, 4], "rejected_ids": [5], "finished": finished,
    }));
    let demonstration = scored(json!({ "prompt_ids": [1, 2], "chosen_ids": [3, 4] }));
    assert_eq!(group, pair);
    assert_eq!(demonstration, group[..1]);
}

#[test]
fn an_experiment_ends_in_a_report_and_does_no_stage_twice() {
    let place = Workplace::new();
    let planned = place.succeeds(&format!("{SMALL_EXPERIMENT} --dry-run"));
    assert!(planned.contains("fine-tuning") && planned.contains("would run"), "{planned}");
    assert!(!place.path("run").exists(), "a dry run writes nothing");
    let printed = place.succeeds(SMALL_EXPERIMENT);
    let report = std::fs::read_to_string(place.path("run/report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let names = [
        "SFT",
        "Chosen answers",
        "Best-of-2",
        "DPO",
        "EXO-pref",
        "DPO-rw",
        "EXO-rw",
        "π* at β = 1",
    ];
    let rewards = report["results"].as_array().unwrap().iter().map(|it| &it["reward"]);
    let rewards: Vec<&Value> = rewards.chain([&report["optimum"]["point"]["reward"]]).collect();
    assert_eq!(rewards.len(), names.len());
    for (name, reward) in names.into_iter().zip(rewards) {
        let [mean, low, high] = ["mean", "low", "high"].map(|it| reward[it].as_f64().unwrap());
        let cell = format!("{mean:.3} [{low:.3}, {high:.3}]");
        let in_row = |line: &str| {
            let rest = line.trim().strip_prefix(name)?.trim_start();
            rest.starts_with(&cell).then_some(())
        };
        assert!(printed.lines().any(|it| in_row(it).is_some()), "{name} {cell}: {printed}");
    }
    let html = std::fs::read_to_string(place.path("run/report.html")).unwrap();
    assert!(html.contains("<svg") && !html.contains("http-equiv=\"refresh\""));
    for outside in ["src=\"http", "href=\"http", "@import", "url(http"] {
        assert!(!html.contains(outside), "the page must work offline: {outside}");
    }
    let weights = |objective: &str| {
        modified(&place.path(&format!("run/{objective}/model/model.safetensors")))
    };
    let before = weights("exo-rw");
    let again = place.succeeds(SMALL_EXPERIMENT);
    assert_eq!(weights("exo-rw"), before, "no stage is done twice");
    assert_eq!(again, printed, "the same run has the same results");
    assert!(
        place
            .succeeds(&format!("{SMALL_EXPERIMENT} --dry-run"))
            .lines()
            .all(|line| line.contains("done before"))
    );
    let message =
        place.refuses(&format!("{SMALL_EXPERIMENT} --set align.objective.beta_policy=0.3"), 2);
    assert!(message.contains("align.objective.beta_policy"), "{message}");
}

fn modified(path: &Path) -> std::time::SystemTime {
    std::fs::metadata(path).unwrap().modified().unwrap()
}

#[cfg(unix)]
mod outputs {
    use std::os::unix::fs::{FileTypeExt, symlink};

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> =
            entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    const SAMPLE: &str =
        "sample --model model --data prompts.jsonl --completions 2 --max-new-tokens 4 --out";

    #[test]
    fn an_output_that_is_a_link_stays_one_and_its_target_has_the_record() {
        let place = Workplace::new();
        place.lines("prompts.jsonl", [json!({"prompt_ids": [1]})]);
        std::fs::create_dir(place.path("disk")).unwrap();
        symlink("disk/drawn.jsonl", place.path("drawn.jsonl")).unwrap();
        let first = place.succeeds(&format!("{SAMPLE} drawn.jsonl"));
        assert!(place.path("drawn.jsonl").is_symlink());
        assert_eq!(
            names(&place.path("disk")),
            ["drawn.jsonl", "drawn.jsonl.lock", "drawn.jsonl.run.json"]
        );
        assert_eq!(place.succeeds(&format!("{SAMPLE} drawn.jsonl")), first, "it is done");
        assert_eq!(place.succeeds(&format!("{SAMPLE} disk/drawn.jsonl")), first, "by either name");
        // A folder that is a link to one that is yet to be made.
        place.groups("groups.jsonl", 4, 3);
        symlink("disk/far/run", place.path("run")).unwrap();
        place.succeeds("align --objective exo-rw --model model --data groups.jsonl --out run");
        assert!(place.path("run").is_symlink() && place.path("disk/far/run/run.json").is_file());
    }

    #[test]
    fn an_output_that_is_a_device_or_a_pipe_is_written_through() {
        let place = Workplace::new();
        place.lines("prompts.jsonl", [json!({"prompt_ids": [1]}), json!({"prompt_ids": [2]})]);
        let pipe = place.path("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let before = names(place.folder.path());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read_to_string(pipe).unwrap()
        });
        place.succeeds(&format!("{SAMPLE} pipe"));
        assert!(std::fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
        let drawn = reader.join().unwrap();
        let printed = place.succeeds(&format!("{SAMPLE} /proc/self/fd/1"));
        assert!(printed.starts_with(&drawn) && drawn.lines().count() == 2, "{printed}");
        let to_file = format!(
            "{} {SAMPLE} /dev/fd/1 > drawn.jsonl; {0} {SAMPLE} /dev/fd/3 3> third.jsonl",
            env!("CARGO_BIN_EXE_exalign")
        );
        let mut shell = std::process::Command::new("sh");
        assert!(
            shell
                .args(["-c", &to_file])
                .current_dir(place.folder.path())
                .status()
                .unwrap()
                .success()
        );
        let file = |name: &str| std::fs::read_to_string(place.path(name)).unwrap();
        let written = file("drawn.jsonl");
        assert!(written.starts_with(&drawn) && written.lines().count() == 3, "{written}");
        assert_eq!(file("third.jsonl"), drawn);
        for name in ["drawn.jsonl", "third.jsonl"] {
            std::fs::remove_file(place.path(name)).unwrap();
        }
        // A device of the test's own: root would replace the system's.
        symlink("/dev/null", place.path("null")).unwrap();
        place.succeeds(&format!("{SAMPLE} null"));
        std::fs::remove_file(place.path("null")).unwrap();
        assert_eq!(names(place.folder.path()), before, "nothing is left beside them");
        assert!(std::fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        let message = place.refuses(&format!("{SAMPLE} pipe --shard 1/2"), 2);
        assert!(message.contains("found a device or a pipe"), "{message}");
        place.groups("groups.jsonl", 4, 3);
        let message = place.refuses(
            "align --objective exo-rw --model model --data groups.jsonl --out /dev/null",
            1,
        );
        assert_eq!(
            message,
            "error: /dev/null: expected a folder, found a device or a pipe; use another path"
        );
    }
}

#[test]
fn an_end_of_text_that_is_no_token_id_is_refused_by_file_and_key() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 2, 3);
    let config = place.path("model/config.json");
    let whole: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    let refused = || place.refuses("score --model model --data groups.jsonl", 1);
    for bad in [
        json!(4294967318_u64),
        json!(-1),
        json!(2.5),
        json!("22"),
        json!([22, -1]),
        json!({}),
        json!(true),
    ] {
        let mut json = whole.clone();
        json["eos_token_id"] = bad.clone();
        std::fs::write(&config, json.to_string()).unwrap();
        let message = refused();
        assert!(
            message
                .contains("config.json: `eos_token_id`: expected token ids, whole numbers from 0"),
            "{message}"
        );
        std::fs::write(&config, whole.to_string()).unwrap();
        place.write("model/generation_config.json", &json!({ "eos_token_id": bad }).to_string());
        let message = refused();
        assert!(message.contains("generation_config.json: `eos_token_id`: "), "{message}");
        std::fs::remove_file(place.path("model/generation_config.json")).unwrap();
    }
    place.write("model/tokenizer.json", "{}");
    for (bad, key) in [
        (json!({"eos_token": 7}), "eos_token"),
        (json!({"eos_token": {"content": 7}}), "eos_token"),
        (json!({"eos_token_id": "7"}), "eos_token_id"),
    ] {
        place.write("model/tokenizer_config.json", &bad.to_string());
        let message = refused();
        let expected = format!("tokenizer_config.json: `{key}`: expected ");
        assert!(message.contains(&expected), "{message}");
    }
}

#[test]
fn an_opening_that_leaves_nothing_of_a_review_is_refused() {
    let place = Workplace::new();
    let words = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen";
    place.lines(
        "reviews.jsonl",
        (0..4).map(|i| json!({"text": format!("{i} {words}"), "label": 1})),
    );
    let data = |more: &str| format!("data sentiment reviews.jsonl --held-out 1 --out out {more}");
    insta::assert_snapshot!(place.refuses(&data("--review-tokens 5"), 2), @"error: --review-tokens: expected more than the opening's 10 (--opening-tokens), since what follows the opening is the answer, found 5; 0 reads all");
    insta::assert_snapshot!(place.refuses(&data("--opening-tokens 0"), 2), @"error: --opening-tokens: expected at least 1, since the opening is the prompt, found 0");
    assert!(!place.path("out").exists());
    place.succeeds(&data("--review-tokens 11"));
}

#[test]
fn an_index_names_files_beside_it_and_no_others() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 2, 3);
    place.write("secret.safetensors", "");
    let single = place.path("model/model.safetensors");
    std::fs::rename(&single, place.path("model/part.safetensors")).unwrap();
    let outside = place.path("secret.safetensors").display().to_string();
    for file in
        ["../secret.safetensors", &outside, "a/../../secret.safetensors", "..", "a\0.safetensors"]
    {
        let index = json!({ "weight_map": { "all": file } }).to_string();
        place.write("model/model.safetensors.index.json", &index);
        let message = place.refuses("score --model model --data groups.jsonl", 1);
        assert!(
            message.contains("expected a safetensors file beside the index, found"),
            "{message}"
        );
    }
    let index = json!({ "weight_map": { "all": "part.safetensors" } }).to_string();
    place.write("model/model.safetensors.index.json", &index);
    place.succeeds("score --model model --data groups.jsonl");
    // A saved set names its files, too.
    std::fs::create_dir(place.path("saved")).unwrap();
    place.write("saved/dataset_info.json", "{}");
    let state = json!({ "_data_files": [{ "filename": "../groups.jsonl" }] }).to_string();
    place.write("saved/state.json", &state);
    let message = place.refuses("data instruction saved --out out", 1);
    assert!(message.contains("`_data_files`: expected the name of a file beside it"), "{message}");
}

#[test]
fn groups_that_an_objective_cannot_take_may_be_passed_over_too() {
    let place = Workplace::new();
    let pair = json!({"prompt_ids": [1], "chosen_ids": [2], "rejected_ids": [3]});
    let group = json!({"prompt_ids": [1], "completion_ids": [[2], [3], [4]], "rewards": [1, 2, 3]});
    place.lines("mixed.jsonl", [pair.clone(), group, pair]);
    let align = "align --objective exo-pref --model model --data mixed.jsonl --out out";
    let message = place.refuses(align, 1);
    assert!(message.contains("mixed.jsonl:2: exo-pref is defined for pairs"), "{message}");
    place.succeeds(&format!("{align} --skip-bad 1"));
    assert_eq!(json_lines(&place.path("out/metrics.jsonl"))[0]["groups"], 2);
}

#[test]
fn a_command_without_settings_takes_none() {
    let place = Workplace::new();
    place.lines("h.jsonl", [json!({"policy": [-1.0, -2.0], "reference": [-1.0, -1.0]})]);
    for (command, flag) in [
        ("info --set seed=5", "--set"),
        ("info --seed 1", "--seed"),
        ("report run --config none.toml", "--config"),
        ("merge-shards a b --out c --skip-bad 1", "--skip-bad"),
    ] {
        let message = place.refuses(command, 2);
        assert!(message.starts_with(&format!("error: {flag}: `exalign ")), "{message}");
        assert!(message.contains("has no settings"), "{message}");
    }
    // A key of any depth is read without recursion.
    let deep = format!("score --model model --data h.jsonl --set {}b=1", "a.".repeat(30_000));
    assert!(place.refuses(&deep, 2).contains("expected a key of at most 32 parts, found 30001"));
}

#[test]
fn a_run_refuses_at_once_what_it_would_find_wrong_at_its_end() {
    let place = Workplace::new();
    for (setting, message) in [
        ("comparison.completions=[4,1000]", "comparison.completions: expected at most 4"),
        ("optimum.generation.temperature=0", "optimum.generation: expected the temperature"),
        ("evaluate.generation.top_p=0.5", "the KL is that of the whole policy"),
        ("align.checkpoint.every=0", "align.checkpoint.every: expected at least 1, found 0"),
    ] {
        let found = place.refuses(&format!("{SMALL_EXPERIMENT} --set {setting}"), 2);
        assert!(found.contains(message), "{found}");
        assert!(!place.path("run").exists());
    }
    // More than there are samples is left out, however many.
    place.succeeds(&format!("{SMALL_EXPERIMENT} --set comparison.best_of=[2,4611686018427387904]"));
}

#[test]
fn a_key_among_the_settings_of_a_run_is_in_no_file_of_it() {
    let place = Workplace::new();
    place.succeeds(&format!("{SMALL_EXPERIMENT} --set judge.judge.extra.api_key=TOPSECRETXYZ"));
    let mut folders = vec![place.folder.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                let found = text(&bytes).contains("TOPSECRETXYZ");
                assert!(!found, "{}", path.display());
            }
        }
    }
}

#[test]
fn a_step_and_a_whole_run_have_the_same_bits_on_any_number_of_cores() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 24, 4);
    let on = |cores: &str, arguments: &str| {
        let mut command = place.exalign();
        command.env("RAYON_NUM_THREADS", cores).env("EXALIGN_CACHE", place.path(cores));
        let output = command.args(arguments.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    for compute in ["f32", "bf16"] {
        for cores in ["1", "5"] {
            on(
                cores,
                &format!(
                    "align --objective exo-rw --model model --data groups.jsonl --out {compute}-{cores} \
                 --compute {compute} --batch-size 8 --learning-rate 1e-3 --set training.epochs=2"
                ),
            );
        }
        let weights = |cores: &str| {
            std::fs::read(place.path(&format!("{compute}-{cores}/model/model.safetensors")))
                .unwrap()
        };
        assert_eq!(weights("1"), weights("5"), "{compute}");
    }
    for cores in ["1", "5"] {
        on(cores, &SMALL_EXPERIMENT.replace("--out run", &format!("--out run-{cores}")));
    }
    for file in [
        "sft/model/model.safetensors",
        "reward/model/model.safetensors",
        "exo-rw/model/model.safetensors",
        "dpo/model/model.safetensors",
        "sample-drawn/groups.jsonl",
        "sample-labelled/groups.jsonl",
    ] {
        let bytes = |cores: &str| std::fs::read(place.path(&format!("run-{cores}")).join(file));
        assert_eq!(bytes("1").expect(file), bytes("5").expect(file), "{file}");
    }
}

#[test]
fn a_changed_setting_makes_again_what_reads_it_and_what_follows() {
    let place = Workplace::new();
    place.succeeds(SMALL_EXPERIMENT);
    // The stages that would run, with the first reason, evaluations left out.
    let runs = |setting: &str| -> Vec<String> {
        let other = SMALL_EXPERIMENT.replace("--out run", "--out other");
        let planned = place.succeeds(&format!("{other} --set {setting} --dry-run"));
        let lines = planned.lines().filter(|it| !it.starts_with("evaluating "));
        let running = lines.filter_map(|it| it.split_once("would run"));
        running.map(|(name, why)| format!("{}{why}", name.trim())).collect()
    };
    let nothing: [&str; 0] = [];
    assert_eq!(runs("comparison.shown_prompts=2"), nothing);
    // Objectives on pairs read no β_r, and one alone reads other labels.
    assert_eq!(
        runs("align.objective.beta_reward=0.3"),
        ["DPO-rw: objective.beta_reward: 2.0 → 0.3", "EXO-rw: objective.beta_reward: 2.0 → 0.3"]
    );
    assert_eq!(
        runs("comparison.objectives=[\"dpo\",\"exo-pref-official\"]"),
        ["EXO-pref (official labels)"]
    );
    assert_eq!(
        runs("protocol.reward_from=sft")[..2],
        ["reward model: other model", "labelling groups: other reward model"]
    );
}

#[test]
fn a_run_ends_where_the_reward_model_is_a_coin() {
    let place = Workplace::new();
    let learns_nothing =
        "--set reward.training.learning_rate=1e-12 --set comparison.objectives=[\"exo-rw\"]";
    let refusing = SMALL_EXPERIMENT.replace("--set protocol.refuse_chance=false", learns_nothing);
    let message = place.refuses(&refusing, 1);
    for part in [
        "than chance, 50 %",
        "of 400 held-out records",
        "data.labelled",
        "protocol.refuse_chance=false",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert!(!place.path("run/sample-drawn").exists(), "nothing is drawn for it");
    place.succeeds(&format!("{SMALL_EXPERIMENT} {learns_nothing} --fresh"));
}

#[test]
fn a_reference_of_another_tokenizer_is_refused_with_a_token_that_differs() {
    let place = Workplace::new();
    place.with_letters("abcdefghijklmnopqrstuv");
    std::fs::create_dir(place.path("other")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(place.path("model").join(name), place.path("other").join(name)).unwrap();
    }
    place.lines("pairs.jsonl", [json!({ "prompt": "ab", "chosen": "cd", "rejected": "ef" })]);
    place.lines("prompts.jsonl", [json!({ "prompt": "ab" })]);
    place.lines(
        "texts.jsonl",
        [json!({ "text": "ab", "label": 1 }), json!({ "text": "cd", "label": 0 })],
    );
    place.succeeds("reward --model model --data texts.jsonl --out rewarder --max-steps 1");
    let align = "align --objective dpo --model model --reference other --data pairs.jsonl --out out --max-steps 1";
    let online = "align --online --objective exo-rw --model model --reference other --data prompts.jsonl \
                  --reward rewarder --out online --completions 2 --max-new-tokens 2 --rounds 1";
    let evaluate = "evaluate --policy model --reference other --reward rewarder --data prompts.jsonl --completions 2 \
                    --max-new-tokens 2";
    place.letters_of("other", "abcdfeghijklmnopqrstuv");
    for command in [align, online, evaluate] {
        insta::allow_duplicates! {
            insta::assert_snapshot!(place.refuses(command, 1), @r#"error: other: expected a reference with the tokens of the policy model, found "f" for id 4, which is "e" there; give a reference with the same tokenizer, such as the model that the policy was made from"#);
        }
    }
    assert!(!place.path("out").exists() && !place.path("online").exists());
    // Of the ids that both know, all are the same; or nothing is known of the reference's.
    place.letters_of("other", "abcdefgh");
    for command in [align, online, evaluate] {
        place.succeeds(command);
    }
    std::fs::remove_file(place.path("other/tokenizer.json")).unwrap();
    place.succeeds(evaluate);
}
