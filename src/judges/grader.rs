//! A language model behind an endpoint that grades answers, each alone.

use std::path::Path;

use serde_json::{Map, Value};

use super::asker::{Asker, Heard, Questions, REASONED, Wanted};
use super::grade::grade_in;
use super::refusal::Kind;
use super::template::Template;
use crate::config::JudgeSettings;
use crate::secrets::redact;
use crate::{Error, Result};

/// What a grader is asked when its answer held no grade, after the same question once more.
const REMINDER: &str =
    "Give the grade only, without a reason, in this form: \"Grade: N\", where N is a number.";

/// What to do where answers hold no grade.
const ADVICE: &str =
    "ask in reward.template for a last line such as \"Grade: 7\", or use another judge.model";

/// A language model behind an endpoint as a grader.
pub struct Grader {
    asker: Asker,
    template: Template,
}

/// An answer to be graded.
#[derive(Clone, Debug)]
pub struct Answered<'a> {
    /// What messages call it.
    pub name: String,
    /// The prompt as people read it.
    pub prompt: &'a str,
    /// The answer as people read it.
    pub completion: &'a str,
    /// Further fields of its record, which the template may show.
    pub others: &'a Map<String, Value>,
}

impl Grader {
    /// The endpoint at `url`, asked by the `template` of that name; answers are kept under `cache`.
    ///
    /// # Errors
    /// If `url` or the template is none.
    pub fn new(url: &str, settings: &JudgeSettings, template: &str, cache: &Path) -> Result<Self> {
        let asker = Asker::new(url, settings, cache)?;
        Ok(Self { asker, template: Template::load_grade(template)? })
    }

    /// The grade of every answer; none where the endpoint refuses the answer or gives it no grade. Equal questions
    /// are asked once. `refuse` hears of every answer without a grade, by its place, and why; its error ends the work.
    ///
    /// # Errors
    /// If the endpoint cannot be asked, and those of `refuse`. Grades so far are kept.
    pub fn grade(
        &mut self,
        answers: &[Answered<'_>],
        mut refuse: impl FnMut(usize, &str) -> Result<()>,
    ) -> Result<Vec<Option<f64>>> {
        let mut questions = Questions::default();
        let mut places = Vec::with_capacity(answers.len());
        // The answers that each question is asked for.
        let mut asked_for: Vec<Vec<usize>> = Vec::new();
        for (at, Answered { name, prompt, completion, others }) in answers.iter().enumerate() {
            let question = self.template.grade_question(prompt, completion, others);
            let question = question.map_err(|error| Error::usage(format!("{name}: {error}")))?;
            let place = questions.place(question, name);
            asked_for.resize_with(questions.count(), Vec::new);
            asked_for[place].push(at);
            places.push(place);
        }
        let wanted = Wanted {
            name: "grade",
            read: match self.template.scale() {
                Some(_) => |answer| grade_in(answer, Some(Template::GRADES)),
                None => |answer| grade_in(answer, None),
            },
            reminder: REMINDER,
            advice: ADVICE,
            progress: None,
        };
        let base = self.asker.base().to_owned();
        let mut refused = None;
        let note = |place: usize, heard: &Heard<f64>| {
            let Some(why) = why_ungraded(heard) else { return Ok(()) };
            let why = redact(&format!("{base} {why}"));
            for &at in &asked_for[place] {
                if let Err(error) = refuse(at, &why) {
                    refused.get_or_insert(error);
                    return Err(why);
                }
            }
            Ok(())
        };
        let heard = self.asker.ask_all(&questions, &wanted, note);
        let heard = refused.map_or(heard, Err)?;
        Ok(places.into_iter().map(|place| heard[place].found).collect())
    }
}

/// Why there is no grade, and what to do; none where there is one.
fn why_ungraded(heard: &Heard<f64>) -> Option<String> {
    match (&heard.refused, heard.found) {
        (Some((kind @ Kind::Passing, why)), _) => {
            Some(format!("{why}, while it answers others; {}", kind.advice()))
        }
        (Some((kind, why)), _) => {
            Some(format!("refuses to grade it with {why}; {}", kind.advice()))
        }
        (None, None) => Some(format!("gives it no grade, but {}", said(heard))),
        (None, Some(_)) => None,
    }
}

/// What was said instead of a grade, and what to do.
fn said(heard: &Heard<f64>) -> String {
    if heard.is_cut {
        return "a reply that was cut; raise judge.max_tokens, or set it to 0".to_owned();
    }
    if heard.is_reasoned {
        return format!("a reply whose words all stand in its reasoning; {REASONED}");
    }
    if heard.is_empty {
        return "an empty reply; start the command again (grades so far are kept)".to_owned();
    }
    format!("a reply that ends with {:?}; {ADVICE}", heard.ending())
}
