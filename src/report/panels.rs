//! The sections of small pictures: training curves and histograms of rewards.

use maud::{Markup, PreEscaped, html};

use super::pictures::{Panel, histogram_panels, training_panels};
use super::runs::Run;
use super::tables::{row, table};
use super::text::number;

/// More histograms than this are not all in sight at first.
const IN_SIGHT: usize = 9;

/// What was measured during training.
pub fn training(run: &Run) -> Option<Markup> {
    let panels = training_panels(run);
    (!panels.is_empty()).then(|| html! {
        p class="note" {
            "Means of neighbouring steps where there are many. The losses of different objectives are on \
             different scales."
        }
        (grid(panels.iter()))
        (trainings(run))
    })
}

/// The figures of a table of trainings, and what their columns are called.
const FIGURES: [(&str, &str); 6] = [
    ("logps/chosen", "log π chosen"),
    ("logps/rejected", "log π rejected"),
    ("rewards/chosen", "β h chosen"),
    ("rewards/rejected", "β h rejected"),
    ("length/chosen", "Tokens chosen"),
    ("length/rejected", "Tokens rejected"),
];

/// Every training from its first to its last step.
fn trainings(run: &Run) -> Markup {
    let names = FIGURES.map(|(_, column)| column);
    let header = [&["Training", "Steps", "Tokens/s", "Clipped"][..], &names].concat();
    let rows = html! {
        @for training in &run.report.trainings {
            @let figure = |name: &str| training.figures.get(name).map_or_else(String::new, |[a, b]| {
                format!("{} → {}", number(*a, 3), number(*b, 3))
            });
            @let first = [
                training.steps.to_string(),
                number(training.tokens_per_second, 3),
                format!("{:.0} %", 100.0 * training.clipped),
            ];
            @let cells: Vec<String> =
                first.into_iter().chain(FIGURES.map(|(name, _)| figure(name))).collect();
            (row(run.policy(&training.name).label(), &cells))
        }
    };
    let caption = "Trainings, from the first to the last step. Clipped: the share of steps whose gradient was scaled \
                   down. Chosen and rejected: the best and the worst completion of a group.";
    html! {
        @if !run.report.trainings.is_empty() {
            (table(caption, &header, 1..header.len(), rows))
        }
    }
}

/// Histograms; of a large sweep those that lead in sight, the rest for who opens them.
pub fn rewards(run: &Run) -> Option<Markup> {
    let panels = histogram_panels(run);
    let policies: Vec<&str> =
        run.report.distributions.iter().map(|it| it.policy.as_str()).collect();
    let leading = run.leading(&policies);
    let leads = |panel: &&Panel| {
        let named = |policy: &str| leading.contains(&policy);
        panels.len() <= IN_SIGHT || panel.policies.iter().any(|it| named(it.0.name()))
    };
    let (first, rest): (Vec<&Panel>, Vec<&Panel>) = panels.iter().partition(leads);
    (!panels.is_empty()).then(|| html! {
        p class="note" {
            "Share of samples (%) by reward"
            @if !run.report.reward_unit.is_empty() { " (" (run.report.reward_unit) ")" }
            ", all on the same axes; the dashed line is the mean."
        }
        (grid(first.into_iter()))
        @if !rest.is_empty() {
            details {
                summary {
                    (rest.len()) " more: variants that do not have the most reward of their objective"
                }
                (grid(rest.into_iter()))
            }
        }
    })
}

fn grid<'a>(panels: impl Iterator<Item = &'a Panel>) -> Markup {
    html! {
        div class="panels" {
            @for panel in panels {
                figure {
                    figcaption { (panel.title) }
                    (PreEscaped(&panel.svg))
                    @if panel.policies.len() > 1 {
                        p class="legend" {
                            @for (policy, label) in &panel.policies {
                                span { (policy.style.line_swatch(true)) (label) } " "
                            }
                        }
                    }
                }
            }
        }
    }
}
