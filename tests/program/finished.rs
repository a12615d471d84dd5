//! Claims about what is finished: it is checked before it is believed, and made again where it is not
//! what it was.

#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::faulty::entries;
use crate::support::{SMALL_EXPERIMENT, Workplace, metrics, text};
use serde_json::{Value, json};

const ALIGN: &str = "align --objective exo-rw --model model --data groups.jsonl --out out --set training.batch_size=4 \
     --set training.max_steps=4 --set training.epochs=4 --set checkpoint.every=2";

/// What is said on standard error by a command that must succeed.
fn said(place: &Workplace, command: &str) -> String {
    let output = place.exalign().args(command.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stderr)
}

/// Changes one bit in the middle of a file.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let below = |path: PathBuf| if path.is_dir() { files_below(&path) } else { vec![path] };
    entries(folder).into_iter().flat_map(below).collect()
}

#[test]
fn a_finished_training_whose_model_was_damaged_or_lost_is_made_again() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 9, 3);
    place.succeeds(ALIGN);
    let weights = place.path("out/model/model.safetensors");
    let (whole, steps) = (fs::read(&weights).unwrap(), metrics(&place.path("out")));
    let damages: [(&str, &dyn Fn()); 5] = [
        ("is gone (and 1 more)", &|| fs::remove_dir_all(place.path("out/model")).unwrap()),
        ("is gone", &|| fs::remove_file(&weights).unwrap()),
        ("is not what was written", &|| fs::write(&weights, "").unwrap()),
        ("is not what was written", &|| flip(&weights)),
        ("is not what was written", &|| flip(&place.path("out/metrics.jsonl"))),
    ];
    for (told, damage) in damages {
        damage();
        let stderr = said(&place, ALIGN);
        assert!(stderr.contains(told) && stderr.contains("it is made again"), "{told}: {stderr}");
        assert!(fs::read(&weights).unwrap() == whole, "{told}");
        assert_eq!(metrics(&place.path("out")), steps, "{told}");
        let stderr = said(&place, ALIGN);
        assert!(!stderr.contains("made again"), "{stderr}");
    }
    // What was there in its stead is not lost.
    assert!(place.path("out/model/model.safetensors.changed").exists());
}

#[test]
fn a_file_that_was_changed_after_it_was_finished_is_kept_under_another_name() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 9, 3);
    let command = "pairs --data groups.jsonl --out pairs.jsonl";
    place.succeeds(command);
    let whole = fs::read(place.path("pairs.jsonl")).unwrap();
    place.write("pairs.jsonl", "my own\n");
    let stderr = said(&place, command);
    assert!(stderr.contains("kept as pairs.jsonl.changed"), "{stderr}");
    assert!(fs::read(place.path("pairs.jsonl")).unwrap() == whole);
    assert_eq!(fs::read(place.path("pairs.jsonl.changed")).unwrap(), b"my own\n");
}

#[test]
fn a_record_that_was_damaged_is_refused_with_the_way_out() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 9, 3);
    place.succeeds("pairs --data groups.jsonl --out pairs.jsonl");
    let record = place.path("pairs.jsonl.run.json");
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace("\"pairs\": 9", "\"pairs\": 8")).unwrap();
    let message = place.refuses("pairs --data groups.jsonl --out pairs.jsonl", 2);
    insta::assert_snapshot!(message, @"error: pairs.jsonl.run.json: its checksum is not that of its content: it was damaged or changed since it was written. Use another --out, or --fresh to start over");
    place.succeeds("pairs --data groups.jsonl --out pairs.jsonl --fresh");

    place.succeeds(SMALL_EXPERIMENT);
    let record = place.path("run/run.json");
    let text = fs::read_to_string(&record).unwrap();
    fs::write(&record, text.replace("\"preset\": \"quick\"", "\"preset\": \"small\"")).unwrap();
    let message = place.refuses(SMALL_EXPERIMENT, 2);
    let expected = "error: run/run.json: its checksum is not that of its content: it was damaged or changed since it \
                    was written. Use another --out, or --fresh to start over";
    assert_eq!(message, expected);
}

/// A training that was stopped with checkpoints at steps 2 and 4 of 6, and what it ends with.
struct Stopped {
    place: Workplace,
    whole: Vec<u8>,
    steps: Vec<Value>,
}

