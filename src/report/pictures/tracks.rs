//! The data of a frontier picture, gathered from reports.

use super::{Style, Styles};
use crate::evaluation::OptimumPoint;
use crate::report::text::{interval, number, policy_name};
use crate::report::{NamedReport, Series};
use crate::statistics::Interval;

/// A point to draw.
pub struct Point {
    pub title: String,
    pub reward: Interval,
    pub kl: Interval,
}

/// A policy's way, or a single point.
pub struct Track {
    pub policy: String,
    pub label: String,
    pub style: Style,
    /// Which of several compared runs it belongs to.
    pub run: usize,
    /// KL and reward of the reference, where its training began.
    pub origin: Option<(f64, f64)>,
    pub points: Vec<Point>,
    /// KL and reward of every repetition's points.
    pub repetitions: Vec<Vec<(f64, f64)>>,
}

impl Track {
    /// Whether its marks are filled; those of every other run are hollow.
    pub fn is_filled(&self) -> bool {
        self.run.is_multiple_of(2)
    }
}

/// The best there is, of one run.
pub struct Best {
    pub label: String,
    pub star: Point,
    pub curve: Vec<OptimumPoint>,
}

/// All that has a place on a frontier.
pub struct Scene {
    pub tracks: Vec<Track>,
    pub best: Vec<Best>,
    pub unit: String,
}

/// More ways than this are told apart by a legend, not by labels on the picture.
const LABELLED: usize = 8;
/// More than this are drawn thin, their checkpoints and intervals only where the reader points.
const CROWD: usize = 16;

impl Scene {
    pub fn new(runs: &[NamedReport], styles: &Styles) -> Self {
        let named = runs.len() > 1;
        let tracks =
            runs.iter().enumerate().flat_map(|(index, run)| tracks(run, index, named, styles));
        Self {
            tracks: tracks.collect(),
            best: runs.iter().filter_map(|run| best(run, named)).collect(),
            unit: runs.first().map(|it| it.report.reward_unit.clone()).unwrap_or_default(),
        }
    }

    /// Whether there are few enough ways for labels beside them.
    pub fn is_labelled(&self) -> bool {
        self.tracks.len() <= LABELLED
    }

    /// Whether there are too many ways to show all of each.
    pub fn is_crowded(&self) -> bool {
        self.tracks.len() > CROWD
    }

    /// The picture in words, for those who cannot see it.
    pub fn description(&self, shown: impl Fn(&Track) -> bool) -> String {
        let shown = self.tracks.iter().filter(|it| shown(it));
        let mut ends: Vec<&str> =
            shown.filter_map(|it| it.points.last()).map(|it| it.title.as_str()).collect();
        ends.extend(self.best.iter().map(|it| it.star.title.as_str()));
        format!("Reward against KL to the reference. {}.", ends.join(". "))
    }
}

fn tracks(run: &NamedReport, index: usize, named: bool, styles: &Styles) -> Vec<Track> {
    let unit = &run.report.reward_unit;
    let label = |policy: &str| match named {
        true => format!("{} · {}", policy_name(policy), run.name),
        false => policy_name(policy),
    };
    let origin = run.report.results.iter().find(|row| row.policy == "sft");
    let origin = origin
        .and_then(|row| Some((row.kl?.mean, row.reward.mean)))
        .filter(|(kl, reward)| (kl + reward).is_finite());
    let along = run.report.frontier.iter().map(|series| Track {
        policy: series.objective.clone(),
        label: label(&series.objective),
        style: styles.of(&series.objective).of_run(index),
        run: index,
        origin,
        points: series
            .points
            .iter()
            .filter_map(|it| {
                let name = label(&series.objective);
                let name = match is_best_of(&series.objective) {
                    true => name.replace("-of-N", &format!("-of-{}", it.step)),
                    false => format!("{name}, step {}", it.step),
                };
                point(&name, &it.reward, &it.kl, unit)
            })
            .collect(),
        repetitions: repetitions(series),
    });
    let drawn = |policy: &str| {
        let same = |it: &Series| {
            it.objective == policy || (is_best_of(&it.objective) && is_best_of(policy))
        };
        run.report.frontier.iter().any(same)
    };
    let alone = run.report.results.iter().filter(|row| !drawn(&row.policy)).map(|row| Track {
        policy: row.policy.clone(),
        label: label(&row.policy),
        style: styles.of(&row.policy).of_run(index),
        run: index,
        origin: None,
        points: row
            .kl
            .and_then(|kl| point(&label(&row.policy), &row.reward, &kl, unit))
            .into_iter()
            .collect(),
        repetitions: Vec::new(),
    });
    along.chain(alone).filter(|track| !track.points.is_empty()).collect()
}

fn is_best_of(policy: &str) -> bool {
    policy.starts_with("best-of-")
}

/// The finite ways of the repetitions.
fn repetitions(series: &Series) -> Vec<Vec<(f64, f64)>> {
    let finite = |points: &[(f64, f64)]| points.iter().all(|it| (it.0 + it.1).is_finite());
    let ways = series.repetitions.iter().map(|it| it.points.clone());
    ways.filter(|points| finite(points)).collect()
}

fn best(run: &NamedReport, named: bool) -> Option<Best> {
    let optimum = run.report.optimum.as_ref()?;
    let at = &optimum.point;
    let suffix = if named { format!(" · {}", run.name) } else { String::new() };
    let label = format!("π* at β = {}{suffix}", short(at.beta));
    let title = format!("{label}, effective sample size {}", number(at.effective_sample_size, 1));
    let star = point(&title, &at.reward, &at.kl, &run.report.reward_unit)?;
    let finite = |it: &&OptimumPoint| (it.kl.mean + it.reward.mean).is_finite();
    let mut curve: Vec<_> = optimum.curve.iter().filter(finite).cloned().collect();
    curve.sort_by(|a, b| a.kl.mean.total_cmp(&b.kl.mean));
    Some(Best { label, star, curve })
}

fn point(name: &str, reward: &Interval, kl: &Interval, unit: &str) -> Option<Point> {
    let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
    let title = format!("{name}: reward {}{unit}, KL {} nats", interval(reward), interval(kl));
    let finite = [reward, kl].iter().all(|it| (it.mean + it.low + it.high).is_finite());
    finite.then_some(Point { title, reward: *reward, kl: *kl })
}

/// A number without the zeros at its end.
fn short(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
