//! The page's results: final policies, objectives at the same KL, win rates.

use maud::{Markup, PreEscaped, html};

use super::pictures::{differences, interval_bar, win_bar};
use super::runs::Run;
use super::schema::{Area, Comparison, ResultRow, WinRateRow};
use super::tables::{cell, folded, row, table};
use super::text::{duration, interval, number, signed};
use crate::statistics::Interval;

/// The policies at the end of their training.
pub fn results(runs: &[Run]) -> Option<Markup> {
    let all: Vec<&ResultRow> = runs.iter().flat_map(|run| &run.report.results).collect();
    if all.is_empty() {
        return None;
    }
    let rewards: Vec<_> = all.iter().map(|row| row.reward).collect();
    let gains = all.iter().any(|row| row.reward_gain.is_some());
    let rules = all.iter().any(|row| row.rule.is_some());
    let learned = all.iter().any(|row| row.learned_from.is_some());
    let rows = html! {
        @for run in runs {
            @for it in &run.report.results {
                @let policy = run.policy(&it.policy);
                tr {
                    th scope="row" { (policy.style.swatch()) (run.named(policy.label())) }
                    td { (interval_bar(&it.reward, &rewards, policy.style)) }
                    (cell(Some(&it.reward), number))
                    @if gains { (cell(it.reward_gain.as_ref(), signed)) }
                    @if rules { (cell(it.rule.as_ref(), number)) }
                    (cell(it.best_kl().as_ref(), number))
                    td class="n" { (it.num_samples) }
                    @if learned {
                        td class="n" { @if let Some(count) = it.learned_from { (count) } }
                    }
                    td class="n" { @if it.seconds > 0.0 { (duration(it.seconds)) } }
                }
            }
        }
    };
    let mut header = vec!["Policy", "95 % interval", "Reward"];
    if gains {
        header.push("Gain over SFT");
    }
    if rules {
        header.push("By the rule");
    }
    header.extend(["KL (nats)", "Samples"]);
    if learned {
        header.push("Learned from");
    }
    header.push("Time");
    Some(html! {
        (table("Final policies, with 95 % intervals", &header, 2..10, rows))
        (estimators(runs))
    })
}

/// The KL by each of its estimators, where they were taken.
fn estimators(runs: &[Run]) -> Markup {
    let rows = html! {
        @for run in runs {
            @for it in &run.report.results {
                @if let (Some(plain), Some(low_variance)) = (&it.kl, &it.kl_low_variance) {
                    (row(
                        &run.named(run.policy(&it.policy).label()),
                        &[
                            interval(plain),
                            interval(low_variance),
                            it.kl_rao_blackwell.as_ref().map(interval).unwrap_or_default(),
                        ],
                    ))
                }
            }
        }
    };
    let header = ["Policy", "Mean of l", "Mean of exp(−l) − 1 + l", "Sum over tokens"];
    let caption = "KL to SFT in nats, from the log-ratio l of each sample, and from the exact KL of the next token at \
                   each token of a sample; all are unbiased, and the last varies least";
    folded("The KL by three estimators", caption, &header, 1..4, rows)
}

