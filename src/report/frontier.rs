//! The section of the frontier: the picture, its legend, one small picture for each part of a sweep, and the
//! numbers.

use maud::{Markup, PreEscaped, html};

use super::pictures::{Frame, Picture, Scene};
use super::runs::Run;
use super::style::Ink;
use super::tables::{folded, row};
use super::text::{interval, number};

/// Reward against KL, of one run or of several compared.
pub fn section(runs: &[Run]) -> Option<Markup> {
    let scene = Scene::new(runs);
    let wide = Picture::new(&scene, Frame::WIDE, Ink::Page)?.draw(|_| true);
    let narrow = Picture::new(&scene, Frame::NARROW, Ink::Page)?.draw(|_| true);
    Some(html! {
        figure {
            (PreEscaped(wide)) (PreEscaped(narrow))
            @if !scene.is_labelled() { (legend(&scene, runs)) }
            figcaption { (caption(runs)) }
        }
        (facets(&scene, runs))
        (checkpoints(runs))
        (optima(runs))
    })
}

fn caption(runs: &[Run]) -> Markup {
    let series = || runs.iter().flat_map(|run| run.report.frontier.iter().map(move |it| (run, it)));
    let unlike = |run: &Run| {
        let first = runs[0].report;
        (&run.report.experiment, &run.report.reward_unit) != (&first.experiment, &first.reward_unit)
    };
    html! {
        "Up is more reward, left is less drift from the reference: of two policies, the upper left one \
         is better. A line follows an objective’s checkpoints to its end, the large symbol; crosses are \
         95 % intervals"
        @if series().any(|(_, it)| !it.repetitions.is_empty()) {
            " of the mean over seeds (Student’s), thin lines the seeds one by one."
        } @else {
            " over prompts (bootstrap)."
        }
        @if series().any(|(run, it)| run.policy(&it.objective).is_best_of_n()) {
            " Best-of-N follows N: the best of N samples of SFT, at the KL that it has at most."
        }
        @if runs.iter().any(|run| run.report.optimum.is_some()) {
            " The dashed curve is the best any policy can do: the exact optimum π* ∝ π"
            sub { "SFT" } " exp(" i { "r" } "/β) for every β, estimated by importance weights over samples of \
            SFT; the star is this run’s β."
        }
        @if runs.iter().any(unlike) {
            " "
            b {
                "These runs are of different experiments: their rewards are on different scales, and their \
                 heights here cannot be compared."
            }
        }
    }
}

/// What each way is, by objective; with a script each entry shows and hides it.
fn legend(scene: &Scene, runs: &[Run]) -> Markup {
    let mut families: Vec<(String, Vec<Markup>)> = Vec::new();
    for (number, track) in scene.tracks.iter().enumerate() {
        let (run, policy) = (&runs[track.run], &track.policy);
        let (family, name) = match policy.objective().filter(|_| !policy.varied.is_nothing()) {
            Some(objective) => (run.named(&objective.label), policy.varied.to_string()),
            None => (run.name.unwrap_or_default().to_owned(), policy.label().to_owned()),
        };
        let button = html! {
            button type="button" class="toggle" data-track=(number) aria-pressed="true" {
                (policy.style.line_swatch(track.is_filled())) (name)
            }
        };
        match families.iter_mut().find(|it| it.0 == family) {
            Some(it) => it.1.push(button),
            None => families.push((family, vec![button])),
        }
    }
    families.sort_by_key(|it| it.0.is_empty());
    html! {
        div class="toggles" role="group" aria-label="Policies on the picture" {
            p class="note" hidden {
                "Choose what is shown; with Shift, one alone. "
                button type="button" class="every" { "All" }
            }
            @for (family, buttons) in families {
                div class="family" {
                    span { (family) }
                    @for button in buttons { (button) }
                }
            }
        }
    }
}

/// A sweep's parts, each with the policies that have a β (or K) in common.
fn facets(scene: &Scene, runs: &[Run]) -> Markup {
    let nothing = PreEscaped(String::new());
    let ([run], Some(picture)) = (runs, Picture::new(scene, Frame::SMALL, Ink::Page)) else {
        return nothing;
    };
    let facets = run.facets();
    if facets.is_empty() {
        return nothing;
    }
    let policies: Vec<_> =
        run.report.frontier.iter().map(|series| run.policy(&series.objective)).collect();
    html! {
        h3 { "Part by part" }
        p class="note" {
            "The same on the same axes, each with the policies that share what stands above it."
        }
        div class="panels facets" {
            @for facet in &facets {
                figure {
                    figcaption { (facet.title) }
                    (PreEscaped(picture.draw(|track| facet.holds(&track.policy))))
                    p class="legend" {
                        @for policy in policies.iter().filter(|policy| facet.holds(policy)) {
                            span { (policy.style.line_swatch(true)) (policy.label_in(facet)) } " "
                        }
                    }
                }
            }
        }
    }
}

fn checkpoints(runs: &[Run]) -> Markup {
    let rows = html! {
        @for run in runs {
            @for series in &run.report.frontier {
                @let policy = run.policy(&series.objective);
                @for point in &series.points {
                    @let step = match policy.is_best_of_n() {
                        true => format!("N = {}", point.step),
                        false => point.step.to_string(),
                    };
                    (row(
                        &run.prefixed(policy.label()),
                        &[step, interval(&point.reward), interval(&point.kl)],
                    ))
                }
            }
        }
    };
    let header = ["Objective", "Step", "Reward", "KL (nats)"];
    let caption = "Reward and KL of every checkpoint";
    folded("Every checkpoint in numbers", caption, &header, 1..9, rows)
}

fn optima(runs: &[Run]) -> Markup {
    let rows = html! {
        @for (run, optimum) in runs.iter().filter_map(|run| Some((run, run.report.optimum.as_ref()?))) {
            @let point = std::iter::once((&optimum.point, " (this run)"));
            @for (it, note) in point.chain(optimum.curve.iter().map(|it| (it, ""))) {
                @let size =
                    format!("{} of {}", number(it.effective_sample_size, 1), it.samples_per_prompt);
                (row(
                    &run.prefixed(&format!("{}{note}", number(it.beta, 3))),
                    &[interval(&it.reward), interval(&it.kl), size],
                ))
            }
        }
    };
    let header = ["β", "Reward", "KL (nats)", "Effective samples"];
    let caption = "Reward and KL of the exact optimum along β";
    folded("The exact optimum in numbers", caption, &header, 1..9, rows)
}
