//! Which tests reach which fault, and which of them notice it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::tree::Fault;

/// One test of one binary, and what is known of it.
struct Test {
    binary: PathBuf,
    name: String,
    took: Duration,
    /// The faults it passes by.
    reaches: BTreeSet<usize>,
}

/// What became of a fault.
pub enum Fate {
    Caught(String),
    Unreached,
    Survived,
}

/// The tests that are left out: they count every operation on files, also those of the list, and take longest.
const LEFT_OUT: &str = "faults::";
/// The binary that is left out: it holds none of the program's claims.
const LIST_OF_SKIPPED: &str = "what_was_skipped-";

/// Builds the tests of `tree` and tries every fault on the tests that reach it, quickest first.
pub fn run(tree: &Path, faults: &[Fault], workers: usize) -> Vec<Fate> {
    let tests = reached(tree, &binaries(tree), workers);
    let fates = parallel(workers, faults, |fault| {
        let mut reaching: Vec<&Test> =
            tests.iter().filter(|it| it.reaches.contains(&fault.number)).collect();
        reaching.sort_by_key(|it| it.took);
        let is_reached = !reaching.is_empty();
        let number = fault.number.to_string();
        let failing = reaching.into_iter().find(|test| {
            let limit = Duration::from_secs(20) + 10 * test.took;
            !passes(tree, test, &[("EXALIGN_FAULT", &number)], limit)
        });
        let fate = match failing {
            Some(test) => Fate::Caught(test.name.clone()),
            None if is_reached => Fate::Survived,
            None => Fate::Unreached,
        };
        match &fate {
            Fate::Caught(by) => println!("caught    {number:>4} {} | by {by}", fault.says()),
            Fate::Unreached => println!("unreached {number:>4} {}", fault.says()),
            Fate::Survived => println!("survived  {number:>4} {}", fault.says()),
        }
        fate
    });
    fates
}

fn binaries(tree: &Path) -> Vec<PathBuf> {
    let output = Command::new("cargo")
        .args(["test", "--release", "--no-run", "--message-format=json"])
        .current_dir(tree)
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo");
    assert!(output.status.success(), "the tests do not build");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|it| it["profile"]["test"] == true)
        .filter_map(|it| it["executable"].as_str().map(PathBuf::from))
        .filter(|it| !it.to_string_lossy().contains(LIST_OF_SKIPPED))
        .collect()
}

/// All tests that pass, with the faults they reach.
fn reached(tree: &Path, binaries: &[PathBuf], workers: usize) -> Vec<Test> {
    let mut tests = Vec::new();
    for binary in binaries {
        let listed = Command::new(binary)
            .args(["--list", "--format", "terse"])
            .current_dir(tree)
            .env("CARGO_MANIFEST_DIR", tree)
            .output()
            .unwrap();
        for name in String::from_utf8_lossy(&listed.stdout).lines() {
            let name = name.strip_suffix(": test");
            if let Some(name) = name.filter(|name| !name.starts_with(LEFT_OUT)) {
                let (binary, name) = (binary.clone(), name.to_owned());
                tests.push(Test { binary, name, took: Duration::ZERO, reaches: BTreeSet::new() });
            }
        }
    }
    let folder = tree.join("traces");
    std::fs::create_dir_all(&folder).unwrap();
    let numbered: Vec<(usize, Test)> = tests.into_iter().enumerate().collect();
    let known = parallel(workers, &numbered, |(number, test)| {
        let trace = folder.join(number.to_string());
        let _ = std::fs::remove_file(&trace);
        let traced = [("EXALIGN_FAULT_TRACE", trace.to_str().unwrap())];
        let start = Instant::now();
        let passes = passes(tree, test, &traced, Duration::from_secs(300));
        let took = start.elapsed();
        let numbers = std::fs::read_to_string(&trace).unwrap_or_default();
        let reaches = numbers.lines().filter_map(|it| it.parse().ok()).collect();
        (passes, took, reaches)
    });
    let mut tests = Vec::new();
    for ((_, test), (passes, took, reaches)) in numbered.into_iter().zip(known) {
        if passes {
            tests.push(Test { took, reaches, ..test });
        } else {
            eprintln!("fails without a fault, and is left out: {}", test.name);
        }
    }
    eprintln!(
        "{} tests, {:.0?} one after the other",
        tests.len(),
        tests.iter().map(|it| it.took).sum::<Duration>()
    );
    tests
}

/// Whether the test passes in time. What it started is ended with it.
fn passes(tree: &Path, test: &Test, environment: &[(&str, &str)], limit: Duration) -> bool {
    let mut process = Command::new(&test.binary)
        .args([&test.name, "--exact", "--test-threads=1"].map(|it: &str| it.to_owned()))
        .current_dir(tree)
        .env("CARGO_MANIFEST_DIR", tree)
        .env("INSTA_UPDATE", "no")
        .envs(environment.iter().copied())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
    let start = Instant::now();
    let passed = loop {
        if let Some(status) = process.try_wait().unwrap() {
            break status.success();
        }
        if start.elapsed() > limit {
            break false;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let group = format!("-{}", process.id());
    let _ = Command::new("kill").args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
    let _ = process.wait();
    passed
}

/// `work` for every item on several threads, in the order of the items.
fn parallel<T: Sync, R: Send>(
    workers: usize,
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((at, item)) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    items.get(at).map(|it| (at, it))
                } {
                    let result = work(item);
                    done.lock().unwrap().insert(at, result);
                }
            });
        }
    });
    done.into_inner().unwrap().into_values().collect()
}
