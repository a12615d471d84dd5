//! Single figures, for a README or a paper: curves over an axis and shares in cells, in rows of panels.

use std::fmt::Write;

use super::axes::Scale;
use super::{INK, Ink, MUTED, PAPER, RULE, Style};
use crate::report::text::{escape, number};

/// A figure: panels in rows, as one file or as a part of a page.
#[derive(Clone, Debug, Default)]
pub struct Figure {
    /// What it shows, for those who cannot see it.
    pub description: String,
    /// Panels side by side, row by row from the top.
    pub rows: Vec<Vec<Plot>>,
}

/// One panel.
#[derive(Clone, Debug)]
pub struct Plot {
    /// Stands above it.
    pub title: String,
    /// Under its x axis.
    pub x_name: String,
    /// At its y axis, which has no numbers without a name.
    pub y_name: String,
    /// A value that its y axis holds besides, so that panels can be compared.
    pub y_holds: Option<f64>,
    /// What is drawn.
    pub content: Content,
}

/// What a panel shows.
#[derive(Clone, Debug)]
pub enum Content {
    /// Curves over a common axis.
    Curves(Vec<Curve>),
    /// Shares of a whole.
    Cells(Cells),
}

/// A curve.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Its name in the panel's legend; none where another panel says it.
    pub name: String,
    /// The policy whose colour it has; `optimum` is π*.
    pub policy: String,
    /// How it is drawn.
    pub line: Line,
    /// Its points from left to right.
    pub points: Vec<(f64, f64)>,
}

/// How a curve is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Line {
    /// A line.
    Solid,
    /// A broken line.
    Dashed,
    /// The area under it, without a line.
    Area,
    /// A line with a mark at every point.
    Marked,
}

/// Shares of a whole in the cells of a table.
#[derive(Clone, Debug)]
pub struct Cells {
    /// The policy whose colour they have.
    pub policy: String,
    /// Names of the rows.
    pub rows: Vec<String>,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Shares, row by row; together 1.
    pub shares: Vec<Vec<f64>>,
}

