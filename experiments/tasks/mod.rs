//! The paper's experiments, as far as they differ: where the texts come from, how a prompt is built,
//! what a good answer is, and the presets. Everything else is [`crate::protocol`].

/// The texts of an experiment's presets, in the order of [`Preset`].
macro_rules! presets {
    ($name:literal) => {
        [
            include_str!(concat!("../../assets/presets/", $name, "/quick.toml")),
            include_str!(concat!("../../assets/presets/", $name, "/small.toml")),
            include_str!(concat!("../../assets/presets/", $name, "/paper.toml")),
        ]
    };
}

mod dialogue;
mod instruction;
mod sentiment;
mod summarization;

use clap::ValueEnum;
use exalign::Result;
use exalign::data::published::SetKind;
use rand_chacha::ChaCha12Rng;

use crate::grammar::{Bindings, Grammar, words};
use crate::run::Preset;

/// An experiment.
pub trait Task: Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// The texts of its presets, each over what all presets have in common.
    fn presets(&self) -> [&'static str; 3];

    /// The text of a preset.
    fn preset(&self, preset: Preset) -> &'static str {
        self.presets()[preset as usize]
    }

    /// What its published sets are.
    fn published(&self) -> SetKind;

    /// What rewards are measured in; empty: in nothing that has a name.
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

    /// How good an answer is, by a rule over the texts of the embedded corpus; none where the corpus
    /// has labels instead.
    fn rule(&self, _grammar: &Grammar, _prompt: &str, _answer: &str) -> Option<f64> {
        None
    }

    /// The chat template of the embedded corpus' model; with one, prompts are messages.
    fn chat_template(&self) -> Option<&'static str> {
        None
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

/// An experiment on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TaskName {
    /// Film reviews with their sentiment.
    Sentiment,
    /// Forum posts and their summaries.
    Summarization,
    /// Conversations with an assistant.
    Dialogue,
    /// Instructions and answers to them.
    Instruction,
}

impl TaskName {
    /// What is particular to it.
    pub fn task(self) -> &'static dyn Task {
        TASKS[self as usize]
    }
}

/// All experiments.
pub static TASKS: [&dyn Task; 4] = [
    &sentiment::Sentiment,
    &summarization::Summarization,
    &dialogue::Dialogue,
    &instruction::Instruction,
];

/// A prompt and two answers to it, which share what was drawn for it.
fn two_answers(grammar: &Grammar, random: &mut ChaCha12Rng) -> Result<Example> {
    let mut bindings = Bindings::default();
    let prompt = grammar.draw("prompt", random, &mut bindings)?;
    let answers =
        (0..2).map(|_| grammar.draw("answer", random, &mut bindings)).collect::<Result<_>>()?;
    Ok(Example { prompt, answers, label: None })
}

/// A point for every one of `symbols` whose word in the prompt the answer mentions, one off for every
/// word of them that is not in the prompt.
fn mentions(grammar: &Grammar, symbols: &[&str], prompt: &str, answer: &str) -> f64 {
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;

    use super::*;
    use crate::grammar::UNKNOWN;

    fn examples(task: &dyn Task, count: usize) -> Vec<Example> {
        let grammar = Grammar::parse(task.grammar()).unwrap();
        let mut random = ChaCha12Rng::seed_from_u64(3);
        (0..count).map(|number| task.example(&grammar, number, &mut random).unwrap()).collect()
    }

    #[test]
    fn every_text_is_read_word_for_word_and_the_seam_is_exact() {
        for task in TASKS {
            let grammar = Grammar::parse(task.grammar()).unwrap();
            let tokenizer = grammar.tokenizer(task.special_tokens()).unwrap();
            let ids = |text: &str| tokenizer.encode(text, false).unwrap().get_ids().to_vec();
            let unknown = tokenizer.token_to_id(UNKNOWN).unwrap();
            assert!(tokenizer.get_vocab_size(true) < 512, "{}", task.name());
            for Example { prompt, answers, .. } in examples(task, 500) {
                for answer in answers {
                    let whole = format!("{prompt}{answer}");
                    assert!(!ids(&whole).contains(&unknown), "{whole}");
                    assert_eq!([ids(&prompt), ids(&answer)].concat(), ids(&whole), "{whole}");
                    assert_eq!(tokenizer.decode(&ids(&whole), true).unwrap(), whole);
                    assert!(ids(&whole).len() < 92, "{whole}");
                }
            }
        }
    }

    #[test]
    fn prompts_vary_and_answers_are_good_and_bad() {
        for task in TASKS {
            let grammar = Grammar::parse(task.grammar()).unwrap();
            let examples = examples(task, 2000);
            let prompts: HashSet<&str> = examples.iter().map(|it| it.prompt.as_str()).collect();
            assert!(prompts.len() > 400, "{}: {}", task.name(), prompts.len());
            let scores: Vec<f64> = examples
                .iter()
                .flat_map(|it| it.answers.iter().map(move |answer| (it, answer)))
                .filter_map(|(it, answer)| task.rule(&grammar, &it.prompt, answer))
                .collect();
            if !scores.is_empty() {
                let mean = scores.iter().sum::<f64>() / scores.len() as f64;
                let spread = scores.iter().map(|it| (it - mean).powi(2)).sum::<f64>();
                assert!((spread / scores.len() as f64).sqrt() > 1.0, "{}", task.name());
            }
        }
    }
}
