//! The reward–KL frontier: what every checkpoint earns (up) and what it pays (to the right).

use std::fmt::Write;

use super::axes::Scale;
use super::{BEYOND, INK, Ink, MUTED, OPTIMUM, PAPER, RULE, Style};
use crate::evaluation::{Interval, OptimumPoint};
use crate::report::text::{escape, interval, number, policy_name};
use crate::report::{NamedReport, Report};

/// The size of a picture and of its text, in pixels.
#[derive(Clone, Copy)]
pub struct Frame {
    pub width: f64,
    pub height: f64,
    pub text: f64,
}

impl Frame {
    /// Beside a column of text.
    pub const WIDE: Self = Self { width: 880.0, height: 540.0, text: 14.0 };
    /// On a phone.
    pub const NARROW: Self = Self { width: 380.0, height: 430.0, text: 12.0 };

    const LEFT: f64 = 46.0;
    const TOP: f64 = 34.0;

    fn right(&self) -> f64 {
        self.width - 16.0
    }

    fn bottom(&self) -> f64 {
        self.height - 54.0
    }
}

/// The frontier of a report as a file of its own, for a README or a paper: fixed colours on a white
/// card. None for a report without a result that has a place on it.
pub fn frontier_svg(report: &Report) -> Option<String> {
    let run = NamedReport { name: String::new(), report: report.clone() };
    let picture = frontier(&[run], Frame::WIDE, Ink::File)?;
    Some(format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{picture}\n"))
}

/// A point to draw.
struct Point {
    title: String,
    reward: Interval,
    kl: Interval,
}

/// A policy's way, or a single point.
struct Track {
    label: String,
    style: Style,
    /// Which of several compared runs it belongs to.
    run: usize,
    /// KL and reward of the reference, where its training began.
    origin: Option<(f64, f64)>,
    points: Vec<Point>,
}

/// The best there is, of one run.
struct Best<'a> {
    label: String,
    star: Point,
    curve: Vec<&'a OptimumPoint>,
}

/// The frontiers of all runs in one picture. None where there is nothing to draw.
pub fn frontier(runs: &[NamedReport], frame: Frame, ink: Ink) -> Option<String> {
    let tracks: Vec<Track> = runs
        .iter()
        .enumerate()
        .flat_map(|(index, run)| tracks(run, index, runs.len() > 1))
        .collect();
    let best: Vec<Best> = runs.iter().filter_map(|run| best(run, runs.len() > 1)).collect();
    let unit = runs.first().map(|it| it.report.reward_unit.as_str()).unwrap_or_default();
    let picture = Picture::new(&tracks, &best, unit, frame, ink)?;
    Some(picture.draw(&tracks, &best))
}

fn tracks(run: &NamedReport, index: usize, named: bool) -> Vec<Track> {
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
        label: label(&series.objective),
        style: Style::of(&series.objective),
        run: index,
        origin,
        points: series
            .points
            .iter()
            .filter_map(|it| {
                let name = format!("{}, step {}", label(&series.objective), it.step);
                point(&name, &it.reward, &it.kl, unit)
            })
            .collect(),
    });
    let drawn = |policy: &str| run.report.frontier.iter().any(|it| it.objective == policy);
    let alone = run.report.results.iter().filter(|row| !drawn(&row.policy)).map(|row| Track {
        label: label(&row.policy),
        style: Style::of(&row.policy),
        run: index,
        origin: None,
        points: row
            .kl
            .and_then(|kl| point(&label(&row.policy), &row.reward, &kl, unit))
            .into_iter()
            .collect(),
    });
    along.chain(alone).filter(|track| !track.points.is_empty()).collect()
}

fn best(run: &NamedReport, named: bool) -> Option<Best<'_>> {
    let optimum = run.report.optimum.as_ref()?;
    let at = &optimum.point;
    let suffix = if named { format!(" · {}", run.name) } else { String::new() };
    let label = format!("π* at β = {}{suffix}", short(at.beta));
    let title = format!("{label}, effective sample size {}", number(at.effective_sample_size, 1));
    let star = point(&title, &at.reward, &at.kl, &run.report.reward_unit)?;
    let mut curve: Vec<_> = optimum
        .curve
        .iter()
        .filter(|it| it.kl.mean.is_finite() && it.reward.mean.is_finite())
        .collect();
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

struct Picture<'a> {
    frame: Frame,
    ink: Ink,
    x: Scale,
    y: Scale,
    unit: &'a str,
}

