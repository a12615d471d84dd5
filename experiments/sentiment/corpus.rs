//! The embedded corpus: short film reviews of known sentiment, drawn from a grammar.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use exalign::{Error, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

const GRAMMAR: &str = include_str!("../../assets/corpus/reviews.grammar");

/// The token that ends a text.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// The token of a word that is not in the corpus.
pub const UNKNOWN: &str = "<|unknown|>";

/// A review: a neutral opening, and the rest, which begins with a comma or a full stop.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Review {
    /// The first words, which do not tell the label.
    pub opening: String,
    /// What follows; opening and rest together are the text.
    pub rest: String,
    /// Whether the writer rated the film well: as the text says where it is outspoken, in four of
    /// five cases where it is lukewarm, so that a classifier's log-odds are graded.
    pub label: bool,
}

/// `train` and `test` reviews, no text twice; the labels take turns, so both are balanced.
pub fn split(seed: u64, train: usize, test: usize) -> Result<(Vec<Review>, Vec<Review>)> {
    let grammar = Grammar::parse(GRAMMAR)?;
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    let mut seen = HashSet::new();
    let mut reviews = Vec::with_capacity(train + test);
    // The grammar has far more reviews than anybody asks for; a run of repeats ends the search.
    let mut repeats = 0;
    while reviews.len() < train + test {
        let label = reviews.len() % 2 == 0;
        let review = grammar.review(label, &mut random)?;
        if seen.insert((review.opening.clone(), review.rest.clone())) {
            reviews.push(review);
            repeats = 0;
        } else {
            repeats += 1;
            if repeats > 10_000 {
                return Err(Error::usage(format!(
                    "data: expected no more reviews than the embedded grammar has, found {} asked for",
                    train + test
                )));
            }
        }
    }
    let held_out = reviews.split_off(train);
    Ok((reviews, held_out))
}

/// A tokenizer with a token for every word of the grammar, the blank before it included, so that
/// an opening and its rest have the tokens of the whole text.
pub fn tokenizer() -> Result<tokenizers::Tokenizer> {
    let failed =
        |error: &dyn std::fmt::Display| Error::usage(format!("the embedded tokenizer: {error}"));
    let grammar = Grammar::parse(GRAMMAR)?;
    let mut tokens = vec![END_OF_TEXT.to_owned(), UNKNOWN.to_owned()];
    for word in grammar.words() {
        if !is_punctuation(&word) {
            tokens.push(format!(" {word}"));
        }
        if is_punctuation(&word) || word.starts_with(char::is_uppercase) {
            tokens.push(word);
        }
    }
    let vocabulary = tokens.into_iter().zip(0u32..).collect();
    let model = WordLevel::builder()
        .vocab(vocabulary)
        .unk_token(UNKNOWN.to_owned())
        .build()
        .map_err(|error| failed(&error))?;
    let words = SplitPattern::Regex(r" ?[^ .,!]+|[.,!]".to_owned());
    let pre_tokenizer = Split::new(words, SplitDelimiterBehavior::Isolated, false)
        .map_err(|error| failed(&error))?;
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer));
    tokenizer.with_decoder(Some(Fuse::new()));
    tokenizer.add_special_tokens(&[
        AddedToken::from(END_OF_TEXT, true),
        AddedToken::from(UNKNOWN, true),
    ]);
    Ok(tokenizer)
}

struct Grammar {
    rules: BTreeMap<String, Vec<Vec<String>>>,
}

impl Grammar {
    fn parse(text: &str) -> Result<Self> {
        let mut rules: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
        let mut current = String::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            let alternatives = if line.starts_with(' ') {
                line
            } else {
                let (symbol, rest) = line.split_once('=').ok_or_else(|| {
                    Error::usage(format!(
                        "the embedded grammar: expected `symbol = alternatives`, found `{line}`"
                    ))
                })?;
                current = symbol.trim().to_owned();
                rest
            };
            rules.entry(current.clone()).or_default().extend(
                alternatives
                    .split('|')
                    .map(|it| it.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
                    .filter(|it| !it.is_empty()),
            );
        }
        Ok(Self { rules })
    }

    fn review(&self, label: bool, random: &mut ChaCha12Rng) -> Result<Review> {
        let outspoken = random.random::<bool>();
        let says_so = outspoken || random.random_bool(0.8);
        let strength = match (outspoken, label == says_so) {
            (true, true) => "strong_positive",
            (false, true) => "mild_positive",
            (true, false) => "strong_negative",
            (false, false) => "mild_negative",
        };
        let text = |symbol, random: &mut ChaCha12Rng| -> Result<String> {
            let mut text = String::new();
            self.expand(symbol, random, &mut text)?;
            Ok(text)
        };
        let opening = text("opening", random)?.trim_start().to_owned();
        Ok(Review { opening, rest: text(strength, random)?, label })
    }

    fn expand(&self, symbol: &str, random: &mut ChaCha12Rng, into: &mut String) -> Result<()> {
        let alternatives = self.rules.get(symbol).ok_or_else(|| {
            Error::usage(format!(
                "the embedded grammar: expected a rule for `{symbol}`, found none"
            ))
        })?;
        for word in &alternatives[random.random_range(0..alternatives.len())] {
            match reference(word) {
                Some(symbol) => self.expand(symbol, random, into)?,
                None => {
                    if !is_punctuation(word) {
                        into.push(' ');
                    }
                    into.push_str(word);
                }
            }
        }
        Ok(())
    }

