//! stub
use clap::Args;
use std::path::PathBuf;
/// Options of `exalign report`.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Folders of runs
    #[arg(required = true, value_name = "FOLDER")]
    runs: Vec<PathBuf>,
}
/// Runs the command.
pub fn run(args: &ReportArgs) -> exalign::Result<()> {
    println!("{:?}", args.runs);
    Ok(())
}
