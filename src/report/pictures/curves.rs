//! The curves of a figure's panel, and their legend.

use std::fmt::Write;

use super::axes::{Place, Scale, path};
use crate::report::style::{INK, Ink, Style};
use crate::report::text::escape;

/// A curve.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Its name in the panel's legend; none where another panel says it.
    pub name: String,
    /// Whose colour and marks it has.
    pub style: Style,
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

impl Curve {
    /// Draws the curve; an area reaches down to `ground`.
    pub fn draw(&self, svg: &mut String, (x, y): (&Scale, &Scale), ground: f64, ink: Ink) {
        let paint = ink.of(self.style.color);
        let places: Vec<(f64, f64)> =
            self.points.iter().map(|point| (x.at(point.0), y.at(point.1))).collect();
        let (Some(first), Some(last)) = (places.first(), places.last()) else { return };
        let line = path(&places, 'M');
        let _ = match self.line {
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
        if self.line == Line::Marked {
            places.iter().for_each(|(x, y)| *svg += &self.style.mark(*x, *y, 4.0, ink, true));
        }
    }
}

/// The names of the curves in a row, or several where they do not fit; the height it takes.
pub fn draw_legend(svg: &mut String, curves: &[Curve], place: Place, ink: Ink) -> f64 {
    let line_height = place.text * 1.5;
    let (mut x, mut y) = (place.left, place.top + place.text * 2.6);
    let mut lines = 0.0;
    for curve in curves.iter().filter(|curve| !curve.name.is_empty()) {
        // About how wide a letter is.
        let width = 26.0 + 0.56 * place.text * curve.name.chars().count() as f64;
        if lines == 0.0 {
            lines = 1.0;
        } else if x + width > place.right() {
            (x, y, lines) = (place.left, y + line_height, lines + 1.0);
        }
        let paint = ink.of(curve.style.color);
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
