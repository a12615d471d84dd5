//! The templates of questions to a judge.

use std::path::Path;

use serde_json::{Map, Value as Json};

use crate::data::jinja::{self, Purpose, Value};
use crate::{Error, Result};

/// What a judge is asked when its answer held no verdict, after the same question once more.
pub(super) const REMINDER: &str = "Give the verdict only, without a reason, in this form: \"Verdict: A\", \"Verdict: B\" or \"Verdict: tie\".";

/// The built-in questions.
const BUILT_IN: [(&str, &str); 4] = [
    ("generic", include_str!("../../assets/templates/generic.txt")),
    ("summarization", include_str!("../../assets/templates/summarization.txt")),
    ("dialogue", include_str!("../../assets/templates/dialogue.txt")),
    ("instruction", include_str!("../../assets/templates/instruction.txt")),
];

/// The built-in question for a grade.
const GRADE: (&str, &str) = ("grade", include_str!("../../assets/templates/grade.txt"));

/// The text of a question, with places for the prompt and for one answer or two.
#[derive(Clone, Debug)]
pub struct Template {
    name: String,
    text: String,
}

impl Template {
    /// The lowest and the highest grade that the built-in question asks for.
    pub(super) const GRADES: [f64; 2] = [1.0, 10.0];

    /// A built-in template of comparisons by its name, or one from a file.
    ///
    /// # Errors
    /// If there is none, or it does not show prompt and answers.
    pub fn load(name: &str) -> Result<Self> {
        let template = Self::read(name, &BUILT_IN, "judge.template")?;
        let marks = ["<the prompt>", "<the first>", "<the second>"];
        let shown = template.question(marks[0], marks[1], marks[2])?;
        template.showing(&shown, ["{{ prompt }}", "{{ a }}", "{{ b }}"].into_iter().zip(marks))
    }

    /// The built-in template of grades, `grade`, or one from a file.
    ///
    /// # Errors
    /// If there is none, or it does not show prompt and completion. What fields of records it shows is not
    /// known before.
    pub fn load_grade(name: &str) -> Result<Self> {
        let template = Self::read(name, &[GRADE], "reward.template")?;
        let text = template.text.replace(' ', "");
        let shows =
            |name: &str| ["{{", "{{-"].iter().any(|open| text.contains(&format!("{open}{name}")));
        match ["prompt", "completion"].into_iter().find(|name| !shows(name)) {
            None => Ok(template),
            Some(name) => Err(template.lacks(&format!("{{{{ {name} }}}}"))),
        }
    }

    /// The grades that the question asks for; none where only its author knows.
    pub fn scale(&self) -> Option<[f64; 2]> {
        (self.name == GRADE.0).then_some(Self::GRADES)
    }

    fn read(name: &str, built_in: &[(&str, &str)], setting: &str) -> Result<Self> {
        let known = built_in.iter().find(|it| it.0 == name).map(|it| it.1.to_owned());
        let text = match known {
            Some(text) => text,
            None if Path::new(name).is_file() => {
                std::fs::read_to_string(name).map_err(Error::io(name, "read"))?
            }
            None => {
                let names: Vec<&str> = built_in.iter().map(|it| it.0).collect();
                let one_of = if names.len() > 1 { "one of " } else { "" };
                return Err(Error::usage(format!(
                    "`{setting}`: expected {one_of}{} or a file, found `{name}`",
                    names.join(", ")
                )));
            }
        };
        Ok(Self { name: name.to_owned(), text })
    }

    /// Itself, where `shown` holds the mark of every place.
    fn showing<'a>(
        self,
        shown: &str,
        mut places: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self> {
        match places.find(|(_, mark)| !shown.contains(mark)) {
            None => Ok(self),
            Some((place, _)) => Err(self.lacks(place)),
        }
    }

    fn lacks(&self, place: &str) -> Error {
        let message = format!("expected a template with {place} in it, found none; add it");
        Error::file(&self.name, message)
    }

