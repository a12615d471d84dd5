//! `exalign report`: the page of a run again, or of several side by side.

use std::path::PathBuf;

use clap::Args;
use exalign::report::{HTML_NAME, NamedReport, Report, write_page};
use exalign::{Result, files};

/// Options of `exalign report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Folders of runs, each with a report.json; several make one page that compares them
    #[arg(required = true, value_name = "FOLDER")]
    runs: Vec<PathBuf>,
    /// Where the page goes [default: report.html in the run's folder, or comparison.html here]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &ReportArgs) -> Result<()> {
    let reports = args
        .runs
        .iter()
        .map(|folder| {
            let name =
                folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
            Ok(NamedReport { name, report: Report::read(folder)? })
        })
        .collect::<Result<Vec<_>>>()?;
    let out = args.out.clone().unwrap_or_else(|| match args.runs.as_slice() {
        [folder] => folder.join(HTML_NAME),
        _ => PathBuf::from("comparison.html"),
    });
    if let Some(folder) = out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        files::create_dir(folder)?;
    }
    write_page(&out, &reports)?;
    println!("report: {}", out.display());
    Ok(())
}
