//! The verdict in a judge's answer. In doubt there is none: a judge can be asked again, but a misread verdict
//! is never noticed.
//!
//! The first of these that the answer holds is read: a JSON object with a verdict; the last line that names
//! its verdict ("Verdict: A", "[[A]]"); the last line that names something like a verdict ("Winner: A"); a
//! last line that is nothing but a verdict ("B", "The answer B is better.").

use serde_json::Value;

use super::said::said;
use super::verdict_words::{is_mark, option, whole};
use crate::evaluation::Verdict;

/// The word that questions ask for.
const STRONG: [&str; 1] = ["verdict"];

/// Words that judges put in its place.
const WEAK: [&str; 14] = [
    "winner",
    "answer",
    "choice",
    "decision",
    "preference",
    "preferred",
    "judgment",
    "judgement",
    "conclusion",
    "selection",
    "pick",
    "better",
    "best",
    "result",
];

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Line {
    /// A verdict under its name; none where what follows is not one.
    Named(Option<Verdict>),
    /// A name with nothing after it.
    Heading,
    /// A verdict under another name.
    Similar(&'static str, Verdict),
    /// Nothing but a verdict.
    Bare(Verdict),
    /// Something else.
    Prose,
}

/// The verdict that an answer holds. A is the answer shown first.
pub fn verdict_in(answer: &str) -> Option<Verdict> {
    let said = said(answer);
    if let Some(verdict) = in_object(&said) {
        return verdict;
    }
    let texts: Vec<&str> = said.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
    let mut lines: Vec<Line> = texts.iter().map(|it| read(it)).collect();
    for (at, line) in lines.iter_mut().enumerate() {
        if *line == Line::Heading {
            *line = Line::Named(texts.get(at + 1).and_then(|next| option(next)));
        }
    }
    let named = |line: &Line| matches!(line, Line::Named(_));
    let similar = |line: &Line| matches!(line, Line::Similar(..));
    let at = (lines.iter().rposition(named))
        .or_else(|| lines.iter().rposition(similar))
        .or_else(|| lines.len().checked_sub(1))?;
    let verdict = lines[at].verdict()?;
    // One option below the other is a list of what could be said; other forms than the one that was
    // asked for are not said twice with a change of mind between.
    let before = match lines[at] {
        Line::Named(_) => &lines[at.saturating_sub(1)..at],
        _ => &lines[..at],
    };
    let is_listed = before.iter().any(|it| it.is_other_option(lines[at], verdict));
    let is_taken_back =
        lines[at + 1..].iter().filter_map(|it| it.verdict()).any(|it| it != verdict);
    (!is_listed && !is_taken_back).then_some(verdict)
}

impl Line {
    fn verdict(self) -> Option<Verdict> {
        match self {
            Self::Named(verdict) => verdict,
            Self::Similar(_, verdict) | Self::Bare(verdict) => Some(verdict),
            Self::Heading | Self::Prose => None,
        }
    }

    /// Whether this says in the same form as `line` something else than `verdict`.
    fn is_other_option(self, line: Self, verdict: Verdict) -> bool {
        let is_same_form = match (self, line) {
            (Self::Named(_), Self::Named(_)) | (Self::Bare(_), Self::Bare(_)) => true,
            (Self::Similar(one, _), Self::Similar(other, _)) => one == other,
            _ => false,
        };
        is_same_form && self.verdict().is_some_and(|it| it != verdict)
    }
}

/// What a line in lower case says.
fn read(line: &str) -> Line {
    let mut found: Vec<Option<Verdict>> = bracketed(line);
    for (before, after) in named(line, &STRONG) {
        match after {
            After::Nothing(has_colon) if found.is_empty() => {
                if has_colon || is_opening(before) {
                    return Line::Heading;
                }
            }
            After::Value(rest) => found.push(option(rest)),
            // "the verdict is hard to give" names none, and "verdict a" is one on a line of its own.
            After::Is(rest) => found.extend(option(rest).map(Some)),
            After::Words(rest) if is_opening(before) => {
                found.extend(whole(rest).map(Some));
            }
            After::Nothing(_) | After::Words(_) => {}
        }
    }
    if let Some(first) = found.first().copied() {
        return Line::Named(if found.iter().all(|it| *it == first) { first } else { None });
    }
    for word in WEAK {
        for (before, after) in named(line, &[word]) {
            // A field of an object that is quoted.
            if before.ends_with('"') {
                continue;
            }
            let (After::Value(rest) | After::Is(rest)) = after else { continue };
            if let Some(verdict) = whole(rest) {
                return Line::Similar(word, verdict);
            }
        }
    }
    whole(line).map_or(Line::Prose, Line::Bare)
}

/// What stands after the name of a verdict.
enum After<'a> {
    /// The line ends, after a colon or the like or without one.
    Nothing(bool),
    /// A colon or the like, and this.
    Value(&'a str),
    /// "is", and this.
    Is(&'a str),
    /// Other words.
    Words(&'a str),
}

/// Where a line has one of the names as a word: what is before it, and what follows.
fn named<'a>(line: &'a str, names: &[&str]) -> Vec<(&'a str, After<'a>)> {
    let mut all = Vec::new();
    for name in names {
        for (at, _) in line.match_indices(name) {
            let (before, rest) = (&line[..at], &line[at + name.len()..]);
            let is_part = before.ends_with(char::is_alphanumeric)
                || rest.starts_with(char::is_alphanumeric)
                // The end of an XML element.
                || before.ends_with("</");
            if !is_part {
                all.push((before, after(rest)));
            }
        }
    }
    all
}

fn after(rest: &str) -> After<'_> {
    const DECORATION: [char; 12] = ['*', '_', '`', '"', '\'', '”', '’', ')', ']', '#', ' ', '\t'];
    let mut rest = rest.trim_start_matches(DECORATION);
    // "Verdict (A, B or tie): B"
    if let Some((_, behind)) = rest.strip_prefix('(').and_then(|it| it.split_once(')')) {
        rest = behind.trim_start_matches(DECORATION);
    }
    let value = rest.trim_start_matches([':', '：', '=', '-', '–', '—', '→', '>']);
    let has_colon = value.len() < rest.len();
    if rest.is_empty() || (has_colon && value.chars().all(is_mark)) {
        return After::Nothing(has_colon);
    }
    if has_colon {
        return After::Value(value);
    }
    match rest.strip_prefix("is ").or_else(|| rest.strip_prefix("is:")) {
        Some(rest) => After::Is(rest),
        None => After::Words(rest),
    }
}

/// Nothing, or words as in "my final verdict".
fn is_opening(before: &str) -> bool {
    let mut words = before.split(is_mark).filter(|it| !it.is_empty());
    words.all(|it| ["my", "the", "final", "overall", "so", "therefore"].contains(&it))
}

/// Verdicts in double brackets: `[[a]]`, `[[tie]]`, `[[a>b]]`, and `[[c]]` for a tie.
fn bracketed(line: &str) -> Vec<Option<Verdict>> {
    let inner = line.split("[[").skip(1).filter_map(|it| it.split_once("]]")).map(|it| it.0.trim());
    inner.map(|it| if it == "c" { Some(Verdict::Tie) } else { whole(it) }).collect()
}

/// What an answer says that ends in a JSON object: its verdict if it names one, whatever it explains.
/// Other names than a verdict's count where the object is all there is.
fn in_object(said: &str) -> Option<Option<Verdict>> {
    let (from, to) = (said.find('{')?, said.rfind('}')?);
    let Value::Object(object) = serde_json::from_str(said.get(from..=to)?).ok()? else {
        return None;
    };
    if !said[to..].chars().all(is_mark) {
        return None;
    }
    let is_all = said[..from].split(is_mark).all(|it| it.is_empty() || it == "json");
    let is_name = |key: &str, names: &[&str]| {
        key.split(is_mark).next_back().is_some_and(|last| names.contains(&last))
    };
    for is_strong in [true, false] {
        let names = if is_strong { STRONG.as_slice() } else { &WEAK };
        if !is_strong && !is_all {
            break;
        }
        let words = if is_strong { option } else { whole };
        let read = |value: &Value| value.as_str().and_then(words);
        let mut all = object.iter().filter(|(key, _)| is_name(key, names)).map(|it| read(it.1));
        if let Some(first) = all.next() {
            return Some(if all.all(|it| it == first) { first } else { None });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::Verdict::{A, B, Tie};
    use super::*;

    #[test]
    fn a_verdict_is_found_as_judges_write_it() {
        for (answer, verdict) in [
            ("B says more and is as short.\nVerdict: B", B),
            ("Verdict: A", A),
            ("VERDICT: B", B),
            ("**Verdict: tie**", Tie),
            ("**Verdict:** A.", A),
            ("**Verdict**: **B**", B),
            ("__Final verdict:__ `A`", A),
            ("### Verdict\n\n**B**", B),
            ("Verdict:\nA", A),
            ("Verdict: A, because it is short", A),
            ("Verdict: A (not B)", A),
            ("Verdict: A — it says more than B.", A),
            ("Verdict: 'B'.", B),
            ("Verdict: A\nThat is my verdict", A),
            ("They sent {\"answer\": \"b\"}.\nVerdict: A", A),
            ("Verdict: Response A is better", A),
            ("Final Verdict: Answer B is clearly better.", B),
            ("Verdict: the reply B is better because it is right", B),
            ("Verdict: B is better than A", B),
            ("Verdict: a tie", Tie),
            ("The verdict is a tie.", Tie),
            ("My verdict is B.", B),
            ("Verdict: it's a draw", Tie),
            ("verdict - Summary B (clearer)", B),
            ("Verdict A", A),
            ("Verdict (A, B or tie): B", B),
            ("Verdict： B", B),
            ("Verdict: [[B]]", B),
            ("Verdict: $\\boxed{A}$", A),
            ("Verdict: A > B", A),
            ("Verdict: A < B", B),
            ("Verdict: A = B", Tie),
            ("Verdict: B >> A", B),
            ("<verdict>B</verdict>", B),
            ("{\"verdict\": \"A\"}", A),
            (
                "```json\n{\"explanation\": \"Verdict: B would be unfair.\", \"verdict\": \"A\"}\n```",
                A,
            ),
            ("{\"winner\": \"Response B\", \"why\": \"A is better in style\"}", B),
            ("{\"final_verdict\": \"tie\", \"score_a\": 7}", Tie),
            ("At first I thought Verdict: A.\nBut no.\nVerdict: B\n", B),
            ("Verdict: A\nAnswer A says more. The other is as short as this verdict.", A),
            ("Verdict: A\n\nReasoning: B is shorter and wrong.", A),
            ("Verdict: A\nVerdict: A", A),
            ("<think>Verdict: A?</think>\nB", B),
            ("My verdict is that B wins", B),
            ("Verdict: tie (both are fine)", Tie),
            ("{\"verdict\": \"Answer A is better because it is short\"}", A),
            ("B is the better answer.", B),
            ("A", A),
            ("b", B),
            ("**A**", A),
            ("[[B]]", B),
            ("The first is wrong, so [[B]] it is.", B),
            ("[[A]] seemed right.\nThen I read on.\nSo it is [[B]].", B),
            ("[[C]]", Tie),
            ("[[A>>B]]", A),
            ("Both are the same.\n\nTie.", Tie),
            ("Answer B", B),
            ("Answer: B", B),
            ("Winner: A\nIt says more.", A),
            ("Final answer: B", B),
            ("Better response: **A**", A),
            ("Let me see.\nThe output A is better.", A),
            ("Therefore, response B is better.", B),
            ("I choose B.", B),
            ("A<|im_end|>", A),
            ("🏆 Verdict: A ✅", A),
            ("**Verdict:** **B** 🎉", B),
            ("Verdict: **B ✔️**", B),
            ("Verdict: tie 🤝", Tie),
            ("Verdict: A 👍🏽 (it is short)", A),
            ("Verdict: A<|im_end|>\n<|im_start|>user\nAnother question?", A),
            ("Verdict: B<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nVerdict: A", B),
            ("Verdict: A</s>\nVerdict: B", A),
        ] {
            assert_eq!(verdict_in(answer), Some(verdict), "{answer}");
        }
    }

    #[test]
    fn what_is_no_verdict_is_not_taken_for_one() {
        for answer in [
            "",
            "I cannot say.",
            "A is better in style than B",
            "A good summary is short.",
            "Verdict: A good answer would say more",
            "Verdict: \"A\" or \"Verdict: B\" or \"Verdict: tie\"",
            "Verdict:",
            "Verdict: AB",
            "Verdict: neither",
            "Verdict: A/B",
            "Verdict: A, B",
            "Verdict: A; B is as good",
            "They sent {\"answer\": \"b\"}",
            "Verdict: A or B",
            "Verdict: A | B | tie",
            "Verdict: A & B are both fine",
            "Verdict: A and B are equal",
            "Verdict: A? No.",
            "Verdict: A's style is worse",
            "Verdict: A: 7, B: 9",
            "Verdict: A=7, B=9",
            "Verdict: A 7/10, B 9/10",
            "Verdict: A (8/10) B (9/10)",
            "Verdict: _A_ (helpfulness), _B_ (style)",
            "Verdict: not A",
            "Verdict: A is not better",
            "Verdict: A is better in style, B in content",
            "Verdict: A is better or equal",
            "Verdict: A. No, B is better.",
            "Verdict: A, although B is better written",
            "Verdict: A (actually B)",
            "Verdict: tie-breaker needed",
            "Verdict: tie, A wins by a hair",
            "Verdict: C",
            "Verdict: hard to say, A or B",
            "Verdict: A >= B",
            "Verdict: A\nOn second thought:\nB",
            "Verdict: A\nNo.\nWinner: B",
            "Verdict: A\nFinal verdict: I cannot decide",
            "\"Verdict: A\" (answer A is better)\n\"Verdict: B\" (answer B is better)\n\"Verdict: tie\" (neither is better)",
            "A\nB",
            "A\nB\ntie",
            "A\n\nA\n\nB\n\nA\n\nA",
            "Style\nWinner: A\nContent\nWinner: B",
            "[[A]] or [[B]]",
            "[[A]]\n[[B]]",
            "Winner: A\nWinner: B",
            "Answer A: good\nAnswer B: bad",
            "Winner of style: A, of content: B",
            "Neither A nor B is better.",
            "{\"verdict\": \"A or B\"}",
            "{\"verdict\": null, \"explanation\": \"Verdict: A\"}",
            "{\"verdict\": \"A\", \"final_verdict\": \"B\"}",
            "<think>Verdict: A",
            "<|channel|>analysis<|message|>Verdict: A",
            "bathtub",
            "Verdict: A ❌",
            "Verdict: A ✅ B ✅",
            "Verdict: A 🤷‍♂️",
            "Verdict: ❌ A",
            "Verdict: A 🆚 B",
            "A ❌",
            "👎 B",
        ] {
            assert_eq!(verdict_in(answer), None, "{answer}");
        }
    }
}