impl Stopped {
    const COMMAND: &'static str = "align --objective exo-rw --model model --data groups.jsonl --out out \
         --set training.batch_size=4 --set training.max_steps=6 --set training.epochs=6 --set checkpoint.every=2";

    fn new() -> Self {
        let place = Workplace::new();
        place.groups("groups.jsonl", 9, 3);
        place.succeeds(&Self::COMMAND.replace("--out out", "--out whole"));
        let whole = fs::read(place.path("whole/model/model.safetensors")).unwrap();
        let steps = metrics(&place.path("whole"));
        let stopped = Self { place, whole, steps };
        stopped.stop();
        stopped
    }

    /// Leaves the folder as a kill after step 4 does.
    fn stop(&self) {
        let _ = fs::remove_dir_all(self.place.path("out"));
        let disk = crate::support::faulty::Disk::with(self.place.folder.path());
        let log = disk.exalign(Self::COMMAND, crate::support::faulty::Fault::None, 0);
        assert!(log.status.success());
        let operations = disk.operations();
        let last = operations.iter().position(|it| it.contains("checkpoints/.step-6")).unwrap();
        let disk = crate::support::faulty::Disk::with(self.place.folder.path());
        disk.exalign(Self::COMMAND, crate::support::faulty::Fault::Kill, last + 1);
        fs::rename(disk.root().join("out"), self.place.path("out")).unwrap();
        assert!(self.place.path("out/checkpoints/step-4/optimizer.bpk").exists());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path("out").join(name)
    }

    /// Goes on: what is said is looked at, what comes out is the same.
    fn goes_on(&self, told: &[&str]) {
        let stderr = said(&self.place, Self::COMMAND);
        for told in told {
            assert!(stderr.contains(told), "expected {told}, found {stderr}");
        }
        assert!(fs::read(self.path("model/model.safetensors")).unwrap() == self.whole, "{stderr}");
        assert_eq!(metrics(&self.place.path("out")), self.steps, "{stderr}");
    }
}

#[test]
fn a_checkpoint_without_its_checksums_optimizer_or_state_is_passed_over() {
    if crate::support::faulty::library().is_none() {
        return;
    }
    let stopped = Stopped::new();
    stopped.goes_on(&["continuing after step 4"]);
    let damages: [(&str, &dyn Fn(PathBuf)); 5] = [
        ("checksums.json", &|path| fs::write(path, "{}").unwrap()),
        ("optimizer.bpk", &|path| flip(&path)),
        ("state.json", &|path| fs::remove_file(path).unwrap()),
        ("config.json", &|path| fs::remove_file(path).unwrap()),
        ("checksums.json", &|path| {
            // A list that is right but for the optimizer, which is gone as well.
            fs::remove_file(path.with_file_name("optimizer.bpk")).unwrap();
            let mut list: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            list.as_object_mut().unwrap().remove("optimizer.bpk");
            fs::write(path, list.to_string()).unwrap();
        }),
    ];
    for (file, damage) in damages {
        stopped.stop();
        damage(stopped.path("checkpoints/step-4").join(file));
        stopped.goes_on(&["continuing after step 2"]);
    }
}

#[test]
fn metrics_and_checkpoint_agree_or_an_earlier_one_is_taken() {
    if crate::support::faulty::library().is_none() {
        return;
    }
    let stopped = Stopped::new();
    let path = stopped.path("metrics.jsonl");
    let all = |_: usize| true;
    type IsKept = fn(usize) -> bool;
    let cases: [(&str, IsKept, (&str, &str)); 6] = [
        ("continuing after step 4", |step| step <= 5, ("", "")),
        ("continuing after step 2", |step| step <= 3, ("", "")),
        ("continuing after step 2", |step| step != 4, ("", "")),
        ("continuing after step 2", all, ("\"step\":4,", "\"step\":4,\"more\":1,")),
        (
            "metrics.jsonl no longer holds its first 2 lines as they were",
            |step| step != 1,
            ("", ""),
        ),
        ("metrics.jsonl no longer holds its first 2 lines as they were", |_| false, ("", "")),
    ];
    for (told, is_kept, (from, to)) in cases {
        stopped.stop();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 6);
        let kept = text.lines().zip(1..).filter(|(_, step)| is_kept(*step));
        let damaged: String =
            kept.map(|(line, _)| format!("{}\n", line.replacen(from, to, 1))).collect();
        fs::write(&path, damaged).unwrap();
        stopped.goes_on(&[told]);
    }
}

