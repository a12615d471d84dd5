//! A language model behind an endpoint as a judge, asked in both orders by several threads. Every answer is
//! kept.
//!
//! A comparison that the endpoint refuses (for its content, for its length) has no verdict; the other
//! comparisons have theirs. The work ends when the endpoint refuses too many comparisons, or all.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use serde_json::{Value, json};

use super::answers::{Answer, Answers};
use super::client::{Client, Failure};
use super::parameters::{Parameters, Remedy};
use super::refusal::Kind;
use super::refused::Refused;
use super::reply::End;
use super::template::Template;
use super::verdict::verdict_in;
use super::{Comparison, Cost, Judge, Judgement};
use crate::config::JudgeSettings;
use crate::evaluation::{BothOrders, Verdict};
use crate::progress::Progress;
use crate::secrets::without_keys;
use crate::{Error, Result, interrupt};

/// A language model behind an endpoint.
pub struct Endpoint {
    client: Client,
    parameters: Parameters,
    template: Template,
    answers: Answers,
    settings: JudgeSettings,
    cost: Cost,
    left_out: BTreeSet<String>,
}

/// What came of one question.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard {
    /// A is the answer shown first.
    verdict: Option<Verdict>,
    text: String,
    /// Why the endpoint does not answer it.
    pub(super) refused: Option<(Kind, String)>,
    /// The last reply was cut at the limit of its tokens.
    is_cut: bool,
    /// The last reply said nothing.
    is_empty: bool,
    cost: Cost,
    left_out: Vec<String>,
}

impl Endpoint {
    /// The endpoint at `url`; answers are kept under `cache`.
    ///
    /// # Errors
    /// If `url` or the template is none.
    pub fn new(url: &str, settings: &JudgeSettings, cache: &Path) -> Result<Self> {
        let client = Client::new(url, settings)?;
        Ok(Self {
            answers: Answers::new(cache, &client.address().identity()),
            parameters: Parameters::new(settings),
            template: Template::load(&settings.template)?,
            client,
            settings: settings.clone(),
            cost: Cost::default(),
            left_out: BTreeSet::new(),
        })
    }

    /// The answer to one question; asked once more where it holds no verdict.
    fn ask(&self, question: &str) -> Result<Heard> {
        let mut heard = Heard::default();
        for content in [question.to_owned(), Template::again(question)] {
            self.hear(&content, &mut heard)?;
            if heard.verdict.is_some() || heard.refused.is_some() {
                break;
            }
        }
        Ok(heard)
    }

    /// Puts one question, whose answer may be kept from before.
    fn hear(&self, content: &str, heard: &mut Heard) -> Result<()> {
        let as_set = self.parameters.request(content, Default::default());
        (heard.is_cut, heard.is_empty) = (false, false);
        let answer = match self.answers.get(&as_set) {
            Some(answer) => {
                heard.cost.cached += 1;
                answer
            }
            None => match self.send(content)? {
                Ok((answer, end)) => self.listen(answer, &end, &as_set, heard)?,
                Err(refused) => {
                    heard.refused = Some(refused);
                    return Ok(());
                }
            },
        };
        match answer.tokens {
            Some(tokens) => {
                heard.cost.prompt_tokens += tokens.prompt;
                heard.cost.completion_tokens += tokens.completion;
            }
            None => heard.cost.uncounted += 1,
        }
        if heard.refused.is_none() && !heard.is_cut && !heard.is_empty {
            heard.verdict = verdict_in(&answer.text);
        }
        heard.left_out.extend(answer.left_out);
        // An answer that was kept by an earlier version may hold the key.
        heard.text = without_keys(&answer.text).into_owned();
        Ok(())
    }

