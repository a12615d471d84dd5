//! Questions put to an endpoint by several threads. Every answer is kept.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use serde_json::Value;

use super::Cost;
use super::answers::{Answer, Answers};
use super::client::{Client, Failure};
use super::parameters::{Parameters, Remedy};
use super::refusal::Kind;
use super::reply::End;
use crate::config::JudgeSettings;
use crate::progress::Progress;
use crate::secrets::without_keys;
use crate::{Error, Result, interrupt};

/// Puts questions to an endpoint.
pub struct Asker {
    client: Client,
    parameters: Parameters,
    answers: Answers,
    settings: JudgeSettings,
    cost: Cost,
    left_out: BTreeSet<String>,
}

/// What is looked for in answers.
pub struct Wanted<T> {
    /// What answers hold, as messages call it.
    pub name: &'static str,
    /// Finds it.
    pub read: fn(&str) -> Option<T>,
    /// What is said after the same question where the answer did not hold it.
    pub reminder: &'static str,
    /// What to do where answers do not hold it.
    pub advice: &'static str,
    /// What a bar of progress says; none: there is no bar.
    pub progress: Option<&'static str>,
}

/// What to do where the words of replies stand where servers put reasoning.
pub const REASONED: &str = "check the server's reasoning parser, or turn reasoning off, such as with --set \
                            judge.extra.chat_template_kwargs={enable_thinking=false}";

/// What came of one question.
#[derive(Clone, Debug)]
pub struct Heard<T> {
    /// What the answer holds.
    pub found: Option<T>,
    /// The answer.
    pub text: String,
    /// Why the endpoint does not answer it.
    pub refused: Option<(Kind, String)>,
    /// The last reply was cut at the limit of its tokens.
    pub is_cut: bool,
    /// The last reply said nothing.
    pub is_empty: bool,
    /// All that the last reply said stands where servers put reasoning; it counts as empty, too.
    pub is_reasoned: bool,
    cost: Cost,
    left_out: Vec<String>,
}

impl<T> Default for Heard<T> {
    fn default() -> Self {
        Self {
            found: None,
            text: String::new(),
            refused: None,
            is_cut: false,
            is_empty: false,
            is_reasoned: false,
            cost: Cost::default(),
            left_out: Vec::new(),
        }
    }
}

impl<T> Heard<T> {
    /// The end of the answer, for people.
    pub fn ending(&self) -> String {
        const SHOWN: usize = 80;
        let last = self.text.trim().lines().next_back().unwrap_or_default();
        last.chars().skip(last.chars().count().saturating_sub(SHOWN)).collect()
    }

    /// Whether the answer is whole and does not hold what is wanted.
    fn is_other(&self) -> bool {
        self.found.is_none() && self.refused.is_none() && !self.is_cut && !self.is_empty
    }
}

impl Asker {
    /// Of the endpoint at `url`; answers are kept under `cache`.
    ///
    /// # Errors
    /// If `url` is none.
    pub fn new(url: &str, settings: &JudgeSettings, cache: &Path) -> Result<Self> {
        let client = Client::new(url, settings)?;
        Ok(Self {
            answers: Answers::new(cache, &client.address().identity()),
            parameters: Parameters::new(settings),
            client,
            settings: settings.clone(),
            cost: Cost::default(),
            left_out: BTreeSet::new(),
        })
    }

    /// The endpoint's address, as messages show it.
    pub fn base(&self) -> &str {
        &self.client.address().base
    }

    /// Its name in reports.
    pub fn name(&self) -> String {
        format!("{} at {}", self.settings.model, self.base())
    }

    /// How it is asked.
    pub fn settings(&self) -> &JudgeSettings {
        &self.settings
    }

    /// The cost of asking so far.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Settings that answers were given without.
    pub fn left_out(&self) -> Vec<String> {
        self.left_out.iter().cloned().collect()
    }

    /// An error that names the endpoint.
    pub fn error(&self, message: String) -> Error {
        self.client.error(message)
    }

    /// The answer to one question; asked once more where the wanted is missing.
    fn ask<T>(&self, question: &str, wanted: &Wanted<T>) -> Result<Heard<T>> {
        let mut heard = Heard::default();
        for content in [question.to_owned(), wanted.again(question)] {
            self.hear(&content, wanted, &mut heard)?;
            if heard.found.is_some() || heard.refused.is_some() {
                break;
            }
        }
        Ok(heard)
    }

