//! The results of a run: `report.json` for programs and `report.html` for people.
//!
//! A [`Report`] is exactly the content of `report.json`. The page is one file that needs nothing else: no
//! network, no font, and no script to be readable. Several reports make one page ([`render`]), on which their
//! frontiers share a picture. Where a report lacks a part, the page omits the part and its heading.
//!
//! Invariants: the page holds no text that is not escaped (a completion may contain anything), and no number
//! that is not in the report.

mod article;
mod costs;
mod frontier;
mod page;
mod panels;
mod pictures;
mod results;
mod runs;
mod samples;
mod schema;
mod settings;
mod style;
mod tables;
mod text;

use std::path::Path;

use serde_json::Value;

use crate::{Error, Result, files};

pub use article::{Article, Part};
pub use page::render;
pub use pictures::{Cells, Content, Curve, Figure, Line, Plot, frontier_svg};
pub use schema::{
    Area, Comparison, Distribution, EqualSteps, FrontierPoint, NamedReport, ObjectiveLabel,
    Optimum, PolicyKind, PolicyLabel, Repetition, Report, ResultRow, RewardModelRow,
    SampleCompletion, SamplePrompt, Series, StageCost, Trained, TrainingCurve, TrainingRow,
    WinRateRow,
};
pub use style::Style;

/// The file a run's numbers are in.
pub const JSON_NAME: &str = "report.json";
/// The file a run's page is in.
pub const HTML_NAME: &str = "report.html";

impl Report {
    /// Writes [`JSON_NAME`] and [`HTML_NAME`] into `folder`, each complete or not at all.
    ///
    /// # Errors
    /// If a number is not finite (JSON has no such numbers), with the place it stands at; if the
    /// folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        self.check()?;
        files::write_json(&folder.join(JSON_NAME), self)?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        write_page(&folder.join(HTML_NAME), &[NamedReport { name, report: self.clone() }])
    }

    /// Writes the frontier as a picture of its own ([`frontier_svg`]).
    ///
    /// # Errors
    /// If the report has no result to draw; if the file cannot be written.
    pub fn write_frontier(&self, path: &Path) -> Result<()> {
        let svg = frontier_svg(self).ok_or_else(|| {
            Error::file(path, "nothing to draw: the report has neither results nor a frontier")
        })?;
        files::write_atomic(path, |writer| writer.write_all(svg.as_bytes()))
    }

    /// Reads a report from its file or from the folder it is in.
    ///
    /// # Errors
    /// If there is none or it cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        if path.is_dir() { files::read_json(&path.join(JSON_NAME)) } else { files::read_json(path) }
    }

    /// Refuses what JSON cannot hold: numbers that are not finite.
    fn check(&self) -> Result<()> {
        let invalid = |error| Error::Numeric(format!("the report cannot be JSON: {error}"));
        let mut json = serde_json::to_value(self).map_err(invalid)?;
        // The one part that may hold a null; a `None` elsewhere is not written.
        json["configuration"] = Value::Bool(true);
        match first_null(&json) {
            None => Ok(()),
            Some(place) => Err(Error::Numeric(format!(
                "report: `{}` is not a finite number; look for its stage's records in this run's folder",
                place.trim_start_matches('.')
            ))),
        }
    }
}

/// Writes the differences between the policies of each report as a picture of its own: who is ahead at the same KL and
/// after the same number of steps, and whether that can be told from nothing.
///
/// # Errors
/// If no report has compared policies; if the file cannot be written.
pub fn write_differences(path: &Path, runs: &[NamedReport]) -> Result<()> {
    let svg = pictures::differences_svg(&runs::Run::all(runs)).ok_or_else(|| {
        Error::file(path, "nothing to draw: no report compares policies at the same KL")
    })?;
    files::write_atomic(path, |writer| writer.write_all(svg.as_bytes()))
}

/// Writes the page of one report, or of several compared, to a file.
///
/// # Errors
/// If the file cannot be written.
pub fn write_page(path: &Path, runs: &[NamedReport]) -> Result<()> {
    files::write_atomic(path, |writer| writer.write_all(render(runs).as_bytes()))
}

/// The path of the first null below `value`.
fn first_null(value: &Value) -> Option<String> {
    match value {
        Value::Null => Some(String::new()),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| Some(format!("[{index}]{}", first_null(item)?))),
        Value::Object(fields) => {
            fields.iter().find_map(|(name, field)| Some(format!(".{name}{}", first_null(field)?)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
