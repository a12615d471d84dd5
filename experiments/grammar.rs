//! Grammars that generate the texts of an embedded corpus, and a tokenizer of whole words.
//!
//! A line is `symbol = alternative | alternative`; `{symbol}` stands for one of the alternatives, all
//! equally likely; a line that begins with a blank continues the line before. `{symbol#0}` is the same text
//! wherever it occurs in an example, and `{symbol#1}` differs from `{symbol#0}`; `\\n` is a line end.

use std::collections::{BTreeMap, BTreeSet};

use exalign::{Error, Result};
use rand::Rng;
use rand_chacha::ChaCha12Rng;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

/// The token that ends a text.
pub const END_OF_TEXT: &str = "<|endoftext|>";
/// The token of a word that is not in the grammar.
pub const UNKNOWN: &str = "<|unknown|>";

/// A grammar.
pub struct Grammar {
    rules: BTreeMap<String, Vec<Vec<String>>>,
}

/// What the numbered symbols of an example stand for.
#[derive(Default)]
pub struct Bindings(BTreeMap<String, usize>);

impl Grammar {
    pub fn parse(text: &str) -> Result<Self> {
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
                    .map(|it| {
                        it.split_whitespace()
                            .map(|word| word.replace("\\n", "\n"))
                            .collect::<Vec<_>>()
                    })
                    .filter(|it| !it.is_empty()),
            );
        }
        Ok(Self { rules })
    }

    /// A text of `symbol`, with a blank before it unless it begins with punctuation or a new line.
    pub fn draw(
        &self,
        symbol: &str,
        random: &mut ChaCha12Rng,
        bindings: &mut Bindings,
    ) -> Result<String> {
        let mut text = String::new();
        self.expand(symbol, random, bindings, &mut text)?;
        Ok(text)
    }

    /// The alternatives of a symbol that are single words.
    pub fn words_of(&self, symbol: &str) -> Vec<&str> {
        let alternatives = self.rules.get(symbol).into_iter().flatten();
        alternatives
            .filter_map(|words| match words.as_slice() {
                [only] if reference(only).is_none() => Some(only.as_str()),
                _ => None,
            })
            .collect()
    }

    fn expand(
        &self,
        symbol: &str,
        random: &mut ChaCha12Rng,
        bindings: &mut Bindings,
        into: &mut String,
    ) -> Result<()> {
        let (name, number) = symbol.split_once('#').unwrap_or((symbol, ""));
        let alternatives = self.rules.get(name).ok_or_else(|| {
            Error::usage(format!("the embedded grammar: expected a rule for `{name}`, found none"))
        })?;
        let chosen = match bindings.0.get(symbol) {
            Some(&bound) => bound,
            None => {
                let chosen = loop {
                    let chosen = random.random_range(0..alternatives.len());
                    let taken = bindings.0.iter().any(|(bound, &at)| {
                        bound.split_once('#').is_some_and(|it| it.0 == name) && at == chosen
                    });
                    // Numbered symbols differ from each other; there are more alternatives than numbers.
                    if number.is_empty() || !taken {
                        break chosen;
                    }
                };
                if !number.is_empty() {
                    bindings.0.insert(symbol.to_owned(), chosen);
                }
                chosen
            }
        };
        for word in &alternatives[chosen] {
            match reference(word) {
                Some(symbol) => self.expand(symbol, random, bindings, into)?,
                None => {
                    if !is_punctuation(word) && !is_new_line(word) && !into.ends_with('\n') {
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

    /// A tokenizer with a token for every word, the blank before it included, so that a text's parts
    /// have the tokens of the whole. `special` are further tokens, taken as they are.
    pub fn tokenizer(&self, special: &[&str]) -> Result<tokenizers::Tokenizer> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::usage(format!("the embedded tokenizer: {error}"))
        };
        let mut tokens = vec![END_OF_TEXT.to_owned(), UNKNOWN.to_owned()];
        tokens.extend(special.iter().map(|&it| it.to_owned()));
        for word in self.words() {
            let alone = is_punctuation(&word) || is_new_line(&word);
            if !alone {
                tokens.push(format!(" {word}"));
            }
            if alone || word.starts_with(char::is_uppercase) {
                tokens.push(word);
            }
        }
        let vocabulary = tokens.into_iter().zip(0u32..).collect();
        let model = WordLevel::builder()
            .vocab(vocabulary)
            .unk_token(UNKNOWN.to_owned())
            .build()
            .map_err(|error| failed(&error))?;
        let words = SplitPattern::Regex(r"\n+| ?[^ \n.,!?]+|[.,!?]".to_owned());
        let pre_tokenizer = Split::new(words, SplitDelimiterBehavior::Isolated, false)
            .map_err(|error| failed(&error))?;
        let mut tokenizer = tokenizers::Tokenizer::new(model);
        tokenizer.with_pre_tokenizer(Some(pre_tokenizer));
        tokenizer.with_decoder(Some(Fuse::new()));
        let all: Vec<AddedToken> = [END_OF_TEXT, UNKNOWN]
            .iter()
            .chain(special)
            .map(|&it| AddedToken::from(it, true))
            .collect();
        tokenizer.add_special_tokens(&all);
        Ok(tokenizer)
    }
}

/// The symbol in `{symbol}`.
fn reference(word: &str) -> Option<&str> {
    word.strip_prefix('{')?.strip_suffix('}')
}

fn is_punctuation(word: &str) -> bool {
    [".", ",", "!", "?"].contains(&word)
}

fn is_new_line(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte == b'\n')
}

/// The words of a text, in lower case, without punctuation.
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '/' && c != '-')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const GRAMMAR: &str = "text = The {animal#0} and the {animal#1} saw {count} {animal#0} . \\n Good !\nanimal = cat | dog | hen\ncount = one | two\n | three";

    #[test]
    fn numbered_symbols_stay_and_differ_and_new_lines_begin_a_line() {
        let grammar = Grammar::parse(GRAMMAR).unwrap();
        let mut random = ChaCha12Rng::seed_from_u64(1);
        let mut seen = BTreeSet::new();
        for _ in 0..60 {
            let text = grammar.draw("text", &mut random, &mut Bindings::default()).unwrap();
            let parts: Vec<&str> = text.split_whitespace().collect();
            assert_eq!(parts[1].trim_end_matches('.'), parts[7].trim_end_matches('.'), "{text}");
            assert_ne!(parts[1], parts[4], "{text}");
            assert!(text.starts_with(" The ") && text.ends_with(".\nGood!"), "{text:?}");
            seen.insert(parts[6].to_owned());
        }
        assert_eq!(seen.len(), 3);
        assert_eq!(grammar.words_of("animal"), ["cat", "dog", "hen"]);
        assert!(grammar.draw("nothing", &mut random, &mut Bindings::default()).is_err());
    }

    #[test]
    fn the_tokens_of_a_text_are_those_of_its_parts_and_none_is_unknown() {
        let grammar = Grammar::parse(GRAMMAR).unwrap();
        let tokenizer = grammar.tokenizer(&["<|user|>"]).unwrap();
        let ids = |text: &str| tokenizer.encode(text, false).unwrap().get_ids().to_vec();
        let text = grammar
            .draw("text", &mut ChaCha12Rng::seed_from_u64(2), &mut Bindings::default())
            .unwrap();
        let (head, tail) = text.split_at(text.find(" and").unwrap());
        assert_eq!([ids(head), ids(tail)].concat(), ids(&text));
        let whole = format!("<|user|>{text}{END_OF_TEXT}");
        assert!(!ids(&whole).contains(&tokenizer.token_to_id(UNKNOWN).unwrap()));
        assert_eq!(tokenizer.decode(&ids(&text), true).unwrap(), text);
        let read: tokenizers::Tokenizer = tokenizer.to_string(true).unwrap().parse().unwrap();
        assert_eq!(read.encode(whole.as_str(), false).unwrap().get_ids(), ids(&whole));
    }

    #[test]
    fn words_are_compared_without_case_and_punctuation() {
        assert_eq!(words(" My sister, r/pets!\nOK"), ["my", "sister", "r/pets", "ok"]);
    }
}
