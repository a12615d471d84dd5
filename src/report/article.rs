//! A page of figures and tables in the style of a report, for results that are not from an experiment.

use std::path::Path;

use maud::{Markup, PreEscaped, html};
use serde::Serialize;

use super::page::{self, Sections};
use super::pictures::Figure;
use super::tables;
use crate::{Result, files};

/// A page of figures and tables.
#[derive(Clone, Debug, Default)]
pub struct Article {
    /// What was found.
    pub title: String,
    /// What it belongs to, in a word or two.
    pub kicker: String,
    /// The finding in sentences, the most important one first.
    pub summary: Vec<String>,
    /// Its parts.
    pub parts: Vec<Part>,
}

/// A part of an [`Article`] with its heading.
#[derive(Clone, Debug, Default)]
pub struct Part {
    /// A word for links.
    pub id: String,
    /// Its heading.
    pub title: String,
    /// The figure.
    pub figure: Figure,
    /// What to see in it.
    pub caption: String,
    /// Column names of the table, the first of which names the rows.
    pub header: Vec<String>,
    /// Its rows.
    pub rows: Vec<Vec<String>>,
}

impl Article {
    /// Writes the page, with `numbers` in it for who saves them.
    ///
    /// # Errors
    /// If the numbers cannot be JSON; if the file cannot be written.
    pub fn write(&self, path: &Path, numbers: &impl Serialize) -> Result<()> {
        let json = serde_json::to_string(numbers).map_err(|error| {
            crate::Error::Numeric(format!("the numbers cannot be JSON: {error}"))
        })?;
        let mut sections = Sections::default();
        for part in &self.parts {
            sections.add(&part.id, &part.title, Some(part.html()));
        }
        let summary = page::paragraphs(&self.summary, None);
        let html = page::whole(&self.title, &self.kicker, &summary, &sections, &json);
        files::write_atomic(path, |writer| writer.write_all(html.as_bytes()))
    }
}

impl Part {
    fn html(&self) -> Markup {
        let rows = html! {
            @for cells in &self.rows {
                @if let Some((name, cells)) = cells.split_first() { (tables::row(name, cells)) }
            }
        };
        let header: Vec<&str> = self.header.iter().map(String::as_str).collect();
        let caption = format!("{} in numbers", self.title);
        html! {
            figure {
                (PreEscaped(self.figure.to_html()))
                figcaption { (self.caption) }
            }
            @if !rows.0.is_empty() {
                div class="below" { (tables::table(&caption, &header, 1..header.len(), rows)) }
            }
        }
    }
}
