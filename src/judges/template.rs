//! Questions to a judge, and the verdict in its answer.

use std::path::Path;

use minijinja::{Environment, UndefinedBehavior, context};

use crate::evaluation::Verdict;
use crate::{Error, Result};

/// What a judge is asked when its answer held no verdict, after the same question once more.
const REMINDER: &str = "Give the verdict only, without a reason, in this form: \"Verdict: A\", \"Verdict: B\" or \"Verdict: tie\".";

/// The built-in questions.
const BUILT_IN: [(&str, &str); 4] = [
    ("generic", include_str!("../../assets/templates/generic.txt")),
    ("summarization", include_str!("../../assets/templates/summarization.txt")),
    ("dialogue", include_str!("../../assets/templates/dialogue.txt")),
    ("instruction", include_str!("../../assets/templates/instruction.txt")),
];

/// The text of a question, with places for the prompt and the two answers.
#[derive(Clone, Debug)]
pub struct Template {
    name: String,
    text: String,
}

impl Template {
    /// A built-in template by its name, or one from a file.
    ///
    /// # Errors
    /// If there is none, or it does not show prompt and answers.
    pub fn load(name: &str) -> Result<Self> {
        let built_in = BUILT_IN.iter().find(|it| it.0 == name).map(|it| it.1.to_owned());
        let text = match built_in {
            Some(text) => text,
            None if Path::new(name).is_file() => {
                std::fs::read_to_string(name).map_err(Error::io(name, "read"))?
            }
            None => {
                let names: Vec<&str> = BUILT_IN.iter().map(|it| it.0).collect();
                return Err(Error::usage(format!(
                    "`judge.template`: expected one of {} or a file, found `{name}`",
                    names.join(", ")
                )));
            }
        };
        let template = Self { name: name.to_owned(), text };
        let marks = ["<the prompt>", "<the first>", "<the second>"];
        let shown = template.question(marks[0], marks[1], marks[2])?;
        let places = ["{{ prompt }}", "{{ a }}", "{{ b }}"];
        match places.iter().zip(marks).find(|(_, mark)| !shown.contains(mark)) {
            None => Ok(template),
            Some((place, _)) => Err(Error::file(
                name,
                format!("expected a template with {place} in it, found none; add it"),
            )),
        }
    }

    /// The question which of two answers is better, `a` shown first.
    ///
    /// # Errors
    /// If the template does something that cannot be done.
    pub fn question(&self, prompt: &str, a: &str, b: &str) -> Result<String> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let (prompt, a, b) = (prompt.trim(), a.trim(), b.trim());
        environment.render_str(&self.text, context! { prompt, a, b }).map_err(|error| {
            Error::file(&self.name, format!("cannot be filled in: {error}; correct the template"))
        })
    }

    /// The same question for a judge that did not say a verdict.
    pub(super) fn again(question: &str) -> String {
        format!("{question}\n\n{REMINDER}")
    }
}

/// The verdict that an answer holds: "Verdict: A" on the last line that has one, or nothing but the
/// verdict ("B", "The answer B is better.") on the last line of all. A is the answer shown first.
pub fn verdict_in(answer: &str) -> Option<Verdict> {
    // What a model thinks aloud is not what it says.
    let said = answer.rsplit("</think>").next().unwrap_or(answer).to_lowercase();
    let lines = || said.lines().rev().filter(|line| !line.trim().is_empty());
    let Some(line) = lines().find(|line| line.contains("verdict")) else {
        return word(lines().next()?, true);
    };
    let mut named = line.split("verdict").skip(1).map(|rest| word(rest, false));
    let first = named.next()?;
    // A list of what could be said is no verdict.
    if named.all(|it| it == first) { first } else { None }
}

/// The verdict that a line begins with, marks left out: a word that ends there or before a mark; of a
/// `whole` line, one that has nothing after it or says that it is better.
fn word(line: &str, whole: bool) -> Option<Verdict> {
    const NOUNS: [&str; 6] = ["answer", "summary", "reply", "output", "response", "option"];
    let is_mark = |c: char| !c.is_alphanumeric();
    let mut rest = line.trim_start_matches(is_mark);
    rest = rest.strip_prefix("the ").unwrap_or(rest);
    for noun in NOUNS {
        if let Some(after) = rest.strip_prefix(noun).filter(|it| it.starts_with(is_mark)) {
            rest = after.trim_start_matches(is_mark);
        }
    }
    let end = rest.find(is_mark).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    let ends = match whole {
        true => {
            after.trim_matches(is_mark).is_empty() || after.trim_matches(is_mark) == "is better"
        }
        false => after.trim_start().chars().next().is_none_or(is_mark),
    };
    match word {
        "a" if ends => Some(Verdict::A),
        "b" if ends => Some(Verdict::B),
        "tie" if ends => Some(Verdict::Tie),
        _ => None,
    }
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
            ("**Verdict: tie**", Tie),
            ("**Verdict:** A.", A),
            ("Verdict: A, because it is short", A),
            ("verdict - Summary B (clearer)", B),
            ("{\"verdict\": \"A\"}", A),
            ("At first I thought Verdict: A.\nBut no.\nVerdict: B\n", B),
            ("<think>Verdict: A?</think>\nB", B),
            ("A", A),
            ("[[B]]", B),
            ("Both are the same.\n\nTie.", Tie),
            ("Answer B", B),
            ("Let me see.\nThe output A is better.", A),
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
            "bathtub",
        ] {
            assert_eq!(verdict_in(answer), None, "{answer}");
        }
    }

    #[test]
    fn questions_show_prompt_and_answers_as_they_are_and_ask_for_a_verdict_that_is_read() {
        for (name, _) in BUILT_IN {
            let question = Template::load(name).unwrap();
            let question = question.question("{{ a }} & p", " <first>", "second").unwrap();
            for part in
                ["{{ a }} & p", "<first>", "second", "Verdict: A", "Verdict: B", "Verdict: tie"]
            {
                assert!(question.contains(part), "{name}: {part}");
            }
            assert_eq!(verdict_in(&question), None, "{name}: an echo is no verdict");
            assert_eq!(verdict_in(&Template::again(&question)), None);
        }
    }

    #[test]
    fn a_template_without_a_place_for_an_answer_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.txt");
        let refusal = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let error = Template::load(path.to_str().unwrap()).unwrap_err().to_string();
            error.replace(&format!("{}/", folder.path().display()), "")
        };
        insta::assert_snapshot!(refusal("{{ prompt }} {{ a }}"), @"mine.txt: expected a template with {{ b }} in it, found none; add it");
        assert!(refusal("{{ promt }}").starts_with("mine.txt: cannot be filled in: "));
        insta::assert_snapshot!(Template::load("poetry").unwrap_err(), @"`judge.template`: expected one of generic, summarization, dialogue, instruction or a file, found `poetry`");
    }
}
