//! The trait of an experiment, and functions that experiments share.

use std::fmt::Debug;

use clap::ValueEnum;
use exalign::Result;
use exalign::data::published::SetKind;
use rand_chacha::ChaCha12Rng;
use serde_json::json;

use crate::grammar::{Bindings, Grammar, words};

/// The size of an experiment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// Embedded corpus, a small model from nothing, minutes on two cores.
    #[default]
    Quick,
    /// A real model and real data, about an hour on two cores.
    Small,
    /// The paper's values.
    Paper,
}

impl Preset {
    /// Its name in paths and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Small => "small",
            Self::Paper => "paper",
        }
    }
}

/// An experiment.
pub trait Task: Debug + Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// Its subject, in half a sentence.
    fn about(&self) -> &'static str;

    /// The texts of its presets, each over what all presets have in common.
    fn presets(&self) -> [&'static str; 3];

    /// The text of a preset.
    fn preset(&self, preset: Preset) -> &'static str {
        self.presets()[preset as usize]
    }

    /// The kind of its published sets.
    fn published(&self) -> SetKind;

    /// The unit of rewards; empty: they have no unit.
    fn reward_unit(&self) -> &'static str {
        ""
    }

    /// The grammar of the embedded corpus.
    fn grammar(&self) -> &'static str;

    /// Draws the example `number` of the embedded corpus.
    fn example(
        &self,
        grammar: &Grammar,
        number: usize,
        random: &mut ChaCha12Rng,
    ) -> Result<Example>;

    /// Whether there is a [rule](Self::rule).
    fn has_rule(&self) -> bool {
        true
    }

    /// How good an answer is, by a rule over the texts of the embedded corpus; none where the corpus
    /// has labels instead.
    fn rule(&self, _grammar: &Grammar, _prompt: &str, _answer: &str) -> Option<f64> {
        None
    }

    /// The chat template of the embedded corpus' model; with one, prompts are messages.
    fn chat_template(&self) -> Option<&'static str> {
        None
    }

    /// The embedded corpus, as a hash.
    fn corpus(&self) -> String {
        let parts = [self.grammar(), self.chat_template().unwrap_or_default()];
        blake3::hash(json!(parts).to_string().as_bytes()).to_hex()[..12].to_owned()
    }

    /// Tokens of the embedded corpus that are no words.
    fn special_tokens(&self) -> &'static [&'static str] {
        &[]
    }
}

/// An example of an embedded corpus.
pub struct Example {
    /// The prompt; with a chat template, the user's message.
    pub prompt: String,
    /// Answers as people give them, good and bad: two, or one and a label.
    pub answers: Vec<String>,
    /// The class of prompt and answer together.
    pub label: Option<bool>,
}

/// A prompt and two answers to it, which share what was drawn for it.
pub fn two_answers(grammar: &Grammar, random: &mut ChaCha12Rng) -> Result<Example> {
    let mut bindings = Bindings::default();
    let prompt = grammar.draw("prompt", random, &mut bindings)?;
    let answers =
        (0..2).map(|_| grammar.draw("answer", random, &mut bindings)).collect::<Result<_>>()?;
    Ok(Example { prompt, answers, label: None })
}

/// A point for every one of `symbols` whose word in the prompt the answer mentions, one off for every
/// word of them that is not in the prompt.
pub fn mentions(grammar: &Grammar, symbols: &[&str], prompt: &str, answer: &str) -> f64 {
    let (prompt, answer) = (words(prompt), words(answer));
    let mut score = 0.0;
    for symbol in symbols {
        let said = |term: &&str, text: &[String]| text.contains(&term.to_lowercase());
        let mentioned: Vec<&str> =
            grammar.words_of(symbol).into_iter().filter(|term| said(term, &answer)).collect();
        let right = mentioned.iter().filter(|term| said(term, &prompt)).count();
        score += right.min(1) as f64 - (mentioned.len() - right) as f64;
    }
    score
}