impl<'a> Picture<'a> {
    fn new(tracks: &[Track], best: &[Best], unit: &'a str, frame: Frame, ink: Ink) -> Option<Self> {
        if tracks.is_empty() && best.is_empty() {
            return None;
        }
        let points =
            || tracks.iter().flat_map(|it| &it.points).chain(best.iter().map(|it| &it.star));
        let furthest = points().map(|it| it.kl.high).fold(0.0, f64::max);
        // The curve goes on for long; of interest is where the policies are and a little more.
        let shown = |it: &&&OptimumPoint| it.kl.mean <= furthest * 1.2 || furthest == 0.0;
        let curve = || best.iter().flat_map(|it| it.curve.iter().filter(shown));
        let kls =
            points().flat_map(|it| [it.kl.low, it.kl.high]).chain(curve().map(|it| it.kl.mean));
        let rewards = points()
            .flat_map(|it| [it.reward.low, it.reward.high])
            .chain(curve().map(|it| it.reward.mean));
        let x = Scale::new(kls.chain([0.0]), 0.035, Frame::LEFT, frame.right())?;
        let y = Scale::new(rewards, 0.06, frame.bottom(), Frame::TOP)?;
        Some(Self { frame, ink, x, y, unit })
    }

    fn place(&self, kl: f64, reward: f64) -> (f64, f64) {
        (self.x.at(kl), self.y.at(reward))
    }

