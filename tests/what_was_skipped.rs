//! Prints which checks this run of the tests could not make, and why. Its name is the last of all
//! binaries of tests, so that the list stands at the end of what `cargo test` prints.

#[path = "support/skipped.rs"]
mod skipped;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use libtest_mimic::{Arguments, Trial};

/// What was built without, by modules of tests.
const ABSENT: [(bool, &str, &str); 2] = [
    (!cfg!(feature = "remote"), "remote", "not compiled in: cargo test --features NAME"),
    (!cfg!(unix), "faults, finished, terminal and parts of others", "they need Unix"),
];

fn main() {
    let arguments = Arguments::from_args();
    let listing = !arguments.list;
    let trial = Trial::test("nothing_is_skipped_unseen", || {
        is_the_last_of_the_tests();
        Ok(())
    });
    let conclusion = libtest_mimic::run(&arguments, vec![trial]);
    if listing {
        let text = text();
        print!("{text}");
        std::fs::create_dir_all(skipped::folder()).unwrap();
        std::fs::write(skipped::folder().join("last.txt"), text).unwrap();
        sweep();
    }
    conclusion.exit();
}

/// The skipped checks by their reason.
fn text() -> String {
    let mut by_reason: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (absent, name, reason) in ABSENT {
        if absent {
            by_reason.entry(reason.to_owned()).or_default().push(name.to_owned());
        }
    }
    for line in std::fs::read_to_string(skipped::list()).unwrap_or_default().lines() {
        let (name, reason) = line.split_once('\t').unwrap();
        by_reason.entry(reason.to_owned()).or_default().push(name.to_owned());
    }
    if by_reason.is_empty() {
        return "every check was made\n".to_owned();
    }
    let mut text = "not checked in this run:\n".to_owned();
    for (reason, names) in &mut by_reason {
        names.sort();
        names.dedup();
        writeln!(text, "  {reason}").unwrap();
        for name in names {
            writeln!(text, "    {name}").unwrap();
        }
    }
    text
}

/// Removes the list of this run, and those that earlier ones left.
fn sweep() {
    let _ = std::fs::remove_file(skipped::list());
    for entry in std::fs::read_dir(skipped::folder()).unwrap().flatten() {
        let age = entry.metadata().and_then(|it| it.modified()).ok();
        let age = age.and_then(|it| SystemTime::now().duration_since(it).ok());
        if age.is_some_and(|age| age > Duration::from_secs(24 * 3600)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn is_the_last_of_the_tests() {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").expect("started by cargo");
    let tests = Path::new(&manifest).join("tests");
    let entries = std::fs::read_dir(tests).unwrap().map(|entry| entry.unwrap().path());
    let binaries = entries.filter(|path| {
        path.extension().is_some_and(|extension| extension == "rs") || path.join("main.rs").exists()
    });
    let last = binaries.max().unwrap();
    assert_eq!(last.file_name().unwrap(), "what_was_skipped.rs", "it lists what runs before it");
}
