//! The allowed words of a key, read from the serde description of its type.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::forward_to_deserialize_any;

use super::sections::{BestBy, LearningRateSchedule, Recompute};
use crate::alignment::{Labels, ObjectiveName, objectives};
use crate::model::{Precision, WeightType};

/// The words that the setting `key` (its stage before it or not) may have; none where it takes any.
pub(super) fn choices(key: &str) -> Option<Vec<&'static str>> {
    let parts: Vec<&str> = key.rsplit('.').take(2).collect();
    match parts.as_slice() {
        ["name", "objective"] => Some(objectives().iter().map(|entry| entry.name).collect()),
        ["labels", "objective"] => variants::<Labels>(),
        ["best", "checkpoint"] => variants::<BestBy>(),
        ["schedule", "optimizer"] => variants::<LearningRateSchedule>(),
        ["recompute", "training"] => variants::<Recompute>(),
        ["compute", "training"] => variants::<Precision>(),
        ["dtype", ..] | ["base_dtype", "training"] => variants::<WeightType>(),
        _ => None,
    }
}

/// Whether the setting `key` may be `word`: one of its [`choices`], or a sum of objectives.
pub(super) fn is_allowed(key: &str, word: &str) -> bool {
    choices(key).is_none_or(|choices| choices.contains(&word))
        || (key.ends_with("objective.name") && word.parse::<ObjectiveName>().is_ok())
}

/// The names of an enum's variants.
fn variants<'de, T: Deserialize<'de>>() -> Option<Vec<&'static str>> {
    match T::deserialize(Asked) {
        Err(Told(variants)) => variants.map(<[&str]>::to_vec),
        Ok(_) => None,
    }
}

/// A deserializer that gives nothing and is told which variants there are.
struct Asked;

/// The variants that were told.
#[derive(Debug)]
struct Told(Option<&'static [&'static str]>);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Told {}

impl Error for Told {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(None)
    }
}

impl<'de> Deserializer<'de> for Asked {
    type Error = Told;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Told> {
        Err(Told(None))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Told> {
        Err(Told(Some(variants)))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_the_type() {
        assert_eq!(choices("align.optimizer.schedule"), Some(vec!["cosine", "constant"]));
        assert_eq!(choices("dtype"), Some(vec!["f32", "bf16", "f16", "q8", "q4"]));
        assert_eq!(choices("judge.model"), None);
    }
}
