//! Small pictures: training curves, histograms of rewards, an interval in a table's row.

use std::fmt::Write;

use super::axes::Scale;
use super::{INK, Ink, MUTED, RULE, Style, Styles, path};
use crate::report::schema::{Distribution, Report, TrainingCurve, WinRateRow};
use crate::report::text::{escape, number, policy_name, variant};
use crate::statistics::Interval;

const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 170.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 292.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 144.0;
/// A curve is drawn with at most this many points, each a mean.
const POINTS: usize = 120;

/// A small picture and what it is called.
pub struct Panel {
    pub title: String,
    pub svg: String,
    /// The policies in it and what the legend calls them.
    pub policies: Vec<(String, String)>,
}

/// More curves than this in a panel are not told apart.
const CROWD: usize = 8;

/// One panel for each metric with the curves of all policies, but one each for their losses: the
/// losses of different objectives cannot be compared. Of a large sweep, one panel for each metric
/// and objective.
pub fn training_panels(report: &Report, styles: &Styles) -> Vec<Panel> {
    let of_metric = |metric: &str| report.curves.iter().filter(|it| it.metric == metric).count();
    let mut groups: Vec<(String, Vec<&TrainingCurve>)> = Vec::new();
    for curve in &report.curves {
        let objective = variant(&curve.name).map_or(curve.name.as_str(), |it| it.base);
        let whose = match (of_metric(&curve.metric) > CROWD, curve.metric.as_str()) {
            (true, _) => objective,
            (false, "loss") => &curve.name,
            (false, _) => "",
        };
        let key = format!("{whose} {}", curve.metric);
        match groups.iter_mut().find(|it| it.0 == key) {
            Some(group) => group.1.push(curve),
            None => groups.push((key, vec![curve])),
        }
    }
    let (alone, shared): (Vec<_>, Vec<_>) =
        groups.into_iter().map(|it| it.1).partition(|group| group.len() == 1);
    let all = alone.into_iter().chain(shared);
    all.filter_map(|group| training_panel(&group, styles)).collect()
}

fn training_panel(curves: &[&TrainingCurve], styles: &Styles) -> Option<Panel> {
    let lines: Vec<(&TrainingCurve, Vec<(f64, f64)>)> =
        curves.iter().map(|curve| (*curve, thinned(curve))).collect();
    let places = || lines.iter().flat_map(|(_, line)| line);
    let x = Scale::new(places().map(|it| it.0), 0.01, LEFT, RIGHT)?;
    let y = Scale::new(places().map(|it| it.1), 0.08, BOTTOM, TOP)?;
    let (title, policies) = names(curves);
    let ends: Vec<String> = lines
        .iter()
        .filter_map(|(curve, line)| Some((policy_name(&curve.name), line.first()?, line.last()?)))
        .map(|(name, a, b)| format!("{name} from {} to {}", number(a.1, 3), number(b.1, 3)))
        .collect();
    let mut svg = start(&format!("{title} along optimizer steps: {}", ends.join(", ")));
    draw_y(&mut svg, &y);
    draw_x(&mut svg, &x, "step");
    for (curve, points) in &lines {
        let line: Vec<_> = points.iter().map(|(step, value)| (x.at(*step), y.at(*value))).collect();
        let style = styles.of(&curve.name);
        let _ = write!(
            svg,
            r#"<g class="mark"><title>{}</title><path d="{}" fill="none" stroke="{}" stroke-width="1.75" stroke-dasharray="{}" stroke-linejoin="round"/></g>"#,
            escape(&policy_name(&curve.name)),
            path(&line, 'M'),
            Ink::Page.of(style.color),
            style.dashes,
        );
        if let (true, Some((x, y))) = (lines.len() > 1, line.last()) {
            svg += &style.mark(*x, *y, 3.0, Ink::Page, true);
        }
    }
    svg.push_str("</svg>");
    Some(Panel { title, svg, policies })
}

