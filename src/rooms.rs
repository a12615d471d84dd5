//! A test that every room uses only the rooms below it in the table of `lib.rs`.

use std::path::{Path, PathBuf};

/// The folder `src`.
fn source() -> PathBuf {
    Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("src")
}

/// The rooms in the order of the table in `lib.rs`, the highest first.
fn documented(lib: &str) -> Vec<&str> {
    let rows = lib.lines().filter_map(|line| line.strip_prefix("//! | "));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

/// The modules that `lib.rs` declares, those of tests left out.
fn declared(lib: &str) -> Vec<&str> {
    let modules = lib.split("#[cfg(test)]").next().unwrap_or_default().lines();
    let names = modules.filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "));
    names.filter_map(|name| name.strip_suffix(';')).collect()
}

/// The rooms that a file's code names: what follows `crate::`, or stands in the braces after it.
fn named(file: &str) -> Vec<String> {
    let lines = file.split("\n#[cfg(test)]").next().unwrap_or_default();
    let lines = lines.split("\n#[cfg(all(test").next().unwrap_or_default().lines();
    let code: Vec<&str> = lines.filter(|line| !line.trim_start().starts_with("//")).collect();
    let (code, mut names) = (code.join("\n"), Vec::new());
    for part in code.split("crate::").skip(1) {
        let mut depth = 0;
        let inner = part.strip_prefix('{');
        for item in inner.unwrap_or(part).split_inclusive([',', '{', '}']) {
            let name = item.trim_start().split(|c: char| !c.is_alphanumeric() && c != '_').next();
            names.extend(name.filter(|name| depth == 0 && !name.is_empty()).map(str::to_owned));
            match item.chars().last() {
                Some('{') => depth += 1,
                Some('}') => depth -= 1,
                _ => {}
            }
            if inner.is_none() || depth < 0 {
                break;
            }
        }
    }
    // The error type stands at the root for all.
    let is_error = |name: &str| matches!(name, "Error" | "Result");
    names.into_iter().map(|name| if is_error(&name) { "error".to_owned() } else { name }).collect()
}

/// The files of a folder and of those in it, tests left out.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.file_stem().and_then(|stem| stem.to_str()) {
            Some(stem) if stem.ends_with("tests") => {}
            _ if path.is_dir() => files(&path, found),
            _ if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
            _ => {}
        }
    }
}

#[test]
fn every_room_uses_only_rooms_further_down_in_the_table() {
    let lib = std::fs::read_to_string(source().join("lib.rs")).unwrap();
    let order = documented(&lib);
    let place = |room: &str| order.iter().position(|name| *name == room);
    let mut paths = Vec::new();
    files(&source(), &mut paths);
    let mut upwards = Vec::new();
    for path in paths {
        let inside = path.strip_prefix(source()).unwrap();
        let first = Path::new(inside.iter().next().unwrap()).with_extension("");
        let room = first.to_str().unwrap();
        if ["lib", "rooms"].contains(&room) {
            continue;
        }
        for other in named(&std::fs::read_to_string(&path).unwrap()) {
            // A name at the root that is no room does not compile.
            if room != other && place(room) >= place(&other) {
                upwards.push(format!("{} uses {other}", inside.display()));
            }
        }
    }
    assert!(upwards.is_empty(), "{upwards:#?}");
}

#[test]
fn the_table_has_every_room_once() {
    let lib = std::fs::read_to_string(source().join("lib.rs")).unwrap();
    let (mut documented, mut declared) = (documented(&lib), declared(&lib));
    documented.sort_unstable();
    declared.sort_unstable();
    assert_eq!(documented, declared);
}

#[test]
fn names_after_crate_are_found_wherever_they_stand() {
    let file = "//! crate::no\nuse crate::files;\nuse crate::{\n    Error,\n    hub::{Kind, Wanted}, data};\n\
                fn f() { crate::memory::check(); }\n#[cfg(test)]\nuse crate::model;";
    assert_eq!(named(file), ["files", "error", "hub", "data", "memory"]);
}
