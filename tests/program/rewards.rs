//! Claims about rewards that are asked for: a program's answers go to the groups they are for, or the work
//! ends with the reason; nothing that was scored is asked for again; several rewards are added by weight.

#![cfg(unix)]

use std::path::Path;
use std::time::{Duration, Instant};

use crate::resume::started;
use crate::support::judge_server::{JudgeServer, Reply};
use crate::support::{Workplace, json_lines, text};
use serde_json::{Value, json};

/// Answers every group alike.
const ALIKE: &str = "while read -r line; do echo '{\"rewards\": [1, 0]}'; done\n";

/// Reads a line's id, which is a number, into `$id`.
const ID: &str = "id=$(printf '%s' \"$line\" | sed 's/^{\"id\":\\([0-9]*\\).*/\\1/')";

fn groups(place: &Workplace, count: usize) {
    let group = |i: usize| {
        json!({"id": i, "prompt": format!("{i} + 1 ="), "completions": [format!(" {}", i + 1), " 0"],
            "answer": (i + 1).to_string(), "level": {"of": i % 3}})
    };
    place.lines("groups.jsonl", (0..count).map(group));
}

/// Runs `label` with rewards that have blanks in them.
fn label(place: &Workplace, reward: &str, more: &str) -> std::process::Output {
    let mut command = place.exalign();
    command.args(["label", "--reward", reward, "--data", "groups.jsonl", "--out", "out.jsonl"]);
    command.args(more.split_whitespace()).output().unwrap()
}

fn labelled(place: &Workplace, reward: &str, more: &str) -> Vec<Value> {
    let output = label(place, reward, more);
    assert!(output.status.success(), "{}", text(&output.stderr));
    json_lines(&place.path("out.jsonl"))
}

fn refused(place: &Workplace, reward: &str, more: &str, code: i32) -> String {
    place.refusal(&label(place, reward, more), reward, code)
}

/// Whether the process whose id a file holds runs.
fn runs(pid: &Path) -> bool {
    let Ok(id) = std::fs::read_to_string(pid) else { return false };
    let state = std::fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap_or_default();
    // A zombie waits for whoever adopted it.
    !state.is_empty() && !state.contains(") Z ")
}

