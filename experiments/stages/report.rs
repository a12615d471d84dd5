//! `exalign report`: writes the page of a run again, or one page of several runs.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use exalign::report::{HTML_NAME, NamedReport, Report, write_differences, write_page};
use exalign::{Result, files};

use crate::output::print_text;

/// Options of `exalign report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Folders of runs, each with a report.json; several folders make one page that compares the runs
    #[arg(required = true, value_name = "FOLDER")]
    runs: Vec<PathBuf>,
    /// The file for the page [default: report.html in the run's folder; comparison.html here for several]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// A file for a picture of the differences between policies, as SVG: who is ahead at the same KL, and after the
    /// same number of steps
    #[arg(long, value_name = "FILE")]
    differences: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &ReportArgs) -> Result<()> {
    let reports = names(&args.runs)
        .into_iter()
        .zip(&args.runs)
        .map(|(name, folder)| Ok(NamedReport { name, report: Report::read(folder)? }))
        .collect::<Result<Vec<_>>>()?;
    let out = args.out.clone().unwrap_or_else(|| match args.runs.as_slice() {
        [folder] if folder.is_dir() => folder.join(HTML_NAME),
        [file] => file.with_file_name(HTML_NAME),
        _ => PathBuf::from("comparison.html"),
    });
    for file in [Some(&out), args.differences.as_ref()].into_iter().flatten() {
        if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            files::create_dir(folder)?;
        }
    }
    write_page(&out, &reports)?;
    if let Some(file) = &args.differences {
        write_differences(file, &reports)?;
    }
    print_text(&format!("report: {}", out.display()))
}

/// What runs are called: as few of the last parts of their paths as tell them apart.
fn names(runs: &[PathBuf]) -> Vec<String> {
    let parts = |run: &PathBuf| -> Vec<String> {
        let place = run.canonicalize().unwrap_or_else(|_| run.clone());
        // A report's file is known by the folder it is in.
        let place = if place.is_file() { place.parent().map(PathBuf::from) } else { Some(place) };
        let place = place.unwrap_or_default();
        place.components().map(|it| it.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let paths: Vec<Vec<String>> = runs.iter().map(parts).collect();
    let longest = paths.iter().map(Vec::len).max().unwrap_or(1);
    let name =
        |path: &Vec<String>, count: usize| path[path.len().saturating_sub(count)..].join("/");
    let distinct = |count: &usize| {
        let names: BTreeSet<String> = paths.iter().map(|path| name(path, *count)).collect();
        names.len() == paths.len()
    };
    match (1..=longest).find(distinct) {
        Some(count) => paths.iter().map(|path| name(path, count)).collect(),
        // One run twice.
        None => {
            let numbered = paths.iter().enumerate();
            numbered.map(|(index, path)| format!("{} ({})", name(path, 1), index + 1)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_called_by_as_much_of_their_path_as_tells_them_apart() {
        let names = |runs: &[&str]| names(&runs.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(names(&["runs/a", "runs/b/"]), ["a", "b"]);
        assert_eq!(names(&["first/quick", "second/quick"]), ["first/quick", "second/quick"]);
        assert_eq!(names(&["runs/a"]), ["a"]);
        assert_eq!(names(&["a", "a"]), ["a (1)", "a (2)"]);
    }
}