    /// Takes note of how a reply ended, and keeps it where it is whole and says something.
    fn listen(
        &self,
        mut answer: Answer,
        end: &End,
        as_set: &Value,
        heard: &mut Heard,
    ) -> Result<Answer> {
        match end {
            End::Whole => {
                heard.is_empty = answer.is_empty();
                self.answers.keep(as_set, &answer)?;
            }
            End::Cut => heard.is_cut = true,
            End::Filtered => {
                heard.refused = Some((Kind::Filter, "its filter took the answer away".to_owned()));
            }
            End::Declined(words) => {
                heard.is_empty = true;
                answer.text.clone_from(words);
            }
        }
        Ok(answer)
    }

    /// Sends one question, without what the endpoint refuses. The outer error ends the work, the
    /// inner one is why this question has no answer.
    #[allow(clippy::type_complexity, reason = "named where it is read")]
    fn send(&self, content: &str) -> Result<std::result::Result<(Answer, End), (Kind, String)>> {
        let mut form = self.parameters.form();
        loop {
            let refusal = match self.client.chat(&self.parameters.request(content, form)) {
                Ok(reply) => {
                    for change in self.parameters.accept(form) {
                        tracing::warn!("{}: {change}", self.client.address().base);
                    }
                    let left_out = self.parameters.left_out(form);
                    return Ok(Ok((Answer { left_out, ..reply.answer }, reply.end)));
                }
                Err(Failure::Ended(error)) => return Err(error),
                Err(Failure::GivenUp(why)) => return Ok(Err((Kind::Passing, why))),
                Err(Failure::Refused(refusal)) => refusal,
            };
            let why = format!("status {} ({})", refusal.status, refusal.said);
            match self.parameters.after(&refusal, form) {
                Remedy::Form(next) => form = next,
                Remedy::None => return Ok(Err((refusal.kind(), why))),
                Remedy::Setting(name) => {
                    let message = format!("refuses with {why}; change {name}");
                    return Err(self.client.error(message));
                }
            }
        }
    }

    /// Asks all questions, several at a time.
    fn ask_all(&self, questions: &Questions) -> Result<Vec<Heard>> {
        let count = questions.all.len();
        let mut heard = vec![Heard::default(); count];
        let mut failure = None;
        let mut told = false;
        let mut refused = Refused::new(self.settings.max_refused);
        let mut progress = Progress::new("judging", "questions", 0, count);
        let next = AtomicUsize::new(0);
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            for started in 0..self.settings.concurrency.min(count) {
                let (own, next) = (sender.clone(), &next);
                let ask = move || self.ask_in_turn(&questions.all, next, &own);
                // Where the system gives no more threads those that there are ask for the others.
                if let Err(error) = std::thread::Builder::new().spawn_scoped(scope, ask) {
                    tracing::warn!("judge.concurrency: {started} questions at a time: {error}");
                    if started == 0 {
                        failure = Some(Error::usage(format!("no thread can be started: {error}")));
                    }
                    break;
                }
            }
            drop(sender);
            loop {
                match receiver.recv_timeout(Duration::from_millis(200)) {
                    Ok((at, Ok(answer))) => {
                        if let Err(message) = refused.note(&questions.asked_by[at], &answer) {
                            self.client.stop();
                            failure.get_or_insert(self.client.error(message));
                        }
                        heard[at] = answer;
                        progress.advance(1, "");
                    }
                    // Those that were stopped by another's failure have no reason of their own.
                    Ok((_, Err(Error::Interrupted))) => {}
                    Ok((_, Err(error))) => _ = failure.get_or_insert(error),
                    Err(RecvTimeoutError::Disconnected) => break,
                    Err(RecvTimeoutError::Timeout) if interrupt::requested() && !told => {
                        tracing::info!("waiting for answers under way; Ctrl-C again does not");
                        told = true;
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                }
            }
        });
        progress.finish();
        interrupt::check()?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        refused.check_all(count).map_err(|message| self.client.error(message))?;
        Ok(heard)
    }

    /// Asks the questions that nobody else has taken, until one cannot be asked.
    fn ask_in_turn(
        &self,
        questions: &[String],
        next: &AtomicUsize,
        sender: &mpsc::Sender<(usize, Result<Heard>)>,
    ) {
        while !self.client.is_stopped() {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(question) = questions.get(at) else { break };
            let outcome = self.ask(question);
            // At once: whoever reads the outcome may not be fast enough.
            if outcome.is_err() {
                self.client.stop();
            }
            if sender.send((at, outcome)).is_err() {
                break;
            }
        }
    }

    /// Adds up what asking has cost, and says what answers lacked.
    fn account(&mut self, heard: &[Heard]) {
        for it in heard {
            self.cost.cached += it.cost.cached;
            self.cost.prompt_tokens += it.cost.prompt_tokens;
            self.cost.completion_tokens += it.cost.completion_tokens;
            self.cost.uncounted += it.cost.uncounted;
            self.left_out.extend(it.left_out.iter().cloned());
        }
        self.cost.requests = self.client.requests();
        let base = &self.client.address().base;
        let cut = heard.iter().filter(|it| it.is_cut).count();
        if cut > 0 {
            tracing::warn!(
                "{base}: {cut} of {} replies were cut short and are no verdicts; what cuts them is {}",
                heard.len(),
                self.parameters.limit_setting()
            );
        }
        let empty = heard.iter().filter(|it| it.is_empty).count();
        if empty > 0 {
            tracing::warn!(
                "{base}: {empty} of {} replies said nothing and are no verdicts; the same command asks \
                 again",
                heard.len()
            );
        }
    }
}

