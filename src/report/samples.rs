//! The sample browser: one prompt at a time, its completions side by side.

use std::fmt::Write;

use super::pictures::Styles;
use super::schema::{Report, SampleCompletion, SamplePrompt};
use super::text::{Variant, escape, policy_name, signed, variant};

/// Texts longer than this, in letters, are folded.
const LONG: usize = 700;
/// Lines more than this are folded.
const MANY_LINES: usize = 12;
/// As many policies stand side by side unless more are asked for.
const SIDE_BY_SIDE: usize = 5;

/// The browser; none without samples.
pub fn section(report: &Report, styles: &Styles) -> Option<String> {
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
    let policies = policies(report);
    let mut html = String::from(
        r#"<div class="browser" role="group" aria-label="Sample browser"><div class="controls" hidden><button type="button" class="previous" aria-label="Previous prompt">←</button><span class="position" aria-live="polite"></span><button type="button" class="next" aria-label="Next prompt">→</button><input type="search" placeholder="Search prompts and completions" aria-label="Search prompts and completions"></div>"#,
    );
    html.push_str(&choice(&policies, report, styles));
    for (number, it) in report.samples.iter().enumerate() {
        html.push_str(&sample(
            number + 1,
            it,
            (&policies, styles),
            &report.reward_unit,
            |reward| (reward - center) / reach,
        ));
    }
    html.push_str("</div>");
    Some(html)
}

/// The policies of all samples, in the order in which they come.
fn policies(report: &Report) -> Vec<&str> {
    let mut policies: Vec<&str> = Vec::new();
    for completion in report.samples.iter().flat_map(|it| &it.completions) {
        if !policies.contains(&completion.policy.as_str()) {
            policies.push(&completion.policy);
        }
    }
    policies
}

/// Which policies stand side by side, where there are many: at first the untrained and the best of
/// each objective.
fn choice(policies: &[&str], report: &Report, styles: &Styles) -> String {
    if policies.len() <= SIDE_BY_SIDE {
        return String::new();
    }
    let first = leading(policies, report);
    let mut html = String::from(
        r#"<details class="choice" hidden><summary>Which policies stand side by side</summary><div class="toggles" role="group" aria-label="Policies side by side">"#,
    );
    for (index, policy) in policies.iter().enumerate() {
        let _ = write!(
            html,
            r#"<button type="button" class="toggle" data-column="{index}" aria-pressed="{}">{}{}</button>"#,
            first.contains(policy),
            styles.of(policy).swatch(),
            escape(&policy_name(policy)),
        );
    }
    html + "</div></details>"
}

/// What is no variant of an objective, and of each objective the variant with the most reward.
pub fn leading<'a>(policies: &[&'a str], report: &Report) -> Vec<&'a str> {
    let reward = |policy: &str| {
        let row = report.results.iter().find(|row| row.policy == policy);
        row.map_or(f64::NEG_INFINITY, |row| row.reward.mean)
    };
    let base = |policy: &str| variant(policy).map(|Variant { base, .. }| base);
    let is_leading = |policy: &&&str| {
        base(policy).is_none_or(|family| {
            let rivals = policies.iter().filter(|it| base(it) == Some(family));
            // Of several that earn the same, the first.
            let best = rivals.rev().max_by(|a, b| reward(a).total_cmp(&reward(b)));
            best == Some(policy)
        })
    };
    policies.iter().filter(is_leading).copied().collect()
}

