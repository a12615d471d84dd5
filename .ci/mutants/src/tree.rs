//! A copy of the project with faults built in, each behind a switch, so that one build tries them all.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::seq::SliceRandom;
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};

use crate::sites::{self, Site};

/// The rooms that faults are put into, each with the same share of them.
const ROOMS: [&str; 11] = [
    "src/alignment",
    "src/data",
    "src/evaluation",
    "src/generation",
    "src/policy",
    "src/rewards.rs",
    "src/statistics.rs",
    "src/training",
    "experiments/judging",
    "experiments/protocol",
    "experiments/stages",
];

const SWITCH: &str = r#"//! Whether a fault is switched on: `EXALIGN_FAULT` has its number.
use std::io::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static ON: OnceLock<(u32, Option<std::ffi::OsString>)> = OnceLock::new();
static SEEN: [AtomicBool; 4096] = [const { AtomicBool::new(false) }; 4096];

pub fn fault(number: u32) -> bool {
    let (on, trace) = ON.get_or_init(|| {
        let on = std::env::var("EXALIGN_FAULT").ok().and_then(|it| it.parse().ok());
        (on.unwrap_or(u32::MAX), std::env::var_os("EXALIGN_FAULT_TRACE"))
    });
    if let Some(trace) = trace && !SEEN[number as usize].swap(true, Ordering::Relaxed) {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(trace);
        let _ = file.and_then(|mut it| it.write_all(format!("{number}\n").as_bytes()));
    }
    *on == number
}
"#;

/// A fault of the copy.
#[derive(Clone, Debug)]
pub struct Fault {
    pub number: usize,
    pub file: PathBuf,
    site: Site,
}

impl Fault {
    pub fn says(&self) -> String {
        format!("{}:{}: {}", self.file.display(), self.site.line, self.site.says)
    }
}

/// Copies the project's files to `tree` and builds `count` faults into them, drawn by `seed`; those that do
/// not compile are taken out again.
pub fn plant(project: &Path, tree: &Path, count: usize, seed: u64) -> Vec<Fault> {
    copy(project, tree);
    let mut faults = draw(project, count, seed);
    loop {
        let places = write(project, tree, &faults);
        let errors = check(tree);
        if errors.is_empty() {
            break;
        }
        let before = faults.len();
        faults.retain(|fault| {
            let place = &places[&fault.number];
            !errors.iter().any(|(file, at)| {
                *file == fault.file
                    && at.start < place.end
                    && place.start < at.end.max(at.start + 1)
            })
        });
        eprintln!("{} of {before} faults do not compile", before - faults.len());
        assert!(faults.len() < before, "errors outside of all faults: {errors:?}");
    }
    let list: Vec<Value> =
        faults.iter().map(|it| json!({ "number": it.number, "says": it.says() })).collect();
    std::fs::write(tree.join("faults.json"), serde_json::to_string_pretty(&list).unwrap()).unwrap();
    faults
}

fn tracked(project: &Path) -> Vec<PathBuf> {
    let output = Command::new("git").arg("-C").arg(project).arg("ls-files").output().expect("git");
    String::from_utf8(output.stdout).unwrap().lines().map(PathBuf::from).collect()
}

fn copy(project: &Path, tree: &Path) {
    for file in tracked(project) {
        let to = tree.join(&file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        write_changed(&to, &std::fs::read(project.join(&file)).unwrap());
    }
}

/// Files that are as they should be keep their time, so that builds begin where they were.
fn write_changed(path: &Path, bytes: &[u8]) {
    if std::fs::read(path).is_ok_and(|it| it == bytes) {
        return;
    }
    std::fs::write(path, bytes).unwrap();
}

fn draw(project: &Path, count: usize, seed: u64) -> Vec<Fault> {
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    let files = tracked(project);
    let mut rooms: Vec<Vec<(PathBuf, Site)>> = Vec::new();
    for room in ROOMS {
        let mut of_room = Vec::new();
        for file in files.iter().filter(|it| it.starts_with(room)) {
            let text = file.to_string_lossy();
            if text.ends_with(".rs") && !text.contains("tests") {
                let source = std::fs::read_to_string(project.join(file)).unwrap();
                of_room.extend(sites::find(&source).into_iter().map(|site| (file.clone(), site)));
            }
        }
        eprintln!("{room}: {} places for a fault", of_room.len());
        of_room.shuffle(&mut random);
        rooms.push(of_room);
    }
    let mut faults: Vec<Fault> = Vec::new();
    while faults.len() < count && rooms.iter().any(|it| !it.is_empty()) {
        for room in &mut rooms {
            while let Some((file, site)) = room.pop() {
                let range = &site.range;
                let meets = |it: &Fault| {
                    it.file == file
                        && it.site.range.start <= range.end
                        && range.start <= it.site.range.end
                };
                if !faults.iter().any(meets) {
                    faults.push(Fault { number: faults.len(), file, site });
                    break;
                }
            }
        }
    }
    faults.truncate(count);
    faults
}

/// Writes the sources with their faults; where each fault stands in its file.
fn write(project: &Path, tree: &Path, faults: &[Fault]) -> BTreeMap<usize, Range<usize>> {
    let mut places = BTreeMap::new();
    for file in tracked(project).iter().filter(|it| it.extension().is_some_and(|it| it == "rs")) {
        let source = std::fs::read_to_string(project.join(file)).unwrap();
        let mut own: Vec<&Fault> = faults.iter().filter(|it| it.file == *file).collect();
        own.sort_by_key(|it| it.site.range.start);
        let (mut text, mut from) = (String::new(), 0);
        for fault in own {
            text += &source[from..fault.site.range.start];
            let krate = if file.starts_with("src") { "crate" } else { "exalign" };
            let switch = format!("{krate}::fault::fault({})", fault.number);
            let start = text.len();
            text += &fault.site.with.replace("FAULT", &switch);
            places.insert(fault.number, start..text.len());
            from = fault.site.range.end;
        }
        text += &source[from..];
        if file == Path::new("src/lib.rs") {
            text += "\n#[doc(hidden)]\n#[allow(missing_docs)]\npub mod fault;\n";
        }
        write_changed(&tree.join(file), text.as_bytes());
    }
    write_changed(&tree.join("src/fault.rs"), SWITCH.as_bytes());
    places
}

/// The files and byte ranges of the compiler's errors.
fn check(tree: &Path) -> Vec<(PathBuf, Range<usize>)> {
    let output = Command::new("cargo")
        .args(["check", "--release", "--message-format=json", "--quiet"])
        .current_dir(tree)
        .output()
        .expect("cargo");
    let mut errors = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let message = &line["message"];
        if message["level"] != "error" {
            continue;
        }
        for span in message["spans"].as_array().into_iter().flatten() {
            let number = |name: &str| span[name].as_u64().unwrap() as usize;
            let file = PathBuf::from(span["file_name"].as_str().unwrap());
            errors.push((file, number("byte_start")..number("byte_end")));
        }
    }
    assert!(
        output.status.success() || !errors.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    errors
}
