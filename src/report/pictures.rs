//! Pictures as SVG text.
//!
//! Written by hand rather than with `plotters`: its SVG has neither colours that follow the page's
//! theme nor titles on its marks.

mod axes;
mod figure;
mod frontier;
mod labels;
mod panels;
mod style;
mod tracks;

use std::fmt::Write;

pub use figure::{Cells, Content, Curve, Figure, Line, Plot};
pub use frontier::{Frame, Picture, frontier_svg};
pub use panels::{Panel, histogram_panels, interval_bar, training_panels, win_bar};
use style::{BEYOND, INK, MUTED, OPTIMUM, PAPER, RULE};
pub use style::{COLORS, Color, Ink, Style, Styles};
pub use tracks::Scene;

/// A line through places, begun by the command `first`.
fn path(places: &[(f64, f64)], first: char) -> String {
    let mut path = String::new();
    for (index, (x, y)) in places.iter().enumerate() {
        let command = if index == 0 { first } else { 'L' };
        // Writing to a string does not fail.
        let _ = write!(path, "{command}{x:.1},{y:.1}");
    }
    path
}
