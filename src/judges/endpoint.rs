//! A language model behind an endpoint as a judge, asked in both orders.
//!
//! A comparison that the endpoint refuses (for its content, for its length) has no verdict; the other
//! comparisons have theirs. The work ends when the endpoint refuses too many comparisons, or all.

use std::path::Path;

use serde_json::{Value, json};

use super::asker::{Asker, Heard, Questions, Wanted};
use super::refused::Refused;
use super::template::{REMINDER, Template};
use super::verdict::verdict_in;
use super::{Comparison, Cost, Judge, Judgement};
use crate::config::JudgeSettings;
use crate::evaluation::{BothOrders, Verdict};
use crate::{Error, Result};

/// The verdict of a comparison.
const VERDICT: Wanted<Verdict> = Wanted {
    name: "verdict",
    read: verdict_in,
    reminder: REMINDER,
    advice: "ask in judge.template for a last line such as \"Verdict: A\", or use another judge.model",
    progress: Some("judging"),
};

/// A language model behind an endpoint.
pub struct Endpoint {
    asker: Asker,
    template: Template,
}

impl Endpoint {
    /// The endpoint at `url`; answers are kept under `cache`.
    ///
    /// # Errors
    /// If `url` or the template is none.
    pub fn new(url: &str, settings: &JudgeSettings, cache: &Path) -> Result<Self> {
        let asker = Asker::new(url, settings, cache)?;
        Ok(Self { asker, template: Template::load(&settings.template)? })
    }

    /// Places of the two questions of the comparison at `at`; none where both answers are the same.
    fn questions(
        &self,
        questions: &mut Questions,
        at: usize,
        comparison: &Comparison,
    ) -> Result<Option<[usize; 2]>> {
        let texts = comparison.prompt_text().zip(comparison.answer_texts());
        let (prompt, [a, b]) = texts.ok_or_else(|| {
            Error::usage(
                "--judge openai:URL: expected prompts and answers as text, found token ids alone; an \
                 endpoint reads text only",
            )
        })?;
        if a.trim() == b.trim() {
            return Ok(None);
        }
        let name = comparison.called(at);
        let forward = questions.place(self.template.question(&prompt, &a, &b)?, &name);
        Ok(Some([forward, questions.place(self.template.question(&prompt, &b, &a)?, &name)]))
    }
}

impl Judge for Endpoint {
    fn name(&self) -> String {
        self.asker.name()
    }

    /// Two questions for each comparison, none twice. Answers that are the same text are a tie
    /// without asking.
    fn judge(&mut self, comparisons: &[Comparison]) -> Result<Vec<Judgement>> {
        let mut questions = Questions::default();
        let asked = comparisons
            .iter()
            .enumerate()
            .map(|(at, comparison)| self.questions(&mut questions, at, comparison))
            .collect::<Result<Vec<_>>>()?;
        let mut refused = Refused::new(self.asker.settings().max_refused);
        let note = |at: usize, heard: &Heard<Verdict>| {
            refused.note(questions.name(at), heard.refused.as_ref())
        };
        let heard = self.asker.ask_all(&questions, &VERDICT, note)?;
        refused.check_all(questions.count()).map_err(|message| self.asker.error(message))?;
        Ok(asked
            .into_iter()
            .map(|asked| match asked {
                None => Judgement::new(BothOrders::unordered(Some(Verdict::Tie)), Value::Null),
                Some(orders) => judgement(orders.map(|at| &heard[at])),
            })
            .collect())
    }

    fn cost(&self) -> Option<Cost> {
        Some(self.asker.cost())
    }

    fn left_out(&self) -> Vec<String> {
        self.asker.left_out()
    }
}

/// What was heard in both orders.
fn judgement([forward, backward]: [&Heard<Verdict>; 2]) -> Judgement {
    let both =
        BothOrders { forward: forward.found, backward: backward.found.map(Verdict::swapped) };
    let orders = [forward, backward];
    Judgement {
        refused: orders.iter().find_map(|it| it.refused.as_ref()).map(|it| it.1.clone()),
        is_unanswered: orders.iter().any(|it| it.is_cut || it.is_empty),
        ..Judgement::new(both, json!([forward.text, backward.text]))
    }
}
