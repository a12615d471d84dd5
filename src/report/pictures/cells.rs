//! Shares of a whole in the cells of a table, as a figure's panel.

use std::fmt::Write;

use super::axes::Place;
use crate::report::style::{INK, Ink, MUTED, Style};
use crate::report::text::{escape, number};

/// Shares of a whole in the cells of a table.
#[derive(Clone, Debug)]
pub struct Cells {
    /// Whose colour they have.
    pub style: Style,
    /// Names of the rows.
    pub rows: Vec<String>,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Shares, row by row; together 1.
    pub shares: Vec<Vec<f64>>,
}

impl Cells {
    /// The three largest shares in words.
    pub(super) fn largest(&self) -> Vec<String> {
        let rows = self.rows.iter().zip(&self.shares);
        let mut all: Vec<(f64, &str, &str)> = rows
            .flat_map(|(row, shares)| {
                let cells = self.columns.iter().zip(shares);
                cells.map(move |(column, share)| (*share, row.as_str(), column.as_str()))
            })
            .collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        let words = |(share, row, column): &(f64, &str, &str)| {
            format!("{} % {row} {column}", number(100.0 * share, 1))
        };
        all.iter().take(3).map(words).collect()
    }
}

/// Cells darker the larger their share, with the shares of a percent and more written into them.
pub fn draw_cells(svg: &mut String, cells: &Cells, place: Place, ink: Ink) {
    let letters =
        |names: &[String]| names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let small = place.text * 0.86;
    let left =
        place.left + (small * 0.54 * letters(&cells.rows) as f64 + 8.0).min(place.width * 0.45);
    // Column names lean; what they take of the height is their length's sine.
    let top = place.top + place.text * 1.8 + small * 0.54 * letters(&cells.columns) as f64 * 0.6;
    let width = (place.right() - 14.0 - left) / cells.columns.len().max(1) as f64;
    let height = (place.top + place.height - top) / cells.rows.len().max(1) as f64;
    let (muted, text) = (ink.of(&MUTED), ink.of(&INK));
    let paint = ink.of(cells.style.color);
    let largest = cells.shares.iter().flatten().copied().fold(1e-12, f64::max);
    for (column, name) in cells.columns.iter().enumerate() {
        let (x, y) = (left + (column as f64 + 0.35) * width, top - 6.0);
        let _ = write!(
            svg,
            r#"<text x="{x:.1}" y="{y:.1}" font-size="{small}" fill="{muted}" transform="rotate(-37 {x:.1} {y:.1})">{}</text>"#,
            escape(name),
        );
    }
    for (row, (name, shares)) in cells.rows.iter().zip(&cells.shares).enumerate() {
        let y = top + row as f64 * height;
        let _ = write!(
            svg,
            r#"<text x="{:.1}" y="{:.1}" font-size="{small}" text-anchor="end" fill="{muted}">{}</text>"#,
            left - 8.0,
            y + height * 0.5 + small * 0.35,
            escape(name),
        );
        for (column, share) in shares.iter().enumerate() {
            let x = left + column as f64 * width;
            let _ = write!(
                svg,
                r#"<rect x="{:.1}" y="{:.1}" width="{:.1}" height="{:.1}" rx="2" fill="{paint}" fill-opacity="{:.3}"/>"#,
                x + 1.0,
                y + 1.0,
                width - 2.0,
                height - 2.0,
                0.04 + 0.51 * (share / largest).clamp(0.0, 1.0),
            );
            if *share >= 0.01 {
                let _ = write!(
                    svg,
                    r#"<text x="{:.1}" y="{:.1}" font-size="{small}" text-anchor="middle" fill="{text}">{}</text>"#,
                    x + width * 0.5,
                    y + height * 0.5 + small * 0.35,
                    number(100.0 * share, 0),
                );
            }
        }
    }
}