    /// Puts one question, whose answer may be kept from before.
    fn hear<T>(&self, content: &str, wanted: &Wanted<T>, heard: &mut Heard<T>) -> Result<()> {
        let as_set = self.parameters.request(content, Default::default());
        (heard.is_cut, heard.is_empty, heard.is_reasoned) = (false, false, false);
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
            heard.found = (wanted.read)(&answer.text);
        }
        heard.left_out.extend(answer.left_out);
        // An answer that was kept by an earlier version may hold the key.
        heard.text = without_keys(&answer.text).into_owned();
        Ok(())
    }

    /// Takes note of how a reply ended, and keeps it where it is whole and says something.
    fn listen<T>(
        &self,
        mut answer: Answer,
        end: &End,
        as_set: &Value,
        heard: &mut Heard<T>,
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
            End::Reasoned => (heard.is_empty, heard.is_reasoned) = (true, true),
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

    /// Asks all questions, several at a time; `note` hears what came of each, with its place, and ends the work
    /// with a message.
    ///
    /// # Errors
    /// If the endpoint cannot be asked, and what `note` says.
    pub fn ask_all<T: Clone + Send>(
        &mut self,
        questions: &Questions,
        wanted: &Wanted<T>,
        mut note: impl FnMut(usize, &Heard<T>) -> Result<(), String>,
    ) -> Result<Vec<Heard<T>>> {
        let heard = self.ask_each(questions, wanted, &mut note)?;
        self.account(&heard, wanted);
        Ok(heard)
    }

    fn ask_each<T: Clone + Send>(
        &self,
        questions: &Questions,
        wanted: &Wanted<T>,
        note: &mut impl FnMut(usize, &Heard<T>) -> Result<(), String>,
    ) -> Result<Vec<Heard<T>>> {
        let count = questions.all.len();
        let mut heard = vec![Heard::default(); count];
        let mut failure = None;
        let mut told = false;
        let mut progress = wanted.progress.map(|what| Progress::new(what, "questions", 0, count));
        let next = AtomicUsize::new(0);
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            for started in 0..self.settings.concurrency.min(count) {
                let (own, next) = (sender.clone(), &next);
                let ask = move || self.ask_in_turn(&questions.all, wanted, next, &own);
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
                        if let Err(message) = note(at, &answer) {
                            self.client.stop();
                            failure.get_or_insert(self.client.error(message));
                        }
                        heard[at] = answer;
                        progress.iter_mut().for_each(|bar| bar.advance(1, ""));
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
        progress.into_iter().for_each(Progress::finish);
        interrupt::check()?;
        failure.map_or(Ok(heard), Err)
    }

    /// Asks the questions that nobody else has taken, until one cannot be asked.
    fn ask_in_turn<T>(
        &self,
        questions: &[String],
        wanted: &Wanted<T>,
        next: &AtomicUsize,
        sender: &mpsc::Sender<(usize, Result<Heard<T>>)>,
    ) {
        while !self.client.is_stopped() {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(question) = questions.get(at) else { break };
            let outcome = self.ask(question, wanted);
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
    fn account<T>(&mut self, heard: &[Heard<T>], wanted: &Wanted<T>) {
        let Wanted { name, advice, .. } = wanted;
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
                "{base}: {cut} of {} replies were cut short and are no {name}s; what cuts them is {}",
                heard.len(),
                self.parameters.limit_setting()
            );
        }
        let reasoned = heard.iter().filter(|it| it.is_reasoned).count();
        if reasoned > 0 {
            tracing::warn!(
                "{base}: {reasoned} of {} replies are no {name}s, since all their words stand in \
                 `reasoning_content` or `reasoning`, and none in `content`; {REASONED}",
                heard.len()
            );
        }
        let empty = heard.iter().filter(|it| it.is_empty && !it.is_reasoned).count();
        if empty > 0 {
            tracing::warn!(
                "{base}: {empty} of {} replies said nothing and are no {name}s; the same command asks \
                 again",
                heard.len()
            );
        }
        let is_any_found = heard.iter().any(|it| it.found.is_some());
        if let Some(other) = heard.iter().find(|it| it.is_other()).filter(|_| !is_any_found) {
            tracing::warn!(
                "{base}: none of {} replies holds a {name}; one ends with {:?}; {advice}",
                heard.len(),
                other.ending()
            );
        }
    }
}

impl<T> Wanted<T> {
    /// The question once more.
    fn again(&self, question: &str) -> String {
        format!("{question}\n\n{}", self.reminder)
    }
}

/// Questions, each once.
#[derive(Default)]
pub struct Questions {
    all: Vec<String>,
    /// What each is called by whoever asks it first.
    asked_by: Vec<String>,
    places: HashMap<String, usize>,
}

impl Questions {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// What the question at a place is called by whoever asks it first.
    pub fn name(&self, place: usize) -> &str {
        &self.asked_by[place]
    }

    /// The place of a question that `name` asks.
    pub fn place(&mut self, question: String, name: &str) -> usize {
        *self.places.entry(question).or_insert_with_key(|question| {
            self.all.push(question.clone());
            self.asked_by.push(name.to_owned());
            self.all.len() - 1
        })
    }
}
