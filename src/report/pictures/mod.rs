//! Pictures as SVG text.
//!
//! Written by hand rather than with `plotters`: its SVG has neither colours that follow the page's
//! theme nor titles on its marks.

mod axes;
mod bars;
mod cells;
mod curves;
mod differences;
mod figure;
mod frame;
mod frontier;
mod histograms;
mod labels;
mod panel;
mod plot;
mod tracks;
mod training;

pub use bars::{interval_bar, win_bar};
pub use cells::Cells;
pub use curves::{Curve, Line};
pub use differences::{differences, differences_svg};
pub use figure::Figure;
pub use frame::Frame;
pub use frontier::{Picture, frontier_svg};
pub use histograms::histogram_panels;
pub use panel::Panel;
pub use plot::{Content, Plot};
pub use tracks::Scene;
pub use training::training_panels;