#[test]
fn samples_drawn_so_far_are_believed_line_by_line() {
    let Some(_) = crate::support::faulty::library() else { return };
    let place = Workplace::new();
    place.lines("prompts.jsonl", (0..8).map(|it| json!({ "prompt_ids": [it, it] })));
    let command = "sample --model model --data prompts.jsonl --out out.jsonl --completions 2 --max-new-tokens 6 \
         --set generation.batch_size=2";
    let disk = crate::support::faulty::Disk::with(place.folder.path());
    assert!(disk.exalign(command, crate::support::faulty::Fault::None, 0).status.success());
    let whole = fs::read(disk.root().join("out.jsonl")).unwrap();
    let is_last = |it: &String| it.contains(".out.jsonl.part-");
    let last = disk.operations().iter().position(is_last).unwrap();
    let disk = crate::support::faulty::Disk::with(place.folder.path());
    disk.exalign(command, crate::support::faulty::Fault::Kill, last + 1);
    fs::copy(disk.root().join("out.jsonl.run.json"), place.path("out.jsonl.run.json")).unwrap();
    let partial = fs::read_to_string(disk.root().join("out.jsonl.partial")).unwrap();
    let digits: Vec<usize> =
        partial.match_indices(|it: char| it.is_ascii_digit()).map(|(at, _)| at).collect();
    for at in digits.into_iter().step_by(37) {
        let mut changed = partial.clone().into_bytes();
        changed[at] = if changed[at] == b'1' { b'2' } else { b'1' };
        fs::write(place.path("out.jsonl.partial"), changed).unwrap();
        place.succeeds(command);
        assert!(fs::read(place.path("out.jsonl")).unwrap() == whole, "byte {at}");
        assert!(!place.path("out.jsonl.partial").exists());
        for name in ["out.jsonl", "out.jsonl.run.json"] {
            fs::remove_file(place.path(name)).unwrap();
        }
        fs::copy(disk.root().join("out.jsonl.run.json"), place.path("out.jsonl.run.json")).unwrap();
    }
}

#[test]
fn damage_to_a_stage_never_reaches_the_report_or_another_run() {
    let place = Workplace::new();
    place.succeeds(SMALL_EXPERIMENT);
    let report = |run: &str| -> Value {
        let text = fs::read_to_string(place.path(run).join("report.json")).unwrap();
        let mut report: Value = serde_json::from_str(&text).unwrap();
        report.as_object_mut().unwrap().remove("stages");
        for row in report["results"].as_array_mut().unwrap() {
            row.as_object_mut().unwrap().remove("seconds");
        }
        report
    };
    let (whole, other) = (report("run"), SMALL_EXPERIMENT.replace("--out run", "--out other"));
    let damaged = [
        "data/prompts.jsonl",
        "evaluations/sft/step-0.jsonl",
        "sample-labelled/groups.jsonl",
        "sft/model/model.safetensors",
    ];
    for name in damaged {
        flip(&place.path("run").join(name));
        let stderr = said(&place, &other);
        assert!(
            stderr.contains("since that run finished it; it is computed again"),
            "{name}: {stderr}"
        );
        let _ = fs::remove_dir_all(place.path("other"));
        let stderr = said(&place, SMALL_EXPERIMENT);
        assert!(stderr.contains("it is made again"), "{name}: {stderr}");
        assert_eq!(report("run"), whole, "{name}");
    }
    // Whatever is done to one run's files leaves the other's as they were.
    said(&place, &other);
    let contents = |run: &str| -> Vec<Vec<u8>> {
        let files = files_below(&place.path(run));
        files.iter().map(|it| fs::read(it).unwrap()).collect()
    };
    let before = contents("other");
    for path in files_below(&place.path("run")) {
        fs::write(path, "overwritten").unwrap();
    }
    assert!(contents("other") == before);
}
