//! One panel of a figure.

use super::axes::{Axes, AxisName, Place, Scale};
use super::cells::{Cells, draw_cells};
use super::curves::{Curve, draw_legend};
use crate::report::style::{INK, Ink, MUTED};
use crate::report::text::escape;

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

impl Plot {
    /// A picture of its own.
    pub fn alone(&self, class: &str, place: Place) -> String {
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
                let names: Vec<&str> = curves
                    .iter()
                    .map(|curve| curve.name.as_str())
                    .filter(|name| !name.is_empty())
                    .collect();
                format!("{} {}", self.title, names.join(", "))
            }
            Content::Cells(cells) => {
                format!("{}. Most likely: {}", self.title, cells.largest().join("; "))
            }
        }
    }

    /// A part of a picture.
    pub fn draw(&self, place: Place, ink: Ink) -> String {
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
        let points = || curves.iter().flat_map(|curve| &curve.points);
        let margin = if numbered { 0.03 } else { 0.0 };
        let along = points().map(|point| point.0);
        let Some(x) = Scale::new(along, margin, left, place.right()) else { return };
        // A density stands on the axis.
        let floor = (!numbered).then_some(0.0);
        let heights = points().map(|point| point.1).chain(floor).chain(self.y_holds);
        let Some(y) = Scale::new(heights, 0.05, bottom, top) else { return };
        let ground = if numbered { bottom } else { y.at(0.0) };
        self.axes(&x, &y, ground, place, ink).draw(svg);
        curves.iter().for_each(|curve| curve.draw(svg, (&x, &y), ground, ink));
    }

    fn axes<'a>(
        &'a self,
        x: &'a Scale,
        y: &'a Scale,
        ground: f64,
        place: Place,
        ink: Ink,
    ) -> Axes<'a> {
        let text = place.text;
        let mut x_ticks = x.ticks((place.width / (3.0 * text)).min(10.0) as usize);
        // A label at the panel's edge would be cut.
        x_ticks.retain(|tick| x.at(tick.0) > x.from + 3.0 && x.at(tick.0) < x.to - 3.0);
        Axes {
            x,
            y,
            x_ticks,
            y_ticks: if self.y_name.is_empty() { Vec::new() } else { y.ticks(5) },
            ground,
            below: text * 1.35,
            beside: 7.0,
            marks: 0.0,
            x_name: AxisName {
                name: &self.x_name,
                place: (x.to, ground + text * 2.75),
                color: &MUTED,
            },
            y_name: AxisName {
                name: &self.y_name,
                place: (place.left, y.to - text * 0.4),
                color: &MUTED,
            },
            text,
            ink,
        }
    }
}
