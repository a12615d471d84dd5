//! Claims about what a training shows while it goes on: TensorBoard's event files, burn's screen of plots,
//! the lines of a run.

use std::path::{Path, PathBuf};

use crate::support::{SMALL_EXPERIMENT, Workplace, metrics, text};

const ALIGN: &str = "align --objective exo-rw --model model --data groups.jsonl";

/// The event files in a folder.
fn event_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect()
}

/// How often a text occurs in the event file of a folder, which has one.
fn count(folder: &Path, tag: &str) -> usize {
    let files = event_files(folder);
    assert_eq!(files.len(), 1, "{files:?}");
    let bytes = std::fs::read(&files[0]).unwrap();
    // The tag of a scalar: the field's number and type, the length, the text.
    let needle = [&[0x0a, tag.len() as u8], tag.as_bytes()].concat();
    bytes.windows(needle.len()).filter(|window| *window == needle).count()
}

#[test]
fn an_event_file_has_every_step_once_and_changes_nothing_else() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 12, 3);
    let align = format!("{ALIGN} --set training.batch_size=4 --set checkpoint.every=1");
    place.succeeds(&format!("{align} --out plain"));
    let watched = format!("{align} --out watched --tensorboard events");
    place.succeeds(&watched);
    assert_eq!(metrics(&place.path("watched")), metrics(&place.path("plain")));
    let steps = metrics(&place.path("plain")).len();
    let events = place.path("events");
    for tag in ["train/loss", "train/rewards/accuracies", "train/tokens_per_second"] {
        assert_eq!(count(&events, tag), steps, "{tag}");
    }
    // Of a training that was finished before, the same.
    std::fs::remove_dir_all(&events).unwrap();
    place.succeeds(&watched);
    assert_eq!(count(&events, "train/loss"), steps);
}

#[test]
fn a_run_has_a_folder_of_events_for_every_training_and_says_each_thing_once() {
    let place = Workplace::new();
    let run = format!("{SMALL_EXPERIMENT} --tensorboard events");
    let output = place.exalign().args(run.split_whitespace()).output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    for training in ["sft", "reward", "dpo", "exo-rw"] {
        let steps = metrics(&place.path("run").join(training)).len();
        assert_eq!(count(&place.path("events").join(training), "train/loss"), steps, "{training}");
    }
    let stages = said.lines().filter(|line| line.contains(": done in ")).count();
    assert!(said.contains(&format!("{stages}/{stages} ")), "the last has its number\n{said}");
    let mut lines: Vec<&str> = said.lines().collect();
    assert!(!said.contains(" records"), "the files are the run's own\n{said}");
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), said.lines().count(), "{said}");
}

#[test]
fn a_screen_needs_a_terminal() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 4, 3);
    let said = place.refuses(&format!("{ALIGN} --out out --tui"), 2);
    insta::assert_snapshot!(said, @"error: --tui: expected a terminal to draw in, but standard output is none; leave --tui out, and the progress is shown line by line");
    assert!(!place.path("out").exists());
}

/// In a terminal of its own, which the program `script` makes.
#[cfg(target_os = "linux")]
mod in_a_terminal {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    /// Aligns in a terminal and presses `keys` one after the other as soon as there are steps; what the
    /// terminal was sent, with the exit code and the terminal's settings at the end.
    fn pressed(place: &Workplace, out: &str, keys: &[&[u8]]) -> String {
        let exalign = env!("CARGO_BIN_EXE_exalign");
        let training =
            "--set training.epochs=4000 --set training.batch_size=4 --set checkpoint.every=0";
        // Ctrl-C reaches the shell too, which without a trap may end before it has said anything.
        let shell = format!(
            "trap : INT; stty cols 100 rows 40; {exalign} {ALIGN} --out {out} {training} --tui; \
             echo code=$?; stty -a"
        );
        let mut child = Command::new("script")
            .args(["-qec", &shell, "/dev/null"])
            .current_dir(place.folder.path())
            .env("EXALIGN_CACHE", place.path("cache"))
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            output.read_to_end(&mut bytes).map(|_| bytes)
        });
        let mut input = child.stdin.take().unwrap();
        let started = Instant::now();
        let steps = || std::fs::read_to_string(place.path(out).join("metrics.jsonl"));
        while steps().unwrap_or_default().lines().count() < 3 {
            assert!(started.elapsed() < Duration::from_secs(60), "it takes no step");
            std::thread::sleep(Duration::from_millis(50));
        }
        for key in keys {
            input.write_all(key).unwrap();
            input.flush().unwrap();
            // burn looks at the keys ten times a second.
            std::thread::sleep(Duration::from_millis(500));
        }
        while child.try_wait().unwrap().is_none() {
            if started.elapsed() > Duration::from_secs(120) {
                child.kill().unwrap();
                panic!("the keys end nothing");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        text(&reader.join().unwrap().unwrap())
    }

    #[test]
    fn ctrl_c_and_the_menu_of_the_screen_end_a_training_by_a_checkpoint() {
        let place = Workplace::new();
        place.groups("groups.jsonl", 12, 3);
        for (out, keys) in [("ctrl-c", &[&b"\x03"[..]][..]), ("menu", &[b"q", b"s"])] {
            let said = pressed(&place, out, keys);
            assert!(said.contains("code=130"), "{out}: {said}");
            let (_, after) = said.rsplit_once("\x1b[?1049l").expect("the second screen is left");
            assert!(said.contains("\x1b[?1049h") && !after.contains("\x1b[?1049h"), "{out}");
            let modes: Vec<&str> = after.split_whitespace().collect();
            for mode in ["icanon", "echo", "isig"] {
                assert!(modes.contains(&mode), "{out}: {mode} in {after}");
            }
            let checkpoints = std::fs::read_dir(place.path(out).join("checkpoints"));
            assert!(checkpoints.is_ok_and(|mut entries| entries.next().is_some()), "{out}");
        }
    }
}
