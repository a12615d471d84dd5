//! The reward–KL frontier: the reward of every checkpoint (upwards) over its KL (to the right).

use std::fmt::Write;

use super::axes::{Axes, AxisName, Scale, path};
use super::frame::Frame;
use super::labels::{self, Spot};
use super::tracks::{Best, Point, Scene, Track};
use crate::evaluation::OptimumPoint;
use crate::report::runs::Run;
use crate::report::schema::{NamedReport, Report};
use crate::report::style::{BEYOND, Color, FONTS, INK, Ink, MUTED, PAPER, Style, card};
use crate::report::text::escape;

/// The frontier of a report as a file of its own, for a README or a paper: fixed colours on a white
/// card. None for a report without a result that has a place on it.
pub fn frontier_svg(report: &Report) -> Option<String> {
    let reports = [NamedReport { name: String::new(), report: report.clone() }];
    let scene = Scene::new(&Run::all(&reports));
    let picture = Picture::new(&scene, Frame::WIDE, Ink::File)?.draw(|_| true);
    Some(format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{picture}\n"))
}

/// A frontier of a size, on axes that hold the whole scene.
pub struct Picture<'a> {
    scene: &'a Scene,
    frame: Frame,
    ink: Ink,
    x: Scale,
    y: Scale,
}

impl<'a> Picture<'a> {
    /// None where there is nothing to draw.
    pub fn new(scene: &'a Scene, frame: Frame, ink: Ink) -> Option<Self> {
        let Scene { tracks, best, .. } = scene;
        if tracks.is_empty() && best.is_empty() {
            return None;
        }
        let points =
            || tracks.iter().flat_map(|it| &it.points).chain(best.iter().map(|it| &it.star));
        let furthest = points().map(|it| it.kl.high).fold(0.0, f64::max);
        // The curve goes on for long; of interest is where the policies are and a little more.
        let shown = |it: &&OptimumPoint| it.kl.mean <= furthest * 1.2 || furthest == 0.0;
        let curve = || best.iter().flat_map(|it| it.curve.iter().filter(shown));
        let kls =
            points().flat_map(|it| [it.kl.low, it.kl.high]).chain(curve().map(|it| it.kl.mean));
        let rewards = points()
            .flat_map(|it| [it.reward.low, it.reward.high])
            .chain(curve().map(|it| it.reward.mean));
        let x = Scale::new(kls.chain([0.0]), 0.035, Frame::LEFT, frame.right())?;
        let y = Scale::new(rewards, 0.06, frame.bottom(), Frame::TOP)?;
        Some(Self { scene, frame, ink, x, y })
    }

    fn place(&self, kl: f64, reward: f64) -> (f64, f64) {
        (self.x.at(kl), self.y.at(reward))
    }

