//! The sections about how a run was made: its settings, and what else is needed to repeat it.

use maud::{Markup, html};
use serde_json::Value;

use super::runs::Run;
use super::schema::Report;
use super::tables::table;

/// The settings, and what else is needed to repeat a run, in which compared runs are not alike.
pub fn differences(runs: &[Run]) -> Markup {
    let sides: Vec<Vec<(String, String)>> =
        runs.iter().map(|run| all_settings(run.report)).collect();
    let mut keys: Vec<&str> = Vec::new();
    for (key, _) in sides.iter().flatten() {
        if !keys.contains(&key.as_str()) {
            keys.push(key);
        }
    }
    let value = |side: &[(String, String)], key: &str| {
        side.iter().find(|it| it.0 == key).map_or("–".to_owned(), |it| it.1.clone())
    };
    let rows = html! {
        @for key in keys {
            @let values: Vec<String> = sides.iter().map(|side| value(side, key)).collect();
            @if values.windows(2).any(|pair| pair[0] != pair[1]) {
                tr {
                    th scope="row" { code { (key) } }
                    @for value in values {
                        td { code { (value) } }
                    }
                }
            }
        }
    };
    if rows.0.is_empty() {
        return html! { p { "Nothing: their settings are the same." } };
    }
    let mut header = vec!["Setting"];
    header.extend(runs.iter().filter_map(|run| run.name));
    table("Settings in which the runs differ", &header, 1..1, rows)
}

fn all_settings(report: &Report) -> Vec<(String, String)> {
    let what = [("experiment", &report.experiment), ("preset", &report.preset)];
    let mut all: Vec<(String, String)> =
        what.map(|(name, value)| (name.to_owned(), value.clone())).to_vec();
    all.extend(flattened(&report.configuration));
    // The command differs wherever anything does.
    all.extend(report.provenance.iter().filter(|it| it.0 != "command").cloned());
    all
}

/// Every setting of a run.
pub fn configuration(report: &Report) -> Option<Markup> {
    let settings = flattened(&report.configuration);
    let rows = html! {
        @for (key, value) in &settings {
            tr {
                th scope="row" { code { (key) } }
                td { code { (value) } }
            }
        }
    };
    (!settings.is_empty()).then(|| {
        html! {
            div class="settings" {
                p class="filter" hidden {
                    input type="search" placeholder="Filter settings" aria-label="Filter settings";
                }
                (table("Every setting of the run", &["Setting", "Value"], 2..2, rows))
            }
        }
    })
}

/// What else is needed to repeat a run.
pub fn provenance(report: &Report) -> Option<Markup> {
    (!report.provenance.is_empty()).then(|| {
        html! {
            dl {
                @for (name, value) in &report.provenance {
                    div {
                        dt { (name) }
                        dd { code { (value) } }
                    }
                }
            }
        }
    })
}

/// The leaves of a tree of settings by their dotted keys; a list of plain values is a leaf.
fn flattened(value: &Value) -> Vec<(String, String)> {
    let mut leaves = Vec::new();
    gather("", value, &mut leaves);
    leaves
}

fn gather(key: &str, value: &Value, leaves: &mut Vec<(String, String)>) {
    let below = |name: &str| match key {
        "" => name.to_owned(),
        _ => format!("{key}.{name}"),
    };
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| gather(&below(name), field, leaves));
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            for (index, item) in items.iter().enumerate() {
                gather(&below(&index.to_string()), item, leaves);
            }
        }
        Value::Null if key.is_empty() => {}
        Value::String(text) => leaves.push((key.to_owned(), text.clone())),
        _ => leaves.push((key.to_owned(), value.to_string())),
    }
}
