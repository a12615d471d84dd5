//! Curves along a training.

use std::fmt::Write;

use super::axes::{Scale, path};
use super::panel::{BOTTOM, LEFT, Panel, RIGHT, TOP, start};
use crate::report::runs::{Policy, Run};
use crate::report::schema::TrainingCurve;
use crate::report::style::Ink;
use crate::report::text::{escape, number};

/// A curve is drawn with at most this many points, each a mean.
const POINTS: usize = 120;
/// More curves than this in a panel are not told apart.
const CROWD: usize = 8;

/// One panel for each metric with the curves of all policies, but one each for their losses: the
/// losses of different objectives cannot be compared. Of a large sweep, one panel for each metric
/// and objective.
pub fn training_panels(run: &Run) -> Vec<Panel> {
    let curves = &run.report.curves;
    let of_metric = |metric: &str| curves.iter().filter(|curve| curve.metric == metric).count();
    let mut groups: Vec<(String, Vec<&TrainingCurve>)> = Vec::new();
    for curve in curves {
        let policy = run.policy(&curve.name);
        let objective = policy.objective().map_or(curve.name.as_str(), |it| it.name.as_str());
        let whose = match (of_metric(&curve.metric) > CROWD, curve.metric.as_str()) {
            (true, _) => objective,
            (false, "loss") => &curve.name,
            (false, _) => "",
        };
        let key = format!("{whose} {}", curve.metric);
        match groups.iter_mut().find(|group| group.0 == key) {
            Some(group) => group.1.push(curve),
            None => groups.push((key, vec![curve])),
        }
    }
    let (alone, shared): (Vec<_>, Vec<_>) =
        groups.into_iter().map(|group| group.1).partition(|curves| curves.len() == 1);
    let all = alone.into_iter().chain(shared);
    all.filter_map(|curves| training_panel(&curves, run)).collect()
}

fn training_panel(curves: &[&TrainingCurve], run: &Run) -> Option<Panel> {
    let lines: Vec<(Policy, Vec<(f64, f64)>)> =
        curves.iter().map(|curve| (run.policy(&curve.name), thinned(curve))).collect();
    let places = || lines.iter().flat_map(|(_, line)| line);
    let x = Scale::new(places().map(|place| place.0), 0.01, LEFT, RIGHT)?;
    let y = Scale::new(places().map(|place| place.1), 0.08, BOTTOM, TOP)?;
    let policies: Vec<Policy> = lines.iter().map(|(policy, _)| policy.clone()).collect();
    let (title, policies) = names(&curves[0].metric.replace('_', " "), policies);
    let ends: Vec<String> = lines
        .iter()
        .filter_map(|(policy, line)| Some((policy.label(), line.first()?, line.last()?)))
        .map(|(name, a, b)| format!("{name} from {} to {}", number(a.1, 3), number(b.1, 3)))
        .collect();
    let description = format!("{title} along optimizer steps: {}", ends.join(", "));
    let mut svg = start(&description, &x, &y, "step");
    for (policy, points) in &lines {
        let line: Vec<_> = points.iter().map(|(step, value)| (x.at(*step), y.at(*value))).collect();
        let style = policy.style;
        let _ = write!(
            svg,
            r#"<g class="mark"><title>{}</title><path d="{}" fill="none" stroke="{}" stroke-width="1.75" stroke-dasharray="{}" stroke-linejoin="round"/></g>"#,
            escape(policy.label()),
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

/// A panel's title and what its legend calls the policies: what they have in common is not repeated.
fn names(metric: &str, policies: Vec<Policy>) -> (String, Vec<(Policy, String)>) {
    let first = policies[0].objective().cloned();
    let common = first.filter(|first| {
        let same = |policy: &Policy| policy.objective().is_some_and(|it| it.name == first.name);
        policies.iter().all(same)
    });
    let title = match (policies.as_slice(), &common) {
        ([only], _) => format!("{}: {metric}", only.label()),
        (_, Some(common)) => format!("{}: {metric}", common.label),
        _ => metric.to_owned(),
    };
    let label = |policy: &Policy| match common {
        Some(_) if !policy.varied.is_nothing() => policy.varied.to_string(),
        _ => policy.label().to_owned(),
    };
    let labels: Vec<String> = policies.iter().map(label).collect();
    (title, policies.into_iter().zip(labels).collect())
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
                run.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
            (steps / run.len() as f64, values / run.len() as f64)
        })
        .collect()
}
