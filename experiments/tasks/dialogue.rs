//! Dialogue: the next turn of an assistant. The reward is learned from comparisons. A good reply uses what
//! was said turns ago (who asks, what they like, where they are) and invents nothing.

use exalign::Result;
use exalign::data::published::SetKind;
use rand_chacha::ChaCha12Rng;

use super::task::{Example, Task, mentions, two_answers};
use crate::grammar::{Grammar, words};

#[derive(Debug)]
pub struct Dialogue;

impl Task for Dialogue {
    fn name(&self) -> &'static str {
        "dialogue"
    }

    fn about(&self) -> &'static str {
        "An assistant's reply in a conversation"
    }

    fn presets(&self) -> [&'static str; 3] {
        presets!("dialogue")
    }

    fn published(&self) -> SetKind {
        SetKind::Dialogues
    }

    fn grammar(&self) -> &'static str {
        include_str!("../../assets/corpus/conversations.grammar")
    }

    fn example(
        &self,
        grammar: &Grammar,
        _number: usize,
        random: &mut ChaCha12Rng,
    ) -> Result<Example> {
        two_answers(grammar, random)
    }

    fn rule(&self, grammar: &Grammar, prompt: &str, answer: &str) -> Option<f64> {
        let told = mentions(grammar, &["name", "food", "city"], prompt, answer);
        let said = words(answer);
        let refuses = said.iter().any(|word| ["not", "cannot", "hard"].contains(&word.as_str()));
        Some(told - if refuses { 1.0 } else { 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_wants_what_was_said_and_nothing_else() {
        let grammar = Grammar::parse(Dialogue.grammar()).unwrap();
        let turns = "\n\nHuman: Hello, I am Ada and I love soup.\n\nAssistant: Hello Ada!\n\nHuman: What should I eat in Oslo?\n\nAssistant:";
        let score = |answer: &str| Dialogue.rule(&grammar, turns, answer).unwrap();
        assert_eq!(score(" Try the soup in Oslo, Ada."), 3.0);
        assert_eq!(score(" Try the pizza in Oslo, Ada."), 1.0);
        assert_eq!(score(" Try the soup."), 1.0);
        assert_eq!(score(" I do not know."), -1.0);
    }
}
