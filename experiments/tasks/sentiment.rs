//! Sentiment (Ji et al. 2024, section 5.1): continue a film review. The reward is a classifier's log-odds.

use exalign::Result;
use exalign::data::published::SetKind;
use rand::Rng;
use rand_chacha::ChaCha12Rng;

use super::task::{Example, Task};
use crate::grammar::{Bindings, Grammar};

#[derive(Debug)]
pub struct Sentiment;

impl Task for Sentiment {
    fn name(&self) -> &'static str {
        "sentiment"
    }

    /// Its corpus has labels.
    fn has_rule(&self) -> bool {
        false
    }

    fn about(&self) -> &'static str {
        "Film reviews continued with good sentiment"
    }

    fn presets(&self) -> [&'static str; 3] {
        presets!("sentiment")
    }

    fn published(&self) -> SetKind {
        SetKind::Reviews
    }

    fn reward_unit(&self) -> &'static str {
        "log-odds"
    }

    fn grammar(&self) -> &'static str {
        include_str!("../../assets/corpus/reviews.grammar")
    }

    /// A review: a neutral opening, and the rest. The label is whether the writer rated the film well:
    /// as the text says where it is outspoken, in four of five cases where it is lukewarm, so that a
    /// classifier's log-odds are graded. Labels take turns, so both are balanced.
    fn example(
        &self,
        grammar: &Grammar,
        number: usize,
        random: &mut ChaCha12Rng,
    ) -> Result<Example> {
        let label = number.is_multiple_of(2);
        let outspoken = random.random::<bool>();
        let says_so = outspoken || random.random_bool(0.8);
        let strength = match (outspoken, label == says_so) {
            (true, true) => "strong_positive",
            (false, true) => "mild_positive",
            (true, false) => "strong_negative",
            (false, false) => "mild_negative",
        };
        let mut draw = |symbol| grammar.draw(symbol, random, &mut Bindings::default());
        let prompt = draw("opening")?.trim_start().to_owned();
        Ok(Example { prompt, answers: vec![draw(strength)?], label: Some(label) })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;

    use super::*;

    /// How often a logistic regression on the presence of words is right about unseen reviews.
    fn bag_of_words_accuracy(text: fn(&Example) -> &str) -> f64 {
        let grammar = Grammar::parse(Sentiment.grammar()).unwrap();
        let tokenizer = grammar.tokenizer(&[]).unwrap();
        let mut random = ChaCha12Rng::seed_from_u64(5);
        let reviews: Vec<(BTreeSet<u32>, bool)> = (0..5000)
            .map(|number| {
                let review = Sentiment.example(&grammar, number, &mut random).unwrap();
                let encoding = tokenizer.encode(text(&review), false).unwrap();
                (encoding.get_ids().iter().copied().collect(), review.label.unwrap())
            })
            .collect();
        let (train, test) = reviews.split_at(4000);
        let mut weights = vec![0.0; tokenizer.get_vocab_size(true)];
        let score = |weights: &[f64], words: &BTreeSet<u32>| -> f64 {
            words.iter().map(|&word| weights[word as usize]).sum()
        };
        for _ in 0..8 {
            for (words, label) in train {
                let error = 1.0 / (1.0 + (-score(&weights, words)).exp()) - f64::from(*label);
                words.iter().for_each(|&word| weights[word as usize] -= 0.05 * error);
            }
        }
        let right =
            test.iter().filter(|(words, label)| (score(&weights, words) > 0.0) == *label).count();
        right as f64 / test.len() as f64
    }

    #[test]
    fn openings_do_not_tell_the_sentiment() {
        let accuracy = bag_of_words_accuracy(|it| &it.prompt);
        // A coin over 1000 reviews: 0.5 with a deviation of 0.016.
        assert!((accuracy - 0.5).abs() < 0.06, "{accuracy}");
    }

    #[test]
    fn the_sentiment_of_a_review_is_learnable_but_not_by_words_alone() {
        let accuracy = bag_of_words_accuracy(|it| &it.answers[0]);
        assert!((0.85..0.99).contains(&accuracy), "{accuracy}");
    }
}
