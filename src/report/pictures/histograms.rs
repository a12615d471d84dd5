//! How the rewards of a policy are distributed.

use std::fmt::Write;

use super::axes::Scale;
use super::panel::{BOTTOM, LEFT, Panel, RIGHT, TOP, start};
use crate::report::runs::Run;
use crate::report::schema::Distribution;
use crate::report::style::{INK, Ink};
use crate::report::text::number;

const BINS: usize = 30;

/// One panel for each policy, all with the same axes.
pub fn histogram_panels(run: &Run) -> Vec<Panel> {
    let distributions = &run.report.distributions;
    let all = distributions.iter().flat_map(|it| it.rewards.iter().copied());
    let Some(x) = Scale::new(all, 0.0, LEFT, RIGHT) else { return Vec::new() };
    let shares: Vec<_> = distributions.iter().map(|it| shares(&it.rewards, &x)).collect();
    let heights = shares.iter().flatten().copied().chain([0.0]);
    let Some(y) = Scale::new(heights, 0.0, BOTTOM, TOP) else { return Vec::new() };
    distributions
        .iter()
        .zip(&shares)
        .filter(|(it, _)| it.rewards.iter().any(|reward| reward.is_finite()))
        .map(|(it, shares)| panel(run, it, shares, (&x, &y)))
        .collect()
}

/// The share of the rewards in each bin of the x axis, in percent.
fn shares(rewards: &[f64], x: &Scale) -> [f64; BINS] {
    let mut shares = [0.0; BINS];
    let finite = rewards.iter().filter(|reward| reward.is_finite());
    for reward in finite.clone() {
        let bin = (reward - x.low) / (x.high - x.low) * BINS as f64;
        shares[(bin as usize).min(BINS - 1)] += 100.0 / finite.clone().count() as f64;
    }
    shares
}

fn panel(run: &Run, it: &Distribution, shares: &[f64], (x, y): (&Scale, &Scale)) -> Panel {
    let policy = run.policy(&it.policy);
    let rewards: Vec<f64> =
        it.rewards.iter().copied().filter(|reward| reward.is_finite()).collect();
    let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
    let title = format!("{}: mean {}", policy.label(), number(mean, 3));
    let mut svg = start(&format!("Histogram of {} rewards of {title}", rewards.len()), x, y, "");
    let paint = Ink::Page.of(policy.style.color);
    let width = (RIGHT - LEFT) / BINS as f64;
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
    let label = policy.label().to_owned();
    Panel { title, svg, policies: vec![(policy, label)] }
}
