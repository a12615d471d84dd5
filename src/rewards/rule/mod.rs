//! Rewards by rules: a completion earns 1 where it is right, and 0 where it is not.
//!
//! ```text
//! rule:exact[:FIELD]     the answer is the field's text
//! rule:number[:FIELD]    the answer's number is the field's
//! rule:regex[:FIELD]     the field's pattern matches;  rule:regex:/PATTERN/  this pattern does
//! rule:NAME              a rule that the program has added
//! ```
//!
//! FIELD is a field of the record, `answer` where none is named. A list there holds several right answers.
//! Thoughts (`<think>…</think>`) are no part of an answer, those that the prompt's text begins among them; only
//! patterns see them. Messages are not rendered here: what their template begins is not seen. A record whose field
//! cannot be read is refused: it would give every completion the same reward.

mod decimal;
mod number;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use fancy_regex::Regex;
use serde_json::{Value, json};

use super::kind::Kind;
use super::{Opening, Reward};
use crate::data::{Completion, Group, Intake, Located, Passage};
use crate::judges::completion_without_thoughts;
use crate::{Error, Result};
use number::Number;

/// `rule:NAME`
pub const KIND: Kind = Kind {
    name: "rule",
    argument: "NAME",
    check: |argument| Rule::parse(argument).map(|_| ()),
    title: |argument| argument.split(':').next().unwrap_or_default().to_owned(),
    shaping: |argument, _| json!({ "rule": argument }),
    content: |_, _| Ok(BTreeMap::new()),
    open: |argument, _: &Opening<'_>| {
        let rule = Rule::parse(argument);
        Ok(Box::new(
            rule.map_err(|problem| Error::usage(format!("--reward rule:{argument}: {problem}")))?,
        ))
    },
};

/// The field that a rule compares with where none is named.
const ANSWER: &str = "answer";

/// A rule of a program's own: the reward of a completion of a group; none where the rule says nothing of it.
pub type OwnRule = dyn Fn(&Group, &Completion) -> Option<f64> + Send + Sync;

/// The rules that a program has added, by name.
static ADDED: RwLock<Vec<(String, Arc<OwnRule>)>> = RwLock::new(Vec::new());

/// Adds a rule under a name, for the rest of the process: `rule:NAME`.
///
/// # Errors
/// [`Error::Usage`] if the name is taken.
pub fn register_rule(name: &str, rule: Arc<OwnRule>) -> Result<()> {
    let mut added = ADDED.write().unwrap_or_else(PoisonError::into_inner);
    if Form::named(name).is_some() || added.iter().any(|(known, _)| known == name) {
        return Err(Error::usage(format!(
            "expected a new name for a rule, found `{name}`, which is taken"
        )));
    }
    added.push((name.to_owned(), rule));
    Ok(())
}

/// A rule by its text.
enum Rule {
    /// Compares with a field.
    Field(Form, String),
    /// A pattern that is the same for all records.
    Pattern(Box<Regex>),
    Own(String, Arc<OwnRule>),
}

/// How a completion is compared with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Exact,
    Number,
    Regex,
}

impl Form {
    const ALL: [(&'static str, Self); 3] =
        [("exact", Self::Exact), ("number", Self::Number), ("regex", Self::Regex)];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, form)| *form)
    }
}

/// What a field says is right.
enum Right {
    Texts(Vec<String>),
    Numbers(Vec<Number>),
    Patterns(Vec<Regex>),
}

impl Rule {
    fn parse(argument: &str) -> Result<Self, String> {
        let (name, more) = match argument.split_once(':') {
            Some((name, more)) => (name, Some(more)),
            None => (argument, None),
        };
        let added = ADDED.read().unwrap_or_else(PoisonError::into_inner);
        if let (Some((_, rule)), None) = (added.iter().find(|(known, _)| known == name), more) {
            return Ok(Self::Own(name.to_owned(), rule.clone()));
        }
        let Some(form) = Form::named(name) else {
            let names = Form::ALL.iter().map(|(name, _)| *name);
            let names: Vec<&str> =
                names.chain(added.iter().map(|(name, _)| name.as_str())).collect();
            return Err(format!("expected a rule, one of {}, found `{name}`", names.join(", ")));
        };
        if let (Form::Regex, Some(pattern)) = (form, more.and_then(|more| more.strip_prefix('/'))) {
            let Some(pattern) = pattern.strip_suffix('/') else {
                return Err(format!("expected a pattern between slashes, found `/{pattern}`"));
            };
            return compiled(pattern).map(|pattern| Self::Pattern(Box::new(pattern)));
        }
        match more {
            Some("") => Err(format!("expected a field's name behind `{name}:`, found nothing")),
            Some(field) if field.contains('*') || field.contains(',') => Err(format!(
                "expected a field's name, found `{field}`; a pattern stands between slashes, and a weight is \
                 a number"
            )),
            field => Ok(Self::Field(form, field.unwrap_or(ANSWER).to_owned())),
        }
    }

