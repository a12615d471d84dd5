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
const UNKNOWN: &str = "<|unknown|>";

/// A review: a neutral opening, and the rest, which begins with a blank or a comma.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Review {
    pub opening: String,
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
    let failed = |error: &dyn std::fmt::Display| Error::usage(format!("the embedded tokenizer: {error}"));
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
    let words = SplitPattern::Regex(r" ?[^ .,]+|[.,]".to_owned());
    let pre_tokenizer =
        Split::new(words, SplitDelimiterBehavior::Isolated, false).map_err(|error| failed(&error))?;
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer));
    tokenizer.with_decoder(Some(Fuse::new()));
    tokenizer.add_special_tokens(&[AddedToken::from(END_OF_TEXT, true), AddedToken::from(UNKNOWN, true)]);
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
                    Error::usage(format!("the embedded grammar: expected `symbol = alternatives`, found `{line}`"))
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
        let alternatives = self
            .rules
            .get(symbol)
            .ok_or_else(|| Error::usage(format!("the embedded grammar: expected a rule for `{symbol}`, found none")))?;
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
        self.rules.values().flatten().flatten().filter(|word| reference(word).is_none()).cloned().collect()
    }
}

/// The symbol in `{symbol}`.
fn reference(word: &str) -> Option<&str> {
    word.strip_prefix('{')?.strip_suffix('}')
}

fn is_punctuation(word: &str) -> bool {
    [".", ","].contains(&word)
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
        assert_eq!(train.iter().filter(|it| it.label).count(), 1000);
        let texts: HashSet<&Review> = train.iter().collect();
        assert!(test.iter().all(|it| !texts.contains(it)));
        let openings: HashSet<&str> = train.iter().map(|it| it.opening.as_str()).collect();
        assert!(openings.len() > 300, "{}", openings.len());
    }

    #[test]
    fn every_review_is_read_word_for_word_and_the_seam_is_exact() {
        let tokenizer = tokenizer().unwrap();
        assert!(tokenizer.get_vocab_size(true) < 512);
        let (train, _) = split(4, 500, 0).unwrap();
        for review in train {
            let whole = format!("{}{}", review.opening, review.rest);
            let whole_ids = ids(&tokenizer, &whole);
            assert!(!whole_ids.contains(&1), "unknown word in {whole}");
            assert_eq!(tokenizer.decode(&whole_ids, true).unwrap(), whole);
            let mut parts = ids(&tokenizer, &review.opening);
            parts.extend(ids(&tokenizer, &review.rest));
            assert_eq!(parts, whole_ids);
            assert!((8..=60).contains(&whole_ids.len()), "{whole}");
        }
    }

    #[test]
    fn openings_do_not_tell_the_sentiment_and_the_rest_does() {
        let (train, _) = split(5, 4000, 0).unwrap();
        let liked = |word: &str, text: fn(&Review) -> &str| {
            let with: Vec<&Review> = train.iter().filter(|it| text(it).contains(word)).collect();
            with.iter().filter(|it| it.label).count() as f64 / with.len() as f64
        };
        assert!((liked("festival", |it| &it.opening) - 0.5).abs() < 0.1);
        // "wonderful" also stands in what a disappointed writer denies.
        let wonderful = liked("wonderful", |it| &it.rest);
        assert!(wonderful > 0.65 && wonderful < 0.95, "{wonderful}");
    }
}
