//! The results of the toy: its numbers, in sentences and in tables.

use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use super::line::{COMPLETIONS, LineFit, LineFits};
use super::reviews::ReviewFits;
use super::samples::Path;
use crate::protocol::labels;

/// What the command found: `toy.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Toy {
    pub exalign: String,
    pub device: String,
    pub seed: u64,
    pub line: LineFits,
    pub reviews: ReviewFits,
    pub paths: Vec<Path>,
}

impl Toy {
    /// What was found, in sentences.
    pub fn findings(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        if let (Some(exo), Some(dpo)) = (self.line.of("exo-rw", None), self.line.of("dpo-rw", None))
        {
            sentences.push(format!(
                "On the line EXO-rw settles on the larger mode (mean {:.2}, scale {:.2}); DPO-rw spreads over both \
                 (mean {:.2}, scale {:.2}).",
                exo.mean, exo.scale, dpo.mean, dpo.scale
            ));
        }
        sentences.extend(self.end_of_seeking());
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
        sentences.extend(self.on_own_samples());
        sentences
    }

    /// What drawing from the policy itself buys on the way to π*.
    fn on_own_samples(&self) -> Option<String> {
        let of = |objective: &str, online: bool| {
            self.paths.iter().find(|path| path.objective == objective && path.online == online)
        };
        let [own, rloo, given] = [of("exo-rw", true)?, of("rloo", true)?, of("exo-rw", false)?];
        let needed = |path: &Path| match path.samples_to(GOAL) {
            Some(samples) => format!("after {samples} samples"),
            None => format!("not at all ({:.3} nats left)", path.end()),
        };
        Some(format!(
            "A policy that can represent π* comes within {GOAL} nats of it {} by EXO-rw on its own samples, {} by RLOO on \
             its own, and {} by EXO-rw on samples of π_sft.",
            needed(own),
            needed(rloo),
            needed(given)
        ))
    }

    /// The fits from EXO-rw to DPO-rw.
    pub fn along_alpha(&self) -> Vec<&LineFit> {
        self.line.path.iter().filter(|fit| fit.alpha.is_some()).collect()
    }

    /// Up to which α the fit settles on a mode: before the largest step of its scale.
    fn end_of_seeking(&self) -> Option<String> {
        let fits = self.along_alpha();
        let step = |pair: &&[&LineFit]| pair[1].scale - pair[0].scale;
        let largest = fits.windows(2).max_by(|a, b| step(a).total_cmp(&step(b)))?;
        Some(format!(
            "Between the two lie the α-divergences. The fit settles on a mode up to α = {} (scale {:.2}) and covers \
             both from α = {} on (scale {:.2}): only close to EXO-rw, which is α = 0, does it choose.",
            largest[0].alpha?, largest[0].scale, largest[1].alpha?, largest[1].scale
        ))
    }

    /// How large groups must be for EXO to see a mode.
    fn needed_completions(&self) -> Option<String> {
        let limit = self.line.of("exo-rw", None)?;
        let settled = |count: &usize| {
            self.line
                .of("exo-rw", Some(*count))
                .is_some_and(|it| (it.mean - limit.mean).hypot(it.scale - limit.scale) < 0.1)
        };
        let enough = COMPLETIONS.into_iter().find(settled)?;
        let before = COMPLETIONS.into_iter().filter(|it| *it < enough).max()?;
        Some(format!(
            "That takes groups in which the modes show: of points drawn blindly, {enough} a group are enough and \
             {before} are not; with fewer, EXO-rw covers both modes as DPO-rw does."
        ))
    }
}

/// KL(π ‖ π*) that counts as having arrived, in nats.
const GOAL: f64 = 0.01;

/// The columns of [`path_cells`].
pub const PATH_HEADER: [&str; 5] =
    ["Objective", "Samples of", "KL(π ‖ π*) at the end", "Samples to 0.1 nats", "to 0.01 nats"];

pub fn path_cells(paths: &[Path]) -> Vec<Vec<String>> {
    let needed = |path: &Path, nats: f64| {
        path.samples_to(nats).map_or("–".to_owned(), |samples| samples.to_string())
    };
    paths
        .iter()
        .map(|path| {
            vec![
                labels::named(&path.objective).label,
                if path.online { "the policy" } else { "π_sft" }.to_owned(),
                format!("{:.1e}", path.end()),
                needed(path, 0.1),
                needed(path, GOAL),
            ]
        })
        .collect()
}

pub fn paths_table(paths: &[Path]) -> Table {
    table(&PATH_HEADER, path_cells(paths))
}

/// The columns of [`line_cells`].
pub const LINE_HEADER: [&str; 7] =
    ["Objective", "K", "Mean", "Scale", "KL(π ‖ π*)", "KL(π* ‖ π)", "Mass off π*"];

pub fn line_cells(fits: &[LineFit]) -> Vec<Vec<String>> {
    fits.iter()
        .map(|fit| {
            let label = labels::named(&fit.objective).label;
            vec![
                fit.alpha.map_or(label.clone(), |alpha| format!("{label}, α {alpha}")),
                fit.completions.map_or("all".to_owned(), |count| count.to_string()),
                format!("{:.3}", fit.mean),
                format!("{:.3}", fit.scale),
                format!("{:.3}", fit.divergence.reverse_kl),
                format!("{:.3}", fit.divergence.forward_kl),
                percent(fit.divergence.stray_mass),
            ]
        })
        .collect()
}

/// The columns of [`review_cells`].
pub const REVIEW_HEADER: [&str; 7] =
    ["Policy", "Reward", "KL to SFT", "KL(π ‖ π*)", "KL(π* ‖ π)", "Mass off π*", "Contradictions"];

pub fn review_cells(reviews: &ReviewFits) -> Vec<Vec<String>> {
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

pub fn line_table(fits: &[LineFit]) -> Table {
    table(&LINE_HEADER, line_cells(fits))
}

pub fn reviews_table(reviews: &ReviewFits) -> Table {
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
