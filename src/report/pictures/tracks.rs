//! The data of a frontier picture, gathered from reports.

use crate::evaluation::OptimumPoint;
use crate::report::runs::{Policy, Run};
use crate::report::schema::Series;
use crate::report::text::{interval, number};
use crate::statistics::Interval;

/// A point to draw.
pub struct Point {
    pub title: String,
    pub reward: Interval,
    pub kl: Interval,
}

/// A policy's way, or a single point.
pub struct Track {
    pub policy: Policy,
    pub label: String,
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
    pub fn new(runs: &[Run]) -> Self {
        Self {
            tracks: runs.iter().flat_map(tracks).collect(),
            best: runs.iter().filter_map(best).collect(),
            unit: runs.first().map(|run| run.report.reward_unit.clone()).unwrap_or_default(),
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

fn tracks(run: &Run) -> Vec<Track> {
    let drawn: Vec<Policy> =
        run.report.frontier.iter().map(|series| run.policy(&series.objective)).collect();
    let is_drawn = |policy: &Policy| {
        let same = |it: &Policy| {
            it.name() == policy.name() || (it.is_best_of_n() && policy.is_best_of_n())
        };
        drawn.iter().any(same)
    };
    let along = run.report.frontier.iter().map(|series| along(run, series));
    let alone = run.report.results.iter().filter_map(|row| {
        let policy = run.policy(&row.policy);
        let label = run.named(policy.label());
        let point = point(&label, &row.reward, &row.best_kl()?, &run.report.reward_unit)?;
        (!is_drawn(&policy)).then(|| Track {
            policy: policy.in_run(run.index),
            label,
            run: run.index,
            origin: None,
            points: vec![point],
            repetitions: Vec::new(),
        })
    });
    along.chain(alone).filter(|track| !track.points.is_empty()).collect()
}

/// The way of a series, from the reference on.
fn along(run: &Run, series: &Series) -> Track {
    let policy = run.policy(&series.objective);
    let label = run.named(policy.label());
    let name = |step: usize| match policy.is_best_of_n() {
        true => run.named(&format!("Best-of-{step}")),
        false => format!("{label}, step {step}"),
    };
    let points = series
        .points
        .iter()
        .filter_map(|it| point(&name(it.step), &it.reward, &it.kl, &run.report.reward_unit));
    let points = points.collect();
    Track {
        policy: policy.in_run(run.index),
        label,
        run: run.index,
        origin: origin(run),
        points,
        repetitions: repetitions(series),
    }
}

/// KL and reward of the reference.
fn origin(run: &Run) -> Option<(f64, f64)> {
    let row = run.report.results.iter().find(|row| run.policy(&row.policy).is_reference())?;
    let (kl, reward) = (row.best_kl()?.mean, row.reward.mean);
    (kl + reward).is_finite().then_some((kl, reward))
}

/// The finite ways of the repetitions.
fn repetitions(series: &Series) -> Vec<Vec<(f64, f64)>> {
    let finite = |points: &[(f64, f64)]| points.iter().all(|it| (it.0 + it.1).is_finite());
    let ways = series.repetitions.iter().map(|it| it.points.clone());
    ways.filter(|points| finite(points)).collect()
}

fn best(run: &Run) -> Option<Best> {
    let optimum = run.report.optimum.as_ref()?;
    let at = &optimum.point;
    let label = run.named(&format!("π* at β = {}", short(at.beta)));
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
