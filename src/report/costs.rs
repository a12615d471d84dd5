//! The section about what each stage cost.

use maud::{Markup, html};

use super::schema::{Report, StageCost};
use super::tables::{folded, table};
use super::text::duration;

/// What each stage cost; a stage of several repetitions is one row, with each for who opens it.
pub fn costs(report: &Report) -> Option<Markup> {
    let kinds = kinds(&report.stages);
    let longest = kinds.iter().map(|it| seconds(&it.1)).fold(1e-9, f64::max);
    let rows = html! {
        @for (kind, stages) in &kinds {
            @let share = (seconds(stages) / longest * 100.0).clamp(0.0, 100.0);
            tr {
                th scope="row" { (kind) }
                td class="n" { (duration(seconds(stages))) }
                td { span class="cost" style={ "width:" (format!("{share:.1}")) "%" } {} }
                td { (computed(stages)) }
            }
        }
    };
    let total = seconds(&report.stages.iter().collect::<Vec<_>>());
    let caption = format!("Stages, {} in all", duration(total));
    (!kinds.is_empty()).then(|| {
        html! {
            (table(&caption, &["Stage", "Time", "Share", "In this run"], 1..2, rows))
            (keys(report))
        }
    })
}

/// The stages by what they are called without their seed.
fn kinds(stages: &[StageCost]) -> Vec<(&str, Vec<&StageCost>)> {
    let mut kinds: Vec<(&str, Vec<&StageCost>)> = Vec::new();
    for stage in stages {
        let kind = stage.name.split_once(", seed ").map_or(stage.name.as_str(), |it| it.0);
        match kinds.iter_mut().find(|it| it.0 == kind) {
            Some(it) => it.1.push(stage),
            None => kinds.push((kind, vec![stage])),
        }
    }
    kinds
}

fn seconds(stages: &[&StageCost]) -> f64 {
    stages.iter().map(|stage| stage.seconds).sum()
}

fn computed(stages: &[&StageCost]) -> String {
    let found = stages.iter().filter(|stage| stage.cached).count();
    match (found, stages.len()) {
        (0, 1) => "computed".to_owned(),
        (1, 1) => "found".to_owned(),
        (found, all) => format!("{} computed, {found} found", all - found),
    }
}

/// Every stage with what it was computed from.
fn keys(report: &Report) -> Markup {
    let rows = html! {
        @for stage in &report.stages {
            tr {
                th scope="row" { (stage.name) }
                td class="n" { (duration(stage.seconds)) }
                td { (computed(&[stage])) }
                td { code title=(stage.key) { (stage.key.chars().take(12).collect::<String>()) } }
            }
        }
    };
    let header = ["Stage", "Time", "In this run", "Key"];
    let caption = "Stages by key, a hash of settings and inputs";
    folded("Every stage and its key", caption, &header, 1..2, rows)
}
