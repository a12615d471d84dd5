//! Rewards as the command line and settings write them.
//!
//! ```text
//! SPEC[,SPEC]      SPEC = KIND:ARGUMENT[*WEIGHT]      a bare PATH is reward:PATH
//! ```
//!
//! A comma separates where a kind and a colon follow it; every other comma belongs to the argument. The
//! weight is the finite number behind the last `*`; without one it is 1.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::{KINDS, Kind, Opening, Rewards, model, numbered};
use crate::config::RewardsSettings;
use crate::model::{ModelFolder, reward_folder};
use crate::{Error, Result};

/// Several rewards by their text, each with a weight.
#[derive(Clone, Debug)]
pub struct RewardSpecs(Vec<Spec>);

/// A reward by its text.
#[derive(Clone, Debug)]
struct Spec {
    kind: &'static Kind,
    argument: String,
    weight: f64,
}

impl RewardSpecs {
    /// The reward model in `folder` alone.
    pub fn model(folder: &Path) -> Self {
        let argument = folder.to_string_lossy().into_owned();
        Self(vec![Spec { kind: &model::KIND, argument, weight: 1.0 }])
    }

    /// What each is called, as in the [scores](super::Scores).
    pub fn names(&self) -> Vec<String> {
        numbered(self.0.iter().map(Spec::title).collect())
    }

    /// The folders of the reward models.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn models(&self) -> Result<Vec<ModelFolder>> {
        let models = self.0.iter().filter(|spec| spec.is_model());
        models.map(|spec| reward_folder(spec.argument.as_ref())).collect()
    }

    /// The settings and texts that the rewards depend on, beside the [content](Self::content); null where
    /// there is a reward model alone.
    pub fn shaping(&self, settings: &RewardsSettings) -> Value {
        match self.0.as_slice() {
            [only] if only.is_model() && only.weight == 1.0 => Value::Null,
            all => all.iter().map(|spec| spec.shaping(settings)).collect(),
        }
    }

    /// The contents that the rewards depend on, as hashes by name.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn content(&self, settings: &RewardsSettings) -> Result<BTreeMap<String, String>> {
        let mut contents = BTreeMap::new();
        for (place, spec) in self.0.iter().enumerate() {
            for (name, hash) in (spec.kind.content)(&spec.argument, settings)? {
                let own = match place {
                    0 => name,
                    _ => format!("{name} ({})", place + 1),
                };
                contents.insert(own, hash);
            }
        }
        Ok(contents)
    }

    /// Opens all of them.
    ///
    /// # Errors
    /// If one cannot be opened with what there is.
    pub fn open(&self, opening: &Opening<'_>) -> Result<Rewards> {
        let open = |spec: &Spec| {
            Ok((spec.title(), spec.weight, (spec.kind.open)(&spec.argument, opening)?))
        };
        Ok(Rewards::new(self.0.iter().map(open).collect::<Result<_>>()?))
    }

    /// How rewards are spelt: `a, b or c`.
    pub fn spellings() -> String {
        let all: Vec<String> =
            KINDS.iter().map(|kind| format!("{}:{}", kind.name, kind.argument)).collect();
        match all.split_last() {
            Some((last, others)) if !others.is_empty() => {
                format!("{} or {last}", others.join(", "))
            }
            _ => all.concat(),
        }
    }
}

impl Spec {
    fn parse(text: &str, is_first: bool) -> Result<Self, String> {
        let (kind, argument) = match kind_at(text) {
            Some((kind, argument)) => (kind, argument),
            None if is_first => (&model::KIND, text),
            None => return Err(format!("expected {}, found `{text}`", RewardSpecs::spellings())),
        };
        let (argument, weight) =
            weighted(argument).map_err(|problem| format!("`{}`: {problem}", text.trim()))?;
        let argument = argument.trim();
        if argument.is_empty() || argument.ends_with(',') {
            return Err(format!(
                "expected {}:{}, found `{text}`; leave commas out that separate nothing",
                kind.name, kind.argument
            ));
        }
        (kind.check)(argument).map_err(|problem| format!("`{text}`: {problem}"))?;
        Ok(Self { kind, argument: argument.to_owned(), weight })
    }

    fn is_model(&self) -> bool {
        self.kind.name == model::KIND.name
    }

    fn title(&self) -> String {
        (self.kind.title)(&self.argument)
    }

    fn shaping(&self, settings: &RewardsSettings) -> Value {
        let mut shaping = json!({ "kind": self.kind.name, "weight": self.weight });
        let own = (self.kind.shaping)(&self.argument, settings);
        if let (Some(shaping), Value::Object(own)) = (shaping.as_object_mut(), own) {
            shaping.extend(own);
        }
        shaping
    }
}

/// The kind that a text begins with, and what follows its colon.
fn kind_at(text: &str) -> Option<(&'static Kind, &str)> {
    let (name, argument) = text.trim_start().split_once(':')?;
    let kind = KINDS.iter().find(|kind| kind.name == name)?;
    Some((kind, argument))
}

