//! Scales, and the axes of every picture.

use std::fmt::Write;

use crate::report::style::{Color, Ink, MUTED, RULE};
use crate::report::text::{escape, number};

/// Where a panel lies and how large its text is.
#[derive(Clone, Copy)]
pub struct Place {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
    pub text: f64,
}

impl Place {
    /// A panel that is a picture of its own.
    pub fn alone(width: f64, height: f64, text: f64) -> Self {
        Self { left: 0.0, top: 0.0, width, height, text }
    }

    /// Where the panel ends.
    pub fn right(&self) -> f64 {
        self.left + self.width
    }
}

/// A linear map from values to places.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub low: f64,
    pub high: f64,
    pub from: f64,
    pub to: f64,
}

/// The axes of a picture: a line across and a number at round values of y, numbers at those of x, and
/// what is measured.
pub struct Axes<'a> {
    pub x: &'a Scale,
    pub y: &'a Scale,
    /// Values and what to write beside them, of [`Scale::ticks`].
    pub x_ticks: Vec<(f64, String)>,
    pub y_ticks: Vec<(f64, String)>,
    /// The place of the x axis.
    pub ground: f64,
    /// How far below the x axis its numbers stand.
    pub below: f64,
    /// How far left of the y axis its numbers end.
    pub beside: f64,
    /// The length of the marks at the x axis' numbers; 0: none.
    pub marks: f64,
    pub x_name: AxisName<'a>,
    pub y_name: AxisName<'a>,
    /// The size of letters.
    pub text: f64,
    pub ink: Ink,
}

/// What is measured along an axis, and where that stands; an x axis' name ends there.
pub struct AxisName<'a> {
    pub name: &'a str,
    pub place: (f64, f64),
    pub color: &'a Color,
}

impl Axes<'_> {
    /// Writes the axes, which what is measured is then drawn over.
    pub fn draw(&self, svg: &mut String) {
        let (muted, rule) = (self.ink.of(&MUTED), self.ink.of(&RULE));
        let (left, right, ground) = (self.x.from, self.x.to, self.ground);
        for (value, label) in &self.y_ticks {
            let at = self.y.at(*value);
            let _ = write!(
                svg,
                r#"<line x1="{left:.1}" x2="{right:.1}" y1="{at:.1}" y2="{at:.1}" stroke="{rule}"/><text x="{:.1}" y="{:.1}" text-anchor="end" fill="{muted}">{label}</text>"#,
                left - self.beside,
                at + self.text * 0.35,
            );
        }
        let _ = write!(
            svg,
            r#"<line x1="{left:.1}" x2="{right:.1}" y1="{ground:.1}" y2="{ground:.1}" stroke="{muted}"/>"#
        );
        for (value, label) in &self.x_ticks {
            let at = self.x.at(*value);
            if self.marks > 0.0 {
                let _ = write!(
                    svg,
                    r#"<line x1="{at:.1}" x2="{at:.1}" y1="{ground:.1}" y2="{:.1}" stroke="{muted}"/>"#,
                    ground + self.marks,
                );
            }
            let _ = write!(
                svg,
                r#"<text x="{at:.1}" y="{:.1}" text-anchor="middle" fill="{muted}">{label}</text>"#,
                ground + self.below,
            );
        }
        self.draw_name(svg, &self.x_name, r#" text-anchor="end""#);
        self.draw_name(svg, &self.y_name, "");
    }

    fn draw_name(&self, svg: &mut String, it: &AxisName, anchor: &str) {
        if !it.name.is_empty() {
            let ((x, y), paint) = (it.place, self.ink.of(it.color));
            let _ = write!(
                svg,
                r#"<text x="{x:.1}" y="{y:.1}"{anchor} fill="{paint}">{}</text>"#,
                escape(it.name),
            );
        }
    }
}

/// A line through places, begun by the command `first`.
pub fn path(places: &[(f64, f64)], first: char) -> String {
    let mut path = String::new();
    for (index, (x, y)) in places.iter().enumerate() {
        let command = if index == 0 { first } else { 'L' };
        // Writing to a string does not fail.
        let _ = write!(path, "{command}{x:.1},{y:.1}");
    }
    path
}

impl Scale {
    /// The scale that holds `values`, with a margin of `margin` of their range on both sides, on the
    /// places `from` … `to`. None without a finite value.
    pub fn new(values: impl Iterator<Item = f64>, margin: f64, from: f64, to: f64) -> Option<Self> {
        let (low, high) = values
            .filter(|value| value.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        if low > high {
            return None;
        }
        let range = high - low;
        let margin = if range > 0.0 { range * margin } else { low.abs().max(1.0) * 0.5 };
        Some(Self { low: low - margin, high: high + margin, from, to })
    }

    /// The place of a value.
    pub fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Round values within the scale, about `count` of them, and what to write beside them.
    pub fn ticks(&self, count: usize) -> Vec<(f64, String)> {
        let rough = (self.high - self.low) / count.max(1) as f64;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .into_iter()
            .map(|factor| factor * power)
            .find(|step| *step >= rough * 0.999)
            .unwrap_or(10.0 * power);
        let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        (first..=last.min(first.saturating_add(50)))
            .map(|index| (index as f64 * step, number(index as f64 * step, decimals)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_scale() {
        let scale = Scale::new([-0.3, 4.1].into_iter(), 0.0, 0.0, 100.0).unwrap();
        let labels: Vec<_> = scale.ticks(5).into_iter().map(|tick| tick.1).collect();
        assert_eq!(labels, ["0", "1", "2", "3", "4"]);
        let scale = Scale::new([0.011, 0.019].into_iter(), 0.0, 0.0, 100.0).unwrap();
        let labels: Vec<_> = scale.ticks(4).into_iter().map(|tick| tick.1).collect();
        assert_eq!(labels, ["0.012", "0.014", "0.016", "0.018"]);
    }

    #[test]
    fn a_single_value_has_a_scale_and_no_value_has_none() {
        let scale = Scale::new([2.0].into_iter(), 0.1, 0.0, 100.0).unwrap();
        assert_eq!(scale.at(2.0), 50.0);
        assert!(!scale.ticks(4).is_empty());
        assert!(Scale::new([f64::NAN].into_iter(), 0.1, 0.0, 1.0).is_none());
    }
}
