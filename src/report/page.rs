//! The page: the finding first, then its evidence.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::json;

use super::runs::Run;
use super::schema::NamedReport;
use super::style::{COLORS, Color};
use super::text::{script_json, without_control};
use super::{costs, frontier, panels, pictures, results, samples, settings};

const STYLE: &str = include_str!("../../assets/report/page.css");
const SCRIPT: &str = include_str!("../../assets/report/page.js");
/// The page may run its own script and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; \
     base-uri 'none'; form-action 'none'";

/// The page of one report, or of several compared: one HTML text that needs nothing else.
pub fn render(reports: &[NamedReport]) -> String {
    let runs = Run::all(reports);
    let mut sections = Sections::default();
    sections.add("frontier", "Reward against KL", frontier::section(&runs));
    sections.add("results", "Results", results::results(&runs));
    if runs.len() > 1 {
        let ahead = pictures::differences(&runs).map(PreEscaped);
        sections.add("ahead", "Who is ahead at the same KL", ahead);
        sections.add("differences", "What differs", Some(settings::differences(&runs)));
    }
    runs.iter().for_each(|run| sections.add_run(run));
    let summary = html! {
        @for run in &runs { (paragraphs(&run.report.summary, run.name)) }
    };
    whole(&title(reports), &kicker(reports), &summary, &sections, &embedded(reports))
}

/// The whole page; `json` is for who saves the numbers.
pub fn whole(
    title: &str,
    kicker: &str,
    summary: &Markup,
    sections: &Sections,
    json: &str,
) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                link rel="icon" href="data:,";
                title { (title) }
                style { (PreEscaped(colors())) (PreEscaped(STYLE)) }
            }
            body {
                a class="skip" href="#main" { "Skip to the findings" }
                header {
                    div class="top" {
                        p class="kicker" { (kicker) }
                        div class="tools" hidden {
                            button type="button" id="save" { "Save numbers" }
                            button type="button" id="theme" aria-pressed="false" { "Dark" }
                        }
                    }
                    h1 { (title) }
                    div class="summary" { (summary) }
                    nav aria-label="Sections" {
                        @for (id, title) in &sections.links { a href={ "#" (id) } { (title) } " " }
                    }
                }
                main id="main" tabindex="-1" { (sections.html) }
                footer {
                    p { "Written by exalign. This page is complete: it loads nothing from anywhere." }
                }
                script type="application/json" id="report-json" { (PreEscaped(script_json(json))) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    without_control(&page.into_string())
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
    let mut parts = vec!["exalign"];
    if let [NamedReport { report, .. }] = runs {
        parts.extend([report.experiment.as_str(), report.preset.as_str()]);
    }
    parts.retain(|part| !part.is_empty());
    parts.join(" · ")
}

/// Sentences, the first one leading, after a name where there is one.
pub fn paragraphs(sentences: &[String], name: Option<&str>) -> Markup {
    html! {
        @for (index, sentence) in sentences.iter().enumerate() {
            p class=[(index == 0).then_some("lead")] {
                @if let Some(name) = name.filter(|_| index == 0) { b { (name) "." } " " }
                (sentence)
            }
        }
    }
}

/// The palette as custom properties, for both themes.
fn colors() -> String {
    let list = |value: fn(&Color) -> &'static str| {
        let property = |color: &&Color| format!("--{}:{};", color.name, value(color));
        COLORS.iter().map(property).collect::<String>()
    };
    let (light, dark) = (list(|color| color.light), list(|color| color.dark));
    format!(
        ":root{{color-scheme:light;{light}}}\
         @media(prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}\
         :root[data-theme=dark]{{color-scheme:dark;{dark}}}\n"
    )
}

/// Sections and the links to them.
#[derive(Default)]
pub struct Sections {
    html: Markup,
    links: Vec<(String, String)>,
}

impl Sections {
    /// A section with its heading; nothing where there is no content.
    pub fn add(&mut self, id: &str, title: &str, content: Option<Markup>) {
        if let Some(content) = content {
            let heading = format!("{id}-title");
            let section = html! {
                section id=(id) aria-labelledby=(heading) {
                    h2 id=(heading) { (title) }
                    (content)
                }
            };
            self.html.0.push_str(&section.0);
            self.links.push((id.to_owned(), title.to_owned()));
        }
    }

    /// What belongs to one run.
    fn add_run(&mut self, run: &Run) {
        let report = run.report;
        let first = self.links.len();
        let mut add = |id: &str, title: &str, content| match run.name {
            None => self.add(id, title, content),
            Some(_) => self.add(&format!("{id}-{}", run.index + 1), &run.named(title), content),
        };
        add("same-kl", "At the same KL", results::comparisons(run));
        add("wins", "Win rates", results::win_rates(run));
        add("samples", "Samples", samples::section(run));
        add("training", "Training", panels::training(run));
        add("rewards", "Rewards", panels::rewards(run));
        add("costs", "Costs", costs::costs(report));
        add("configuration", "Configuration", settings::configuration(report));
        add("provenance", "Provenance", settings::provenance(report));
        if let Some(name) = run.name {
            self.link_once(first, &format!("All of {name}"));
        }
    }

    /// One link for all sections from the `first`-th on.
    fn link_once(&mut self, first: usize, title: &str) {
        if let Some(link) = self.links.get_mut(first) {
            link.1 = title.to_owned();
        }
        self.links.truncate(first + 1);
    }
}
