//! The page: the finding first, then its evidence.

use std::fmt::Write;

use serde_json::{Value, json};

use super::pictures::{COLORS, Panel, Styles, histogram_panels, training_panels};
use super::tables::{self, table};
use super::text::{duration, escape, script_json};
use super::{NamedReport, Report, StageCost, frontier, samples};

const SKELETON: &str = include_str!("../../assets/report/page.html");
const STYLE: &str = include_str!("../../assets/report/page.css");
const SCRIPT: &str = include_str!("../../assets/report/page.js");

/// The page of one report, or of several compared: one HTML text that needs nothing else.
pub fn render(runs: &[NamedReport]) -> String {
    let mut sections = Sections::default();
    let styles = Styles::new(runs);
    sections.add("frontier", "Reward against KL", frontier::section(runs, &styles));
    sections.add("results", "Results", tables::results(runs, &styles));
    if runs.len() > 1 {
        sections.add("differences", "What differs", differences_section(runs));
    }
    for (index, run) in runs.iter().enumerate() {
        sections.add_run(run, (runs.len() > 1).then_some(index + 1), &styles);
    }
    let named = runs.len() > 1;
    let summary: String = runs
        .iter()
        .map(|run| paragraphs(&run.report.summary, if named { &run.name } else { "" }))
        .collect();
    whole(&title(runs), &kicker(runs), &summary, &sections, &script_json(&embedded(runs)))
}

