//! Judges say which of two answers is better: people, or an endpoint that speaks the OpenAI API. A [`Grader`]
//! says how good one answer is.
//!
//! A [`Judge`] gives every [`Comparison`] a verdict in both orders; [`crate::evaluation`] counts verdicts.
//! Judges are a room of their own because a judge may use the network, and `evaluation` handles numbers
//! alone. Reward models judge in the program, which knows how to run one.
//!
//! Invariants: the key of an endpoint is read from the environment and is in no file, no log and no error; a
//! complete answer with content is kept, and its question is never asked again; an answer that cannot be read
//! for certain gives no verdict.

mod address;
mod answers;
mod asker;
mod client;
mod comparison;
mod connection;
mod endpoint;
mod events;
mod grade;
mod grader;
mod parameters;
mod refusal;
mod refused;
mod reply;
mod said;
mod template;
mod tls;
mod verdict;
mod verdict_words;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Result;
use crate::evaluation::{BothOrders, majority};

pub use comparison::Comparison;
pub use endpoint::Endpoint;
pub use grade::grade_in;
pub use grader::{Answered, Grader};
pub(crate) use said::completion_without_thoughts;
pub use template::Template;
pub use verdict::verdict_in;

/// Says which of two answers to a prompt is better.
pub trait Judge {
    /// The judge's name in reports.
    fn name(&self) -> String;

    /// Its judgement of each comparison, in their order.
    ///
    /// # Errors
    /// If a comparison lacks what this judge reads, or the judge cannot be reached.
    fn judge(&mut self, comparisons: &[Comparison]) -> Result<Vec<Judgement>>;

    /// The cost of asking; none for a judge that uses no network.
    fn cost(&self) -> Option<Cost> {
        None
    }

    /// Settings of the judge that answers were given without, since the endpoint refuses them.
    fn left_out(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The judgement of one comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct Judgement {
    /// Its verdicts.
    pub both: BothOrders,
    /// Their evidence: the two rewards, or the judge's words in both orders; null where nothing
    /// does.
    pub grounds: Value,
    /// Why an endpoint refused to judge it; none where it did not.
    pub refused: Option<String>,
    /// Whether a reply was cut or said nothing, so that asking again may bring a verdict.
    pub is_unanswered: bool,
}

impl Judgement {
    /// Verdicts, and what they rest on.
    pub fn new(both: BothOrders, grounds: Value) -> Self {
        Self { both, grounds, refused: None, is_unanswered: false }
    }
}

/// The cost of asking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Requests sent, repeated ones included.
    pub requests: usize,
    /// Answers that were kept from before.
    pub cached: usize,
    /// Tokens of all questions that were answered, by the endpoint's count, whenever it was.
    pub prompt_tokens: u64,
    /// Tokens of all answers.
    pub completion_tokens: u64,
    /// Answers of which the endpoint did not say the tokens.
    pub uncounted: usize,
}

/// The people who labelled the comparisons: what most of them say.
#[derive(Clone, Copy, Debug, Default)]
pub struct People;

impl Judge for People {
    fn name(&self) -> String {
        "people".to_owned()
    }

    fn judge(&mut self, comparisons: &[Comparison]) -> Result<Vec<Judgement>> {
        let judgement = |it: &Comparison| {
            Judgement::new(BothOrders::unordered(majority(&it.labels)), Value::Null)
        };
        Ok(comparisons.iter().map(judgement).collect())
    }
}
