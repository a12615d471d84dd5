//! Summarization: forum posts, each with a summary. The reward is learned from comparisons. A good summary
//! says who, what, where and what the writer wants, is correct, and is short.

use exalign::Result;
use exalign::data::published::SetKind;
use rand_chacha::ChaCha12Rng;

use super::task::{Example, Task, mentions, two_answers};
use crate::grammar::{Grammar, words};

#[derive(Debug)]
pub struct Summarization;

/// Words that a summary may have at no cost.
const ROOM: usize = 15;

impl Task for Summarization {
    fn name(&self) -> &'static str {
        "summarization"
    }

    fn about(&self) -> &'static str {
        "Forum posts summarized"
    }

    fn presets(&self) -> [&'static str; 3] {
        presets!("summarization")
    }

    fn published(&self) -> SetKind {
        SetKind::Posts
    }

    fn grammar(&self) -> &'static str {
        include_str!("../../assets/corpus/posts.grammar")
    }

    fn example(
        &self,
        grammar: &Grammar,
        _number: usize,
        random: &mut ChaCha12Rng,
    ) -> Result<Example> {
        let Example { prompt, answers, label } = two_answers(grammar, random)?;
        Ok(Example { prompt: prompt.trim_start().to_owned(), answers, label })
    }

    fn rule(&self, grammar: &Grammar, prompt: &str, answer: &str) -> Option<f64> {
        let content = mentions(grammar, &["person", "object", "place", "wish"], prompt, answer);
        let too_long = words(answer).len().saturating_sub(ROOM);
        Some(content - 0.2 * too_long as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_counts_what_is_right_and_wrong_and_too_long() {
        let grammar = Grammar::parse(Summarization.grammar()).unwrap();
        let post = "TITLE: Broken lamp\nPOST: My sister broke my lamp at the party. Should I hide it?\nTL;DR:";
        let score = |answer: &str| Summarization.rule(&grammar, post, answer).unwrap();
        assert_eq!(score(" My sister broke my lamp at the party, should I hide it?"), 4.0);
        assert_eq!(score(" My lamp is broken."), 1.0);
        assert_eq!(score(" My brother broke my lamp at the beach."), -1.0);
        let long = format!(" My lamp is broken.{}", " It rained all day.".repeat(4));
        assert!((score(&long) - (1.0 - 0.2 * 5.0)).abs() < 1e-12);
    }
}
