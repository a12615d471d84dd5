//! `exalign run toy`: the paper's argument in pictures, in seconds.
//!
//! A policy that cannot represent π* must choose where to be wrong. The forward KL (DPO) wants mass
//! wherever π* has some, and puts mass where π* has none. The reverse KL (EXO) wants no mass where π* has
//! none, and leaves a part of π* uncovered. Both objectives are the library's own. They are fitted where
//! every probability can be listed: a Gaussian to two modes on a line, and two independent choices to a
//! reward for agreement. Last, a policy that can represent π* goes there on samples of π_sft and on its own.

mod divergence;
mod found;
mod line;
mod picture;
mod policies;
mod reviews;
mod samples;

use std::path::{Path, PathBuf};

use exalign::{Result, files};
use serde_json::{Value, json};

use crate::context::{Context, Global};
use crate::output::print_text;
use crate::record::{Made, Record, Start};
use found::{Toy, line_table, paths_table, reviews_table};
use policies::OBJECTIVES;

/// All numbers.
const NUMBERS: &str = "toy.json";
/// The figure of the line.
const FIGURE: &str = "toy.svg";
/// The figure of the way from EXO to DPO.
const PATH_FIGURE: &str = "toy-alpha.svg";
/// The figure of the reviews.
const REVIEWS_FIGURE: &str = "toy-reviews.svg";
/// The figure of the ways to π*.
const SAMPLES_FIGURE: &str = "toy-online.svg";
/// The page.
const PAGE: &str = "report.html";

/// Runs the command.
pub fn run(out: Option<PathBuf>, global: &Global, fresh: bool, dry_run: bool) -> Result<()> {
    let out = out.unwrap_or_else(|| Path::new("runs").join("toy"));
    if dry_run {
        let fits = OBJECTIVES.len() * (line::COMPLETIONS.len() + 1) + line::PATH;
        return print_text(&format!(
            "a Gaussian on a line               would run: {fits} fits\n\
             reviews of two sentences           would run: 2 fits for every β\n\
             samples of the policy              would run: {} fits",
            samples::WAYS.len()
        ));
    }
    let context = Context::new(global)?;
    let seed = global.seed.unwrap_or(0);
    let made = Made::new("run toy", json!({ "seed": seed }));
    let record = Record::new(made, &context.device_name);
    if let Start::Go(work) = record.start_folder(&out, fresh)? {
        let device = context.device.clone().autodiff();
        tracing::info!("a Gaussian on a line");
        let line = line::fits(seed, &device)?;
        tracing::info!("reviews of two sentences");
        let reviews = reviews::fits(&device)?;
        tracing::info!("samples of the policy");
        let paths = samples::paths(seed, &device)?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let toy = Toy { exalign: version, device: context.device_name, seed, line, reviews, paths };
        write(&toy, &out)?;
        work.finish(Value::Null, |_| false)?;
    }
    let toy: Toy = files::read_json(&out.join(NUMBERS))?;
    print_text(&format!(
        "{}\n{}\n\n{}\n{}\n{}\n\nfigure: {}\nreport: {}",
        line_table(&toy.line.fits),
        line_table(&toy.line.path),
        reviews_table(&toy.reviews),
        paths_table(&toy.paths),
        toy.findings().join("\n"),
        out.join(FIGURE).display(),
        out.join(PAGE).display()
    ))
}

fn write(toy: &Toy, out: &Path) -> Result<()> {
    files::write_json(&out.join(NUMBERS), toy)?;
    for (name, figure) in [
        (FIGURE, picture::line(&toy.line)),
        (PATH_FIGURE, picture::path(toy)),
        (REVIEWS_FIGURE, picture::reviews(&toy.reviews)),
        (SAMPLES_FIGURE, picture::paths(&toy.paths)),
    ] {
        let svg = figure.to_svg();
        files::write_atomic(&out.join(name), |writer| writer.write_all(svg.as_bytes()))?;
    }
    picture::page(toy).write(&out.join(PAGE), toy)
}
