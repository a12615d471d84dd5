//! A small picture of a page: its size, its axes, and what it is called.

use super::axes::{Axes, AxisName, Scale};
use crate::report::runs::Policy;
use crate::report::style::{Ink, MUTED};
use crate::report::text::escape;

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 170.0;
pub const LEFT: f64 = 44.0;
pub const RIGHT: f64 = 292.0;
pub const TOP: f64 = 10.0;
pub const BOTTOM: f64 = 144.0;
const TEXT: f64 = 11.0;

/// A small picture and what it is called.
pub struct Panel {
    pub title: String,
    pub svg: String,
    /// The policies in it and what the legend calls them.
    pub policies: Vec<(Policy, String)>,
}

/// The beginning of a panel's picture, with its axes; `label` is for those who cannot see it.
pub fn start(label: &str, x: &Scale, y: &Scale, x_name: &str) -> String {
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" class="panel" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}" font-family="inherit" font-size="{TEXT}">"#,
        escape(label)
    );
    let mut x_ticks = x.ticks(4);
    // The axis' name takes the right end.
    let free = RIGHT - 8.0 - 6.0 * x_name.chars().count() as f64;
    x_ticks.retain(|tick| x_name.is_empty() || x.at(tick.0) < free);
    let axes = Axes {
        x,
        y,
        x_ticks,
        y_ticks: y.ticks(4),
        ground: BOTTOM,
        below: 17.0,
        beside: 6.0,
        marks: 0.0,
        x_name: AxisName { name: x_name, place: (RIGHT, BOTTOM + 17.0), color: &MUTED },
        y_name: AxisName { name: "", place: (LEFT, TOP), color: &MUTED },
        text: TEXT,
        ink: Ink::Page,
    };
    axes.draw(&mut svg);
    svg
}
