//! The page: the finding first, then what it rests on.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use super::pictures::{COLORS, Frame, Ink, Panel, Style, frontier, histograms, training_panels};
use super::tables::{self, row, table};
use super::text::{duration, escape, interval, number, policy_name, script_json, signed};
use super::{NamedReport, Report, SampleCompletion, SamplePrompt};

const SKELETON: &str = include_str!("../../assets/report/page.html");
const STYLE: &str = include_str!("../../assets/report/page.css");
const SCRIPT: &str = include_str!("../../assets/report/page.js");

/// The page of one report, or of several compared: one HTML text that needs nothing else.
pub fn render(runs: &[NamedReport]) -> String {
    let mut sections = Sections { html: String::new(), links: Vec::new() };
    sections.add("frontier", "Reward against KL", frontier_section(runs));
    sections.add("results", "Results", tables::results(runs));
    if runs.len() > 1 {
        sections.add("differences", "What differs", differences_section(runs));
    }
    for (index, run) in runs.iter().enumerate() {
        sections.add_run(run, (runs.len() > 1).then_some(index + 1));
    }
    fill(SKELETON, |slot| match slot {
        "title" => escape(&title(runs)),
        "colors" => colors(),
        "style" => STYLE.to_owned(),
        "script" => SCRIPT.to_owned(),
        "kicker" => kicker(runs),
        "summary" => runs.iter().map(|run| summary(run, runs.len() > 1)).collect(),
        "links" => sections.links.iter().fold(String::new(), |mut html, (id, title)| {
            let _ = write!(html, r##"<a href="#{id}">{}</a> "##, escape(title));
            html
        }),
        "sections" => sections.html.clone(),
        "json" => script_json(&embedded(runs)),
        _ => String::new(),
    })
}

/// Replaces every `{{slot}}` of the skeleton; what is filled in is not looked at again.
fn fill(skeleton: &str, mut value: impl FnMut(&str) -> String) -> String {
    let mut html = String::new();
    let mut rest = skeleton;
    while let Some((before, after)) = rest.split_once("{{") {
        let (slot, after) = after.split_once("}}").unwrap_or((after, ""));
        html.push_str(before);
        html.push_str(&value(slot));
        rest = after;
    }
    html + rest
}

/// The numbers as the file `report.json` holds them; of several runs, by name.
fn embedded(runs: &[NamedReport]) -> String {
    let json = match runs {
        [only] => serde_json::to_string(&only.report),
        _ => serde_json::to_string(
            &runs.iter().map(|run| (&run.name, &run.report)).collect::<BTreeMap<_, _>>(),
        ),
    };
    json.unwrap_or_else(|_| "null".to_owned())
}

fn title(runs: &[NamedReport]) -> String {
    match runs {
        [only] if !only.report.title.is_empty() => only.report.title.clone(),
        [only] => only.name.clone(),
        _ => {
            let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
            format!("{}, compared", names.join(" and "))
        }
    }
}

fn kicker(runs: &[NamedReport]) -> String {
    let mut parts = vec!["exalign".to_owned()];
    if let [NamedReport { report, .. }] = runs {
        parts.extend([&report.experiment, &report.preset].map(|it| escape(it)));
    }
    parts.retain(|part| !part.is_empty());
    parts.join(" · ")
}

fn summary(run: &NamedReport, named: bool) -> String {
    let mut html = String::new();
    for (index, sentence) in run.report.summary.iter().enumerate() {
        let class = if index == 0 { r#" class="lead""# } else { "" };
        let name = match named && index == 0 {
            true => format!("<b>{}.</b> ", escape(&run.name)),
            false => String::new(),
        };
        let _ = write!(html, "<p{class}>{name}{}</p>", escape(sentence));
    }
    html
}

/// The palette as custom properties, for both themes.
fn colors() -> String {
    let list = |value: fn(&super::pictures::Color) -> &'static str| {
        COLORS.iter().fold(String::new(), |mut css, color| {
            let _ = write!(css, "--{}:{};", color.name, value(color));
            css
        })
    };
    let (light, dark) = (list(|it| it.light), list(|it| it.dark));
    format!(
        ":root{{color-scheme:light;{light}}}\
         @media(prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}\
         :root[data-theme=dark]{{color-scheme:dark;{dark}}}"
    )
}

struct Sections {
    html: String,
    links: Vec<(String, String)>,
}

impl Sections {
    /// A section with its heading; nothing where there is no content.
    fn add(&mut self, id: &str, title: &str, content: Option<String>) {
        if let Some(content) = content {
            let heading = escape(title);
            let _ = write!(
                self.html,
                r#"<section id="{id}" aria-labelledby="{id}-title"><h2 id="{id}-title">{heading}</h2>{content}</section>"#
            );
            self.links.push((id.to_owned(), title.to_owned()));
        }
    }

    /// What belongs to one run; `number` tells apart those of several.
    fn add_run(&mut self, run: &NamedReport, number: Option<usize>) {
        let report = &run.report;
        let unit = match report.reward_unit.as_str() {
            "" => String::new(),
            unit => format!(" ({unit})"),
        };
        let mut add = |id: &str, title: &str, content| match number {
            Some(number) => {
                self.add(&format!("{id}-{number}"), &format!("{title} · {}", run.name), content)
            }
            None => self.add(id, title, content),
        };
        add("same-kl", "At the same KL", tables::comparisons(report));
        add("wins", "Win rates", tables::win_rates(report));
        add("samples", "Samples", samples_section(report));
        add(
            "training",
            "Training",
            panels(
                training_panels(report),
                "Means of neighbouring steps where there are many. The losses of different objectives are on different scales.",
            ),
        );
        add(
            "rewards",
            "Rewards",
            panels(
                histograms(&report.distributions),
                &format!(
                    "Share of samples (%) by reward{unit}, all on the same axes; the dashed line is the mean."
                ),
            ),
        );
        add("costs", "Costs", costs_section(report));
        add("configuration", "Configuration", configuration_section(&report.configuration));
        add("provenance", "Provenance", provenance_section(report));
    }
}

fn frontier_section(runs: &[NamedReport]) -> Option<String> {
    let wide = frontier(runs, Frame::WIDE, Ink::Page)?;
    let narrow = frontier(runs, Frame::NARROW, Ink::Page)?;
    let mut html = format!(
        "<figure>{wide}{narrow}<figcaption>Up is more reward, left is less drift from the reference: \
         of two policies, the upper left one is better. A line follows an objective's checkpoints to \
         its end, the large symbol; crosses are 95 % bootstrap intervals over prompts."
    );
    if runs.iter().any(|run| run.report.optimum.is_some()) {
        html.push_str(
            " The dashed curve is the best any policy can do: the exact optimum \
             π* ∝ π<sub>SFT</sub> exp(<i>r</i>/β) for every β, estimated by importance weights over \
             samples of SFT; the star is this run’s β.",
        );
    }
    html.push_str("</figcaption></figure>");
    let mut rows = String::new();
    for run in runs {
        let prefix = if runs.len() > 1 { format!("{} · ", run.name) } else { String::new() };
        for series in &run.report.frontier {
            for point in &series.points {
                let name = format!("{prefix}{}", policy_name(&series.objective));
                row(
                    &mut rows,
                    &name,
                    &[point.step.to_string(), interval(&point.reward), interval(&point.kl)],
                );
            }
        }
    }
    if !rows.is_empty() {
        let header = ["Objective", "Step", "Reward", "KL (nats)"];
        let _ = write!(
            html,
            "<details><summary>Every checkpoint in numbers</summary>{}</details>",
            table("Reward and KL of every checkpoint", &header, 1..9, &rows)
        );
    }
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
    if !rows.is_empty() {
        let header = ["β", "Reward", "KL (nats)", "Effective samples"];
        let _ = write!(
            html,
            "<details><summary>The exact optimum in numbers</summary>{}</details>",
            table("Reward and KL of the exact optimum along β", &header, 1..9, &rows)
        );
    }
    Some(html)
}

/// The settings in which compared runs are not alike.
fn differences_section(runs: &[NamedReport]) -> Option<String> {
    let settings: Vec<BTreeMap<String, String>> =
        runs.iter().map(|run| flattened(&run.report.configuration).into_iter().collect()).collect();
    let mut keys: Vec<&String> = settings.iter().flat_map(BTreeMap::keys).collect();
    keys.sort();
    keys.dedup();
    let mut rows = String::new();
    for key in keys {
        let values: Vec<_> = settings.iter().map(|it| it.get(key)).collect();
        if values.windows(2).any(|pair| pair[0] != pair[1]) {
            let cells: Vec<_> =
                values.into_iter().map(|it| it.cloned().unwrap_or("–".to_owned())).collect();
            row(&mut rows, key, &cells);
        }
    }
    let mut header = vec!["Setting"];
    header.extend(runs.iter().map(|run| run.name.as_str()));
    (!rows.is_empty()).then(|| table("Settings in which the runs differ", &header, 1..9, &rows))
}

fn samples_section(report: &Report) -> Option<String> {
    if report.samples.is_empty() {
        return None;
    }
    let rewards = || report.samples.iter().flat_map(|it| &it.completions).map(|it| it.reward);
    // Rewards are coloured around zero where they have both signs, else around their middle.
    let (low, high) = rewards()
        .filter(|it| it.is_finite())
        .fold((f64::MAX, f64::MIN), |(low, high), it| (low.min(it), high.max(it)));
    let center = if low < 0.0 && high > 0.0 { 0.0 } else { (low + high) / 2.0 };
    let reach = (high - center).max(center - low).max(1e-9);
    let mut html = String::from(
        r#"<div class="browser" role="group" aria-label="Sample browser"><div class="controls" hidden><button type="button" class="previous" aria-label="Previous prompt">←</button><span class="position" aria-live="polite"></span><button type="button" class="next" aria-label="Next prompt">→</button><input type="search" placeholder="Search prompts and completions" aria-label="Search prompts and completions"></div>"#,
    );
    for it in &report.samples {
        html.push_str(&sample(it, &report.reward_unit, |reward| (reward - center) / reach));
    }
    html.push_str("</div>");
    Some(html)
}

fn sample(it: &SamplePrompt, unit: &str, tint: impl Fn(f64) -> f64) -> String {
    let mut policies: Vec<&str> = Vec::new();
    for completion in &it.completions {
        if !policies.contains(&completion.policy.as_str()) {
            policies.push(&completion.policy);
        }
    }
    let mut html = format!(
        r#"<article class="sample"><h3 dir="auto"><span class="label">Prompt</span>{}</h3><div class="columns">"#,
        escape(&it.prompt)
    );
    for policy in policies {
        let _ = write!(
            html,
            r#"<div class="column"><h4>{}{}</h4>"#,
            Style::of(policy).swatch(),
            escape(&policy_name(policy))
        );
        for completion in it.completions.iter().filter(|it| it.policy == policy) {
            html.push_str(&sample_completion(completion, unit, tint(completion.reward)));
        }
        html.push_str("</div>");
    }
    html + "</div></article>"
}

fn sample_completion(it: &SampleCompletion, unit: &str, tint: f64) -> String {
    let side = if tint < 0.0 { "bad" } else { "good" };
    let kl = match it.kl {
        Some(kl) => format!(r#"<span class="kl">log-ratio {}</span>"#, signed(kl, 2)),
        None => String::new(),
    };
    format!(
        r#"<div class="completion"><p dir="auto">{}</p><p class="facts"><span class="chip {side}" style="--tint:{:.2}" title="reward {}">{}</span>{kl}</p></div>"#,
        // The space that joins a completion to its prompt is no part of what is read.
        escape(it.text.strip_prefix(' ').unwrap_or(&it.text)),
        if tint.is_finite() { 0.1 + 0.5 * tint.abs().min(1.0) } else { 0.0 },
        escape(unit),
        signed(it.reward, 3),
    )
}

fn panels(panels: Vec<Panel>, caption: &str) -> Option<String> {
    if panels.is_empty() {
        return None;
    }
    let mut html = format!(r#"<p class="note">{}</p><div class="panels">"#, escape(caption));
    for panel in panels {
        let _ =
            write!(html, "<figure><figcaption>{}</figcaption>{}", escape(&panel.title), panel.svg);
        if !panel.policies.is_empty() {
            html.push_str(r#"<p class="legend">"#);
            for policy in &panel.policies {
                let swatch = Style::of(policy).swatch();
                let _ = write!(html, "<span>{swatch}{}</span> ", escape(&policy_name(policy)));
            }
            html.push_str("</p>");
        }
        html.push_str("</figure>");
    }
    Some(html + "</div>")
}

fn costs_section(report: &Report) -> Option<String> {
    let total: f64 = report.stages.iter().map(|stage| stage.seconds).sum();
    let longest = report.stages.iter().map(|stage| stage.seconds).fold(1e-9, f64::max);
    let mut rows = String::new();
    for stage in &report.stages {
        let _ = write!(
            rows,
            r#"<tr><th scope="row">{}</th><td class="n">{}</td><td><span class="cost" style="width:{:.1}%"></span></td><td>{}</td><td><code title="{}">{}</code></td></tr>"#,
            escape(&stage.name),
            duration(stage.seconds),
            (stage.seconds / longest * 100.0).clamp(0.0, 100.0),
            if stage.cached { "found" } else { "computed" },
            escape(&stage.key),
            escape(&stage.key.chars().take(12).collect::<String>()),
        );
    }
    let caption = format!("Stages, {} in all", duration(total));
    let header = ["Stage", "Time", "Share", "In this run", "Key"];
    (!rows.is_empty()).then(|| table(&caption, &header, 1..2, &rows))
}

fn configuration_section(configuration: &Value) -> Option<String> {
    let mut rows = String::new();
    for (key, value) in flattened(configuration) {
        let (key, value) = (escape(&key), escape(&value));
        let _ = write!(
            rows,
            r#"<tr><th scope="row"><code>{key}</code></th><td><code>{value}</code></td></tr>"#
        );
    }
    let filter = r#"<p class="filter" hidden><input type="search" placeholder="Filter settings" aria-label="Filter settings"></p>"#;
    let table = table("Every setting of the run", &["Setting", "Value"], 2..2, &rows);
    (!rows.is_empty()).then(|| format!(r#"<div class="settings">{filter}{table}</div>"#))
}

/// The leaves of a tree of settings by their dotted keys; a list of plain values is a leaf.
fn flattened(value: &Value) -> Vec<(String, String)> {
    fn walk(key: &str, value: &Value, leaves: &mut Vec<(String, String)>) {
        let below = |name: &str| match key {
            "" => name.to_owned(),
            _ => format!("{key}.{name}"),
        };
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(name, field)| walk(&below(name), field, leaves));
            }
            Value::Array(items) if items.iter().any(|it| it.is_object() || it.is_array()) => {
                for (index, item) in items.iter().enumerate() {
                    walk(&below(&index.to_string()), item, leaves);
                }
            }
            Value::Null if key.is_empty() => {}
            Value::String(text) => leaves.push((key.to_owned(), text.clone())),
            _ => leaves.push((key.to_owned(), value.to_string())),
        }
    }
    let mut leaves = Vec::new();
    walk("", value, &mut leaves);
    leaves
}

fn provenance_section(report: &Report) -> Option<String> {
    let mut html = String::from("<dl>");
    for (name, value) in &report.provenance {
        let _ = write!(
            html,
            "<div><dt>{}</dt><dd><code>{}</code></dd></div>",
            escape(name),
            escape(value)
        );
    }
    (!report.provenance.is_empty()).then(|| html + "</dl>")
}