impl Judge for Endpoint {
    fn name(&self) -> String {
        format!("{} at {}", self.settings.model, self.client.address().base)
    }

    /// Two questions for each comparison, none twice. Answers that are the same text are a tie
    /// without asking.
    fn judge(&mut self, comparisons: &[Comparison]) -> Result<Vec<Judgement>> {
        let mut questions = Questions::default();
        let asked = comparisons
            .iter()
            .enumerate()
            .map(|(at, comparison)| questions.of(at, comparison, &self.template))
            .collect::<Result<Vec<_>>>()?;
        let heard = self.ask_all(&questions)?;
        self.account(&heard);
        Ok(asked
            .into_iter()
            .map(|asked| match asked {
                None => Judgement::new(BothOrders::unordered(Some(Verdict::Tie)), Value::Null),
                Some(orders) => judgement(orders.map(|at| &heard[at])),
            })
            .collect())
    }

    fn cost(&self) -> Option<Cost> {
        Some(self.cost)
    }

    fn left_out(&self) -> Vec<String> {
        self.left_out.iter().cloned().collect()
    }
}

/// What was heard in both orders.
fn judgement([forward, backward]: [&Heard; 2]) -> Judgement {
    let both =
        BothOrders { forward: forward.verdict, backward: backward.verdict.map(Verdict::swapped) };
    let orders = [forward, backward];
    Judgement {
        refused: orders.iter().find_map(|it| it.refused.as_ref()).map(|it| it.1.clone()),
        is_unanswered: orders.iter().any(|it| it.is_cut || it.is_empty),
        ..Judgement::new(both, json!([forward.text, backward.text]))
    }
}

/// Questions, each once.
#[derive(Default)]
struct Questions {
    all: Vec<String>,
    /// What the comparison is called that asks each of them first.
    asked_by: Vec<String>,
    places: HashMap<String, usize>,
}

impl Questions {
    /// Places of the two questions of the comparison at `at`; none where both answers are the same.
    fn of(
        &mut self,
        at: usize,
        comparison: &Comparison,
        template: &Template,
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
        let forward = self.place(template.question(&prompt, &a, &b)?, &name);
        Ok(Some([forward, self.place(template.question(&prompt, &b, &a)?, &name)]))
    }

    fn place(&mut self, question: String, name: &str) -> usize {
        *self.places.entry(question).or_insert_with_key(|question| {
            self.all.push(question.clone());
            self.asked_by.push(name.to_owned());
            self.all.len() - 1
        })
    }
}
