//! What a run of the tests did not check. Test harnesses hide what a passing test prints, so a check
//! that cannot be made writes its name and the reason to a file of this run, which
//! `tests/what_was_skipped.rs`, the last of the tests, prints.
#![allow(dead_code, reason = "each binary uses its part")]

use std::io::Write;
use std::panic::Location;
use std::path::{Path, PathBuf};

/// `given`; without it the test that asks is listed as skipped for `reason`.
#[track_caller]
pub fn or_skip<T>(given: Option<T>, reason: &str) -> Option<T> {
    if given.is_none() {
        let place = Location::caller();
        // Every test has a thread of its name, unless all of them run on the first one.
        let test = match std::thread::current().name() {
            Some(name) if name != "main" => name.to_owned(),
            _ => format!("{}:{}", place.file(), place.line()),
        };
        skipped(&format!("{}::{test}", binary()), reason);
    }
    given
}

/// Puts the check `name` on the list.
pub fn skipped(name: &str, reason: &str) {
    std::fs::create_dir_all(folder()).unwrap();
    let mut list = std::fs::OpenOptions::new().create(true).append(true).open(list()).unwrap();
    list.write_all(format!("{name}\t{reason}\n").as_bytes()).unwrap();
}

/// The list of this run: all binaries of one `cargo test` have it as their parent.
pub fn list() -> PathBuf {
    #[cfg(unix)]
    let run = std::os::unix::process::parent_id();
    #[cfg(not(unix))]
    let run = 0;
    folder().join(format!("{run}.tsv"))
}

/// Where the lists are, beside the binaries of the tests.
pub fn folder() -> PathBuf {
    let binary = std::env::current_exe().unwrap();
    binary.parent().and_then(Path::parent).unwrap().join("skipped")
}

/// The name of this binary of tests.
fn binary() -> String {
    let binary = std::env::current_exe().unwrap();
    let stem = binary.file_stem().unwrap().to_string_lossy();
    stem.rsplit_once('-').map_or(stem.as_ref(), |(name, _)| name).to_owned()
}