fn sample(
    number: usize,
    it: &SamplePrompt,
    (policies, styles): (&[&str], &Styles),
    unit: &str,
    tint: impl Fn(f64) -> f64,
) -> String {
    let mut html = format!(
        r#"<article class="sample"><h3 class="label">Prompt {number}</h3><div class="prompt" dir="auto">{}</div><div class="columns">"#,
        folded(&it.prompt, Kept::End)
    );
    for (index, policy) in policies.iter().enumerate() {
        let mut own = it.completions.iter().filter(|it| it.policy == *policy).peekable();
        if own.peek().is_none() {
            continue;
        }
        let _ = write!(
            html,
            r#"<div class="column" data-column="{index}"><h4>{}{}</h4>"#,
            styles.of(policy).swatch(),
            escape(&policy_name(policy))
        );
        for completion in own {
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
        r#"<div class="completion"><div class="text" dir="auto">{}</div><p class="facts"><span class="chip {side}" style="--tint:{:.2}" title="reward {}">{}</span>{kl}</p></div>"#,
        // The space that joins a completion to its prompt is no part of what is read.
        folded(it.text.strip_prefix(' ').unwrap_or(&it.text), Kept::Beginning),
        if tint.is_finite() { 0.1 + 0.5 * tint.abs().min(1.0) } else { 0.0 },
        escape(unit),
        signed(it.reward, 3),
    )
}

/// Which part of a long text stays in sight.
#[derive(Clone, Copy, PartialEq)]
enum Kept {
    Beginning,
    /// Of a conversation, what was said last.
    End,
}

/// A text with its line breaks; of a long one a part, the rest for who opens it.
fn folded(text: &str, kept: Kept) -> String {
    let text = text.trim_matches('\n');
    if text.is_empty() {
        return r#"<span class="nothing">(nothing)</span>"#.to_owned();
    }
    if text.chars().count() <= LONG && text.lines().count() <= MANY_LINES {
        return escape(text);
    }
    let (head, tail) = text.split_at(seam(text, kept));
    match kept {
        Kept::Beginning => format!(
            r#"{}<details class="rest"><summary>… {} more</summary>{}</details>"#,
            escape(head.trim_end()),
            size(tail),
            escape(tail.trim_start_matches('\n'))
        ),
        Kept::End => format!(
            r#"<details class="rest"><summary>{} before this …</summary>{}</details>{}"#,
            size(head),
            escape(head.trim_end()),
            escape(tail.trim_start_matches('\n'))
        ),
    }
}

/// Where to part a long text: about two thirds of what may stand from the end that is kept, at a
/// line's or else a word's boundary.
fn seam(text: &str, kept: Kept) -> usize {
    let letters = LONG * 2 / 3;
    let lines = MANY_LINES * 2 / 3;
    // Byte places at which a letter begins, and after how many line breaks.
    let mut places: Vec<(usize, char)> = text.char_indices().collect();
    if kept == Kept::End {
        places.reverse();
    }
    let mut breaks = 0;
    let limit = places
        .iter()
        .position(|(_, letter)| {
            breaks += usize::from(*letter == '\n');
            breaks >= lines
        })
        .unwrap_or(places.len())
        .min(letters)
        .min(places.len() - 1);
    // The last boundary before the limit, a line's if it is not too far back.
    let within = &places[..=limit];
    let last = |wanted: fn(char) -> bool| within.iter().rposition(|(_, letter)| wanted(*letter));
    let line = last(|it| it == '\n').filter(|at| *at * 2 > limit);
    let at = line.or_else(|| last(char::is_whitespace)).unwrap_or(limit);
    places[at].0
}

fn size(text: &str) -> String {
    match text.trim_matches('\n').lines().count() {
        0 | 1 => format!("{} words", text.split_whitespace().count()),
        lines => format!("{lines} lines"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands in the text, folded or not.
    fn words(html: &str) -> Vec<String> {
        let mut text = String::new();
        let mut rest = html;
        while let Some((before, after)) = rest.split_once("<summary>") {
            text += before;
            rest = after.split_once("</summary>").unwrap().1;
        }
        text += rest;
        let text = text.replace("<details class=\"rest\">", " ").replace("</details>", " ");
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_long_text_is_folded_and_loses_no_word() {
        let sentence = "One two three four five six seven. ";
        for text in [
            sentence.repeat(60),
            "short line\n".repeat(40),
            "Human: how?\n\nAssistant: so.\n\n".repeat(12),
            "é".repeat(3000),
            format!("{}\n{}", "x".repeat(900), "y".repeat(900)),
        ] {
            for kept in [Kept::Beginning, Kept::End] {
                let html = folded(&text, kept);
                assert!(html.contains("<details"), "{text}");
                let expected: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
                let found = words(&html);
                assert_eq!(found.concat(), expected.concat());
            }
        }
    }

    #[test]
    fn of_a_conversation_the_last_turn_stays_in_sight() {
        let text = format!(
            "{}\n\nHuman: and the last?\n\nAssistant:",
            "Human: hm.\n\nAssistant: yes.\n\n".repeat(20)
        );
        let html = folded(&text, Kept::End);
        let (_, seen) = html.split_once("</details>").unwrap();
        assert!(seen.contains("Human: and the last?\n\nAssistant:"), "{seen}");
        assert!(html.starts_with(r#"<details class="rest"><summary>"#));
    }

    #[test]
    fn a_short_text_is_as_it_is() {
        assert_eq!(folded("a\nb", Kept::End), "a\nb");
        assert!(folded("\n", Kept::Beginning).contains("(nothing)"));
    }
}