    /// What the record says is right.
    fn right(&self, form: Form, field: &str, group: &Located<Group>) -> Result<Right> {
        let value = group.record.others.get(field).unwrap_or(&Value::Null);
        let refused = |expected: &str, found: &str, remedy: &str| {
            group.error(format!("`{field}`: expected {expected}, found {found}; {remedy}"))
        };
        let is_nested = |value: &Value| value.is_array() || value.is_object() || value.is_null();
        let values = match value {
            Value::Null => {
                let there: Vec<String> =
                    group.record.others.keys().map(|name| format!("`{name}`")).collect();
                let found = match there.is_empty() {
                    true => "no field beside those of the prompt".to_owned(),
                    false if group.record.others.contains_key(field) => "null".to_owned(),
                    false => format!("only {}", there.join(", ")),
                };
                let expected = format!("the right answer, for {self}");
                return Err(refused(&expected, &found, "name another field, or add it"));
            }
            Value::Array(values) if !values.is_empty() && !values.iter().any(is_nested) => {
                values.clone()
            }
            Value::Array(_) | Value::Object(_) => {
                let remedy = "write the right answer, or a list of several";
                return Err(refused("a text or a number", "a list or an object", remedy));
            }
            single => vec![single.clone()],
        };
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let texts = values.iter().map(text);
        Ok(match form {
            Form::Exact => Right::Texts(texts.map(|text| text.trim().to_owned()).collect()),
            Form::Number => {
                let number = |value: &Value| match value.as_number().and_then(Number::of_json) {
                    Some(number) => Ok(number),
                    None => number::expected(&text(value)).map_err(|found| {
                        let remedy = "write the number alone, or behind #### or in \\boxed{}";
                        refused("one number", &format!("{found} in {value:.60}"), remedy)
                    }),
                };
                Right::Numbers(values.iter().map(number).collect::<Result<_>>()?)
            }
            Form::Regex => {
                let pattern = |text: String| {
                    compiled(&text).map_err(|problem| group.error(format!("`{field}`: {problem}")))
                };
                Right::Patterns(texts.map(pattern).collect::<Result<_>>()?)
            }
        })
    }

    fn rewards(&self, group: &Located<Group>) -> Result<Vec<f64>> {
        let completions = group.record.completions.iter().enumerate();
        let given = |is_right: bool| f64::from(u8::from(is_right));
        match self {
            Self::Own(_, rule) => completions
                .map(|(place, completion)| {
                    rule(&group.record, completion).ok_or_else(|| {
                        group.error(format!(
                            "{self}: expected a record that the rule is made for, found one of which it says \
                             nothing (completion {})",
                            place + 1
                        ))
                    })
                })
                .collect(),
            Self::Pattern(pattern) => completions
                .map(|(place, _)| Ok(given(matches(pattern, &text_of(group, place)?, group)?)))
                .collect(),
            Self::Field(form, field) => {
                let right = self.right(*form, field, group)?;
                completions
                    .map(|(place, _)| right.has(&text_of(group, place)?, group).map(given))
                    .collect()
            }
        }
    }
}

impl Right {
    /// Whether a completion's text is right.
    fn has(&self, text: &str, group: &Located<Group>) -> Result<bool> {
        let answer = || completion_without_thoughts(end_of(&group.record.prompt), text);
        match self {
            Self::Texts(all) => {
                let answer = answer();
                Ok(all.iter().any(|right| right == answer.trim()))
            }
            Self::Numbers(all) => {
                let answer = number::answered(&answer());
                Ok(answer.is_some_and(|it| all.iter().any(|right| number::is_same(&it, right))))
            }
            Self::Patterns(all) => {
                for pattern in all {
                    if matches(pattern, text, group)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
        }
    }
}

fn compiled(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| format!("expected a pattern, found `{pattern}`: {error}"))
}

fn matches(pattern: &Regex, text: &str, group: &Located<Group>) -> Result<bool> {
    pattern.is_match(text).map_err(|error| {
        group.error(format!("the pattern `{}` does not come to an end: {error}", pattern.as_str()))
    })
}

/// What a completion goes on from, as far as it is known without a template: the prompt's text, or the assistant's
/// turn that its messages end with.
fn end_of(prompt: &Passage) -> &str {
    match (&prompt.text, prompt.messages().and_then(<[Value]>::last)) {
        (Some(text), _) => text,
        (None, Some(last)) if last["role"] == "assistant" => {
            last["content"].as_str().unwrap_or_default()
        }
        _ => "",
    }
}

/// The words of a completion.
fn text_of(group: &Located<Group>, place: usize) -> Result<String> {
    group.record.completions[place].passage.words().ok_or_else(|| {
        group.error(format!(
            "`completions[{place}]`: expected a text for a rule to read, found token ids alone; sample with a \
             model that has a tokenizer"
        ))
    })
}

impl fmt::Display for Rule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own(name, _) => write!(out, "rule:{name}"),
            Self::Pattern(pattern) => write!(out, "rule:regex:/{}/", pattern.as_str()),
            Self::Field(form, field) => {
                let name = Form::ALL.iter().find(|(_, known)| known == form).map_or("", |it| it.0);
                write!(out, "rule:{name}:{field}")
            }
        }
    }
}

impl Reward for Rule {
    fn look_at(&self, group: &Located<Group>, _: &mut Intake) -> Result<usize> {
        if let Self::Field(form, field) = self {
            self.right(*form, field, group)?;
        }
        Ok(0)
    }

    fn score(&mut self, groups: &[Located<Group>]) -> Result<Vec<Vec<f64>>> {
        groups.iter().map(|group| self.rewards(group)).collect()
    }
}

#[cfg(test)]
mod tests;