/// An argument without its weight, and the weight.
fn weighted(text: &str) -> Result<(&str, f64), String> {
    let Some((argument, weight)) = text.rsplit_once('*') else { return Ok((text, 1.0)) };
    match weight.trim().parse::<f64>() {
        Ok(weight) if weight.is_finite() => Ok((argument, weight)),
        Ok(_) => Err(format!("expected a finite weight behind the `*`, found `{weight}`")),
        // What looks like the beginning of a number is meant as one.
        Err(_) if weight.trim_start().starts_with(|c: char| c.is_ascii_digit()) => Err(format!(
            "expected a weight such as *0.5 behind the `*`, found `*{weight}`; write *1 behind an \
             argument that ends like a weight"
        )),
        Err(_) => Ok((text, 1.0)),
    }
}

/// The texts of the rewards in `text`: a comma separates where a kind and a colon follow it.
fn separated(text: &str) -> Vec<&str> {
    let mut all = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices(',') {
        if kind_at(&text[at + 1..]).is_some() {
            all.push(&text[start..at]);
            start = at + 1;
        }
    }
    all.push(&text[start..]);
    all
}

/// A comma before a word and a colon that are no kind: one that was mistyped.
fn mistyped(text: &str) -> Option<&str> {
    let is_word = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphabetic() || c == '_' || c == '-')
    };
    let names = text.match_indices(',').filter_map(|(at, _)| text[at + 1..].split_once(':'));
    let names = names.map(|(name, _)| name.trim_start()).filter(|name| is_word(name));
    names.into_iter().find(|name| !KINDS.iter().any(|kind| kind.name == *name))
}

impl FromStr for RewardSpecs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pieces = separated(text);
        for piece in &pieces {
            if let Some(name) = mistyped(piece) {
                return Err(format!(
                    "expected {} behind a comma, found `{name}:` in `{piece}`; a comma before a word and a \
                     colon cannot stand in an argument",
                    Self::spellings()
                ));
            }
        }
        let specs = pieces.into_iter().enumerate();
        specs
            .map(|(place, piece)| Spec::parse(piece, place == 0))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl fmt::Display for RewardSpecs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Spec { kind, argument, weight }) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(out, "{comma}{}:{argument}", kind.name)?;
            // An argument may end like a weight.
            let is_told = *weight != 1.0 || weighted(argument) != Ok((argument.as_str(), 1.0));
            if is_told {
                write!(out, "*{weight:?}")?;
            }
        }
        Ok(())
    }
}

impl PartialEq for RewardSpecs {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Serialize for RewardSpecs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RewardSpecs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl RewardSpecs {
    /// As settings and flags read it, the error with the name of the flag.
    ///
    /// # Errors
    /// If the text is none.
    pub fn read(flag: &str, text: &str) -> Result<Self> {
        text.parse().map_err(|problem| Error::usage(format!("{flag}: {problem}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(&'static str, String, f64)> {
        let specs: RewardSpecs = text.parse().unwrap();
        assert_eq!(specs.to_string().parse(), Ok(specs.clone()), "{specs}");
        specs.0.into_iter().map(|spec| (spec.kind.name, spec.argument, spec.weight)).collect()
    }

    fn refusal(text: &str) -> String {
        text.parse::<RewardSpecs>().unwrap_err()
    }

    #[test]
    fn rewards_are_kinds_with_arguments_and_weights() {
        let one = |kind, argument: &str, weight| (kind, argument.to_owned(), weight);
        assert_eq!(parsed("out/rm"), [one("reward", "out/rm", 1.0)]);
        assert_eq!(parsed("a,b"), [one("reward", "a,b", 1.0)]);
        assert_eq!(parsed("a*2*1"), [one("reward", "a*2", 1.0)]);
        assert_eq!(
            parsed("reward:rm*0.5, command:./v.py --tags a,b *.txt*-1e-3"),
            [one("reward", "rm", 0.5), one("command", "./v.py --tags a,b *.txt", -1e-3)]
        );
        assert_eq!(
            parsed("command:sh -c 'echo \"{a, b}\"',reward:x"),
            [one("command", "sh -c 'echo \"{a, b}\"'", 1.0), one("reward", "x", 1.0)]
        );
    }

    #[test]
    fn what_is_ambiguous_is_refused_by_name() {
        insta::assert_snapshot!(refusal("reward:a,comand:b"), @"expected reward:DIR, command:PROGRAM, rule:NAME or openai:URL behind a comma, found `comand:` in `reward:a,comand:b`; a comma before a word and a colon cannot stand in an argument");
        insta::assert_snapshot!(refusal("reward:a*0,5"), @"`reward:a*0,5`: expected a weight such as *0.5 behind the `*`, found `*0,5`; write *1 behind an argument that ends like a weight");
        insta::assert_snapshot!(refusal("reward:a*inf"), @"`reward:a*inf`: expected a finite weight behind the `*`, found `inf`");
        insta::assert_snapshot!(refusal("reward:a,,reward:b"), @"expected reward:DIR, found `reward:a,`; leave commas out that separate nothing");
        insta::assert_snapshot!(refusal("reward:"), @"expected reward:DIR, found `reward:`; leave commas out that separate nothing");
        insta::assert_snapshot!(refusal(""), @"expected reward:DIR, found ``; leave commas out that separate nothing");
        insta::assert_snapshot!(refusal("command:sh -c 'x"), @"`command:sh -c 'x`: expected words as a shell reads them, found a quote or a backslash without its end; close it");
    }
}
