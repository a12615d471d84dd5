//! A language model behind an endpoint as a judge: asked in both orders at temperature 0, by several
//! threads, every answer kept.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use serde_json::{Value, json};

use super::answers::{Answer, Answers};
use super::client::Client;
use super::template::{Template, verdict_in};
use super::{Comparison, Cost, Judge, Judgement};
use crate::config::JudgeSettings;
use crate::evaluation::{BothOrders, Verdict};
use crate::progress::Progress;
use crate::{Error, Result, interrupt};

/// A language model behind an endpoint.
pub struct Endpoint {
    client: Client,
    template: Template,
    answers: Answers,
    settings: JudgeSettings,
    cost: Cost,
}

/// What came of one question.
#[derive(Clone, Debug, Default)]
struct Heard {
    /// A is the answer shown first.
    verdict: Option<Verdict>,
    text: String,
    cost: Cost,
}

impl Endpoint {
    /// The endpoint at `url`; answers are kept under `cache`.
    ///
    /// # Errors
    /// If `url` or the template is none.
    pub fn new(url: &str, settings: &JudgeSettings, cache: &Path) -> Result<Self> {
        let client = Client::new(url, settings)?;
        Ok(Self {
            answers: Answers::new(cache, client.base()),
            template: Template::load(&settings.template)?,
            client,
            settings: settings.clone(),
            cost: Cost::default(),
        })
    }

    /// The answer to one question; asked once more where it holds no verdict.
    fn ask(&self, question: &str) -> Result<Heard> {
        let mut heard = Heard::default();
        for content in [question.to_owned(), Template::again(question)] {
            let answer = self.answer(&content, &mut heard.cost)?;
            heard.verdict = verdict_in(&answer.text);
            heard.text = answer.text;
            if heard.verdict.is_some() {
                break;
            }
        }
        Ok(heard)
    }

    fn answer(&self, content: &str, cost: &mut Cost) -> Result<Answer> {
        let mut request = json!({
            "model": self.settings.model,
            "messages": [{ "role": "user", "content": content }],
            "temperature": 0,
            "stream": false,
        });
        if self.settings.max_tokens > 0 {
            request["max_tokens"] = json!(self.settings.max_tokens);
        }
        let answer = match self.answers.get(&request) {
            Some(answer) => {
                cost.cached += 1;
                answer
            }
            None => {
                let answer = self.client.chat(&request)?;
                self.answers.keep(&request, &answer)?;
                answer
            }
        };
        match answer.tokens {
            Some(tokens) => {
                cost.prompt_tokens += tokens.prompt;
                cost.completion_tokens += tokens.completion;
            }
            None => cost.uncounted += 1,
        }
        Ok(answer)
    }

    /// Asks all questions, several at a time.
    fn ask_all(&self, questions: &[String]) -> Result<Vec<Heard>> {
        let mut heard = vec![Heard::default(); questions.len()];
        let mut failure = None;
        let mut told = false;
        let mut progress = Progress::new("judging", "questions", 0, questions.len());
        let next = AtomicUsize::new(0);
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..self.settings.concurrency.min(questions.len()) {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || self.ask_in_turn(questions, next, &sender));
            }
            drop(sender);
            loop {
                match receiver.recv_timeout(Duration::from_millis(200)) {
                    Ok((at, Ok(answer))) => {
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
        failure.map_or(Ok(heard), Err)
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
}

impl Judge for Endpoint {
    fn name(&self) -> String {
        format!("{} at {}", self.settings.model, self.client.base())
    }

    /// Two questions for each comparison, none twice. Answers that are the same text are a tie
    /// without asking.
    fn judge(&mut self, comparisons: &[Comparison]) -> Result<Vec<Judgement>> {
        let mut questions = Questions::default();
        let asked = comparisons
            .iter()
            .map(|comparison| questions.of(comparison, &self.template))
            .collect::<Result<Vec<_>>>()?;
        let heard = self.ask_all(&questions.all)?;
        for it in &heard {
            self.cost.cached += it.cost.cached;
            self.cost.prompt_tokens += it.cost.prompt_tokens;
            self.cost.completion_tokens += it.cost.completion_tokens;
            self.cost.uncounted += it.cost.uncounted;
        }
        self.cost.requests = self.client.requests();
        Ok(asked
            .into_iter()
            .map(|asked| match asked {
                None => Judgement {
                    both: BothOrders::unordered(Some(Verdict::Tie)),
                    grounds: Value::Null,
                },
                Some([forward, backward]) => Judgement {
                    both: BothOrders {
                        forward: heard[forward].verdict,
                        backward: heard[backward].verdict.map(Verdict::swapped),
                    },
                    grounds: json!([heard[forward].text, heard[backward].text]),
                },
            })
            .collect())
    }

    fn cost(&self) -> Cost {
        self.cost
    }
}

/// Questions, each once.
#[derive(Default)]
struct Questions {
    all: Vec<String>,
    places: HashMap<String, usize>,
}

impl Questions {
    /// Places of the two questions of a comparison; none where both answers are the same.
    fn of(&mut self, comparison: &Comparison, template: &Template) -> Result<Option<[usize; 2]>> {
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
        let forward = self.place(template.question(&prompt, &a, &b)?);
        Ok(Some([forward, self.place(template.question(&prompt, &b, &a)?)]))
    }

    fn place(&mut self, question: String) -> usize {
        *self.places.entry(question).or_insert_with_key(|question| {
            self.all.push(question.clone());
            self.all.len() - 1
        })
    }
}
