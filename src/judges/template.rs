//! Questions to a judge.

use std::path::Path;

use crate::data::jinja::{self, Purpose, Value};
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
        let variables = || {
            let texts = [("prompt", prompt), ("a", a), ("b", b)];
            texts.map(|(name, text)| (name.to_owned(), Value::text(text.trim()))).into()
        };
        jinja::parse_question(&self.text)
            .and_then(|template| jinja::render(&template, variables, Purpose::Question))
            .map_err(|fault| {
                Error::file(&self.name, format!("cannot be filled in: {fault}; correct the template"))
            })
    }

    /// The same question for a judge that did not say a verdict.
    pub(super) fn again(question: &str) -> String {
        format!("{question}\n\n{REMINDER}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::verdict_in;
    use super::*;

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
