//! Who is ahead of whom: differences in reward, one below the other, and whether they can be told from nothing.

use std::fmt::Write;

use super::axes::Scale;
use crate::report::runs::Run;
use crate::report::schema::Comparison;
use crate::report::style::{Color, FONTS, INK, Ink, MUTED, RULE, Style, card};
use crate::report::text::{bounds, escape, signed};
use crate::statistics::Interval;

const WIDTH: f64 = 720.0;
const LEFT: f64 = 24.0;
const RIGHT: f64 = WIDTH - 24.0;
const TOP: f64 = 30.0;
/// Of one comparison: its words, and two intervals below them.
const ROW: f64 = 52.0;
const TEXT: f64 = 13.0;

/// The comparisons of several runs as a file of its own, for a README or a paper; none without a comparison.
pub fn differences_svg(runs: &[Run]) -> Option<String> {
    let picture = draw(runs, Ink::File)?;
    Some(format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{picture}\n"))
}

/// The same within a page.
pub fn differences(runs: &[Run]) -> Option<String> {
    draw(runs, Ink::Page)
}

fn draw(runs: &[Run], ink: Ink) -> Option<String> {
    let rows: Vec<(String, &Comparison)> = runs
        .iter()
        .flat_map(|run| run.report.comparisons.iter().map(|it| (name(run, it), it)))
        .collect();
    let ends = rows.iter().flat_map(|(_, it)| {
        let later = it.at_equal_steps.as_ref().map(|it| it.reward);
        [Some(it.mean_gain), later].into_iter().flatten().flat_map(|it| [it.low, it.high])
    });
    if rows.is_empty() {
        return None;
    }
    let x = Scale::new(ends.chain([0.0]), 0.04, LEFT, RIGHT)?;
    let height = TOP + ROW * rows.len() as f64 + 44.0;
    let words: Vec<String> = rows.iter().map(|(name, it)| in_words(name, it)).collect();
    let (background, fonts) = match ink {
        Ink::File => (card(WIDTH, height), FONTS),
        Ink::Page => (String::new(), "inherit"),
    };
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" class="differences" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{}" font-family="{fonts}" font-size="{TEXT}">{background}"#,
        escape(&words.join(" ")),
    );
    axis(&mut svg, &x, height - 44.0, runs, ink);
    for (index, (name, it)) in rows.iter().enumerate() {
        let top = TOP + ROW * index as f64;
        let _ = write!(
            svg,
            r#"<g><title>{}</title><text x="{LEFT}" y="{:.1}" fill="{}">{}</text>"#,
            escape(&words[index]),
            top + TEXT,
            ink.of(&INK),
            escape(name),
        );
        mark(&mut svg, &x, &it.mean_gain, top + 26.0, true, ink);
        if let Some(later) = &it.at_equal_steps {
            mark(&mut svg, &x, &later.reward, top + 38.0, false, ink);
        }
        svg.push_str("</g>");
    }
    Some(svg + "</svg>")
}

fn name(run: &Run, it: &Comparison) -> String {
    let difference =
        format!("{} − {}", run.policy(&it.ours).label(), run.policy(&it.theirs).label());
    run.prefixed(&difference)
}

fn in_words(name: &str, it: &Comparison) -> String {
    let shown = |it: &Interval| format!("{} {}", signed(it.mean, 3), bounds(it));
    let mut words = format!("{name}: {} at the same KL", shown(&it.mean_gain));
    if let Some(later) = &it.at_equal_steps {
        let _ = write!(
            words,
            ", {} after {} steps each, at a KL that differs by {}",
            shown(&later.reward),
            later.step,
            shown(&later.kl),
        );
    }
    words + "."
}

/// Zero, round values, what is measured, and what the two kinds of marks are.
fn axis(svg: &mut String, x: &Scale, ground: f64, runs: &[Run], ink: Ink) {
    let (muted, rule) = (ink.of(&MUTED), ink.of(&RULE));
    for (value, label) in x.ticks(8) {
        let at = x.at(value);
        let (paint, dashes) = if value == 0.0 { (&muted, "") } else { (&rule, "2 3") };
        let _ = write!(
            svg,
            r#"<line x1="{at:.1}" x2="{at:.1}" y1="{TOP}" y2="{ground:.1}" stroke="{paint}" stroke-dasharray="{dashes}"/><text x="{at:.1}" y="{:.1}" text-anchor="middle" fill="{muted}">{label}</text>"#,
            ground + 16.0,
        );
    }
    let unit = runs.first().map_or("", |run| run.report.reward_unit.as_str());
    let unit = if unit.is_empty() { String::new() } else { format!(" ({unit})") };
    let _ = write!(
        svg,
        r#"<text x="{RIGHT}" y="{:.1}" text-anchor="end" fill="{muted}">difference in reward{}</text><text x="{LEFT}" y="20" fill="{muted}">filled: at the same KL · hollow: after the same number of steps · coloured: 95 % interval without 0</text>"#,
        ground + 34.0,
        escape(&unit),
    );
}

fn mark(svg: &mut String, x: &Scale, it: &Interval, y: f64, is_filled: bool, ink: Ink) {
    if !(it.low + it.mean + it.high).is_finite() {
        return;
    }
    let color: &Color = match (it.low > 0.0, it.high < 0.0) {
        (true, _) => Style::AHEAD,
        (_, true) => Style::BEHIND,
        _ => &MUTED,
    };
    let paint = ink.of(color);
    let (width, fill) = if is_filled { (3, paint.as_str()) } else { (1, "none") };
    let _ = write!(
        svg,
        r#"<line x1="{:.1}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}" stroke="{paint}" stroke-width="{width}"/><circle cx="{:.1}" cy="{y:.1}" r="4" fill="{fill}" stroke="{paint}" stroke-width="1.5"/>"#,
        x.at(it.low),
        x.at(it.high),
        x.at(it.mean),
    );
}
