//! Puts faults into the program, one at a time, and says which of them its tests notice.
//!
//! All faults are built in at once, each behind a switch, because a build for each would take a
//! hundred hours. Tests run without golden folders, as an outsider runs them; for each fault those
//! that pass by its place, quickest first, until one fails.
//!
//!   cargo run --release --manifest-path .ci/mutants/Cargo.toml -- --tree FOLDER

mod sites;
mod tree;
mod trial;

use std::path::PathBuf;

use clap::Parser;
use trial::Fate;

/// Puts faults into the program, one at a time, and says which of them its tests notice.
#[derive(Parser)]
struct Arguments {
    /// The project.
    #[arg(long, default_value = ".")]
    project: PathBuf,
    /// Where the copy with the faults goes; CARGO_TARGET_DIR is where it is built.
    #[arg(long)]
    tree: PathBuf,
    /// How many faults are drawn; some do not compile and are left out.
    #[arg(long, default_value_t = 300)]
    draw: usize,
    /// How many of those that compile are tried.
    #[arg(long, default_value_t = 200)]
    count: usize,
    /// Which faults are drawn.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Faults tried at the same time.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Only these faults, by their numbers.
    #[arg(long, value_delimiter = ',')]
    only: Vec<usize>,
}

fn main() {
    let arguments = Arguments::parse();
    std::fs::create_dir_all(&arguments.tree).unwrap();
    let tree = arguments.tree.canonicalize().unwrap();
    let mut faults = tree::plant(&arguments.project, &tree, arguments.draw, arguments.seed);
    faults.truncate(arguments.count);
    if !arguments.only.is_empty() {
        faults.retain(|it| arguments.only.contains(&it.number));
    }
    let fates = trial::run(&tree, &faults, arguments.workers);
    let caught = fates.iter().filter(|it| matches!(it, Fate::Caught(_))).count();
    let of = |wanted: fn(&Fate) -> bool| {
        let pairs = faults.iter().zip(&fates).filter(move |(_, fate)| wanted(fate));
        pairs
            .map(|(fault, _)| format!("  {:>4} {}", fault.number, fault.says()))
            .collect::<Vec<_>>()
    };
    println!("\nsurvived:\n{}", of(|it| matches!(it, Fate::Survived)).join("\n"));
    println!("\nreached by no test:\n{}", of(|it| matches!(it, Fate::Unreached)).join("\n"));
    println!("\n{caught} of {} faults caught", faults.len());
}