    fn draw(&self, tracks: &[Track], best: &[Best]) -> String {
        let Frame { width, height, text } = self.frame;
        let class = if width < 600.0 { "narrow" } else { "wide" };
        let mut svg = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" class="frontier {class}" viewBox="0 0 {width} {height}" role="img" aria-label="{}" font-family="{}" font-size="{text}">"#,
            escape(&description(tracks, best)),
            match self.ink {
                Ink::Page => "inherit",
                Ink::File => "system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif",
            },
        );
        if self.ink == Ink::File {
            let (paper, rule) = (self.ink.of(&PAPER), self.ink.of(&RULE));
            let _ = write!(
                svg,
                r#"<rect x=".5" y=".5" width="{}" height="{}" rx="8" fill="{paper}" stroke="{rule}"/>"#,
                width - 1.0,
                height - 1.0,
            );
        }
        self.draw_axes(&mut svg, best);
        best.iter().for_each(|it| self.draw_curve(&mut svg, it));
        for track in tracks {
            self.draw_line(&mut svg, track);
        }
        for track in tracks {
            self.draw_points(&mut svg, track);
        }
        for it in best {
            self.draw_cross(&mut svg, &it.star, OPTIMUM, 0.8, 1.5);
            self.draw_mark(&mut svg, &it.star, OPTIMUM, 6.5, true);
        }
        self.draw_labels(&mut svg, tracks, best);
        svg.push_str("</svg>");
        svg
    }

    fn draw_axes(&self, svg: &mut String, best: &[Best]) {
        let (muted, rule, ink) = (self.ink.of(&MUTED), self.ink.of(&RULE), self.ink.of(&INK));
        let (right, bottom) = (self.frame.right(), self.frame.bottom());
        let text = self.frame.text;
        // Above the curve no policy can be.
        if let [only] = best {
            self.draw_beyond(svg, only);
        }
        for (value, label) in self.y.ticks(6) {
            let y = self.y.at(value);
            let _ = write!(
                svg,
                r#"<line x1="{}" x2="{right}" y1="{y:.1}" y2="{y:.1}" stroke="{rule}"/><text x="{}" y="{:.1}" text-anchor="end" fill="{muted}">{label}</text>"#,
                Frame::LEFT,
                Frame::LEFT - 8.0,
                y + text * 0.35,
            );
        }
        for (value, label) in self.x.ticks((self.frame.width / 90.0) as usize) {
            let x = self.x.at(value);
            let _ = write!(
                svg,
                r#"<line x1="{x:.1}" x2="{x:.1}" y1="{bottom}" y2="{}" stroke="{muted}"/><text x="{x:.1}" y="{}" text-anchor="middle" fill="{muted}">{label}</text>"#,
                bottom + 5.0,
                bottom + 8.0 + text,
            );
        }
        let unit = match self.unit {
            "" => String::new(),
            unit => format!(" ({})", escape(unit)),
        };
        let _ = write!(
            svg,
            r#"<line x1="{}" x2="{right}" y1="{bottom}" y2="{bottom}" stroke="{muted}"/><text x="10" y="{}" fill="{ink}">↑ Reward{unit}</text><text x="{right}" y="{}" text-anchor="end" fill="{ink}">KL to the reference (nats) →</text>"#,
            Frame::LEFT,
            Frame::TOP - 14.0,
            bottom + 18.0 + 2.0 * text,
        );
    }

    /// The curve's places, no further than the picture.
    fn curve_places(&self, best: &Best) -> Vec<(f64, f64)> {
        let mut places = Vec::new();
        for it in &best.curve {
            let (x, y) = self.place(it.kl.mean, it.reward.mean);
            if x > self.frame.right() || y < Frame::TOP {
                break;
            }
            places.push((x, y));
        }
        places
    }

    fn draw_beyond(&self, svg: &mut String, best: &Best) {
        let places = self.curve_places(best);
        let (Some(first), Some(last)) = (places.first(), places.last()) else { return };
        let top = Frame::TOP;
        let _ = write!(
            svg,
            r#"<path d="M{:.1},{top} {} L{:.1},{top} Z" fill="{}"/>"#,
            first.0,
            path(&places, 'L'),
            last.0,
            self.ink.of(&BEYOND),
        );
    }

    fn draw_curve(&self, svg: &mut String, best: &Best) {
        let places = self.curve_places(best);
        if places.len() > 1 {
            let _ = write!(
                svg,
                r#"<path d="{}" fill="none" stroke="{}" stroke-width="1.5" stroke-dasharray="6 4" stroke-linejoin="round"><title>The best frontier any policy can reach (π* along β)</title></path>"#,
                path(&places, 'M'),
                self.ink.of(&INK),
            );
        }
    }

    fn track_places(&self, track: &Track) -> Vec<(f64, f64)> {
        let points = track.points.iter().map(|it| (it.kl.mean, it.reward.mean));
        track.origin.into_iter().chain(points).map(|(kl, reward)| self.place(kl, reward)).collect()
    }

    fn draw_line(&self, svg: &mut String, track: &Track) {
        let places = self.track_places(track);
        if places.len() > 1 {
            let dashes = ["", r#" stroke-dasharray="2 3""#, r#" stroke-dasharray="9 3 2 3""#];
            let _ = write!(
                svg,
                r#"<path d="{}" fill="none" stroke="{}" stroke-width="2" stroke-linejoin="round" stroke-opacity=".75"{}/>"#,
                path(&places, 'M'),
                self.ink.of(track.style.color),
                dashes[track.run % dashes.len()],
            );
        }
    }

    /// Checkpoints small, the last one large.
    fn draw_points(&self, svg: &mut String, track: &Track) {
        let filled = track.run.is_multiple_of(2);
        let Some((last, before)) = track.points.split_last() else { return };
        for it in before {
            self.draw_cross(svg, it, track.style, 0.28, 1.0);
        }
        for it in before {
            self.draw_mark(svg, it, track.style, 3.0, filled);
        }
        self.draw_cross(svg, last, track.style, 0.9, 1.75);
        self.draw_mark(svg, last, track.style, 6.0, filled);
    }

    fn draw_cross(&self, svg: &mut String, point: &Point, style: Style, opacity: f64, width: f64) {
        let (x, y) = self.place(point.kl.mean, point.reward.mean);
        let (left, low) = self.place(point.kl.low, point.reward.low);
        let (right, high) = self.place(point.kl.high, point.reward.high);
        let _ = write!(
            svg,
            r#"<path d="M{left:.1},{y:.1}H{right:.1}M{x:.1},{low:.1}V{high:.1}" stroke="{}" stroke-width="{width}" stroke-opacity="{opacity}" fill="none"/>"#,
            self.ink.of(style.color),
        );
    }

    fn draw_mark(&self, svg: &mut String, point: &Point, style: Style, size: f64, filled: bool) {
        let (x, y) = self.place(point.kl.mean, point.reward.mean);
        let _ = write!(
            svg,
            r#"<g class="mark"><title>{}</title>{}</g>"#,
            escape(&point.title),
            style.mark(x, y, size, self.ink, filled),
        );
    }

    /// Names every track beside its end, where the fewest other things are.
    fn draw_labels(&self, svg: &mut String, tracks: &[Track], best: &[Best]) {
        let mut taken = self.obstacles(tracks, best);
        let mut label = |text: &str, style: Style, anchors: Vec<(f64, f64)>, weight: u32| {
            let width = text.chars().count() as f64 * self.frame.text * 0.57;
            let Some(spot) = self.free_spot(&anchors, width, &taken) else { return };
            taken.push(spot);
            let _ = write!(
                svg,
                r#"<text x="{:.1}" y="{:.1}" fill="{}" font-weight="{weight}" stroke="{}" stroke-width="3" stroke-linejoin="round" paint-order="stroke">{}</text>"#,
                spot.left,
                spot.top + self.frame.text * 0.82,
                self.ink.of(style.color),
                self.ink.of(&PAPER),
                escape(text),
            );
        };
        for it in best {
            label(&it.label, OPTIMUM, vec![self.place(it.star.kl.mean, it.star.reward.mean)], 600);
        }
        for track in tracks {
            let anchors =
                track.points.iter().rev().map(|it| self.place(it.kl.mean, it.reward.mean)).take(4);
            label(&track.label, track.style, anchors.collect(), 600);
        }
        if let [only] = best {
            let places = self.curve_places(only);
            let anchors = places.into_iter().rev().skip(1).collect();
            let text =
                if self.frame.width < 600.0 { "best possible" } else { "best any policy can do" };
            label(text, Style { color: &MUTED, ..OPTIMUM }, anchors, 400);
        }
    }

    /// What a label should not cover.
    fn obstacles(&self, tracks: &[Track], best: &[Best]) -> Vec<Spot> {
        let mut taken = Vec::new();
        let lines = tracks
            .iter()
            .map(|it| self.track_places(it))
            .chain(best.iter().map(|it| self.curve_places(it)));
        for line in lines {
            for pair in line.windows(2) {
                let [(ax, ay), (bx, by)] = [pair[0], pair[1]];
                let pieces = ((bx - ax).hypot(by - ay) / 6.0).ceil().min(200.0);
                for piece in 0..pieces as usize {
                    let share = piece as f64 / pieces;
                    taken.push(Spot::around(ax + share * (bx - ax), ay + share * (by - ay), 2.0));
                }
            }
        }
        for point in tracks.iter().flat_map(|it| &it.points).chain(best.iter().map(|it| &it.star)) {
            let (x, y) = self.place(point.kl.mean, point.reward.mean);
            let (left, low) = self.place(point.kl.low, point.reward.low);
            let (right, high) = self.place(point.kl.high, point.reward.high);
            taken.push(Spot::around(x, y, 7.0));
            taken.push(Spot { left, right, top: y - 1.0, bottom: y + 1.0 });
            taken.push(Spot { left: x - 1.0, right: x + 1.0, top: high, bottom: low });
        }
        taken
    }

    fn free_spot(&self, anchors: &[(f64, f64)], width: f64, taken: &[Spot]) -> Option<Spot> {
        let height = self.frame.text * 1.1;
        let inside = |spot: &Spot| {
            spot.left >= Frame::LEFT + 2.0
                && spot.right <= self.frame.width - 4.0
                && spot.top >= Frame::TOP - 6.0
                && spot.bottom <= self.frame.bottom() - 2.0
        };
        let mut found: Option<(f64, Spot)> = None;
        for (index, (x, y)) in anchors.iter().enumerate() {
            for distance in [10.0, 16.0, 26.0, 40.0] {
                for (dx, dy) in
                    [(1, 0), (1, 1), (1, -1), (0, -1), (0, 1), (-1, 0), (-1, -1), (-1, 1)]
                {
                    let (dx, dy) = (f64::from(dx), f64::from(dy));
                    let left = x + dx * distance - width * (1.0 - dx) / 2.0;
                    let top = y + dy * distance - height * (1.0 - dy) / 2.0;
                    let spot = Spot { left, right: left + width, top, bottom: top + height };
                    if !inside(&spot) {
                        continue;
                    }
                    let covered: f64 = taken.iter().map(|it| spot.shared_area(it)).sum();
                    let cost = 2.0 * covered + distance * 1.5 + index as f64 * 12.0;
                    if found.is_none_or(|(least, _)| cost < least) {
                        found = Some((cost, spot));
                    }
                }
            }
        }
        found.map(|(_, spot)| spot)
    }
}

/// A rectangle.
#[derive(Clone, Copy)]
struct Spot {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Spot {
    fn around(x: f64, y: f64, radius: f64) -> Self {
        Self { left: x - radius, right: x + radius, top: y - radius, bottom: y + radius }
    }

    fn shared_area(&self, other: &Self) -> f64 {
        let width = self.right.min(other.right) - self.left.max(other.left);
        let height = self.bottom.min(other.bottom) - self.top.max(other.top);
        width.max(0.0) * height.max(0.0)
    }
}

fn path(places: &[(f64, f64)], first: char) -> String {
    let mut path = String::new();
    for (index, (x, y)) in places.iter().enumerate() {
        let command = if index == 0 { first } else { 'L' };
        let _ = write!(path, "{command}{x:.1},{y:.1}");
    }
    path
}

/// The picture in words, for those who cannot see it.
fn description(tracks: &[Track], best: &[Best]) -> String {
    let mut ends: Vec<&str> =
        tracks.iter().filter_map(|it| it.points.last()).map(|it| it.title.as_str()).collect();
    ends.extend(best.iter().map(|it| it.star.title.as_str()));
    format!("Reward against KL to the reference. {}.", ends.join(". "))
}
