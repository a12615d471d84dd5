//! A test that the files of the program import each other in one direction.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A file's modules, from the root on.
type Module = Vec<String>;

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        match () {
            () if path.is_dir() => files(&path, found),
            () if stem.ends_with("_tests") => {}
            () if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
            () => {}
        }
    }
}

fn module_of(path: &Path, root: &Path) -> Module {
    let within = path.strip_prefix(root).unwrap().with_extension("");
    let mut parts: Module = within.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if ["mod", "main"].contains(&parts.last().unwrap().as_str()) {
        parts.pop();
    }
    parts
}

/// A file's code: without comments and tests.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The paths of a `use` tree.
fn paths(tree: &str, prefix: &[String], into: &mut Vec<Module>) {
    let (mut depth, mut item) = (0, String::new());
    for c in tree.chars().chain([',']) {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if c != ',' || depth > 0 {
            item.push(c);
            continue;
        }
        let text = std::mem::take(&mut item);
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        let (path, inner) = match text.split_once('{') {
            Some((path, inner)) => (path, Some(inner.trim_end().trim_end_matches('}'))),
            None => (text.split(" as ").next().unwrap_or_default(), None),
        };
        let parts = path.split("::").map(str::trim).filter(|part| !part.is_empty());
        let all: Vec<String> = prefix.iter().cloned().chain(parts.map(str::to_owned)).collect();
        match inner {
            Some(inner) => paths(inner, &all, into),
            None => into.push(all),
        }
    }
}

/// The modules that a file names, by `use` or by a path that begins with one.
fn named(module: &Module, text: &str, known: &BTreeSet<Module>) -> BTreeSet<Module> {
    let code = code(text);
    let mut all = Vec::new();
    for part in code.split("use ").skip(1) {
        paths(part.split(';').next().unwrap_or_default(), &[], &mut all);
    }
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for path in code.split(|c: char| !word(c)).filter(|path| path.contains("::")) {
        all.push(path.split("::").map(str::to_owned).collect());
    }
    let full = |path: &Module| -> Option<Module> {
        let above = path.iter().take_while(|part| *part == "super").count();
        let base: Module = match path.first()?.as_str() {
            "crate" => return Some(path[1..].to_vec()),
            "super" => module.get(..module.len().checked_sub(above)?)?.to_vec(),
            _ => module.clone(),
        };
        Some(base.into_iter().chain(path[above..].iter().cloned()).collect())
    };
    let file = |path: Module| {
        (0..=path.len()).rev().map(|len| path[..len].to_vec()).find(|it| known.contains(it))
    };
    let own = |target: &Module| target != module;
    // A path from here on names a file only where it is one of this module's.
    let all = all.iter().filter(|path| {
        let first = path[0].as_str();
        let child: Module = module.iter().cloned().chain([first.to_owned()]).collect();
        ["crate", "super"].contains(&first) || known.contains(&child)
    });
    all.filter_map(full).filter_map(file).filter(own).collect()
}

/// The modules that can be reached from `start`.
fn reached<'a>(
    start: &'a Module,
    edges: &'a BTreeMap<Module, BTreeSet<Module>>,
) -> BTreeSet<&'a Module> {
    let (mut found, mut open) = (BTreeSet::new(), vec![start]);
    while let Some(module) = open.pop() {
        for next in edges.get(module).into_iter().flatten() {
            if found.insert(next) {
                open.push(next);
            }
        }
    }
    found
}

#[test]
fn no_file_is_reached_from_itself() {
    let root = Path::new(&std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("experiments");
    let mut all = Vec::new();
    files(&root, &mut all);
    let known: BTreeSet<Module> = all.iter().map(|path| module_of(path, &root)).collect();
    let edges: BTreeMap<Module, BTreeSet<Module>> = all
        .iter()
        .map(|path| {
            let module = module_of(path, &root);
            let text = std::fs::read_to_string(path).unwrap();
            let named = named(&module, &text, &known);
            (module, named)
        })
        .collect();
    assert!(edges.values().map(BTreeSet::len).sum::<usize>() > 150, "imports are found");
    let circles: Vec<String> = edges
        .keys()
        .filter(|module| reached(module, &edges).contains(module))
        .map(|module| module.join("/"))
        .collect();
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn paths_are_found_wherever_they_stand() {
    let known: BTreeSet<Module> =
        ["a", "a/b", "a/c", "d"].map(|path| path.split('/').map(str::to_owned).collect()).into();
    let text = "use crate::d::{X, Y};\nmod b;\nfn f() { b::g(); super::d::h(); } // crate::no\n";
    let found = named(&vec!["a".to_owned()], text, &known);
    assert_eq!(found.iter().map(|it| it.join("/")).collect::<Vec<_>>(), ["a/b", "d"]);
}
