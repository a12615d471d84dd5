//! Claims about standard output and standard error: files are written before anything is printed,
//! nobody needs to read either, and what is foreign is text and nothing else.
#![cfg(unix)]

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::{SMALL_EXPERIMENT, Workplace, text};
use serde_json::{Value, json};

const ALIGN: &str = "align --objective exo-rw --model model --data groups.jsonl --out";

/// Moves a cursor, sets a title, reverses the order of letters; as control characters of two kinds.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\u{7f}";

fn exalign(place: &Workplace, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exalign"));
    command
        .current_dir(place.folder.path())
        .args(arguments.split_whitespace())
        .env("EXALIGN_CACHE", place.path("cache"))
        .env_remove("RUST_LOG");
    command
}

fn full() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

/// Runs with a standard output that nobody reads.
fn unread(place: &Workplace, arguments: &str) -> Output {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = exalign(place, arguments);
    command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap()
}

fn assert_plain(said: &[u8]) {
    let said = String::from_utf8(said.to_vec()).unwrap();
    let harmless = |c: char| !(c.is_control() && c != '\n' || c == '\u{202e}');
    assert!(said.chars().all(harmless), "{said:?}");
}

#[test]
fn the_work_is_done_where_standard_error_is_full_or_closed() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 4, 3);
    let status = exalign(&place, &format!("{ALIGN} full")).stderr(full()).status().unwrap();
    assert!(status.success() && place.path("full/model/config.json").is_file());
    let shell = format!("exec {} {ALIGN} closed 2>&-", env!("CARGO_BIN_EXE_exalign"));
    let mut closed = Command::new("sh");
    closed.args(["-c", &shell]).current_dir(place.folder.path());
    assert!(closed.env("EXALIGN_CACHE", place.path("cache")).status().unwrap().success());
    assert!(place.path("closed/model/config.json").is_file());
    for format in ["pretty", "json"] {
        let score = format!("score --model none --data groups.jsonl -vv --log-format {format}");
        let status = exalign(&place, &score).stderr(full()).status().unwrap();
        assert_eq!(status.code(), Some(1), "an error, and no panic");
    }
}

#[test]
fn a_run_whose_output_nobody_reads_has_its_report_and_ends_quietly() {
    let place = Workplace::new();
    let output = unread(&place, &format!("{SMALL_EXPERIMENT} -q"));
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    for file in ["report.json", "report.html", "frontier.svg"] {
        assert!(place.path("run").join(file).is_file(), "{file}");
    }
    for arguments in [
        &format!("{SMALL_EXPERIMENT} -q --dry-run"),
        "run toy --dry-run",
        "report run -q",
        "info --model model",
    ] {
        let output = unread(&place, arguments);
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), said), (Some(0), String::new()), "{arguments}");
    }
    // Full is another matter: what was asked for is not there, though the files are.
    std::fs::remove_file(place.path("run/report.json")).unwrap();
    let output =
        exalign(&place, &format!("{SMALL_EXPERIMENT} -q")).stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.starts_with("error: standard output: cannot write: "), "{said}");
    assert_eq!(said.lines().count(), 1);
    assert!(place.path("run/report.json").is_file());
}

#[test]
fn stages_and_streams_outlive_a_standard_output_that_is_closed_or_full() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 40, 3);
    for (number, more) in ["", "--per-token"].into_iter().enumerate() {
        let score = format!("score --model model --data groups.jsonl -q {more}");
        assert_eq!(unread(&place, &score).status.code(), Some(0));
        assert_eq!(exalign(&place, &score).stdout(full()).status().unwrap().code(), Some(1));
        let align = format!("{ALIGN} out{number} -q");
        let output = exalign(&place, &align).stdout(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(place.path(&format!("out{number}/model/config.json")).is_file());
        assert!(unread(&place, &align).status.success(), "it is finished");
    }
    // What only prints does not go on for nobody, though its input has no end.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = exalign(&place, "loss --objective dpo");
    let mut child = command.stdin(Stdio::piped()).stdout(writer).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let line = json!({"policy": [-1.0, -2.0], "reference": [-1.5, -1.0]});
    let started = Instant::now();
    let status = loop {
        let _ = writeln!(input, "{line}");
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "it goes on");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(status.success());
}

