//! What policies look like: colours, marks and lines.

use std::fmt::Write;

use maud::{Markup, PreEscaped};

use super::schema::{ObjectiveLabel, PolicyKind, PolicyLabel};
use crate::alignment::{Divergence, Takes};

/// A colour by its name in the style sheet, on light and on dark paper.
#[derive(Debug)]
pub struct Color {
    pub name: &'static str,
    pub light: &'static str,
    pub dark: &'static str,
}

const fn color(name: &'static str, light: &'static str, dark: &'static str) -> Color {
    Color { name, light, dark }
}

pub static INK: Color = color("ink", "#1d2129", "#e8e6e1");
pub static MUTED: Color = color("muted", "#5c6370", "#a2a8b4");
pub static RULE: Color = color("rule", "#e3e4e8", "#31353e");
pub static PAPER: Color = color("paper", "#ffffff", "#16181d");
pub static BEYOND: Color = color("beyond", "#f4f4f6", "#1e2128");
// Blues are reverse divergences, oranges forward ones; within a family the lightness differs, so that
// they can be told apart without colour vision, and every policy has a marker of its own.
static NAVY: Color = color("navy", "#0b4a9e", "#5b9df0");
static SKY: Color = color("sky", "#2e8fd0", "#a9d6fb");
static RUST: Color = color("rust", "#a8380b", "#f0733a");
static AMBER: Color = color("amber", "#d9800f", "#fbc46b");
static VIOLET: Color = color("violet", "#7a4aa8", "#c39be8");
static TEAL: Color = color("teal", "#00776b", "#4cc3b3");
static INDIGO: Color = color("indigo", "#4338a8", "#9d95f0");
static ROSE: Color = color("rose", "#b0336a", "#f08ab5");
static OLIVE: Color = color("olive", "#6b6b12", "#c9c765");
static FOUND: Color = color("found", "#ffe08a", "#d9b44a");

/// Every colour of the page.
pub static COLORS: [&Color; 15] = [
    &INK, &MUTED, &RULE, &PAPER, &BEYOND, &NAVY, &SKY, &RUST, &AMBER, &VIOLET, &TEAL, &INDIGO,
    &ROSE, &OLIVE, &FOUND,
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
    /// How a colour is written there.
    pub fn of(self, color: &Color) -> String {
        match self {
            Self::Page => format!("var(--{})", color.name),
            Self::File => color.light.to_owned(),
        }
    }
}

/// The letters of a picture in a file of its own.
pub const FONTS: &str = "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif";

/// The white card that a picture in a file of its own lies on.
pub fn card(width: f64, height: f64) -> String {
    format!(
        r#"<rect x=".5" y=".5" width="{}" height="{}" rx="8" fill="{}" stroke="{}"/>"#,
        width - 1.0,
        height - 1.0,
        Ink::File.of(&PAPER),
        Ink::File.of(&RULE),
    )
}

/// The shape of a policy's points.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Marker {
    Circle,
    Square,
    Triangle,
    Diamond,
    TriangleDown,
    Cross,
    Star,
}

/// The markers of trained policies, in the order in which they are given out.
const MARKERS: [Marker; 6] = [
    Marker::Circle,
    Marker::Square,
    Marker::Triangle,
    Marker::Diamond,
    Marker::TriangleDown,
    Marker::Cross,
];

/// What a policy looks like, everywhere on the page.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub(super) color: &'static Color,
    marker: Marker,
    /// The dashes of its line; empty: a whole line.
    pub(super) dashes: &'static str,
}

impl Style {
    /// A difference above 0, and one below.
    pub(super) const AHEAD: &'static Color = &NAVY;
    pub(super) const BEHIND: &'static Color = &AMBER;

    /// π*, the exact optimum.
    pub const OPTIMUM: Self = Self { color: &INK, marker: Marker::Star, dashes: "6 4" };

    /// The style of a policy that no sweep varies, the same in every report.
    pub fn of(policy: &PolicyLabel) -> Self {
        let style = |color, marker| Self { color, marker, dashes: "" };
        match &policy.kind {
            PolicyKind::Reference => style(&INK, Marker::Cross),
            PolicyKind::Optimum => Self::OPTIMUM,
            PolicyKind::BestOfN => Self { dashes: "3 3", ..style(&VIOLET, Marker::TriangleDown) },
            PolicyKind::Trained(it) => {
                let ObjectiveLabel { divergence, takes, rank, .. } = it.objective;
                let plain = Self::of_objective(divergence, takes, rank);
                // The same objective on samples that were drawn before has no dashes.
                Self { dashes: if it.online { "9 3 2 3" } else { "" }, ..plain }
            }
            PolicyKind::Chosen | PolicyKind::Other => {
                match policy.name.bytes().map(usize::from).sum::<usize>() % 3 {
                    0 => style(&TEAL, Marker::Circle),
                    1 => style(&ROSE, Marker::Square),
                    _ => style(&OLIVE, Marker::Triangle),
                }
            }
        }
    }

