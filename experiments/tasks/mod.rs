//! The differences between the paper's experiments: where the texts come from, how a prompt is built, what
//! a good answer is, and the presets. [`crate::protocol`] has everything that they share.
//!
//! An experiment is one file with its [`Task`], its presets and corpus among the assets, and one line in
//! [`TASKS`].

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
mod task;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

pub use task::{Example, Preset, Task};

/// All experiments.
pub static TASKS: &[&dyn Task] = &[
    &sentiment::Sentiment,
    &summarization::Summarization,
    &dialogue::Dialogue,
    &instruction::Instruction,
];

/// Reads the name of an experiment on the command line.
pub fn task_parser() -> impl TypedValueParser<Value = &'static dyn Task> {
    let names = TASKS.iter().map(|task| PossibleValue::new(task.name()).help(task.about()));
    PossibleValuesParser::new(names).try_map(|name| task(&name).ok_or("no such experiment"))
}

/// The experiment of this name.
pub fn task(name: &str) -> Option<&'static dyn Task> {
    TASKS.iter().copied().find(|task| task.name() == name)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;
    use rand_chacha::ChaCha12Rng;

    use super::*;
    use crate::grammar::{Grammar, UNKNOWN};

    fn examples(task: &dyn Task, count: usize) -> Vec<Example> {
        let grammar = Grammar::parse(task.grammar()).unwrap();
        let mut random = ChaCha12Rng::seed_from_u64(3);
        (0..count).map(|number| task.example(&grammar, number, &mut random).unwrap()).collect()
    }

    #[test]
    fn every_text_is_read_word_for_word_and_the_seam_is_exact() {
        for &task in TASKS {
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
        for &task in TASKS {
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
