//! The sample browser: one prompt at a time, its completions side by side.

use maud::{Markup, html};

use super::runs::{Policy, Run};
use super::schema::{SampleCompletion, SamplePrompt};
use super::text::signed;

/// Texts longer than this, in letters, are folded.
const LONG: usize = 700;
/// Lines more than this are folded.
const MANY_LINES: usize = 12;
/// As many policies stand side by side unless more are asked for.
const SIDE_BY_SIDE: usize = 5;

/// The browser; none without samples.
pub fn section(run: &Run) -> Option<Markup> {
    let samples = &run.report.samples;
    if samples.is_empty() {
        return None;
    }
    let policies = policies(run);
    let tint = Tint::new(samples);
    Some(html! {
        div class="browser" role="group" aria-label="Sample browser" {
            div class="controls" hidden {
                button type="button" class="previous" aria-label="Previous prompt" { "←" }
                span class="position" aria-live="polite" {}
                button type="button" class="next" aria-label="Next prompt" { "→" }
                input type="search" placeholder="Search prompts and completions"
                    aria-label="Search prompts and completions";
            }
            (choice(&policies, run))
            @for (index, it) in samples.iter().enumerate() {
                article class="sample" {
                    h3 class="label" { "Prompt " (index + 1) }
                    div class="prompt" dir="auto" { (folded(&it.prompt, Kept::End)) }
                    div class="columns" {
                        @for (index, policy) in policies.iter().enumerate() {
                            (column(index, policy, it, &run.report.reward_unit, &tint))
                        }
                    }
                }
            }
        }
    })
}

/// How good a reward is beside the others: −1 … 1.
struct Tint {
    center: f64,
    reach: f64,
}

impl Tint {
    /// Around zero where rewards have both signs, else around their middle.
    fn new(samples: &[SamplePrompt]) -> Self {
        let rewards = samples.iter().flat_map(|it| &it.completions).map(|it| it.reward);
        let (low, high) = rewards
            .filter(|reward| reward.is_finite())
            .fold((f64::MAX, f64::MIN), |(low, high), it| (low.min(it), high.max(it)));
        let center = if low < 0.0 && high > 0.0 { 0.0 } else { (low + high) / 2.0 };
        Self { center, reach: (high - center).max(center - low).max(1e-9) }
    }

    fn of(&self, reward: f64) -> f64 {
        (reward - self.center) / self.reach
    }
}

/// The policies of all samples, in the order in which they come.
fn policies(run: &Run) -> Vec<Policy> {
    let mut policies: Vec<Policy> = Vec::new();
    for completion in run.report.samples.iter().flat_map(|it| &it.completions) {
        if !policies.iter().any(|policy| policy.name() == completion.policy) {
            policies.push(run.policy(&completion.policy));
        }
    }
    policies
}

/// Which policies stand side by side, where there are many: at first the untrained and the best of
/// each objective.
fn choice(policies: &[Policy], run: &Run) -> Markup {
    let names: Vec<&str> = policies.iter().map(Policy::name).collect();
    let first = run.leading(&names);
    html! {
        @if policies.len() > SIDE_BY_SIDE {
            details class="choice" hidden {
                summary { "Which policies stand side by side" }
                div class="toggles" role="group" aria-label="Policies side by side" {
                    @for (index, policy) in policies.iter().enumerate() {
                        @let pressed = first.contains(&policy.name()).to_string();
                        button type="button" class="toggle" data-column=(index) aria-pressed=(pressed) {
                            (policy.style.swatch()) (policy.label())
                        }
                    }
                }
            }
        }
    }
}

/// A policy's completions of a prompt; nothing where it has none.
fn column(index: usize, policy: &Policy, it: &SamplePrompt, unit: &str, tint: &Tint) -> Markup {
    let own: Vec<&SampleCompletion> =
        it.completions.iter().filter(|it| it.policy == policy.name()).collect();
    html! {
        @if !own.is_empty() {
            div class="column" data-column=(index) {
                h4 { (policy.style.swatch()) (policy.label()) }
                @for completion in own {
                    (sample_completion(completion, unit, tint.of(completion.reward)))
                }
            }
        }
    }
}

fn sample_completion(it: &SampleCompletion, unit: &str, tint: f64) -> Markup {
    let side = if tint < 0.0 { "bad" } else { "good" };
    let strength = if tint.is_finite() { 0.1 + 0.5 * tint.abs().min(1.0) } else { 0.0 };
    // The space that joins a completion to its prompt is no part of what is read.
    let text = it.text.strip_prefix(' ').unwrap_or(&it.text);
    html! {
        div class="completion" {
            div class="text" dir="auto" { (folded(text, Kept::Beginning)) }
            p class="facts" {
                span class={ "chip " (side) } style={ "--tint:" (format!("{strength:.2}")) }
                    title={ "reward " (unit) } { (signed(it.reward, 3)) }
                @if let Some(kl) = it.kl {
                    span class="kl" { "log-ratio " (signed(kl, 2)) }
                }
            }
        }
    }
}

/// Which part of a long text stays in sight.
#[derive(Clone, Copy, PartialEq)]
enum Kept {
    Beginning,
    /// Of a conversation, what was said last.
    End,
}

/// A text with its line breaks; of a long one a part, the rest for who opens it.
fn folded(text: &str, kept: Kept) -> Markup {
    let text = text.trim_matches('\n');
    if text.is_empty() {
        return html! { span class="nothing" { "(nothing)" } };
    }
    if text.chars().count() <= LONG && text.lines().count() <= MANY_LINES {
        return html! { (text) };
    }
    let (head, tail) = text.split_at(seam(text, kept));
    let (first, rest) = (head.trim_end(), tail.trim_start_matches('\n'));
    match kept {
        Kept::Beginning => html! {
            (first)
            details class="rest" {
                summary { "… " (size(tail)) " more" }
                (rest)
            }
        },
        Kept::End => html! {
            details class="rest" {
                summary { (size(head)) " before this …" }
                (first)
            }
            (rest)
        },
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
    let line = last(|letter| letter == '\n').filter(|at| *at * 2 > limit);
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
                let html = folded(&text, kept).into_string();
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
        let html = folded(&text, Kept::End).into_string();
        let (_, seen) = html.split_once("</details>").unwrap();
        assert!(seen.contains("Human: and the last?\n\nAssistant:"), "{seen}");
        assert!(html.starts_with(r#"<details class="rest"><summary>"#));
    }

    #[test]
    fn a_short_text_is_as_it_is() {
        assert_eq!(folded("a\nb", Kept::End).0, "a\nb");
        assert!(folded("\n", Kept::Beginning).0.contains("(nothing)"));
    }
}