    /// The style of the objective number `rank`, from 0, among those with a divergence that learn
    /// from the same.
    pub fn of_objective(divergence: Divergence, takes: Takes, rank: usize) -> Self {
        let (colors, marker): ([&Color; 3], usize) = match (divergence, takes) {
            (Divergence::Reverse, Takes::Rewards) => ([&NAVY, &TEAL, &INDIGO], 0),
            (Divergence::Reverse, Takes::Pairs) => ([&SKY, &TEAL, &INDIGO], 1),
            (Divergence::Forward, Takes::Rewards) => ([&RUST, &ROSE, &OLIVE], 2),
            (Divergence::Forward, Takes::Pairs) => ([&AMBER, &ROSE, &OLIVE], 3),
            (Divergence::Between, Takes::Rewards) => ([&INDIGO, &SKY, &NAVY], 4),
            (Divergence::Between, Takes::Pairs) => ([&INDIGO, &TEAL, &SKY], 2),
            (Divergence::Other, Takes::Rewards) => ([&OLIVE, &ROSE, &INDIGO], 1),
            (Divergence::Other, Takes::Pairs) => ([&OLIVE, &ROSE, &TEAL], 3),
            (_, Takes::Labels) => ([&AMBER, &RUST, &NAVY], 5),
        };
        Self {
            color: colors[rank % colors.len()],
            marker: MARKERS[(marker + rank / colors.len()) % MARKERS.len()],
            dashes: "",
        }
    }

    /// The same as one part of a sweep: its marker and its dashes by number, its own where there is
    /// no number.
    pub fn of_part(self, marker: Option<usize>, dashes: Option<usize>) -> Self {
        const DASHES: [&str; 6] = ["", "8 3", "2 3", "9 3 2 3", "14 4", "5 2 1 2 1 2"];
        Self {
            marker: marker.map_or(self.marker, |number| MARKERS[number % MARKERS.len()]),
            dashes: dashes.map_or(self.dashes, |number| DASHES[number % DASHES.len()]),
            ..self
        }
    }

    /// The same in one of several compared runs: the dashes say which.
    pub fn of_run(self, run: usize) -> Self {
        const DASHES: [&str; 3] = ["", "2 3", "9 3 2 3"];
        match run {
            0 => self,
            run => Self { dashes: DASHES[run % DASHES.len()], ..self },
        }
    }

    /// A small picture of the marker, for tables.
    pub fn swatch(self) -> Markup {
        let mark = self.mark(7.0, 7.0, 5.0, Ink::Page, true);
        PreEscaped(format!(
            r#"<svg class="swatch" viewBox="0 0 14 14" aria-hidden="true">{mark}</svg>"#
        ))
    }

    /// A small picture of the line with its marker, for legends.
    pub fn line_swatch(self, filled: bool) -> Markup {
        let (paint, mark) =
            (Ink::Page.of(self.color), self.mark(16.0, 7.0, 4.0, Ink::Page, filled));
        PreEscaped(format!(
            r#"<svg class="swatch line" viewBox="0 0 32 14" aria-hidden="true"><line x2="32" y1="7" y2="7" stroke="{paint}" stroke-width="1.75" stroke-dasharray="{}"/>{mark}</svg>"#,
            self.dashes
        ))
    }

    /// The marker at a place; hollow where `filled` is not.
    pub fn mark(self, x: f64, y: f64, size: f64, ink: Ink, filled: bool) -> String {
        let paint = ink.of(self.color);
        let fill = if filled { paint.clone() } else { ink.of(&PAPER) };
        let style = format!(r#"fill="{fill}" stroke="{paint}" stroke-width="1.25""#);
        if self.marker == Marker::Circle {
            return format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="{size:.1}" {style}/>"#);
        }
        let mut points = String::new();
        for (dx, dy) in self.marker.corners() {
            // Writing to a string does not fail.
            let _ = write!(points, "{:.1},{:.1} ", x + dx * size, y + dy * size);
        }
        format!(r#"<polygon points="{}" {style}/>"#, points.trim_end())
    }
}

impl Marker {
    /// The corners around the middle, at a size of 1; none of a circle.
    fn corners(self) -> Vec<(f64, f64)> {
        match self {
            Self::Circle => Vec::new(),
            Self::Square => vec![(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
            Self::Triangle => vec![(0.0, -1.15), (1.05, 0.8), (-1.05, 0.8)],
            Self::TriangleDown => vec![(0.0, 1.15), (1.05, -0.8), (-1.05, -0.8)],
            Self::Diamond => vec![(0.0, -1.25), (1.15, 0.0), (0.0, 1.25), (-1.15, 0.0)],
            Self::Cross => {
                let (a, b) = (0.35, 1.1);
                let right = [(a, -b), (a, -a), (b, -a), (b, a), (a, a), (a, b)];
                let left = [(-a, b), (-a, a), (-b, a), (-b, -a), (-a, -a)];
                [(-a, -b)].into_iter().chain(right).chain(left).collect()
            }
            Self::Star => (0..10)
                .map(|corner| {
                    let angle = std::f64::consts::PI * (f64::from(corner) / 5.0 - 0.5);
                    let radius = if corner % 2 == 0 { 1.6 } else { 0.66 };
                    (radius * angle.cos(), radius * angle.sin())
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alignment::{ObjectiveName, objectives};

    #[test]
    fn every_objective_has_a_look_of_its_own() {
        let names = objectives();
        let looks: Vec<String> = names
            .iter()
            .enumerate()
            .map(|(i, name)| {
                let alike = |it: &&ObjectiveName| {
                    it.divergence == name.divergence && it.takes == name.takes
                };
                let rank = names[..i].iter().filter(alike).count();
                let style = Style::of_objective(name.divergence, name.takes, rank);
                format!("{} {:?}", style.color.name, style.marker)
            })
            .collect();
        let mut distinct = looks.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), looks.len(), "{looks:?}");
        assert_eq!(looks[1], "navy Circle");
        assert_eq!(looks[0], "sky Square");
    }
}