/// The skeleton filled in. All but the title is HTML already.
pub fn whole(title: &str, kicker: &str, summary: &str, sections: &Sections, json: &str) -> String {
    fill(SKELETON, |slot| match slot {
        "title" => escape(title),
        "colors" => colors(),
        "style" => STYLE.to_owned(),
        "script" => SCRIPT.to_owned(),
        "kicker" => kicker.to_owned(),
        "summary" => summary.to_owned(),
        "links" => sections.links.iter().fold(String::new(), |mut html, (id, title)| {
            let _ = write!(html, r##"<a href="#{id}">{}</a> "##, escape(title));
            html
        }),
        "sections" => sections.html.clone(),
        "json" => json.to_owned(),
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

/// The numbers as the file `report.json` holds them; of several runs, a list with their names.
fn embedded(runs: &[NamedReport]) -> String {
    let json = match runs {
        [only] => serde_json::to_string(&only.report),
        _ => {
            let named = |run: &NamedReport| json!({ "name": run.name, "report": run.report });
            serde_json::to_string(&runs.iter().map(named).collect::<Vec<_>>())
        }
    };
    json.unwrap_or_else(|_| "null".to_owned())
}

fn title(runs: &[NamedReport]) -> String {
    match runs {
        [only] if !only.report.title.is_empty() => only.report.title.clone(),
        [only] => only.name.clone(),
        _ => {
            let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
            let (last, before) = names.split_last().unwrap_or((&"", &[]));
            format!("{} and {last}, compared", before.join(", "))
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

/// Sentences, the first one leading, after a name where there is one.
pub fn paragraphs(sentences: &[String], name: &str) -> String {
    let mut html = String::new();
    for (index, sentence) in sentences.iter().enumerate() {
        let class = if index == 0 { r#" class="lead""# } else { "" };
        let name = match index == 0 && !name.is_empty() {
            true => format!("<b>{}.</b> ", escape(name)),
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

/// Sections and the links to them.
#[derive(Default)]
pub struct Sections {
    html: String,
    links: Vec<(String, String)>,
}

impl Sections {
    /// A section with its heading; nothing where there is no content.
    pub fn add(&mut self, id: &str, title: &str, content: Option<String>) {
        if let Some(content) = content {
            let heading = escape(title);
            let _ = write!(
                self.html,
                r#"<section id="{id}" aria-labelledby="{id}-title"><h2 id="{id}-title">{heading}</h2>{content}</section>"#
            );
            self.links.push((id.to_owned(), title.to_owned()));
        }
    }

    /// One link for all sections from the `first`-th on.
    fn link_once(&mut self, first: usize, title: &str) {
        if let Some(link) = self.links.get_mut(first) {
            link.1 = title.to_owned();
        }
        self.links.truncate(first + 1);
    }

    /// What belongs to one run; `number` tells apart those of several.
    fn add_run(&mut self, run: &NamedReport, number: Option<usize>, styles: &Styles) {
        let report = &run.report;
        let first = self.links.len();
        let mut add = |id: &str, title: &str, content| match number {
            Some(number) => {
                self.add(&format!("{id}-{number}"), &format!("{title} · {}", run.name), content)
            }
            None => self.add(id, title, content),
        };
        add("same-kl", "At the same KL", tables::comparisons(report, styles));
        add("wins", "Win rates", tables::win_rates(report, styles));
        add("samples", "Samples", samples::section(report, styles));
        add("training", "Training", training_section(report, styles));
        add("rewards", "Rewards", rewards_section(report, styles));
        add("costs", "Costs", costs_section(report));
        add("configuration", "Configuration", configuration_section(&report.configuration));
        add("provenance", "Provenance", provenance_section(report));
        if number.is_some() {
            self.link_once(first, &format!("All of {}", run.name));
        }
    }
}

/// The settings, and what else is needed to repeat a run, in which compared runs are not alike.
fn differences_section(runs: &[NamedReport]) -> Option<String> {
    let sides: Vec<Vec<(String, String)>> = runs
        .iter()
        .map(|NamedReport { report, .. }| {
            let what = [("experiment", &report.experiment), ("preset", &report.preset)];
            let mut all: Vec<(String, String)> =
                what.map(|(name, value)| (name.to_owned(), value.clone())).to_vec();
            all.extend(flattened(&report.configuration));
            // The command differs wherever anything does.
            all.extend(report.provenance.iter().filter(|it| it.0 != "command").cloned());
            all
        })
        .collect();
    let mut keys: Vec<&str> = Vec::new();
    for (key, _) in sides.iter().flatten() {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    let mut rows = String::new();
    for key in keys {
        let value = |side: &Vec<(String, String)>| {
            side.iter().find(|it| it.0 == key).map_or("–".to_owned(), |it| it.1.clone())
        };
        let values: Vec<String> = sides.iter().map(value).collect();
        if values.windows(2).any(|pair| pair[0] != pair[1]) {
            let _ = write!(rows, r#"<tr><th scope="row"><code>{}</code></th>"#, escape(key));
            for value in values {
                let _ = write!(rows, "<td><code>{}</code></td>", escape(&value));
            }
            rows.push_str("</tr>");
        }
    }
    if rows.is_empty() {
        return Some("<p>Nothing: their settings are the same.</p>".to_owned());
    }
    let mut header = vec!["Setting"];
    header.extend(runs.iter().map(|run| run.name.as_str()));
    Some(table("Settings in which the runs differ", &header, 1..1, &rows))
}

fn training_section(report: &Report, styles: &Styles) -> Option<String> {
    let panels = training_panels(report, styles);
    let note = "Means of neighbouring steps where there are many. The losses of different objectives are \
                on different scales.";
    (!panels.is_empty())
        .then(|| format!(r#"<p class="note">{note}</p>{}"#, grid(panels.iter(), styles)))
}

/// Histograms; of a large sweep those that lead in sight, the rest for who opens them.
fn rewards_section(report: &Report, styles: &Styles) -> Option<String> {
    const IN_SIGHT: usize = 9;
    let panels = histogram_panels(&report.distributions, styles);
    let unit = match report.reward_unit.as_str() {
        "" => String::new(),
        unit => format!(" ({unit})"),
    };
    let mut html = format!(
        r#"<p class="note">Share of samples (%) by reward{}, all on the same axes; the dashed line is the mean.</p>"#,
        escape(&unit)
    );
    let policies: Vec<&str> = report.distributions.iter().map(|it| it.policy.as_str()).collect();
    let leading = samples::leading(&policies, report);
    let leads = |panel: &&Panel| {
        panels.len() <= IN_SIGHT || panel.policies.iter().any(|it| leading.contains(&it.0.as_str()))
    };
    let (first, rest): (Vec<&Panel>, Vec<&Panel>) = panels.iter().partition(leads);
    html.push_str(&grid(first.into_iter(), styles));
    if !rest.is_empty() {
        let _ = write!(
            html,
            "<details><summary>{} more: variants that do not have the most reward of their objective</summary>{}</details>",
            rest.len(),
            grid(rest.into_iter(), styles)
        );
    }
    (!panels.is_empty()).then_some(html)
}

fn grid<'a>(panels: impl Iterator<Item = &'a Panel>, styles: &Styles) -> String {
    let mut html = String::from(r#"<div class="panels">"#);
    for panel in panels {
        let _ =
            write!(html, "<figure><figcaption>{}</figcaption>{}", escape(&panel.title), panel.svg);
        if panel.policies.len() > 1 {
            html.push_str(r#"<p class="legend">"#);
            for (policy, label) in &panel.policies {
                let swatch = styles.of(policy).line_swatch(true);
                let _ = write!(html, "<span>{swatch}{}</span> ", escape(label));
            }
            html.push_str("</p>");
        }
        html.push_str("</figure>");
    }
    html + "</div>"
}

/// What each stage cost; a stage of several repetitions is one row, with each for who opens it.
fn costs_section(report: &Report) -> Option<String> {
    let mut kinds: Vec<(&str, Vec<&StageCost>)> = Vec::new();
    for stage in &report.stages {
        let kind = stage.name.split_once(", seed ").map_or(stage.name.as_str(), |it| it.0);
        match kinds.iter_mut().find(|it| it.0 == kind) {
            Some(it) => it.1.push(stage),
            None => kinds.push((kind, vec![stage])),
        }
    }
    let seconds = |stages: &[&StageCost]| stages.iter().map(|it| it.seconds).sum::<f64>();
    let longest = kinds.iter().map(|it| seconds(&it.1)).fold(1e-9, f64::max);
    let mut rows = String::new();
    for (kind, stages) in &kinds {
        let found = stages.iter().filter(|it| it.cached).count();
        let _ = write!(
            rows,
            r#"<tr><th scope="row">{}</th><td class="n">{}</td><td><span class="cost" style="width:{:.1}%"></span></td><td>{}</td></tr>"#,
            escape(kind),
            duration(seconds(stages)),
            (seconds(stages) / longest * 100.0).clamp(0.0, 100.0),
            match (found, stages.len()) {
                (0, 1) => "computed".to_owned(),
                (1, 1) => "found".to_owned(),
                (found, all) => format!("{} computed, {found} found", all - found),
            },
        );
    }
    let total = seconds(&report.stages.iter().collect::<Vec<_>>());
    let caption = format!("Stages, {} in all", duration(total));
    (!rows.is_empty()).then(|| {
        table(&caption, &["Stage", "Time", "Share", "In this run"], 1..2, &rows) + &keys(report)
    })
}

/// Every stage with what it was computed from.
fn keys(report: &Report) -> String {
    let mut rows = String::new();
    for stage in &report.stages {
        let _ = write!(
            rows,
            r#"<tr><th scope="row">{}</th><td class="n">{}</td><td>{}</td><td><code title="{}">{}</code></td></tr>"#,
            escape(&stage.name),
            duration(stage.seconds),
            if stage.cached { "found" } else { "computed" },
            escape(&stage.key),
            escape(&stage.key.chars().take(12).collect::<String>()),
        );
    }
    let header = ["Stage", "Time", "In this run", "Key"];
    let table = table("Stages by key, a hash of settings and inputs", &header, 1..2, &rows);
    format!("<details><summary>Every stage and its key</summary>{table}</details>")
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