/// Where a panel lies and how large its text is.
#[derive(Clone, Copy)]
struct Place {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
    text: f64,
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
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{}" font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"><rect x=".5" y=".5" width="{}" height="{}" rx="8" fill="{}" stroke="{}"/>"#,
            escape(&self.description),
            WIDTH - 1.0,
            height - 1.0,
            Ink::File.of(&PAPER),
            Ink::File.of(&RULE),
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
    pub(crate) fn to_html(&self) -> String {
        let mut html = String::new();
        for row in &self.rows {
            match row.as_slice() {
                [only] => {
                    for (class, width, height, text) in
                        [("wide", 880.0, 330.0, 14.0), ("narrow", 380.0, 300.0, 12.0)]
                    {
                        let place = Place { left: 0.0, top: 0.0, width, height, text };
                        html += &only.alone(&format!("frontier {class}"), place);
                    }
                }
                several => {
                    let (class, width, height, text) = match several.len() {
                        2 => ("panels two", 420.0, 330.0, 13.0),
                        _ => ("panels many", 180.0, 150.0, 12.0),
                    };
                    let place = Place { left: 0.0, top: 0.0, width, height, text };
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

impl Plot {
    /// A picture of its own.
    fn alone(&self, class: &str, place: Place) -> String {
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" class="{class}" viewBox="0 0 {} {}" role="img" aria-label="{}" font-family="inherit">{}</svg>"#,
            place.width,
            place.height,
            escape(&self.description()),
            self.draw(place, Ink::Page),
        )
    }

    fn description(&self) -> String {
        match &self.content {
            Content::Curves(curves) => {
                let names: Vec<&str> =
                    curves.iter().map(|it| it.name.as_str()).filter(|it| !it.is_empty()).collect();
                format!("{} {}", self.title, names.join(", "))
            }
            Content::Cells(cells) => {
                let mut all: Vec<(f64, &str, &str)> = Vec::new();
                for (row, shares) in cells.rows.iter().zip(&cells.shares) {
                    all.extend(
                        cells
                            .columns
                            .iter()
                            .zip(shares)
                            .map(|(column, share)| (*share, row.as_str(), column.as_str())),
                    );
                }
                all.sort_by(|a, b| b.0.total_cmp(&a.0));
                let largest: Vec<String> = all
                    .iter()
                    .take(3)
                    .map(|(share, row, column)| {
                        format!("{} % {row} {column}", number(100.0 * share, 1))
                    })
                    .collect();
                format!("{}. Most likely: {}", self.title, largest.join("; "))
            }
        }
    }

    fn draw(&self, place: Place, ink: Ink) -> String {
        let mut svg = format!(
            r#"<g font-size="{}"><text x="{:.1}" y="{:.1}" fill="{}" font-weight="600">{}</text>"#,
            place.text,
            place.left,
            place.top + place.text,
            ink.of(&INK),
            escape(&self.title),
        );
        match &self.content {
            Content::Curves(curves) => self.draw_curves(&mut svg, curves, place, ink),
            Content::Cells(cells) => draw_cells(&mut svg, cells, place, ink),
        }
        svg.push_str("</g>");
        svg
    }

    fn draw_curves(&self, svg: &mut String, curves: &[Curve], place: Place, ink: Ink) {
        let numbered = !self.y_name.is_empty();
        let name = if numbered { place.text * 1.5 } else { 0.0 };
        let top = place.top + place.text * 1.9 + draw_legend(svg, curves, place, ink) + name;
        let left = place.left + if numbered { place.text * 2.6 } else { 0.0 };
        let named = !self.x_name.is_empty();
        let bottom = place.top + place.height - place.text * if named { 3.1 } else { 1.7 };
        let right = place.left + place.width;
        let points = || curves.iter().flat_map(|it| &it.points);
        let margin = if numbered { 0.03 } else { 0.0 };
        let Some(x) = Scale::new(points().map(|it| it.0), margin, left, right) else { return };
        // A density stands on the axis.
        let floor = (!numbered).then_some(0.0);
        let heights = points().map(|it| it.1).chain(floor).chain(self.y_holds);
        let Some(y) = Scale::new(heights, 0.05, bottom, top) else { return };
        let ground = if numbered { bottom } else { y.at(0.0) };
        self.draw_axes(svg, &x, &y, (ground, place), ink);
        for curve in curves {
            let style = Style::of(&curve.policy);
            let paint = ink.of(style.color);
            let places: Vec<(f64, f64)> =
                curve.points.iter().map(|it| (x.at(it.0), y.at(it.1))).collect();
            let (Some(first), Some(last)) = (places.first(), places.last()) else { continue };
            let line = super::path(&places, 'M');
            let _ = match curve.line {
                Line::Area => write!(
                    svg,
                    r#"<path d="{line}L{:.1},{ground:.1}L{:.1},{ground:.1}Z" fill="{paint}" fill-opacity=".16"/>"#,
                    last.0, first.0
                ),
                Line::Solid | Line::Marked => write!(
                    svg,
                    r#"<path d="{line}" fill="none" stroke="{paint}" stroke-width="2.25" stroke-linejoin="round"/>"#
                ),
                Line::Dashed => write!(
                    svg,
                    r#"<path d="{line}" fill="none" stroke="{paint}" stroke-width="1.5" stroke-dasharray="6 4" stroke-linejoin="round"/>"#
                ),
            };
            if curve.line == Line::Marked {
                places.iter().for_each(|(x, y)| *svg += &style.mark(*x, *y, 4.0, ink, true));
            }
        }
    }

    fn draw_axes(
        &self,
        svg: &mut String,
        x: &Scale,
        y: &Scale,
        (ground, place): (f64, Place),
        ink: Ink,
    ) {
        let (muted, rule) = (ink.of(&MUTED), ink.of(&RULE));
        let right = place.left + place.width;
        let left = x.at(x.low);
        if !self.y_name.is_empty() {
            for (value, label) in y.ticks(5) {
                let at = y.at(value);
                let _ = write!(
                    svg,
                    r#"<line x1="{left:.1}" x2="{right:.1}" y1="{at:.1}" y2="{at:.1}" stroke="{rule}"/><text x="{:.1}" y="{:.1}" text-anchor="end" fill="{muted}">{label}</text>"#,
                    left - 7.0,
                    at + place.text * 0.35,
                );
            }
        }
        let _ = write!(
            svg,
            r#"<line x1="{left:.1}" x2="{right:.1}" y1="{ground:.1}" y2="{ground:.1}" stroke="{muted}"/>"#
        );
        for (value, label) in x.ticks((place.width / (3.0 * place.text)).min(10.0) as usize) {
            let at = x.at(value);
            // A label at the panel's edge would be cut.
            if at > left + 3.0 && at < right - 3.0 {
                let _ = write!(
                    svg,
                    r#"<text x="{at:.1}" y="{:.1}" text-anchor="middle" fill="{muted}">{label}</text>"#,
                    ground + place.text * 1.35,
                );
            }
        }
        if !self.x_name.is_empty() {
            let _ = write!(
                svg,
                r#"<text x="{right:.1}" y="{:.1}" text-anchor="end" fill="{muted}">{}</text>"#,
                ground + place.text * 2.75,
                escape(&self.x_name),
            );
        }
        if !self.y_name.is_empty() {
            let _ = write!(
                svg,
                r#"<text x="{:.1}" y="{:.1}" fill="{muted}">{}</text>"#,
                place.left,
                y.at(y.high) - place.text * 0.4,
                escape(&self.y_name),
            );
        }
    }
}

/// The names of the curves in a row, or several where they do not fit; the height it takes.
fn draw_legend(svg: &mut String, curves: &[Curve], place: Place, ink: Ink) -> f64 {
    let line_height = place.text * 1.5;
    let (mut x, mut y) = (place.left, place.top + place.text * 2.6);
    let mut lines = 0.0;
    for curve in curves.iter().filter(|it| !it.name.is_empty()) {
        // About how wide a letter is.
        let width = 26.0 + 0.56 * place.text * curve.name.chars().count() as f64;
        if lines == 0.0 {
            lines = 1.0;
        } else if x + width > place.left + place.width {
            (x, y, lines) = (place.left, y + line_height, lines + 1.0);
        }
        let paint = ink.of(Style::of(&curve.policy).color);
        let middle = y - place.text * 0.35;
        let _ = match curve.line {
            Line::Area => write!(
                svg,
                r#"<rect x="{x:.1}" y="{:.1}" width="18" height="10" fill="{paint}" fill-opacity=".16" stroke="{paint}" stroke-opacity=".4"/>"#,
                middle - 5.0
            ),
            Line::Dashed => write!(
                svg,
                r#"<line x1="{x:.1}" x2="{:.1}" y1="{middle:.1}" y2="{middle:.1}" stroke="{paint}" stroke-width="1.5" stroke-dasharray="6 4"/>"#,
                x + 18.0
            ),
            Line::Solid | Line::Marked => write!(
                svg,
                r#"<line x1="{x:.1}" x2="{:.1}" y1="{middle:.1}" y2="{middle:.1}" stroke="{paint}" stroke-width="2.25"/>"#,
                x + 18.0
            ),
        };
        let _ = write!(
            svg,
            r#"<text x="{:.1}" y="{y:.1}" fill="{}">{}</text>"#,
            x + 24.0,
            ink.of(&INK),
            escape(&curve.name)
        );
        x += width + 16.0;
    }
    lines * line_height
}

/// Cells darker the larger their share, with the shares of a percent and more written into them.
fn draw_cells(svg: &mut String, cells: &Cells, place: Place, ink: Ink) {
    let letters = |names: &[String]| names.iter().map(|it| it.chars().count()).max().unwrap_or(0);
    let small = place.text * 0.86;
    let left =
        place.left + (small * 0.54 * letters(&cells.rows) as f64 + 8.0).min(place.width * 0.45);
    // Column names lean; what they take of the height is their length's sine.
    let top = place.top + place.text * 1.8 + small * 0.54 * letters(&cells.columns) as f64 * 0.6;
    let width = (place.left + place.width - 14.0 - left) / cells.columns.len().max(1) as f64;
    let height = (place.top + place.height - top) / cells.rows.len().max(1) as f64;
    let (muted, text) = (ink.of(&MUTED), ink.of(&INK));
    let paint = ink.of(Style::of(&cells.policy).color);
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
