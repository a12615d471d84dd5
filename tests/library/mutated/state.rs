//! What the program keeps of its own work, by the program itself: whatever stands there, the same command
//! goes on, starts over or says what is wrong.

use std::path::{Path, PathBuf};

use super::mutation::try_all;
use crate::support::{Workplace, text};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, target) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(std::fs::copy(&path, &target).unwrap()),
        }
    }
}

/// The text files that a folder keeps, all but the model's.
fn kept(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension().and_then(|it| it.to_str()) {
            _ if path.is_dir() => kept(&path, found),
            Some("json" | "jsonl") => found.push(path),
            _ => {}
        }
    }
}

#[test]
fn kept_state_is_used_or_refused() {
    let place = Workplace::new();
    place.groups("groups.jsonl", 6, 2);
    let command = "align --objective dpo --model model --data groups.jsonl --out out --batch-size 2 \
                   --set checkpoint.every=1 --set checkpoint.keep=0 --epochs 1";
    place.succeeds(command);
    // As after a kill before the last step.
    std::fs::remove_dir_all(place.path("out/model")).unwrap();
    std::fs::rename(place.path("out"), place.path("whole")).unwrap();
    let mut files = Vec::new();
    kept(&place.path("whole"), &mut files);
    files.sort();
    let seeds: Vec<Vec<u8>> = files.iter().map(|it| std::fs::read(it).unwrap()).collect();
    assert!(files.iter().any(|it| it.ends_with("run.json")) && files.len() > 4, "{files:?}");
    try_all("state", 40, &seeds, |seed, bytes| {
        let _ = std::fs::remove_dir_all(place.path("out"));
        copy(&place.path("whole"), &place.path("out"));
        let name = files[seed].strip_prefix(place.path("whole")).unwrap();
        std::fs::write(place.path("out").join(name), bytes).unwrap();
        let output = place.exalign().args(command.split_whitespace()).output().unwrap();
        let said = text(&output.stderr);
        assert!(matches!(output.status.code(), Some(0..=2)), "{:?}: {said}", output.status);
        assert!(!said.contains("panicked"), "{said}");
    });
}
