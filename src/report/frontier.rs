//! The section of the frontier: the picture, its legend, one small picture for each part of a sweep, and the
//! numbers.

use std::fmt::Write;

use super::NamedReport;
use super::pictures::{Frame, Ink, Picture, Scene, Styles};
use super::tables::{row, table};
use super::text::{escape, interval, number, policy_name, variant};

/// Reward against KL, of one run or of several compared.
pub fn section(runs: &[NamedReport], styles: &Styles) -> Option<String> {
    let scene = Scene::new(runs, styles);
    let wide = Picture::new(&scene, Frame::WIDE, Ink::Page)?.draw(|_| true);
    let narrow = Picture::new(&scene, Frame::NARROW, Ink::Page)?.draw(|_| true);
    let legend = if scene.is_labelled() { String::new() } else { legend(&scene, runs) };
    let caption = caption(runs);
    let facets = facets(&scene, runs, styles);
    Some(format!(
        "<figure>{wide}{narrow}{legend}<figcaption>{caption}</figcaption></figure>{facets}{}{}",
        checkpoints(runs),
        optima(runs)
    ))
}

fn caption(runs: &[NamedReport]) -> String {
    let mut html = String::from(
        "Up is more reward, left is less drift from the reference: of two policies, the upper left one \
         is better. A line follows an objective’s checkpoints to its end, the large symbol; crosses are \
         95 % intervals",
    );
    let series = || runs.iter().flat_map(|run| &run.report.frontier);
    html.push_str(match series().any(|it| !it.repetitions.is_empty()) {
        true => " of the mean over seeds (Student’s), thin lines the seeds one by one.",
        false => " over prompts (bootstrap).",
    });
    if series().any(|it| it.objective.starts_with("best-of-")) {
        html.push_str(
            " Best-of-N follows N: the best of N samples of SFT, at the KL that it has at most.",
        );
    }
    if runs.iter().any(|run| run.report.optimum.is_some()) {
        html.push_str(
            " The dashed curve is the best any policy can do: the exact optimum \
             π* ∝ π<sub>SFT</sub> exp(<i>r</i>/β) for every β, estimated by importance weights over \
             samples of SFT; the star is this run’s β.",
        );
    }
    let unlike = |it: &NamedReport| {
        let first = &runs[0].report;
        (&it.report.experiment, &it.report.reward_unit) != (&first.experiment, &first.reward_unit)
    };
    if runs.iter().any(unlike) {
        html.push_str(
            " <b>These runs are of different experiments: their rewards are on different scales, and \
             their heights here cannot be compared.</b>",
        );
    }
    html
}

/// What each way is, by objective; with a script each entry shows and hides it.
fn legend(scene: &Scene, runs: &[NamedReport]) -> String {
    let mut families: Vec<(String, String)> = Vec::new();
    for (number, track) in scene.tracks.iter().enumerate() {
        let run = match runs {
            [_] => "",
            _ => &runs[track.run].name,
        };
        let (family, name) = match variant(&track.policy).filter(|it| !it.parts.is_empty()) {
            Some(it) if run.is_empty() => (it.name.to_owned(), it.varied()),
            Some(it) => (format!("{} · {run}", it.name), it.varied()),
            None => (run.to_owned(), policy_name(&track.policy)),
        };
        let button = format!(
            r#"<button type="button" class="toggle" data-track="{number}" aria-pressed="true">{}{}</button>"#,
            track.style.line_swatch(track.is_filled()),
            escape(&name)
        );
        match families.iter_mut().find(|it| it.0 == family) {
            Some(it) => it.1.push_str(&button),
            None => families.push((family, button)),
        }
    }
    families.sort_by_key(|it| it.0.is_empty());
    let mut html = String::from(
        r#"<div class="toggles" role="group" aria-label="Policies on the picture"><p class="note" hidden>Choose what is shown; with Shift, one alone. <button type="button" class="every">All</button></p>"#,
    );
    for (family, buttons) in families {
        let _ =
            write!(html, r#"<div class="family"><span>{}</span>{buttons}</div>"#, escape(&family));
    }
    html + "</div>"
}

/// A sweep's parts, each with the policies that have a β (or K) in common.
fn facets(scene: &Scene, runs: &[NamedReport], styles: &Styles) -> String {
    let facets = styles.facets();
    let ([only], Some(picture)) = (runs, Picture::new(scene, Frame::SMALL, Ink::Page)) else {
        return String::new();
    };
    if facets.is_empty() {
        return String::new();
    }
    let mut html = String::from(r#"<h3>Part by part</h3><p class="note">"#);
    html.push_str(
        "The same on the same axes, each with the policies that share what stands above it.</p>",
    );
    html.push_str(r#"<div class="panels facets">"#);
    for facet in &facets {
        let svg = picture.draw(|track| facet.holds(&track.policy));
        let _ = write!(html, "<figure><figcaption>{}</figcaption>{svg}", escape(&facet.title));
        html.push_str(r#"<p class="legend">"#);
        let shown = only.report.frontier.iter().filter(|it| facet.holds(&it.objective));
        for series in shown {
            let name = policy_name(&series.objective);
            let name = name.replace(&format!(", {}", facet.title), "");
            let swatch = styles.of(&series.objective).line_swatch(true);
            let _ = write!(html, "<span>{swatch}{}</span> ", escape(&name));
        }
        html.push_str("</p></figure>");
    }
    html + "</div>"
}

fn checkpoints(runs: &[NamedReport]) -> String {
    let mut rows = String::new();
    for run in runs {
        let prefix = if runs.len() > 1 { format!("{} · ", run.name) } else { String::new() };
        for series in &run.report.frontier {
            for point in &series.points {
                let name = format!("{prefix}{}", policy_name(&series.objective));
                let step = match series.objective.starts_with("best-of-") {
                    true => format!("N = {}", point.step),
                    false => point.step.to_string(),
                };
                row(&mut rows, &name, &[step, interval(&point.reward), interval(&point.kl)]);
            }
        }
    }
    let header = ["Objective", "Step", "Reward", "KL (nats)"];
    folded("Every checkpoint in numbers", "Reward and KL of every checkpoint", &header, &rows)
}

fn optima(runs: &[NamedReport]) -> String {
    let mut rows = String::new();
    for run in runs {
        let prefix = if runs.len() > 1 { format!("{} · ", run.name) } else { String::new() };
        let Some(optimum) = &run.report.optimum else { continue };
        let point = std::iter::once((&optimum.point, " (this run)"));
        for (it, note) in point.chain(optimum.curve.iter().map(|it| (it, ""))) {
            let name = format!("{prefix}{}{note}", number(it.beta, 3));
            let size =
                format!("{} of {}", number(it.effective_sample_size, 1), it.samples_per_prompt);
            row(&mut rows, &name, &[interval(&it.reward), interval(&it.kl), size]);
        }
    }
    let header = ["β", "Reward", "KL (nats)", "Effective samples"];
    let caption = "Reward and KL of the exact optimum along β";
    folded("The exact optimum in numbers", caption, &header, &rows)
}

/// A table that is there for who opens it.
fn folded(summary: &str, caption: &str, header: &[&str], rows: &str) -> String {
    match rows {
        "" => String::new(),
        _ => {
            let table = table(caption, header, 1..9, rows);
            format!("<details><summary>{summary}</summary>{table}</details>")
        }
    }
}
