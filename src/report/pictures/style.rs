//! The look of policies: colours by objective, markers and dashes by the values of a sweep.

use std::fmt::Write;

use crate::report::NamedReport;
use crate::report::text::{Variant, variant};

/// A colour by its name in the style sheet, on light and on dark paper.
pub struct Color {
    pub name: &'static str,
    pub light: &'static str,
    pub dark: &'static str,
}

const fn color(name: &'static str, light: &'static str, dark: &'static str) -> Color {
    Color { name, light, dark }
}

pub(super) static INK: Color = color("ink", "#1d2129", "#e8e6e1");
pub(super) static MUTED: Color = color("muted", "#5c6370", "#a2a8b4");
pub(super) static RULE: Color = color("rule", "#e3e4e8", "#31353e");
pub(super) static PAPER: Color = color("paper", "#ffffff", "#16181d");
pub(super) static BEYOND: Color = color("beyond", "#f4f4f6", "#1e2128");
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
static FOUND: Color = color("found", "#ffe08a", "#d9b44a");

/// Every colour of the page.
pub static COLORS: [&Color; 14] = [
    &INK, &MUTED, &RULE, &PAPER, &BEYOND, &EXO_RW, &EXO_PREF, &DPO_RW, &DPO, &BEST, &TEAL, &ROSE,
    &OLIVE, &FOUND,
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

/// The shape of a policy's points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Marker {
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
    /// The colour of its objective.
    pub color: &'static Color,
    pub(super) marker: Marker,
    /// The dashes of its line; empty: a whole line.
    pub dashes: &'static str,
}

pub(super) static OPTIMUM: Style = Style { color: &INK, marker: Marker::Star, dashes: "6 4" };

/// What all policies of a page look like: those of a sweep have the colour of their objective, a
/// marker by K and dashes by β; where only one of the two varies, it has both.
pub struct Styles {
    betas: Vec<String>,
    counts: Vec<String>,
}

/// β of a variant as its name spells it.
fn beta_of(variant: &Variant) -> String {
    let parts = variant.parts.iter().filter(|it| it.0 != 'k');
    parts.map(|(letter, value)| format!("{letter}{value}")).collect::<Vec<_>>().join("-")
}

fn count_of<'a>(variant: &Variant<'a>) -> &'a str {
    variant.parts.iter().find(|it| it.0 == 'k').map_or("", |it| it.1)
}

/// The policies of a sweep that have a value in common.
pub struct Facet {
    /// The value, as `β 0.5`.
    pub title: String,
    key: String,
    by_beta: bool,
}

impl Facet {
    /// Whether a policy has the value, or none of the kind.
    pub fn holds(&self, policy: &str) -> bool {
        variant(policy).is_none_or(|it| {
            let value = if self.by_beta { beta_of(&it) } else { count_of(&it).to_owned() };
            value.is_empty() || value == self.key
        })
    }
}

impl Styles {
    /// What a sweep falls into: its β, or its K where only that varies; nothing without a sweep.
    pub fn facets(&self) -> Vec<Facet> {
        let by_beta = self.betas.len() > 1;
        let facet = |key: &String| {
            let policy = match by_beta {
                true => format!("dpo-{key}"),
                false => format!("dpo-k{key}"),
            };
            let title = variant(&policy).map_or_else(|| key.clone(), |it| it.varied());
            Facet { title, key: key.clone(), by_beta }
        };
        match by_beta || self.counts.len() > 1 {
            true => (if by_beta { &self.betas } else { &self.counts }).iter().map(facet).collect(),
            false => Vec::new(),
        }
    }

    /// For every policy of the runs.
    pub fn new(runs: &[NamedReport]) -> Self {
        let mut styles = Self { betas: Vec::new(), counts: Vec::new() };
        for run in runs {
            let ways = run.report.frontier.iter().map(|it| &it.objective);
            for policy in run.report.results.iter().map(|it| &it.policy).chain(ways) {
                let Some(found) = variant(policy) else { continue };
                let (beta, count) = (beta_of(&found), count_of(&found).to_owned());
                for (value, known) in [(beta, &mut styles.betas), (count, &mut styles.counts)] {
                    if !value.is_empty() && !known.contains(&value) {
                        known.push(value);
                    }
                }
            }
        }
        let number = |text: &String| -> f64 {
            text.trim_start_matches(|it: char| it.is_alphabetic()).parse().unwrap_or(f64::MAX)
        };
        for known in [&mut styles.betas, &mut styles.counts] {
            known.sort_by(|a, b| number(a).total_cmp(&number(b)).then_with(|| a.cmp(b)));
        }
        styles
    }

