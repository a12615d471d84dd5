//! Single figures, for a README or a paper: curves over an axis and shares in cells, in rows of panels.

use std::fmt::Write;

use super::axes::Place;
use super::plot::Plot;
use crate::report::style::{FONTS, Ink, card};
use crate::report::text::escape;

/// A figure: panels in rows, as one file or as a part of a page.
#[derive(Clone, Debug, Default)]
pub struct Figure {
    /// What it shows, for those who cannot see it.
    pub description: String,
    /// Panels side by side, row by row from the top.
    pub rows: Vec<Vec<Plot>>,
}

const WIDTH: f64 = 880.0;
const MARGIN: f64 = 22.0;
const GAP: f64 = 18.0;

impl Figure {
    /// The whole as a file: fixed colours on a white card, which reads on light and dark pages.
    pub fn to_svg(&self) -> String {
        let heights: Vec<f64> = self.rows.iter().map(|row| row_height(row)).collect();
        let height =
            heights.iter().sum::<f64>() + GAP * (heights.len() as f64 - 1.0) + 2.0 * MARGIN;
        let mut svg = format!(
            r#"<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{}" font-family="{FONTS}">{}"#,
            escape(&self.description),
            card(WIDTH, height),
        );
        let mut top = MARGIN;
        for (row, height) in self.rows.iter().zip(heights) {
            let width = (WIDTH - 2.0 * MARGIN - GAP * (row.len() as f64 - 1.0)) / row.len() as f64;
            for (column, plot) in row.iter().enumerate() {
                let left = MARGIN + column as f64 * (width + GAP);
                let text = if row.len() > 2 { 12.0 } else { 14.0 };
                svg += &plot.draw(Place { left, top, width, height, text }, Ink::File);
            }
            top += height + GAP;
        }
        svg + "</svg>\n"
    }

    /// The panels for a page, on which they find their own places.
    pub(in crate::report) fn to_html(&self) -> String {
        let mut html = String::new();
        for row in &self.rows {
            match row.as_slice() {
                [only] => {
                    for (class, width, height, text) in
                        [("wide", 880.0, 330.0, 14.0), ("narrow", 380.0, 300.0, 12.0)]
                    {
                        let place = Place::alone(width, height, text);
                        html += &only.alone(&format!("frontier {class}"), place);
                    }
                }
                several => {
                    let (class, width, height, text) = match several.len() {
                        2 => ("panels two", 420.0, 330.0, 13.0),
                        _ => ("panels many", 180.0, 150.0, 12.0),
                    };
                    let place = Place::alone(width, height, text);
                    let plots = several.iter().map(|plot| plot.alone("panel", place));
                    let _ =
                        write!(html, r#"<div class="{class}">{}</div>"#, plots.collect::<String>());
                }
            }
        }
        html
    }
}

fn row_height(row: &[Plot]) -> f64 {
    match row.len() {
        1 => 330.0,
        2 => 360.0,
        _ => 190.0,
    }
}
