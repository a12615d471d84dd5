//! The page's tables of results: final policies, objectives at the same KL, win rates.

use std::fmt::Write;
use std::ops::Range;

use super::pictures::{Styles, interval_bar, win_bar};
use super::schema::{Area, NamedReport, Report, ResultRow, WinRateRow};
use super::text::{bounds, duration, escape, interval, number, policy_name, signed};
use crate::statistics::Interval;

/// A table that scrolls within itself; the columns `numeric` are set right.
pub fn table(caption: &str, header: &[&str], numeric: Range<usize>, rows: &str) -> String {
    let mut html = format!(
        r#"<div class="scroll" tabindex="0" role="region" aria-label="{0}"><table><caption>{0}</caption><thead><tr>"#,
        escape(caption)
    );
    for (index, name) in header.iter().enumerate() {
        let class = if numeric.contains(&index) { r#" class="n""# } else { "" };
        let _ = write!(html, r#"<th scope="col"{class}>{}</th>"#, escape(name));
    }
    html + "</tr></thead><tbody>" + rows + "</tbody></table></div>"
}

/// A row of text: a heading and cells with numbers.
pub fn row(rows: &mut String, name: &str, cells: &[String]) {
    let _ = write!(rows, r#"<tr><th scope="row">{}</th>"#, escape(name));
    for cell in cells {
        let _ = write!(rows, r#"<td class="n">{}</td>"#, escape(cell));
    }
    rows.push_str("</tr>");
}

/// The policies at the end of their training.
pub fn results(runs: &[NamedReport], styles: &Styles) -> Option<String> {
    let all: Vec<&ResultRow> = runs.iter().flat_map(|run| &run.report.results).collect();
    if all.is_empty() {
        return None;
    }
    let rewards: Vec<_> = all.iter().map(|row| row.reward).collect();
    let gains = all.iter().any(|row| row.reward_gain.is_some());
    let rules = all.iter().any(|row| row.rule.is_some());
    let mut rows = String::new();
    for run in runs {
        for it in &run.report.results {
            let name = match runs.len() {
                1 => policy_name(&it.policy),
                _ => format!("{} · {}", policy_name(&it.policy), run.name),
            };
            let bar = interval_bar(&it.reward, &rewards, styles.of(&it.policy)).unwrap_or_default();
            let _ = write!(
                rows,
                r#"<tr><th scope="row">{}{}</th><td>{bar}</td>{}"#,
                styles.of(&it.policy).swatch(),
                escape(&name),
                cell(Some(&it.reward), number),
            );
            if gains {
                rows.push_str(&cell(it.reward_gain.as_ref(), signed));
            }
            if rules {
                rows.push_str(&cell(it.rule.as_ref(), number));
            }
            rows.push_str(&cell(it.kl.as_ref(), number));
            let time = if it.seconds > 0.0 { duration(it.seconds) } else { String::new() };
            let _ = write!(
                rows,
                r#"<td class="n">{}</td><td class="n">{time}</td></tr>"#,
                it.num_samples,
            );
        }
    }
    let mut header = vec!["Policy", "95 % interval", "Reward"];
    if gains {
        header.push("Gain over SFT");
    }
    if rules {
        header.push("By the rule");
    }
    header.extend(["KL (nats)", "Samples", "Time"]);
    Some(table("Final policies, with 95 % intervals", &header, 2..9, &rows) + &estimators(runs))
}

/// The KL by both of its estimators, where they were taken.
fn estimators(runs: &[NamedReport]) -> String {
    let mut rows = String::new();
    for run in runs {
        for it in &run.report.results {
            let (Some(plain), Some(low_variance)) = (&it.kl, &it.kl_low_variance) else { continue };
            let name = match runs.len() {
                1 => policy_name(&it.policy),
                _ => format!("{} · {}", policy_name(&it.policy), run.name),
            };
            row(&mut rows, &name, &[interval(plain), interval(low_variance)]);
        }
    }
    if rows.is_empty() {
        return String::new();
    }
    let header = ["Policy", "Mean of l", "Mean of exp(−l) − 1 + l"];
    let caption = "KL to SFT in nats, from the log-ratio l of each sample; both are unbiased";
    let table = table(caption, &header, 1..3, &rows);
    format!("<details><summary>The KL by two estimators</summary>{table}</details>")
}

/// A mean with its interval, an empty cell where there is none.
fn cell(value: Option<&Interval>, write: fn(f64, usize) -> String) -> String {
    let content = value.map_or(String::new(), |it| {
        format!(r#"<b>{}</b> <span class="bounds">{}</span>"#, write(it.mean, 3), bounds(it))
    });
    format!(r#"<td class="n">{content}</td>"#)
}

/// Objectives compared where both go.
pub fn comparisons(report: &Report, styles: &Styles) -> Option<String> {
    let gains: Vec<Interval> =
        report.comparisons.iter().flat_map(|it| [it.mean_gain, it.at_common_kl]).collect();
    let mut rows = String::new();
    let mut seeds = String::new();
    for it in &report.comparisons {
        let name = format!("{} − {}", policy_name(&it.ours), policy_name(&it.theirs));
        let bar = interval_bar(&it.mean_gain, &gains, styles.of(&it.ours)).unwrap_or_default();
        let _ = write!(
            rows,
            r#"<tr><th scope="row">{}</th><td>{bar}</td>{}{}<td class="n">{}</td></tr>"#,
            escape(&name),
            cell(Some(&it.mean_gain), signed),
            cell(Some(&it.at_common_kl), signed),
            number(it.common_kl, 2),
        );
        if it.repetitions.len() > 1 {
            for (seed, gain) in &it.repetitions {
                let _ = write!(
                    seeds,
                    r#"<tr><th scope="row">{}</th><td class="n">{seed}</td>{}</tr>"#,
                    escape(&name),
                    cell(Some(gain), signed),
                );
            }
        }
    }
    if rows.is_empty() {
        return None;
    }
    let header =
        ["Difference in reward", "95 % interval", "Mean over KLs", "At the common KL", "Common KL"];
    let mut html = String::from(
        r#"<p class="note">Two objectives seldom end at the same KL, so that the one that drifts further often has more reward. Here they are compared where both are: between checkpoints, up to the KL that both reach.</p>"#,
    );
    html += &table("Differences at the same KL, with 95 % intervals", &header, 2..9, &rows);
    if !seeds.is_empty() {
        let header = ["Difference", "Seed", "Mean over KLs, interval over prompts"];
        let _ = write!(
            html,
            "<details><summary>Every repetition</summary>{}</details>",
            table("Differences by seed", &header, 1..9, &seeds)
        );
    }
    html += &areas(report, styles);
    Some(html)
}

/// The areas under the frontiers, up to a KL that all reach.
fn areas(report: &Report, styles: &Styles) -> String {
    let with_area = || report.frontier.iter().filter_map(|it| Some((it, it.area?)));
    let all: Vec<Interval> = with_area().map(|(_, it)| it.area).collect();
    let Some((_, Area { up_to_kl, .. })) = with_area().next() else { return String::new() };
    let mut rows = String::new();
    for (series, Area { area, .. }) in with_area() {
        let style = styles.of(&series.objective);
        let _ = write!(
            rows,
            r#"<tr><th scope="row">{}{}</th><td>{}</td>{}</tr>"#,
            style.swatch(),
            escape(&policy_name(&series.objective)),
            interval_bar(&area, &all, style).unwrap_or_default(),
            cell(Some(&area), number),
        );
    }
    let caption = format!(
        "Area under the frontier, above SFT, over KLs from 0 to {}, which all reach",
        number(up_to_kl, 2)
    );
    table(&caption, &["Policy", "95 % interval", "Reward × nats"], 2..9, &rows)
}

/// Bars of wins, ties and losses, a table for each judge.
pub fn win_rates(report: &Report, styles: &Styles) -> Option<String> {
    let mut judges: Vec<&str> = Vec::new();
    for it in &report.win_rates {
        if !judges.contains(&it.judge.as_str()) {
            judges.push(&it.judge);
        }
    }
    let header =
        ["Policy", "Against", "Won, tied, lost", "Win rate", "Counts", "Prompts to tell apart"];
    let mut html = String::from(
        r#"<p class="note">One sample a prompt; a tie counts half, and “by order” are the ties in which the order of the answers decided. The line over each bar is the rate’s 95 % Wilson interval. The last column is how many prompts would tell the two apart with 80 % power.</p>"#,
    );
    for judge in &judges {
        let rows: String = report
            .win_rates
            .iter()
            .filter(|it| it.judge == *judge)
            .map(|it| win_rate(it, styles))
            .collect();
        html += &table(&format!("Judged by {judge}"), &header, 3..9, &rows);
    }
    (!judges.is_empty()).then_some(html)
}

fn win_rate(it: &WinRateRow, styles: &Styles) -> String {
    format!(
        r#"<tr><th scope="row">{}{}</th><td>{}</td><td>{}</td>{}<td class="n">{}</td><td class="n">{}</td></tr>"#,
        styles.of(&it.policy).swatch(),
        escape(&policy_name(&it.policy)),
        escape(&policy_name(&it.opponent)),
        win_bar(it, styles.of(&it.policy)),
        cell(Some(&it.rate), number),
        counts(it),
        it.prompts_to_tell_apart.map_or("–".to_owned(), |prompts| prompts.to_string()),
    )
}

/// Wins, ties and losses, and what the judge could not decide.
fn counts(it: &WinRateRow) -> String {
    let mut html = format!("{} · {} · {}", it.wins, it.ties, it.losses);
    if it.order_dependent > 0 {
        let _ = write!(html, r#" <span class="bounds">{} by order</span>"#, it.order_dependent);
    }
    if it.no_verdict > 0 {
        let _ = write!(html, r#" <span class="bounds">{} without verdict</span>"#, it.no_verdict);
    }
    html
}