    /// The question which of two answers is better, `a` shown first.
    ///
    /// # Errors
    /// If the template does something that cannot be done.
    pub fn question(&self, prompt: &str, a: &str, b: &str) -> Result<String> {
        self.filled(|| {
            let texts = [("prompt", prompt), ("a", a), ("b", b)];
            texts.map(|(name, text)| (name.to_owned(), Value::text(text.trim()))).into()
        })
    }

    /// The question how good a completion is; `others` are further fields of its record.
    ///
    /// # Errors
    /// If the template does something that cannot be done, such as to show a field that the record lacks.
    pub fn grade_question(
        &self,
        prompt: &str,
        completion: &str,
        others: &Map<String, Json>,
    ) -> Result<String> {
        self.filled(|| {
            let texts = [("prompt", prompt), ("completion", completion)];
            let given = others.iter().filter(|(_, value)| !value.is_null());
            let others = given.map(|(name, value)| (name.clone(), Value::from_json(value)));
            let texts = texts.map(|(name, text)| (name.to_owned(), Value::text(text.trim())));
            others.chain(texts).collect()
        })
    }

    fn filled(&self, variables: impl Fn() -> Vec<(String, Value)> + Sync) -> Result<String> {
        jinja::parse_question(&self.text)
            .and_then(|template| jinja::render(&template, variables, Purpose::Question))
            .map_err(|fault| {
                Error::file(
                    &self.name,
                    format!("cannot be filled in: {fault}; correct the template"),
                )
            })
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
            assert_eq!(verdict_in(&format!("{question}\n\n{REMINDER}")), None);
        }
    }

    fn filled(text: &str) -> String {
        let template = Template { name: "mine.txt".to_owned(), text: text.to_owned() };
        let shown = template.question(" p ", "a\n", "b").map_err(|error| error.to_string());
        shown.unwrap_or_else(|error| error)
    }

    #[test]
    fn a_template_is_filled_in_as_it_is_written() {
        let text = "<{{ prompt }}>\n  {% if a %}\n{{ a }} & {{ b | upper }}\n{% endif %}\n.\n";
        assert_eq!(filled(text), "<p>\n  \na & B\n\n.");
        assert_eq!(filled("{%- if c is not defined %}{{ c | default('-') }}{% endif %}"), "-");
        for text in [
            "{{ c }}",
            "{{ c ~ a }}",
            "{{ c | trim }}",
            "{{ a.c }}",
            "{{ not c }}",
            "{{ a and c }}",
            "{{ a if c }}",
            "{% if c %}{% endif %}",
            "{% for it in c %}{% endfor %}",
            "{% for it in [1] if c %}{% endfor %}",
        ] {
            assert!(filled(text).starts_with("mine.txt: cannot be filled in: "), "{text}");
        }
    }

    #[test]
    fn a_template_that_would_take_the_machine_is_stopped() {
        let again = |what: &str| {
            format!(
                "{{% set ns = namespace(t=[1]) %}}{{% for i in range(9999) %}}{what}{{% endfor %}}"
            )
        };
        for (text, limit) in [
            (again("{% for j in range(9999) %}{% endfor %}"), "does not end within"),
            (again("{% set ns.t = ns.t + ns.t %}"), "longer than"),
            (again("{% set ns.t = [ns.t] %}"), "deep in each other"),
            ("{{ a * 999999999 }}".to_owned(), "longer than"),
            ("{{ [a] | tojson(indent=999999999) }}".to_owned(), "longer than"),
            ("{{ '%999999999s' % a }}".to_owned(), "wider than"),
            (format!("{{{{ a{} }}}}", ".b".repeat(100_000)), "behind each other"),
            ("{% include '/etc/hostname' %}".to_owned(), "needs another template"),
            ("{{ strftime_now('%c') }}".to_owned(), "of chat templates"),
        ] {
            let found = filled(&text);
            assert!(found.contains(limit) && found.len() < 300, "{text:.60}: {found:.300}");
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
        insta::assert_snapshot!(refusal("{{ promt }}"), @"mine.txt: cannot be filled in: 'promt' is undefined; correct the template");
        insta::assert_snapshot!(Template::load("poetry").unwrap_err(), @"`judge.template`: expected one of generic, summarization, dialogue, instruction or a file, found `poetry`");
    }
}