fn soon(what: impl Fn() -> bool) -> bool {
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        if what() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn a_program_reads_what_sample_writes_with_all_fields_and_its_rewards_stand_in_the_output() {
    let place = Workplace::new();
    groups(&place, 40);
    place.write(
        "log.sh",
        "while read -r line; do echo \"$line\" >> log; echo '{\"rewards\": [2, true]}'; done",
    );
    let out = labelled(&place, "command:sh log.sh", "");
    let asked = json_lines(&place.path("log"));
    assert_eq!(asked.len(), 40);
    let first = json!({"id": 0, "prompt": "0 + 1 =", "completions": [" 1", " 0"], "finished": [true, true],
        "answer": "1", "level": {"of": 0}});
    assert!(asked.contains(&first), "{}", asked[0]);
    let keys: Vec<&String> = out[0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["id", "prompt", "completions", "finished", "rewards", "answer", "level"]);
    assert_eq!(out[7]["rewards"], json!([2.0, 1.0]));
    // Labelled again, the program does not see the rewards.
    std::fs::rename(place.path("out.jsonl"), place.path("groups.jsonl")).unwrap();
    labelled(&place, "command:sh log.sh", "--fresh");
    assert!(json_lines(&place.path("log")).iter().all(|line| line.get("rewards").is_none()));
}

#[test]
fn answers_with_ids_may_come_in_any_order() {
    let place = Workplace::new();
    groups(&place, 3);
    let answer = format!("{ID}; echo \"{{\\\"id\\\": $id, \\\"rewards\\\": [$id, -1]}}\"");
    place.write(
        "late.sh",
        &format!("read -r a; read -r b; read -r c; for line in \"$c\" \"$a\" \"$b\"; do {answer}; done; cat"),
    );
    let out = labelled(&place, "command:sh late.sh", "");
    let rewards: Vec<&Value> = out.iter().map(|group| &group["rewards"][0]).collect();
    assert_eq!(rewards, [&json!(0.0), &json!(1.0), &json!(2.0)]);
}

#[test]
fn pipes_that_are_full_stop_nobody() {
    let place = Workplace::new();
    let long = "word ".repeat(40_000);
    let group = |i: usize| json!({"id": i, "prompt": "p", "completions": [long, format!("{i}")]});
    place.lines("groups.jsonl", (0..33).map(group));
    let noisy = "head -c 200000 /dev/zero | tr '\\0' 'e' >&2";
    // Reads everything slowly, and says much where nobody listens.
    place.write(
        "noisy.sh",
        &format!("while read -r line; do {noisy}; echo '{{\"rewards\": [1, 0]}}'; done"),
    );
    assert_eq!(labelled(&place, "command:sh noisy.sh", "--set reward.timeout=60").len(), 33);
}

#[test]
fn a_program_that_dies_is_started_again_and_asked_for_the_rest_and_then_shown_with_its_last_words()
{
    let place = Workplace::new();
    groups(&place, 5);
    let script = |more: &str| {
        format!(
            "while read -r line; do {ID}; echo $id >> asked; if [ $id = 3 ]; then {more} fi; \
             echo \"{{\\\"rewards\\\": [$id, 0]}}\"; done"
        )
    };
    place.write("once.sh", &script("if [ ! -e died ]; then touch died; exit 3; fi;"));
    let out = labelled(&place, "command:sh once.sh", "");
    assert_eq!(out.iter().map(|group| group["rewards"][0].as_f64().unwrap()).sum::<f64>(), 10.0);
    let asked = std::fs::read_to_string(place.path("asked")).unwrap();
    assert_eq!(asked.lines().collect::<Vec<_>>(), ["0", "1", "2", "3", "3", "4"]);
    place.write("always.sh", &script("echo \"Traceback: no sympy\" >&2; exit 3;"));
    let refusal = refused(&place, "command:sh always.sh", "--fresh", 1);
    insta::assert_snapshot!(refusal, @"error: groups.jsonl:4: command:sh always.sh ended (exit status: 3) without an answer to this group and 1 more, also after 2 restarts; find out why; its standard error ends: Traceback: no sympy");
    let refusal =
        refused(&place, "command:sh -c 'kill -9 $$'", "--fresh --set reward.restarts=0", 1);
    insta::assert_snapshot!(refusal, @"error: groups.jsonl:1: command:sh -c 'kill -9 $$' ended (signal: 9 (SIGKILL)) without an answer to this group and 4 more; find out why; it said nothing on standard error");
    let refusal = refused(
        &place,
        "command:sh -c 'exec >&-; sleep 1000'",
        "--fresh --set reward.restarts=0",
        1,
    );
    insta::assert_snapshot!(refusal, @"error: groups.jsonl:1: command:sh -c 'exec >&-; sleep 1000' closed its standard output and went on without an answer to this group and 4 more; find out why; it said nothing on standard error");
}

#[test]
fn a_program_that_hangs_is_killed_with_all_that_it_started() {
    let place = Workplace::new();
    groups(&place, 3);
    place.write(
        "hang.sh",
        "read -r line; echo '{\"rewards\": [1, 0]}'; sleep 1000 & echo $! > child; echo $$ > own; wait",
    );
    let refusal = refused(
        &place,
        "command:sh hang.sh",
        "--set reward.timeout=0.3 --set reward.restarts=1",
        1,
    );
    insta::assert_snapshot!(refusal, @"error: groups.jsonl:3: command:sh hang.sh gave no answer within 0.3 s to this group, also after a restart; raise reward.timeout, or see that it answers each line at once and flushes its output; it said nothing on standard error");
    for pid in ["own", "child"] {
        assert!(place.path(pid).exists() && soon(|| !runs(&place.path(pid))), "{pid} goes on");
    }
}

#[test]
fn an_interrupted_labelling_ends_its_program_and_keeps_what_was_scored() {
    let place = Workplace::new();
    groups(&place, 70);
    let slow = format!(
        "echo $$ > own; while read -r line; do {ID}; echo $id >> asked; \
         if [ $id = 40 ] && [ ! -e go ]; then sleep 1000; fi; echo \"{{\\\"rewards\\\": [$id, 0]}}\"; done"
    );
    place.write("slow.sh", &slow);
    let command = "label --reward command:./slow --data groups.jsonl --out out.jsonl";
    place.write("slow", &format!("#!/bin/sh\n{slow}"));
    std::process::Command::new("chmod")
        .args(["+x", "slow"])
        .current_dir(place.folder.path())
        .status()
        .unwrap();
    let child = started(&place, command);
    let asked = || std::fs::read_to_string(place.path("asked")).unwrap_or_default();
    assert!(soon(|| asked().lines().any(|line| line == "40")), "it comes to the group that hangs");
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    assert!(soon(|| !runs(&place.path("own"))), "the program goes on");
    place.write("go", "");
    place.succeeds(command);
    let times = |id: &str| asked().lines().filter(|line| *line == id).count();
    assert_eq!((times("0"), times("31"), times("69")), (1, 1, 1), "{}", asked());
    let out = json_lines(&place.path("out.jsonl"));
    assert!(out.iter().enumerate().all(|(i, group)| group["rewards"] == json!([i as f64, 0.0])));
    assert!(!place.path("out.jsonl.partial").exists());
    // The content of the program is part of the output's key.
    place.write("slow", &format!("#!/bin/sh\n{slow} # changed"));
    insta::assert_snapshot!(place.refuses(command, 2), @"error: out.jsonl: was made with other settings: the content of reward program ./slow has changed. Use another --out, or --fresh to start over");
}

#[test]
fn wrong_answers_end_the_work_with_what_was_expected_and_found() {
    let place = Workplace::new();
    groups(&place, 2);
    let says = |line: &str| {
        place.write("say.sh", &format!("while read -r line; do echo '{line}'; done\n"));
        refused(&place, "command:sh say.sh", "--fresh", 1)
    };
    insta::assert_snapshot!(says("Loading checkpoint shards"), @r#"error: groups.jsonl:1: command:sh say.sh answers `Loading checkpoint shards`: expected {"rewards": [..]}, found something else; print answers alone to standard output, and everything else to standard error"#);
    insta::assert_snapshot!(says(r#"{"rewards": [1]}"#), @r#"error: groups.jsonl:1: command:sh say.sh answers `{"rewards": [1]}`: `rewards`: expected 2 numbers, one a completion, found 1; give every completion one"#);
    insta::assert_snapshot!(says(r#"{"rewards": [1, NaN]}"#), @r#"error: groups.jsonl:1: command:sh say.sh answers `{"rewards": [1, NaN]}`: `rewards[1]`: expected a finite number, found NaN; give every completion a reward, 0 where it earns none"#);
    insta::assert_snapshot!(says(r#"{"rewards": [null, 1]}"#), @r#"error: groups.jsonl:1: command:sh say.sh answers `{"rewards": [null, 1]}`: `rewards[0]`: expected a finite number, found null; give every completion a reward, 0 where it earns none"#);
    insta::assert_snapshot!(says(r#"{"id": 7, "rewards": [1, 0]}"#), @r#"error: groups.jsonl:1: command:sh say.sh answers `{"id": 7, "rewards": [1, 0]}`: `id`: expected the id of a group that was asked for, such as 0, 1, found 7; give it back as it was read"#);
    // Two lines a group: whether that shows before the end or only then is a matter of time.
    let twice = says(r#"{"rewards": [1, 0]}'; echo '{"rewards": [1, 0]}"#);
    assert!(twice.contains("may have gone to the wrong groups"), "{twice}");
    assert!(!place.path("out.jsonl.partial").exists(), "nothing doubtful is kept");
    insta::assert_snapshot!(refused(&place, "command:./nowhere.py", "--fresh", 2), @"error: --reward command:./nowhere.py: expected a program, found no file ./nowhere.py; paths count from the folder of the command");
    insta::assert_snapshot!(refused(&place, "command:nowhere.py", "--fresh", 2), @"error: --reward command:nowhere.py: nowhere.py cannot be started: No such file or directory (os error 2); a script needs `#!` and an interpreter in its first line and `chmod +x`, or its interpreter before it");
    assert!(!place.path("out.jsonl").exists());
}

#[test]
fn an_answer_behind_the_last_is_an_error_and_no_output_is_written() {
    let place = Workplace::new();
    groups(&place, 2);
    place.write("more.sh", &format!("{ALIKE} echo '{{\"rewards\": [1, 0]}}'\n"));
    insta::assert_snapshot!(refused(&place, "command:sh more.sh", "", 1), @r#"error: command:sh more.sh: answers `{"rewards": [1, 0]}` although every group that it was asked for has an answer, so that answers may have gone to the wrong groups; write one line a group, and start again"#);
    assert!(!place.path("out.jsonl").exists());
}

#[test]
fn several_rewards_are_added_by_weight_and_each_stands_apart() {
    let place = Workplace::new();
    groups(&place, 3);
    place.write("alike.sh", ALIKE);
    let reward =
        "command:sh alike.sh*0.5, rule:number*2,command:sh -c \"sh ./alike.sh\",rule:regex:/0$/*-1";
    let out = labelled(&place, reward, "");
    let parts = json!({"alike": [1.0, 0.0], "number": [1.0, 0.0], "alike-2": [1.0, 0.0], "regex": [0.0, 1.0]});
    assert_eq!(out[0]["reward_parts"], parts);
    assert_eq!(out[0]["rewards"], json!([3.5, -1.0]));
    // Read and carried by the next command.
    place.succeeds("pairs --data out.jsonl --out pairs.jsonl");
    assert_eq!(json_lines(&place.path("pairs.jsonl"))[2]["answer"], "3");
    let refusal = refused(&place, "rule:number", "", 2);
    insta::assert_snapshot!(refusal, @r#"error: out.jsonl: was made with other settings: rewards: [{"kind":"command","weight":0.5,"command":"sh alike.sh"},{"kind":"rule","weight":2.0,"rule":"number"},{"kind":"command","weight":1.0,"command":"sh -c \"sh ./alike.sh\""},{"kind":"rule","weight":-1.0,"rule":"regex:/0$/"}] → [{"kind":"rule","weight":1.0,"rule":"number"}]. Use another --out, or --fresh to start over"#);
    let refusal = refused(&place, "rule:number:solution", "--fresh", 1);
    insta::assert_snapshot!(refusal, @"error: groups.jsonl:1: `solution`: expected the right answer, for rule:number:solution, found only `answer`, `level`; name another field, or add it or pass --skip-bad 1");
}

#[test]
fn shards_of_a_programs_rewards_put_together_are_those_of_one_process() {
    let place = Workplace::new();
    groups(&place, 70);
    place.write(
        "by_id.sh",
        &format!("while read -r line; do {ID}; echo \"{{\\\"rewards\\\": [$id, 0]}}\"; done"),
    );
    labelled(&place, "command:sh by_id.sh,rule:exact", "");
    for shard in [2, 1] {
        let mut command = place.exalign();
        command.args([
            "label",
            "--reward",
            "command:sh by_id.sh,rule:exact",
            "--data",
            "groups.jsonl",
        ]);
        command.args(["--out", &format!("{shard}.jsonl"), "--shard", &format!("{shard}/2")]);
        assert!(command.output().unwrap().status.success());
    }
    place.succeeds("merge-shards 1.jsonl 2.jsonl --out merged.jsonl");
    let read = |name: &str| std::fs::read_to_string(place.path(name)).unwrap();
    assert_eq!(read("merged.jsonl"), read("out.jsonl"));
}

#[test]
fn sampling_carries_the_columns_of_a_table_and_training_counts_them_as_before() {
    let place = Workplace::new();
    place.with_letters("abcdefghijklmnopqrstuv");
    place.write("prompts.csv", "prompt,answer,level\nab,4,hard\ncd,5,\n");
    let sample = "sample --model model --data prompts.csv --out groups.jsonl --completions 2 --max-new-tokens 4";
    let output = place.exalign().args(sample.split_whitespace()).output().unwrap();
    assert!(
        output.status.success() && !text(&output.stderr).contains("not used"),
        "{}",
        text(&output.stderr)
    );
    let drawn = json_lines(&place.path("groups.jsonl"));
    assert_eq!((&drawn[0]["answer"], &drawn[0]["level"]), (&json!("4"), &json!("hard")));
    assert_eq!(drawn[1]["answer"], "5");
    let out = labelled(
        &place,
        "command:sh -c 'while read -r l; do echo \"{\\\"rewards\\\":[0.5,1]}\"; done'",
        "",
    );
    assert_eq!(out[0]["answer"], "4");
    let align = "align --objective exo-rw --model model --data out.jsonl --out aligned --set training.max_steps=1";
    let output = place.exalign().args(align.split_whitespace()).output().unwrap();
    assert!(
        text(&output.stderr).contains("columns that are not used: `answer` (2)"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn an_endpoint_grades_every_completion_once() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    groups(&place, 4);
    let answer = |request: &Value| {
        let question = request["messages"][0]["content"].as_str().unwrap_or_default();
        let grade = if question.contains("<answer>\n0\n") {
            "Poor.\n\n**Grade:** 2/10"
        } else {
            "<think>Grade: 1</think>Grade: 9"
        };
        let choice =
            json!({"message": {"role": "assistant", "content": grade}, "finish_reason": "stop"});
        Some(Reply::new("200 OK", json!({"choices": [choice]}).to_string()))
    };
    server.with(|state| state.answer = Some(Box::new(answer)));
    let reward = format!("openai:{}*0.5,rule:number", server.url);
    let out = labelled(&place, &reward, "");
    assert_eq!(out[1]["reward_parts"], json!({"openai": [9.0, 2.0], "number": [1.0, 0.0]}));
    assert_eq!(out[1]["rewards"], json!([5.5, 1.0]));
    assert_eq!(server.num_requests(), 8);
    labelled(&place, &reward, "--fresh");
    assert_eq!(server.num_requests(), 8, "answers are kept");
    let answer = |_: &Value| {
        let choice = json!({"message": {"role": "assistant", "content": "It is fine."}, "finish_reason": "stop"});
        Some(Reply::new("200 OK", json!({"choices": [choice]}).to_string()))
    };
    server.with(|state| state.answer = Some(Box::new(answer)));
    let more = "--fresh --set judge.model=other --set judge.concurrency=1";
    let refusal =
        refused(&place, &format!("openai:{}", server.url), more, 1).replace(&server.url, "URL");
    insta::assert_snapshot!(refusal, @r#"error: groups.jsonl:1: completion 1: URL gives it no grade, but a reply that ends with "It is fine."; ask in reward.template for a last line such as "Grade: 7", or use another judge.model or pass --skip-bad 1 --fresh"#);
}

/// Refuses the second completion of the group 7, gives that of the group 9 no grade, and all others 5.
fn picky(request: &Value) -> Option<Reply> {
    let question = request["messages"][0]["content"].as_str().unwrap_or_default();
    let is_of = |group: usize| {
        question.contains(&format!("On {group} + 1 =")) && question.contains("<answer>\n0\n")
    };
    if is_of(7) {
        let refusal = json!({"error": {"message": "filtered", "code": "content_filter"}});
        return Some(Reply::new("400 Bad Request", refusal.to_string()));
    }
    let said = if is_of(9) { "I cannot grade this." } else { "Grade: 5" };
    let choice = json!({"message": {"content": said}, "finish_reason": "stop"});
    Some(Reply::new("200 OK", json!({"choices": [choice]}).to_string()))
}

#[test]
fn groups_that_an_endpoint_gives_no_rewards_are_left_out_by_name_as_far_as_bad_records_may_be() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    let group = |i: usize| json!({"prompt": format!("On {i} + 1 ="), "completions": [format!(" {}", i + 1), "0"]});
    // Two blocks of groups, the tenth of them twice.
    place.lines("groups.jsonl", (0..10).chain(9..39).map(group));
    server.with(|state| state.answer = Some(Box::new(picky)));
    let reward = format!("openai:{}", server.url);
    let one = "--set judge.concurrency=1";
    let refusal = |more: &str| refused(&place, &reward, more, 1).replace(&server.url, "URL");
    insta::assert_snapshot!(refusal(one), @r#"error: groups.jsonl:8: completion 2: URL refuses to grade it with status 400 ({"error":{"message":"filtered","code":"content_filter"}}); ask a model without this filter or pass --skip-bad 1 --fresh"#);
    let message = refusal(&format!("{one} --fresh --skip-bad 2"));
    assert!(message.ends_with("or pass --skip-bad 3 --fresh"), "{message}");

    let output = label(&place, &reward, "--fresh --skip-bad 3");
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    for line in [8, 10, 11] {
        let named = format!("skipped: groups.jsonl:{line}: completion 2: ");
        assert_eq!(stderr.matches(&named).count(), 1, "{stderr}");
    }
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&printed["groups"], &printed["skipped_lines"], &printed["mean_reward"]),
        (&json!(37), &json!([8, 10, 11]), &json!(5.0))
    );
    let whole = std::fs::read(place.path("out.jsonl")).unwrap();
    let out = json_lines(&place.path("out.jsonl"));
    assert_eq!(out.len(), 37);
    assert!(out.iter().all(|it| it["rewards"] == json!([5.0, 5.0])), "none is taken for 0");

    // Shards leave out the same.
    for shard in ["1/2", "2/2"] {
        let mut command = place.exalign();
        command.args(["label", "--reward", &reward, "--data", "groups.jsonl", "--skip-bad", "3"]);
        let out = format!("{}.jsonl", &shard[..1]);
        let output = command.args(["--shard", shard, "--out", &out]).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let merge =
        place.exalign().args(["merge-shards", "1.jsonl", "2.jsonl", "--out", "all.jsonl"]).output();
    let merge = merge.unwrap();
    assert!(merge.status.success(), "{}", text(&merge.stderr));
    let merged: Value = serde_json::from_slice(&merge.stdout).unwrap();
    assert_eq!(merged["skipped_lines"], printed["skipped_lines"]);
    assert_eq!(std::fs::read(place.path("all.jsonl")).unwrap(), whole);

    place.lines("groups.jsonl", [group(7), group(9)]);
    insta::assert_snapshot!(refusal("--fresh --skip-bad 2"), @"error: groups.jsonl: expected groups that get rewards, but all 2 were left out; see why above");
}

#[test]
fn a_labelling_that_left_a_group_out_and_was_stopped_goes_on_to_the_same_output() {
    let (place, server) = (Workplace::new(), JudgeServer::start());
    groups(&place, 70);
    let reward = format!("openai:{}", server.url);
    let more = "--skip-bad 1 --set judge.concurrency=1 --set judge.max_retries=0";
    let filtered =
        |question: &str| question.contains("3 + 1 =") && question.contains("<answer>\n4\n");
    let answer = move |request: &Value, is_down: bool| {
        let question = request["messages"][0]["content"].as_str().unwrap_or_default();
        match () {
            () if filtered(question) => {
                Some(Reply::new("400 Bad Request", "{\"error\": {\"code\": \"content_filter\"}}"))
            }
            () if is_down && question.contains("69 + 1 =") => {
                Some(Reply::new("401 Unauthorized", ""))
            }
            () => {
                let choice = json!({"message": {"content": "Grade: 5"}, "finish_reason": "stop"});
                Some(Reply::new("200 OK", json!({"choices": [choice]}).to_string()))
            }
        }
    };
    server.with(|state| state.answer = Some(Box::new(move |it| answer(it, true))));
    refused(&place, &reward, more, 1);
    server.with(|state| state.answer = Some(Box::new(move |it| answer(it, false))));
    let before = server.num_requests();
    let output = label(&place, &reward, more);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let skipped = printed["skipped_lines"].as_array().unwrap();
    assert_eq!((&printed["groups"], skipped.len()), (&json!(69), 1), "{printed}");
    assert!(server.num_requests() - before < 70, "what was graded is not asked for again");
    let whole = std::fs::read(place.path("out.jsonl")).unwrap();
    labelled(&place, &reward, &format!("{more} --fresh"));
    assert_eq!(std::fs::read(place.path("out.jsonl")).unwrap(), whole);
}

#[test]
fn the_rules_of_the_embedded_corpora_give_rewards() {
    let place = Workplace::new();
    groups(&place, 2);
    let out = labelled(&place, "rule:instruction", "");
    assert!(out[0]["rewards"][0].is_number());
    insta::assert_snapshot!(refused(&place, "rule:sentiment", "--fresh", 2), @"error: invalid value 'rule:sentiment' for '--reward <SPEC[,SPEC]>': `rule:sentiment`: expected a rule, one of exact, number, regex, summarization, dialogue, instruction, found `sentiment`");
}
