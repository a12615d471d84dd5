//! Pictures as SVG text.
//!
//! Written by hand rather than with `plotters`: its SVG has neither colours that follow the page's
//! theme nor titles on its marks.

mod axes;
mod figure;
mod frontier;
mod panels;

use std::fmt::Write;

pub use figure::{Cells, Content, Curve, Figure, Line, Plot};
pub use frontier::{Frame, frontier, frontier_svg};
pub use panels::{Panel, histograms, interval_bar, training_panels, win_bar};

/// A colour by its name in the style sheet, on light and on dark paper.
pub struct Color {
    pub name: &'static str,
    pub light: &'static str,
    pub dark: &'static str,
}

const fn color(name: &'static str, light: &'static str, dark: &'static str) -> Color {
    Color { name, light, dark }
}

static INK: Color = color("ink", "#1d2129", "#e8e6e1");
static MUTED: Color = color("muted", "#5c6370", "#a2a8b4");
static RULE: Color = color("rule", "#e3e4e8", "#31353e");
static PAPER: Color = color("paper", "#ffffff", "#16181d");
static BEYOND: Color = color("beyond", "#f4f4f6", "#1e2128");
// Blues are EXO, oranges DPO; within a family the lightness differs, so that they can be told apart
// without colour vision, and every policy has a marker of its own.
static EXO_RW: Color = color("exo-rw", "#0b4a9e", "#5b9df0");
static EXO_PREF: Color = color("exo-pref", "#2e8fd0", "#a9d6fb");
static DPO_RW: Color = color("dpo-rw", "#a8380b", "#f0733a");
static DPO: Color = color("dpo", "#d9800f", "#fbc46b");
static BEST: Color = color("best", "#7a4aa8", "#c39be8");
static TEAL: Color = color("teal", "#00776b", "#4cc3b3");
static ROSE: Color = color("rose", "#b0336a", "#f08ab5");
static OLIVE: Color = color("olive", "#6b6b12", "#c9c765");

/// Every colour of the page.
pub static COLORS: [&Color; 13] = [
    &INK, &MUTED, &RULE, &PAPER, &BEYOND, &EXO_RW, &EXO_PREF, &DPO_RW, &DPO, &BEST, &TEAL, &ROSE,
    &OLIVE,
];

/// Where a picture is looked at.
#[derive(Clone, Copy, PartialEq)]
pub enum Ink {
    /// Within the page: its colours follow the page's theme.
    Page,
    /// In a file of its own: light colours on a white card.
    File,
}

impl Ink {
    fn of(self, color: &Color) -> String {
        match self {
            Self::Page => format!("var(--{})", color.name),
            Self::File => color.light.to_owned(),
        }
    }
}

/// The shape of a policy's points.
#[derive(Clone, Copy)]
enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
    Cross,
    TriangleDown,
    Star,
}

/// What a policy looks like, everywhere on the page.
#[derive(Clone, Copy)]
pub struct Style {
    color: &'static Color,
    marker: Marker,
}

static OPTIMUM: Style = Style { color: &INK, marker: Marker::Star };

impl Style {
    /// The style of a policy, the same in every report.
    pub fn of(policy: &str) -> Self {
        const VARIED: [Marker; 5] = [
            Marker::Circle,
            Marker::Diamond,
            Marker::TriangleDown,
            Marker::Square,
            Marker::Triangle,
        ];
        // What a sweep varies changes the marker.
        let trained = ["exo-pref-official", "exo-rw", "exo-pref", "dpo-rw", "dpo"];
        let base = trained.into_iter().find(|base| policy.starts_with(base));
        if let Some((base, rest)) = base.and_then(|base| Some((base, policy.strip_prefix(base)?)))
            && rest.starts_with('-')
        {
            let number = rest.bytes().map(usize::from).sum::<usize>();
            return Self { marker: VARIED[number % VARIED.len()], ..Self::of(base) };
        }
        let (color, marker) = match policy {
            "sft" => (&INK, Marker::Cross),
            "exo-pref-official" => (&TEAL, Marker::Square),
            "exo-rw" => (&EXO_RW, Marker::Circle),
            "exo-pref" => (&EXO_PREF, Marker::Square),
            "dpo-rw" => (&DPO_RW, Marker::Triangle),
            "dpo" => (&DPO, Marker::Diamond),
            _ if policy.starts_with("best-of") => (&BEST, Marker::TriangleDown),
            _ => match policy.bytes().map(usize::from).sum::<usize>() % 3 {
                0 => (&TEAL, Marker::Circle),
                1 => (&ROSE, Marker::Square),
                _ => (&OLIVE, Marker::Triangle),
            },
        };
        Self { color, marker }
    }

    /// A small picture of the marker, for tables and legends.
    pub fn swatch(self) -> String {
        let mark = self.mark(7.0, 7.0, 5.0, Ink::Page, true);
        format!(r#"<svg class="swatch" viewBox="0 0 14 14" aria-hidden="true">{mark}</svg>"#)
    }

    /// The marker at a place; hollow where `filled` is not.
    fn mark(self, x: f64, y: f64, size: f64, ink: Ink, filled: bool) -> String {
        let paint = ink.of(self.color);
        let fill = if filled { paint.clone() } else { ink.of(&PAPER) };
        let style = format!(r#"fill="{fill}" stroke="{paint}" stroke-width="1.25""#);
        let polygon = |corners: &[(f64, f64)]| {
            let mut points = String::new();
            for (dx, dy) in corners {
                // Writing to a string does not fail.
                let _ = write!(points, "{:.1},{:.1} ", x + dx * size, y + dy * size);
            }
            format!(r#"<polygon points="{}" {style}/>"#, points.trim_end())
        };
        match self.marker {
            Marker::Circle => format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="{size:.1}" {style}/>"#),
            Marker::Square => polygon(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
            Marker::Triangle => polygon(&[(0.0, -1.15), (1.05, 0.8), (-1.05, 0.8)]),
            Marker::TriangleDown => polygon(&[(0.0, 1.15), (1.05, -0.8), (-1.05, -0.8)]),
            Marker::Diamond => polygon(&[(0.0, -1.25), (1.15, 0.0), (0.0, 1.25), (-1.15, 0.0)]),
            Marker::Cross => {
                let (a, b) = (0.35, 1.1);
                polygon(&[
                    (-a, -b),
                    (a, -b),
                    (a, -a),
                    (b, -a),
                    (b, a),
                    (a, a),
                    (a, b),
                    (-a, b),
                    (-a, a),
                    (-b, a),
                    (-b, -a),
                    (-a, -a),
                ])
            }
            Marker::Star => {
                let corners: Vec<_> = (0..10)
                    .map(|corner| {
                        let angle = std::f64::consts::PI * (f64::from(corner) / 5.0 - 0.5);
                        let radius = if corner % 2 == 0 { 1.6 } else { 0.66 };
                        (radius * angle.cos(), radius * angle.sin())
                    })
                    .collect();
                polygon(&corners)
            }
        }
    }
}