    fn words(&self) -> BTreeSet<String> {
        self.rules
            .values()
            .flatten()
            .flatten()
            .filter(|word| reference(word).is_none())
            .cloned()
            .collect()
    }
}

/// The symbol in `{symbol}`.
fn reference(word: &str) -> Option<&str> {
    word.strip_prefix('{')?.strip_suffix('}')
}

fn is_punctuation(word: &str) -> bool {
    [".", ",", "!"].contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(tokenizer: &tokenizers::Tokenizer, text: &str) -> Vec<u32> {
        tokenizer.encode(text, false).unwrap().get_ids().to_vec()
    }

    #[test]
    fn a_seed_gives_the_same_balanced_reviews_and_the_splits_share_none() {
        let (train, test) = split(3, 2000, 400).unwrap();
        assert_eq!((train.clone(), test.clone()), split(3, 2000, 400).unwrap());
        assert_ne!(train, split(4, 2000, 400).unwrap().0);
        assert_eq!(train.iter().filter(|it| it.label).count(), 1000);
        assert_eq!(test.iter().filter(|it| it.label).count(), 200);
        let text = |it: &Review| format!("{}{}", it.opening, it.rest);
        let texts: HashSet<String> = train.iter().map(text).collect();
        assert_eq!(texts.len(), train.len());
        assert!(test.iter().all(|it| !texts.contains(&text(it))));
        let openings: HashSet<&str> = train.iter().map(|it| it.opening.as_str()).collect();
        assert!(openings.len() > 400, "{}", openings.len());
    }

    #[test]
    fn every_review_is_read_word_for_word_and_the_seam_is_exact() {
        let tokenizer = tokenizer().unwrap();
        assert!(tokenizer.get_vocab_size(true) < 512);
        let unknown = tokenizer.token_to_id(UNKNOWN).unwrap();
        let (train, _) = split(4, 2000, 0).unwrap();
        for review in train {
            let whole = format!("{}{}", review.opening, review.rest);
            let whole_ids = ids(&tokenizer, &whole);
            assert!(!whole_ids.contains(&unknown), "unknown word in {whole}");
            assert_eq!(tokenizer.decode(&whole_ids, true).unwrap(), whole);
            let mut parts = ids(&tokenizer, &review.opening);
            parts.extend(ids(&tokenizer, &review.rest));
            assert_eq!(parts, whole_ids);
        }
    }

    #[test]
    fn the_tokenizer_is_a_file_that_reads_back_the_same() {
        let made = tokenizer().unwrap();
        let read: tokenizers::Tokenizer = made.to_string(true).unwrap().parse().unwrap();
        let text = format!("This is a comedy about two brothers. What a joy!{END_OF_TEXT}");
        assert_eq!(ids(&read, &text), ids(&made, &text));
        assert_eq!(ids(&read, &text).last(), made.token_to_id(END_OF_TEXT).as_ref());
        assert_eq!(read.decode(&ids(&read, &text), true).unwrap(), text.replace(END_OF_TEXT, ""));
    }

    #[test]
    fn the_grammar_has_a_few_hundred_words_and_reviews_are_short() {
        let words = Grammar::parse(GRAMMAR).unwrap().words().len();
        assert!((250..=400).contains(&words), "{words}");
        let (train, _) = split(6, 4000, 0).unwrap();
        let mut lengths: Vec<usize> = train
            .iter()
            .map(|it| format!("{}{}", it.opening, it.rest).split(' ').count())
            .collect();
        lengths.sort_unstable();
        assert!(lengths[0] >= 10 && lengths[lengths.len() - 1] <= 45, "{lengths:?}");
        assert!((20..=30).contains(&lengths[lengths.len() / 2]), "{}", lengths[lengths.len() / 2]);
    }

    /// How often a logistic regression on the presence of words is right about unseen reviews.
    fn bag_of_words_accuracy(text: fn(&Review) -> String) -> f64 {
        let tokenizer = tokenizer().unwrap();
        let read = |reviews: &[Review]| -> Vec<(BTreeSet<u32>, bool)> {
            reviews
                .iter()
                .map(|it| (ids(&tokenizer, &text(it)).into_iter().collect(), it.label))
                .collect()
        };
        let (train, test) = split(5, 4000, 1000).unwrap();
        let mut weights = vec![0.0; tokenizer.get_vocab_size(true)];
        let score = |weights: &[f64], words: &BTreeSet<u32>| -> f64 {
            words.iter().map(|&word| weights[word as usize]).sum()
        };
        let train = read(&train);
        for _ in 0..8 {
            for (words, label) in &train {
                let error = 1.0 / (1.0 + (-score(&weights, words)).exp()) - f64::from(*label);
                words.iter().for_each(|&word| weights[word as usize] -= 0.05 * error);
            }
        }
        let test = read(&test);
        let right =
            test.iter().filter(|(words, label)| (score(&weights, words) > 0.0) == *label).count();
        right as f64 / test.len() as f64
    }

    #[test]
    fn openings_do_not_tell_the_sentiment() {
        let accuracy = bag_of_words_accuracy(|it| it.opening.clone());
        // A coin over 1000 reviews: 0.5 with a deviation of 0.016.
        assert!((accuracy - 0.5).abs() < 0.06, "{accuracy}");
    }

    #[test]
    fn the_sentiment_of_a_review_is_learnable_but_not_by_words_alone() {
        let accuracy = bag_of_words_accuracy(|it| it.rest.clone());
        assert!((0.85..0.99).contains(&accuracy), "{accuracy}");
    }
}
