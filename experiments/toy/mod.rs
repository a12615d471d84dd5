//! `exalign run toy`: the paper's argument as a picture, in seconds.
//!
//! A policy that cannot represent π* must choose what to get wrong. The forward KL (DPO) wants mass
//! wherever π* has some, and pays with mass where π* has none; the reverse KL (EXO) wants no mass
//! where π* has none, and pays with a part of π* it does not cover. Both are fitted here through the
//! library's own objectives, where every probability can be listed: a Gaussian to two modes on a
//! line, and two independent choices to a reward for agreement.

mod divergence;
mod line;
mod picture;
mod policies;
mod reviews;

use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, Table, presets};
use exalign::alignment::ObjectiveName;
use exalign::{Result, files};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::command_line::Global;
use crate::protocol::labels;
use crate::record::{Record, Start};
use crate::stages::{Context, print_text};
use line::LineFits;
use reviews::ReviewFits;

/// What is compared, the forward KL first.
const OBJECTIVES: [ObjectiveName; 2] = [ObjectiveName::DpoRw, ObjectiveName::ExoRw];
/// All numbers.
const NUMBERS: &str = "toy.json";
/// The figure of the line.
const FIGURE: &str = "toy.svg";
/// The figure of the reviews.
const REVIEWS_FIGURE: &str = "toy-reviews.svg";
/// The page.
const PAGE: &str = "report.html";

/// What the command found: `toy.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Toy {
    exalign: String,
    device: String,
    seed: u64,
    line: LineFits,
    reviews: ReviewFits,
}

/// Runs the command.
pub fn run(out: Option<PathBuf>, global: &Global, fresh: bool, dry_run: bool) -> Result<()> {
    let out = out.unwrap_or_else(|| Path::new("runs").join("toy"));
    if dry_run {
        let fits = OBJECTIVES.len() * (line::COMPLETIONS.len() + 1);
        return print_text(&format!(
            "a Gaussian on a line               would run: {fits} fits\n\
             reviews of two sentences           would run: 2 fits for every β"
        ));
    }
    let context = Context::new(global)?;
    let seed = global.seed.unwrap_or(0);
    let record = Record::new("run toy", json!({ "seed": seed }), &context.device_name);
    if let Start::Go(work) = record.start_folder(&out, fresh)? {
        let device = context.device.clone().autodiff();
        tracing::info!("a Gaussian on a line");
        let line = line::fits(seed, &device)?;
        tracing::info!("reviews of two sentences");
        let reviews = reviews::fits(&device)?;
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let toy = Toy { exalign: version, device: context.device_name, seed, line, reviews };
        toy.write(&out)?;
        work.finish(Value::Null)?;
    }
    let toy: Toy = files::read_json(&out.join(NUMBERS))?;
    print_text(&format!(
        "{}\n\n{}\n{}\n\nfigure: {}\nreport: {}",
        line_table(&toy.line),
        reviews_table(&toy.reviews),
        toy.findings().join("\n"),
        out.join(FIGURE).display(),
        out.join(PAGE).display()
    ))
}

impl Toy {
    fn write(&self, out: &Path) -> Result<()> {
        files::write_json(&out.join(NUMBERS), self)?;
        for (name, figure) in
            [(FIGURE, picture::line(&self.line)), (REVIEWS_FIGURE, picture::reviews(&self.reviews))]
        {
            let svg = figure.to_svg();
            files::write_atomic(&out.join(name), |writer| writer.write_all(svg.as_bytes()))?;
        }
        picture::page(self).write(&out.join(PAGE), self)
    }

    /// What was found, in sentences.
    fn findings(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        if let (Some(exo), Some(dpo)) = (self.line.of("exo-rw", None), self.line.of("dpo-rw", None))
        {
            sentences.push(format!(
                "On the line EXO-rw settles on the larger mode (mean {:.2}, scale {:.2}); DPO-rw spreads over both \
                 (mean {:.2}, scale {:.2}).",
                exo.mean, exo.scale, dpo.mean, dpo.scale
            ));
        }
        sentences.extend(self.needed_completions());
        if let (Some(exo), Some(dpo)) = (self.reviews.of("exo-rw"), self.reviews.of("dpo-rw")) {
            sentences.push(format!(
                "Of reviews whose two sentences are chosen apart, DPO-rw lets {:.0} % contradict themselves and \
                 EXO-rw {:.0} %, at rewards of {:.2} and {:.2}.",
                100.0 * dpo.contradictions,
                100.0 * exo.contradictions,
                dpo.reward,
                exo.reward
            ));
        }
        sentences
    }

    /// How large groups must be for EXO to see a mode.
    fn needed_completions(&self) -> Option<String> {
        let limit = self.line.of("exo-rw", None)?;
        let settled = |count: &usize| {
            self.line
                .of("exo-rw", Some(*count))
                .is_some_and(|it| (it.mean - limit.mean).hypot(it.scale - limit.scale) < 0.1)
        };
        let enough = line::COMPLETIONS.into_iter().find(settled)?;
        let before = line::COMPLETIONS.into_iter().filter(|it| *it < enough).max()?;
        Some(format!(
            "That takes groups in which the modes show: of points drawn blindly, {enough} a group are enough and \
             {before} are not; with fewer, EXO-rw covers both modes as DPO-rw does."
        ))
    }
}

/// The columns of [`line_cells`].
const LINE_HEADER: [&str; 7] =
    ["Objective", "K", "Mean", "Scale", "KL(π ‖ π*)", "KL(π* ‖ π)", "Mass off π*"];

fn line_cells(line: &LineFits) -> Vec<Vec<String>> {
    line.fits
        .iter()
        .map(|it| {
            vec![
                labels::named(&it.objective).label,
                it.completions.map_or("all".to_owned(), |count| count.to_string()),
                format!("{:.3}", it.mean),
                format!("{:.3}", it.scale),
                format!("{:.3}", it.divergence.reverse_kl),
                format!("{:.3}", it.divergence.forward_kl),
                percent(it.divergence.stray_mass),
            ]
        })
        .collect()
}

/// The columns of [`review_cells`].
const REVIEW_HEADER: [&str; 7] =
    ["Policy", "Reward", "KL to SFT", "KL(π ‖ π*)", "KL(π* ‖ π)", "Mass off π*", "Contradictions"];

fn review_cells(reviews: &ReviewFits) -> Vec<Vec<String>> {
    reviews
        .policies
        .iter()
        .map(|it| {
            vec![
                labels::named(&it.policy).label,
                format!("{:.3}", it.reward),
                format!("{:.3}", it.kl),
                format!("{:.3}", it.divergence.reverse_kl),
                format!("{:.3}", it.divergence.forward_kl),
                percent(it.divergence.stray_mass),
                percent(it.contradictions),
            ]
        })
        .collect()
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn line_table(line: &LineFits) -> Table {
    table(&LINE_HEADER, line_cells(line))
}

fn reviews_table(reviews: &ReviewFits) -> Table {
    table(&REVIEW_HEADER, review_cells(reviews))
}

fn table(header: &[&str], rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_header(header).add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