    /// The tracks that are `shown`, with what no policy can cross.
    pub fn draw(&self, shown: impl Fn(&Track) -> bool) -> String {
        let Frame { width, height, text, class } = self.frame;
        let crowded = if self.scene.is_crowded() { " crowded" } else { "" };
        let mut svg = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" class="{class}{crowded}" viewBox="0 0 {width} {height}" role="img" aria-label="{}" font-family="{}" font-size="{text}">"#,
            escape(&self.scene.description(&shown)),
            match self.ink {
                Ink::Page => "inherit",
                Ink::File => FONTS,
            },
        );
        if self.ink == Ink::File {
            svg += &card(width, height);
        }
        let best = &self.scene.best;
        let tracks: Vec<(usize, &Track)> =
            self.scene.tracks.iter().enumerate().filter(|it| shown(it.1)).collect();
        // Above the curve no policy can be.
        if let [only] = best.as_slice() {
            self.draw_beyond(&mut svg, only);
        }
        self.draw_axes(&mut svg);
        best.iter().for_each(|it| self.draw_curve(&mut svg, it));
        for (number, track) in &tracks {
            self.group(&mut svg, *number, |svg| self.draw_lines(svg, track));
        }
        for (number, track) in &tracks {
            self.group(&mut svg, *number, |svg| self.draw_points(svg, track));
        }
        for it in best {
            self.draw_cross(&mut svg, &it.star, Style::OPTIMUM, 0.8, 1.5);
            self.draw_mark(&mut svg, &it.star, Style::OPTIMUM, 6.5 * self.mark_size(), true);
        }
        self.draw_labels(&mut svg, &tracks, best);
        svg.push_str("</svg>");
        svg
    }

    /// What the legend shows and hides together.
    fn group(&self, svg: &mut String, number: usize, draw: impl FnOnce(&mut String)) {
        match self.ink {
            Ink::Page => {
                let _ = write!(svg, r#"<g class="track" data-track="{number}">"#);
                draw(svg);
                svg.push_str("</g>");
            }
            Ink::File => draw(svg),
        }
    }

    fn draw_axes(&self, svg: &mut String) {
        let Frame { width, text, .. } = self.frame;
        let bottom = self.frame.bottom();
        let reward = match self.scene.unit.as_str() {
            "" => "↑ Reward".to_owned(),
            unit => format!("↑ Reward ({unit})"),
        };
        let axes = Axes {
            x: &self.x,
            y: &self.y,
            x_ticks: self.x.ticks((width / (6.2 * text)) as usize),
            y_ticks: self.y.ticks(if self.frame.is_small() { 4 } else { 6 }),
            ground: bottom,
            below: 8.0 + text,
            beside: 8.0,
            marks: 5.0,
            x_name: AxisName {
                name: "KL to the reference (nats) →",
                place: (self.frame.right(), bottom + 18.0 + 2.0 * text),
                color: &INK,
            },
            y_name: AxisName { name: &reward, place: (10.0, Frame::TOP - 14.0), color: &INK },
            text,
            ink: self.ink,
        };
        axes.draw(svg);
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

    fn places(&self, points: &[(f64, f64)]) -> Vec<(f64, f64)> {
        points.iter().map(|(kl, reward)| self.place(*kl, *reward)).collect()
    }

    fn track_places(&self, track: &Track) -> Vec<(f64, f64)> {
        let points = track.points.iter().map(|it| (it.kl.mean, it.reward.mean));
        self.places(&track.origin.into_iter().chain(points).collect::<Vec<_>>())
    }

    /// The repetitions thin, their mean strong.
    fn draw_lines(&self, svg: &mut String, track: &Track) {
        let paint = self.ink.of(track.policy.style.color);
        if !self.scene.is_crowded() {
            for repetition in &track.repetitions {
                let origin = track.origin.into_iter();
                let places =
                    self.places(&origin.chain(repetition.iter().copied()).collect::<Vec<_>>());
                let _ = write!(
                    svg,
                    r#"<path d="{}" fill="none" stroke="{paint}" stroke-linejoin="round" stroke-opacity=".3"/>"#,
                    path(&places, 'M'),
                );
            }
        }
        let places = self.track_places(track);
        if places.len() > 1 {
            let dashes = match track.policy.style.dashes {
                "" => String::new(),
                dashes => format!(r#" stroke-dasharray="{dashes}""#),
            };
            let _ = write!(
                svg,
                r#"<path d="{}" fill="none" stroke="{paint}" stroke-width="{}" stroke-linejoin="round" stroke-opacity=".75"{dashes}/>"#,
                path(&places, 'M'),
                if self.scene.is_crowded() { 1.25 } else { 2.0 },
            );
        }
    }

    fn mark_size(&self) -> f64 {
        if self.frame.is_small() || self.scene.is_crowded() { 0.7 } else { 1.0 }
    }

    /// Checkpoints small, the last one large.
    fn draw_points(&self, svg: &mut String, track: &Track) {
        let filled = track.is_filled();
        let Some((last, before)) = track.points.split_last() else { return };
        let size = self.mark_size();
        svg.push_str(r#"<g class="steps">"#);
        for it in before {
            self.draw_cross(svg, it, track.policy.style, 0.28, 1.0);
        }
        for it in before {
            self.draw_mark(svg, it, track.policy.style, 3.0 * size, filled);
        }
        svg.push_str("</g>");
        self.draw_cross(svg, last, track.policy.style, 0.9, 1.75 * size);
        self.draw_mark(svg, last, track.policy.style, 6.0 * size, filled);
    }

    fn draw_cross(&self, svg: &mut String, point: &Point, style: Style, opacity: f64, width: f64) {
        let (x, y) = self.place(point.kl.mean, point.reward.mean);
        let (left, low) = self.place(point.kl.low, point.reward.low);
        let (right, high) = self.place(point.kl.high, point.reward.high);
        let _ = write!(
            svg,
            r#"<path class="cross" d="M{left:.1},{y:.1}H{right:.1}M{x:.1},{low:.1}V{high:.1}" stroke="{}" stroke-width="{width}" stroke-opacity="{opacity}" fill="none"/>"#,
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

    /// Names every track beside its end, where the fewest other things are; in a crowd only what
    /// stands alone, the legend naming the rest.
    fn draw_labels(&self, svg: &mut String, tracks: &[(usize, &Track)], best: &[Best]) {
        if self.frame.is_small() {
            return;
        }
        let mut taken = self.obstacles(tracks, best);
        for it in best {
            let anchor = self.place(it.star.kl.mean, it.star.reward.mean);
            self.draw_label(svg, &it.label, Style::OPTIMUM.color, &[anchor], 600, &mut taken);
        }
        let labelled = self.scene.is_labelled();
        for (number, track) in tracks.iter().filter(|it| labelled || it.1.points.len() == 1) {
            let ends = track.points.iter().rev().map(|it| self.place(it.kl.mean, it.reward.mean));
            let anchors: Vec<_> = ends.take(4).collect();
            self.group(svg, *number, |svg| {
                self.draw_label(
                    svg,
                    &track.label,
                    track.policy.style.color,
                    &anchors,
                    600,
                    &mut taken,
                );
            });
        }
        if let [only] = best {
            let anchors: Vec<_> = self.curve_places(only).into_iter().rev().skip(1).collect();
            let text =
                if self.frame.width < 600.0 { "best possible" } else { "best any policy can do" };
            self.draw_label(svg, text, &MUTED, &anchors, 400, &mut taken);
        }
    }

    fn draw_label(
        &self,
        svg: &mut String,
        text: &str,
        color: &Color,
        anchors: &[(f64, f64)],
        weight: u32,
        taken: &mut Vec<Spot>,
    ) {
        let area = Spot {
            left: Frame::LEFT + 2.0,
            right: self.frame.width - 4.0,
            top: Frame::TOP - 6.0,
            bottom: self.frame.bottom() - 2.0,
        };
        let size = [text.chars().count() as f64 * self.frame.text * 0.57, self.frame.text * 1.1];
        let Some(spot) = labels::free_spot(anchors, size, &area, taken) else { return };
        taken.push(spot);
        let _ = write!(
            svg,
            r#"<text x="{:.1}" y="{:.1}" fill="{}" font-weight="{weight}" stroke="{}" stroke-width="3" stroke-linejoin="round" paint-order="stroke">{}</text>"#,
            spot.left,
            spot.top + self.frame.text * 0.82,
            self.ink.of(color),
            self.ink.of(&PAPER),
            escape(text),
        );
    }

    /// What a label should not cover.
    fn obstacles(&self, tracks: &[(usize, &Track)], best: &[Best]) -> Vec<Spot> {
        let lines = tracks.iter().map(|it| self.track_places(it.1));
        let curves = best.iter().map(|it| self.curve_places(it));
        let mut taken: Vec<Spot> =
            lines.chain(curves).flat_map(|places| labels::along(&places)).collect();
        let points = tracks.iter().flat_map(|it| &it.1.points);
        for point in points.chain(best.iter().map(|it| &it.star)) {
            let (x, y) = self.place(point.kl.mean, point.reward.mean);
            let (left, low) = self.place(point.kl.low, point.reward.low);
            let (right, high) = self.place(point.kl.high, point.reward.high);
            taken.push(Spot::around(x, y, 7.0));
            taken.push(Spot { left, right, top: y - 1.0, bottom: y + 1.0 });
            taken.push(Spot { left: x - 1.0, right: x + 1.0, top: high, bottom: low });
        }
        taken
    }
}