    /// The style of a policy.
    pub fn of(&self, policy: &str) -> Style {
        const MARKERS: [Marker; 6] = [
            Marker::Circle,
            Marker::Square,
            Marker::Triangle,
            Marker::Diamond,
            Marker::TriangleDown,
            Marker::Cross,
        ];
        const DASHES: [&str; 6] = ["", "8 3", "2 3", "9 3 2 3", "14 4", "5 2 1 2 1 2"];
        let Some(found) = variant(policy) else { return Style::of(policy) };
        let place = |known: &[String], value: &str| known.iter().position(|it| it == value);
        let beta = place(&self.betas, &beta_of(&found));
        let count = place(&self.counts, count_of(&found));
        // A pair has no K; where K has the markers, it keeps its own.
        let by_marker = if self.counts.len() > 1 { count } else { beta };
        let by_dashes = if self.betas.len() > 1 { beta } else { count };
        let base = Style::of(found.base);
        Style {
            marker: by_marker.map_or(base.marker, |it| MARKERS[it % MARKERS.len()]),
            dashes: by_dashes.map_or(base.dashes, |it| DASHES[it % DASHES.len()]),
            ..base
        }
    }
}

impl Style {
    /// The same in one of several compared runs: the dashes say which.
    pub fn of_run(self, run: usize) -> Self {
        const DASHES: [&str; 3] = ["", "2 3", "9 3 2 3"];
        match run {
            0 => self,
            run => Self { dashes: DASHES[run % DASHES.len()], ..self },
        }
    }

    /// The style of a policy that no sweep varies, the same in every report.
    pub fn of(policy: &str) -> Self {
        let style = |color, marker| Self { color, marker, dashes: "" };
        match policy {
            "sft" => style(&INK, Marker::Cross),
            "optimum" => OPTIMUM,
            "exo-pref-official" => style(&TEAL, Marker::Square),
            "exo-rw" => style(&EXO_RW, Marker::Circle),
            "exo-pref" => style(&EXO_PREF, Marker::Square),
            "dpo-rw" => style(&DPO_RW, Marker::Triangle),
            "dpo" => style(&DPO, Marker::Diamond),
            _ if policy.starts_with("best-of") => {
                Self { dashes: "3 3", ..style(&BEST, Marker::TriangleDown) }
            }
            _ => match policy.bytes().map(usize::from).sum::<usize>() % 3 {
                0 => style(&TEAL, Marker::Circle),
                1 => style(&ROSE, Marker::Square),
                _ => style(&OLIVE, Marker::Triangle),
            },
        }
    }

    /// A small picture of the marker, for tables.
    pub fn swatch(self) -> String {
        let mark = self.mark(7.0, 7.0, 5.0, Ink::Page, true);
        format!(r#"<svg class="swatch" viewBox="0 0 14 14" aria-hidden="true">{mark}</svg>"#)
    }

    /// A small picture of the line with its marker, for legends.
    pub fn line_swatch(self, filled: bool) -> String {
        let (paint, mark) =
            (Ink::Page.of(self.color), self.mark(16.0, 7.0, 4.0, Ink::Page, filled));
        format!(
            r#"<svg class="swatch line" viewBox="0 0 32 14" aria-hidden="true"><line x2="32" y1="7" y2="7" stroke="{paint}" stroke-width="1.75" stroke-dasharray="{}"/>{mark}</svg>"#,
            self.dashes
        )
    }

    /// The marker at a place; hollow where `filled` is not.
    pub fn mark(self, x: f64, y: f64, size: f64, ink: Ink, filled: bool) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Report, Series};

    #[test]
    fn a_sweep_keeps_an_objective_s_colour_and_varies_marker_by_k_and_dashes_by_beta() {
        let policies =
            ["exo-rw-b0.5-k4", "exo-rw-b0.5-k16", "exo-rw-b2-k4", "dpo-rw-b0.5-k4", "dpo-b2"];
        let frontier =
            policies.map(|it| Series { objective: it.to_owned(), ..Series::default() }).to_vec();
        let report = Report { frontier, ..Report::default() };
        let styles = Styles::new(&[NamedReport { name: String::new(), report }]);
        let [a, more, colder, other, pair] = policies.map(|it| styles.of(it));
        assert_eq!(a.color.name, "exo-rw");
        assert_eq!((more.color.name, more.dashes), ("exo-rw", a.dashes));
        assert_ne!(more.marker, a.marker);
        assert_eq!(colder.marker, a.marker);
        assert_ne!(colder.dashes, a.dashes);
        assert_eq!((other.marker, other.dashes), (a.marker, a.dashes));
        assert_ne!(other.color.name, a.color.name);
        assert_eq!(pair.dashes, colder.dashes, "β is what pairs have in common with groups");
    }
}