/// Objectives compared where both go.
pub fn comparisons(run: &Run) -> Option<Markup> {
    let all = &run.report.comparisons;
    if all.is_empty() {
        return None;
    }
    let gains: Vec<Interval> = all.iter().flat_map(|it| [it.mean_gain, it.at_common_kl]).collect();
    let name = |it: &Comparison| {
        format!("{} − {}", run.policy(&it.ours).label(), run.policy(&it.theirs).label())
    };
    let rows = html! {
        @for it in all {
            tr {
                th scope="row" { (name(it)) }
                td { (interval_bar(&it.mean_gain, &gains, run.policy(&it.ours).style)) }
                (cell(Some(&it.mean_gain), signed))
                (cell(Some(&it.at_common_kl), signed))
                td class="n" { (number(it.common_kl, 2)) }
                (cell(it.at_equal_steps.as_ref().map(|it| &it.reward), signed))
                (cell(it.at_equal_steps.as_ref().map(|it| &it.kl), signed))
            }
        }
    };
    let seeds = html! {
        @for it in all.iter().filter(|it| it.repetitions.len() > 1) {
            @for (seed, gain) in &it.repetitions {
                tr {
                    th scope="row" { (name(it)) }
                    td class="n" { (seed) }
                    (cell(Some(gain), signed))
                }
            }
        }
    };
    let header = [
        "Difference in reward",
        "95 % interval",
        "Mean over KLs",
        "At the common KL",
        "Common KL",
        "At the last step",
        "KL there",
    ];
    let by_seed = ["Difference", "Seed", "Mean over KLs, interval over prompts"];
    Some(html! {
        p class="note" {
            "Two objectives seldom end at the same KL, so that the one that drifts further often has more \
             reward. Here they are compared where both are: between checkpoints, up to the KL that both reach. The last \
             columns compare them after the same number of steps, and say how much further the one has gone."
        }
        @if all.len() > 2 {
            @if let Some(picture) = differences(std::slice::from_ref(run)) { (PreEscaped(picture)) }
        }
        (table("Differences at the same KL, with 95 % intervals", &header, 2..9, rows))
        (folded("Every repetition", "Differences by seed", &by_seed, 1..9, seeds))
        (areas(run))
    })
}

/// The areas under the frontiers, up to a KL that all reach.
fn areas(run: &Run) -> Markup {
    let with_area = || run.report.frontier.iter().filter_map(|it| Some((it, it.area?)));
    let all: Vec<Interval> = with_area().map(|(_, it)| it.area).collect();
    let Some((_, Area { up_to_kl, .. })) = with_area().next() else {
        return PreEscaped(String::new());
    };
    let rows = html! {
        @for (series, Area { area, .. }) in with_area() {
            @let policy = run.policy(&series.objective);
            tr {
                th scope="row" { (policy.style.swatch()) (policy.label()) }
                td { (interval_bar(&area, &all, policy.style)) }
                (cell(Some(&area), number))
            }
        }
    };
    let caption = format!(
        "Area under the frontier, above SFT, over KLs from 0 to {}, which all reach",
        number(up_to_kl, 2)
    );
    table(&caption, &["Policy", "95 % interval", "Reward × nats"], 2..9, rows)
}

/// Bars of wins, ties and losses, a table for each judge.
pub fn win_rates(run: &Run) -> Option<Markup> {
    let mut judges: Vec<&str> = Vec::new();
    for it in &run.report.win_rates {
        if !judges.contains(&it.judge.as_str()) {
            judges.push(&it.judge);
        }
    }
    let header =
        ["Policy", "Against", "Won, tied, lost", "Win rate", "Counts", "Prompts to tell apart"];
    let of_judge = |judge: &str| {
        html! {
            @for it in run.report.win_rates.iter().filter(|it| it.judge == judge) {
                (win_rate(it, run))
            }
        }
    };
    (!judges.is_empty()).then(|| html! {
        p class="note" {
            "One sample a prompt; a tie counts half, and “by order” are the ties in which the order of the \
             answers decided. The line over each bar is the rate’s 95 % Wilson interval. The last column is \
             how many prompts would tell the two apart with 80 % power."
        }
        @for judge in judges {
            (table(&format!("Judged by {judge}"), &header, 3..9, of_judge(judge)))
        }
    })
}

fn win_rate(it: &WinRateRow, run: &Run) -> Markup {
    let policy = run.policy(&it.policy);
    html! {
        tr {
            th scope="row" { (policy.style.swatch()) (policy.label()) }
            td { (run.policy(&it.opponent).label()) }
            td { (win_bar(it, policy.style)) }
            (cell(Some(&it.rate), number))
            td class="n" {
                (it.wins) " · " (it.ties) " · " (it.losses)
                @if it.order_dependent > 0 {
                    " " span class="bounds" { (it.order_dependent) " by order" }
                }
                @if it.no_verdict > 0 {
                    " " span class="bounds" { (it.no_verdict) " without verdict" }
                }
            }
            td class="n" {
                @match it.prompts_to_tell_apart {
                    Some(prompts) => (prompts),
                    None => "–",
                }
            }
        }
    }
}