#[test]
fn nothing_foreign_is_more_than_text_in_a_terminal() {
    let place = Workplace::new();
    let said = |arguments: &[&str], code: i32| {
        let mut command = exalign(&place, "");
        let output = command.args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert_plain(&output.stdout);
        assert_plain(&output.stderr);
        format!("{}{}", text(&output.stdout), text(&output.stderr))
    };
    // A file's name and a record's field in an error.
    let name = format!("{HOSTILE}.jsonl");
    place.write(&name, &json!({ HOSTILE: 1 }).to_string());
    let message = said(&["score", "--model", "model", "--data", &name], 1);
    assert!(message.contains("\\u{1b}[2J\\u{1b}]0;owned\\u{7}"), "{message}");
    // Names of files and columns in warnings and tables, as text and as JSON.
    std::fs::create_dir(place.path("set")).unwrap();
    place.write(&format!("set/{HOSTILE}.zip"), "");
    place.lines(
        &format!("set/{HOSTILE}.jsonl"),
        (0..8).map(|i| json!({"instruction": format!("i{i}"), "output": "o", HOSTILE: "x"})),
    );
    for (number, more) in [[].as_slice(), &["--json", "--log-format", "json"]].iter().enumerate() {
        let out = format!("records{number}");
        let data = ["data", "instruction", "set", "--held-out", "2", "--out", &out];
        let message = said(&[&data, *more].concat(), 0);
        assert!(message.contains("owned") && message.contains("columns"), "{message}");
    }
    // A model's own words.
    let config = place.path("model/config.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    json["model_type"] = HOSTILE.into();
    std::fs::write(&config, json.to_string()).unwrap();
    assert!(said(&["info", "--model", "model"], 1).contains("\\u{9b}31m"));
    // An identifier that is printed as JSON says what it said.
    let place = Workplace::new();
    place.lines("data.jsonl", [json!({"id": HOSTILE, "prompt_ids": [1], "completion_ids": [[2]]})]);
    let printed = place.succeeds("score --model model --data data.jsonl");
    assert_plain(printed.as_bytes());
    assert_eq!(serde_json::from_str::<Value>(&printed).unwrap()["id"], HOSTILE);
}

#[test]
fn an_error_line_has_a_length() {
    let place = Workplace::new();
    let config = json!({ "model_type": "é".repeat(100_000) });
    place.write("model/config.json", &config.to_string());
    let message = text(&exalign(&place, "info --model model").output().unwrap().stderr);
    assert!(message.chars().count() < 2200, "{} characters", message.chars().count());
    assert!(message.contains("characters left out)"), "{message}");
}

#[test]
fn a_path_that_is_no_unicode_is_a_path() {
    let place = Workplace::new();
    place.lines("prompts.jsonl", [json!({"prompt_ids": [1]})]);
    let name = OsStr::from_bytes(b"drawn-\xff.jsonl");
    let mut command = exalign(&place, "sample --model model --data prompts.jsonl");
    let output = command.arg("--max-new-tokens=4").arg("--out").arg(name).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(place.folder.path().join(name).is_file());

    place.groups("groups.jsonl", 3, 2);
    let name = OsStr::from_bytes(b"aligned-\xff");
    for (line, out) in [
        ("align --objective exo-rw --model model --data groups.jsonl --lora-rank 2", name),
        ("merge --model model --adapter adapter", OsStr::from_bytes(b"merged-\xff")),
    ] {
        let output = exalign(&place, line).arg("--out").arg(out).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        if out == name {
            std::fs::rename(place.folder.path().join(name).join("model"), place.path("adapter"))
                .unwrap();
        }
    }
}