/// A panel's title and what its legend calls the curves: what they have in common is not repeated.
fn names(curves: &[&TrainingCurve]) -> (String, Vec<(String, String)>) {
    let metric = curves[0].metric.replace('_', " ");
    let found: Vec<_> = curves.iter().map(|it| variant(&it.name)).collect();
    let common = found[0].as_ref().filter(|first| {
        found.iter().flatten().filter(|it| it.base == first.base).count() == curves.len()
    });
    let title = match (curves, common) {
        ([only], _) => format!("{}: {metric}", policy_name(&only.name)),
        (_, Some(common)) => format!("{}: {metric}", common.name),
        _ => metric,
    };
    let label = |curve: &&TrainingCurve| match (common, variant(&curve.name)) {
        (Some(_), Some(it)) if !it.parts.is_empty() => it.varied(),
        _ => policy_name(&curve.name),
    };
    (title, curves.iter().map(|it| (it.name.clone(), label(it))).collect())
}

/// The curve's finite points, averaged in runs so that there are few.
fn thinned(curve: &TrainingCurve) -> Vec<(f64, f64)> {
    let points: Vec<(f64, f64)> = curve
        .steps
        .iter()
        .copied()
        .zip(curve.values.iter().copied())
        .filter(|(step, value)| step.is_finite() && value.is_finite())
        .collect();
    let run = points.len().div_ceil(POINTS).max(1);
    points
        .chunks(run)
        .map(|run| {
            let (steps, values) =
                run.iter().fold((0.0, 0.0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
            (steps / run.len() as f64, values / run.len() as f64)
        })
        .collect()
}

/// One panel for each policy, all with the same axes.
pub fn histogram_panels(distributions: &[Distribution], styles: &Styles) -> Vec<Panel> {
    let all = distributions.iter().flat_map(|it| it.rewards.iter().copied());
    let Some(x) = Scale::new(all, 0.0, LEFT, RIGHT) else { return Vec::new() };
    const BINS: usize = 30;
    let bins = |rewards: &[f64]| {
        let mut shares = [0.0; BINS];
        let finite = rewards.iter().filter(|it| it.is_finite());
        for reward in finite.clone() {
            let bin = (reward - x.low) / (x.high - x.low) * BINS as f64;
            shares[(bin as usize).min(BINS - 1)] += 100.0 / finite.clone().count() as f64;
        }
        shares
    };
    let shares: Vec<_> = distributions.iter().map(|it| bins(&it.rewards)).collect();
    let heights = shares.iter().flatten().copied().chain([0.0]);
    let Some(y) = Scale::new(heights, 0.0, BOTTOM, TOP) else { return Vec::new() };
    let width = (RIGHT - LEFT) / BINS as f64;
    let panel = |it: &Distribution, shares: &[f64]| {
        let rewards: Vec<f64> = it.rewards.iter().copied().filter(|it| it.is_finite()).collect();
        let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
        let title = format!("{}: mean {}", policy_name(&it.policy), number(mean, 3));
        let mut svg = start(&format!("Histogram of {} rewards of {title}", rewards.len()));
        draw_y(&mut svg, &y);
        draw_x(&mut svg, &x, "");
        let paint = Ink::Page.of(styles.of(&it.policy).color);
        for (bin, share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
            let (left, top) = (LEFT + bin as f64 * width, y.at(*share));
            let _ = write!(
                svg,
                r#"<rect x="{:.1}" y="{top:.1}" width="{:.1}" height="{:.1}" fill="{paint}" fill-opacity=".8"/>"#,
                left + 0.5,
                width - 1.0,
                BOTTOM - top,
            );
        }
        let ink = Ink::Page.of(&INK);
        let at = x.at(mean);
        let _ = write!(
            svg,
            r#"<line x1="{at:.1}" x2="{at:.1}" y1="{TOP}" y2="{BOTTOM}" stroke="{ink}" stroke-width="1.5" stroke-dasharray="3 3"/></svg>"#
        );
        Panel { title, svg, policies: vec![(it.policy.clone(), policy_name(&it.policy))] }
    };
    distributions
        .iter()
        .zip(&shares)
        .filter(|(it, _)| it.rewards.iter().any(|reward| reward.is_finite()))
        .map(|(it, shares)| panel(it, shares))
        .collect()
}

/// A policy's interval on the scale of all, for a cell of the table.
pub fn interval_bar(interval: &Interval, all: &[Interval], style: Style) -> Option<String> {
    let ends = all.iter().flat_map(|it| [it.low, it.high]);
    let x = Scale::new(ends, 0.02, 6.0, 154.0)?;
    (interval.low + interval.mean + interval.high).is_finite().then(|| {
        format!(
            r#"<svg class="bar" viewBox="0 0 160 16" aria-hidden="true"><line x1="0" x2="160" y1="8" y2="8" stroke="{}"/><line x1="{:.1}" x2="{:.1}" y1="8" y2="8" stroke="{}" stroke-width="3"/>{}</svg>"#,
            Ink::Page.of(&RULE),
            x.at(interval.low),
            x.at(interval.high),
            Ink::Page.of(style.color),
            style.mark(x.at(interval.mean), 8.0, 3.0, Ink::Page, true),
        )
    })
}

/// Wins, ties and losses as shares of a bar, the win rate's interval over it.
pub fn win_bar(row: &WinRateRow, style: Style) -> String {
    let all = (row.wins + row.ties + row.losses).max(1) as f64;
    let width = |count: usize| 160.0 * count as f64 / all;
    let (wins, ties) = (width(row.wins), width(row.ties));
    let paint = Ink::Page.of(style.color);
    let (muted, rule, ink) = (Ink::Page.of(&MUTED), Ink::Page.of(&RULE), Ink::Page.of(&INK));
    let x = |share: f64| 160.0 * share.clamp(0.0, 1.0);
    format!(
        r#"<svg class="bar" viewBox="0 0 160 16" role="img" aria-label="{} won, {} tied, {} lost"><rect y="3" width="{wins:.1}" height="10" fill="{paint}"/><rect x="{wins:.1}" y="3" width="{ties:.1}" height="10" fill="{muted}" fill-opacity=".45"/><rect x="{:.1}" y="3" width="{:.1}" height="10" fill="{rule}"/><line x1="80" x2="80" y1="0" y2="16" stroke="{ink}" stroke-dasharray="2 2"/><line x1="{:.1}" x2="{:.1}" y1="8" y2="8" stroke="{ink}" stroke-width="2"/></svg>"#,
        row.wins,
        row.ties,
        row.losses,
        wins + ties,
        width(row.losses),
        x(row.rate.low),
        x(row.rate.high),
    )
}

fn start(label: &str) -> String {
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" class="panel" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}" font-family="inherit" font-size="11">"#,
        escape(label)
    )
}

fn draw_y(svg: &mut String, y: &Scale) {
    let (muted, rule) = (Ink::Page.of(&MUTED), Ink::Page.of(&RULE));
    for (value, label) in y.ticks(4) {
        let at = y.at(value);
        let _ = write!(
            svg,
            r#"<line x1="{LEFT}" x2="{RIGHT}" y1="{at:.1}" y2="{at:.1}" stroke="{rule}"/><text x="{}" y="{:.1}" text-anchor="end" fill="{muted}">{label}</text>"#,
            LEFT - 6.0,
            at + 4.0,
        );
    }
}

fn draw_x(svg: &mut String, x: &Scale, name: &str) {
    let muted = Ink::Page.of(&MUTED);
    for (value, label) in x.ticks(4) {
        let at = x.at(value);
        // The axis' name takes the right end.
        if name.is_empty() || at < RIGHT - 8.0 - 6.0 * name.chars().count() as f64 {
            let _ = write!(
                svg,
                r#"<text x="{at:.1}" y="{}" text-anchor="middle" fill="{muted}">{label}</text>"#,
                BOTTOM + 17.0,
            );
        }
    }
    let _ = write!(
        svg,
        r#"<line x1="{LEFT}" x2="{RIGHT}" y1="{BOTTOM}" y2="{BOTTOM}" stroke="{muted}"/><text x="{RIGHT}" y="{}" text-anchor="end" fill="{muted}">{}</text>"#,
        BOTTOM + 17.0,
        escape(name),
    );
}
