//! The kinds of records, from and to JSON.
//!
//! Invariant: a record that exists has a prompt, and completions that are not empty; what an
//! alignment needs beyond that is [`Group::check_for_alignment`].

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::fields::{Fields, Problem, wrong};

/// A kind of record that a line can hold.
pub trait Record: Sized {
    /// The record, or what is wrong with it.
    fn from_fields(fields: &Fields) -> Result<Self, Problem>;
}

/// The fields themselves, for whoever reads records of another kind.
impl Record for Fields {
    fn from_fields(fields: &Fields) -> Result<Self, Problem> {
        Ok(fields.clone())
    }
}

/// A text or a conversation, its token ids, or both; where both are, the ids are what counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Passage {
    /// The text.
    pub text: Option<String>,
    /// The token ids, taken exactly as they are.
    pub ids: Option<Vec<u32>>,
    /// Of a prompt: the messages of a conversation in place of a text. The model's chat template
    /// makes a text of them.
    pub messages: Option<Vec<Value>>,
}

impl Passage {
    /// A text.
    pub fn of_text(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::default() }
    }

    /// Token ids.
    pub fn of_ids(ids: impl Into<Vec<u32>>) -> Self {
        Self { ids: Some(ids.into()), ..Self::default() }
    }

    /// Whether what counts of it holds nothing.
    pub fn is_empty(&self) -> bool {
        match (&self.ids, &self.text) {
            (Some(ids), _) => ids.is_empty(),
            (None, None) if self.messages.is_some() => false,
            (None, text) => text.as_deref().unwrap_or_default().is_empty(),
        }
    }

    /// Whether both say the same, compared by ids where both have them and by text otherwise.
    fn is_same(&self, other: &Self) -> bool {
        match (&self.ids, &other.ids) {
            (Some(one), Some(two)) => one == two,
            _ => self.text.is_some() && self.text == other.text,
        }
    }
}

/// A completion of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// What was written.
    pub passage: Passage,
    /// Whether it ended by itself; false if it was cut, and then no end-of-text token follows.
    pub finished: bool,
}

impl Completion {
    /// A completion that ended by itself.
    pub fn finished(passage: Passage) -> Self {
        Self { passage, finished: true }
    }

    /// Refuses an empty one.
    fn checked(self, field: &str) -> Result<Self, Problem> {
        if self.passage.is_empty() {
            let found = if self.passage.ids.is_some() { "no token ids" } else { "an empty text" };
            return Err(format!(
                "`{field}`: expected a completion of at least one token, found {found}; drop the \
                 record"
            ));
        }
        Ok(self)
    }
}

/// A prompt with one completion to learn from: `prompt`, `chosen`.
#[derive(Clone, Debug, PartialEq)]
pub struct Demonstration {
    /// `id`, carried through.
    pub id: Option<Value>,
    /// `prompt`, `prompt_ids`.
    pub prompt: Passage,
    /// `chosen`, `chosen_ids`, `finished`.
    pub completion: Completion,
}

impl Record for Demonstration {
    fn from_fields(fields: &Fields) -> Result<Self, Problem> {
        Ok(Self {
            id: fields.id(),
            prompt: fields.prompt()?,
            completion: Completion {
                passage: fields.required_passage("chosen", "chosen_ids")?,
                // A record of a preference may say it for both of its sides.
                finished: match fields.get("finished") {
                    Some(Value::Array(_)) => {
                        fields.flags("finished")?.and_then(|all| all.first().copied())
                    }
                    _ => fields.flag("finished")?,
                }
                .unwrap_or(true),
            }
            .checked("chosen")?,
        })
    }
}

/// A prompt with its K completions: `prompt`, `completions`, `rewards`, or `prompt`, `chosen`,
/// `rejected`, which is a group of two with the chosen first and rewards 1 and 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// `id`, carried through.
    pub id: Option<Value>,
    /// `prompt`, `prompt_ids`.
    pub prompt: Passage,
    /// `completions`, `completion_ids`, `finished`.
    pub completions: Vec<Completion>,
    /// `rewards`, finite, one a completion; absent before labelling.
    pub rewards: Option<Vec<f64>>,
}

/// The rewards of a preference.
const PREFERENCE: [f64; 2] = [1.0, 0.0];

impl Record for Group {
    fn from_fields(fields: &Fields) -> Result<Self, Problem> {
        let group = ["completions", "completion_ids"].iter().any(|name| fields.has(name));
        let pair = ["chosen", "chosen_ids", "rejected", "rejected_ids"];
        if !group && pair.iter().any(|name| fields.has(name)) {
            return Self::from_preference(fields);
        }
        let prompt = fields.prompt()?;
        // A completion may lack its text where it has ids, and the other way round.
        let texts = fields.texts("completions", fields.has("completion_ids"))?;
        let ids = fields.id_lists("completion_ids", fields.has("completions"))?;
        let k = texts.as_ref().map(Vec::len).or(ids.as_ref().map(Vec::len));
        let Some(k) = k else {
            return Err(fields.missing(
                "completions",
                "a list of strings",
                "write `completions`, `completion_ids`, or `chosen` and `rejected`",
            ));
        };
        if k == 0 {
            let remedy = "drop the record";
            return Err(wrong("completions", "at least one completion", &json!([]), remedy));
        }
        same_length("completion_ids", ids.as_ref().map(Vec::len), k)?;
        let finished = fields.flags("finished")?;
        same_length("finished", finished.as_ref().map(Vec::len), k)?;
        let rewards = fields.numbers("rewards")?;
        same_length("rewards", rewards.as_ref().map(Vec::len), k)?;

        let texts = texts.unwrap_or_else(|| vec![None; k]);
        let ids = ids.unwrap_or_else(|| vec![None; k]);
        let finished = finished.unwrap_or_else(|| vec![true; k]);
        let completions = texts.into_iter().zip(ids).zip(finished).enumerate();
        let completions = completions
            .map(|(i, ((text, ids), finished))| {
                let passage = Passage { text, ids, messages: None };
                Completion { passage, finished }.checked(&format!("completions[{i}]"))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { id: fields.id(), prompt, completions, rewards })
    }
}

fn same_length(field: &str, found: Option<usize>, k: usize) -> Result<(), Problem> {
    match found {
        Some(found) if found != k => Err(format!(
            "`{field}`: expected {k}, one a completion, found {found}; correct or drop the record"
        )),
        _ => Ok(()),
    }
}

impl Group {
    /// A preference: the chosen first, rewards 1 and 0.
    pub fn preference(
        id: Option<Value>,
        prompt: Passage,
        chosen: Completion,
        rejected: Completion,
    ) -> Self {
        Self { id, prompt, completions: vec![chosen, rejected], rewards: Some(PREFERENCE.to_vec()) }
    }

    fn from_preference(fields: &Fields) -> Result<Self, Problem> {
        let prompt = fields.prompt()?;
        let finished = fields.flags("finished")?;
        same_length("finished", finished.as_ref().map(Vec::len), 2)?;
        let finished = finished.unwrap_or_else(|| vec![true; 2]);
        let side = |name: &str, ids: &str, finished| {
            Completion { passage: fields.required_passage(name, ids)?, finished }.checked(name)
        };
        let chosen = side("chosen", "chosen_ids", finished[0])?;
        let rejected = side("rejected", "rejected_ids", finished[1])?;
        if chosen.passage.is_same(&rejected.passage) {
            return Err("`chosen` and `rejected` are the same text; drop the pair".to_owned());
        }
        Ok(Self::preference(fields.id(), prompt, chosen, rejected))
    }

    /// What a message calls completion `i`: `chosen` and `rejected` for what looks like a
    /// preference, `completions[i]` otherwise.
    pub fn completion_field(&self, i: usize) -> String {
        match i {
            _ if self.rewards.as_deref() != Some(&PREFERENCE) => format!("completions[{i}]"),
            0 => "chosen".to_owned(),
            _ => "rejected".to_owned(),
        }
    }

    /// Refuses what no objective can learn from: fewer than two completions, rewards that are
    /// missing, too few or not finite, and pairs that are tied or twice the same.
    pub fn check_for_alignment(&self) -> Result<(), Problem> {
        let k = self.completions.len();
        if k < 2 {
            return Err(format!(
                "`completions`: expected at least 2, found {k}; an objective compares the \
                 completions of a prompt: drop the record"
            ));
        }
        let Some(rewards) = &self.rewards else {
            return Err(format!(
                "`rewards`: expected {k} numbers, found none; add them with `exalign label`"
            ));
        };
        same_length("rewards", Some(rewards.len()), k)?;
        if let Some((i, reward)) = rewards.iter().enumerate().find(|(_, it)| !it.is_finite()) {
            return Err(format!(
                "`rewards[{i}]`: expected a finite number, found {reward}; correct or drop the record"
            ));
        }
        if k == 2 {
            let (one, two) = (&self.completions[0].passage, &self.completions[1].passage);
            if one.is_same(two) {
                let (one, two) = (self.completion_field(0), self.completion_field(1));
                return Err(format!("`{one}` and `{two}` are the same text; drop the pair"));
            }
            if rewards[0] == rewards[1] {
                return Err(format!(
                    "`rewards`: expected two different numbers, found {} twice; drop the pair",
                    rewards[0]
                ));
            }
        }
        Ok(())
    }
}

impl Serialize for Group {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        write_prompt(&mut map, self.id.as_ref(), &self.prompt)?;
        let passages = || self.completions.iter().map(|completion| &completion.passage);
        if passages().any(|passage| passage.text.is_some()) {
            let texts: Vec<_> = passages().map(|passage| &passage.text).collect();
            map.serialize_entry("completions", &texts)?;
        }
        if passages().any(|passage| passage.ids.is_some()) {
            let ids: Vec<_> = passages().map(|passage| &passage.ids).collect();
            map.serialize_entry("completion_ids", &ids)?;
        }
        write_finished(&mut map, &self.completions)?;
        if let Some(rewards) = &self.rewards {
            map.serialize_entry("rewards", rewards)?;
        }
        map.end()
    }
}

/// Writes a group of two as `prompt`, `chosen`, `rejected`: its first completion is the chosen.
#[derive(Clone, Copy, Debug)]
pub struct AsPreference<'a>(pub &'a Group);

impl Serialize for AsPreference<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let [chosen, rejected] = self.0.completions.as_slice() else {
            return Err(serde::ser::Error::custom("a preference has two completions"));
        };
        let mut map = serializer.serialize_map(None)?;
        write_prompt(&mut map, self.0.id.as_ref(), &self.0.prompt)?;
        write_passage(&mut map, "chosen", "chosen_ids", &chosen.passage)?;
        write_passage(&mut map, "rejected", "rejected_ids", &rejected.passage)?;
        write_finished(&mut map, &self.0.completions)?;
        map.end()
    }
}

fn write_prompt<M: SerializeMap>(
    map: &mut M,
    id: Option<&Value>,
    prompt: &Passage,
) -> Result<(), M::Error> {
    if let Some(id) = id {
        map.serialize_entry("id", id)?;
    }
    if let Some(messages) = &prompt.messages {
        map.serialize_entry("messages", messages)?;
    }
    write_passage(map, "prompt", "prompt_ids", prompt)
}

fn write_passage<M: SerializeMap>(
    map: &mut M,
    text: &str,
    ids: &str,
    passage: &Passage,
) -> Result<(), M::Error> {
    if let Some(value) = &passage.text {
        map.serialize_entry(text, value)?;
    }
    if let Some(value) = &passage.ids {
        map.serialize_entry(ids, value)?;
    }
    Ok(())
}

/// `finished` goes without saying where all are.
fn write_finished<M: SerializeMap>(map: &mut M, all: &[Completion]) -> Result<(), M::Error> {
    let finished: Vec<bool> = all.iter().map(|completion| completion.finished).collect();
    map.serialize_entry("finished", &finished)
}

/// A text with a class: `text`, `label`.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledText {
    /// `id`, carried through.
    pub id: Option<Value>,
    /// `text`, `text_ids`.
    pub text: Passage,
    /// `label`: 1 or true is the class whose log-odds become the reward.
    pub label: bool,
}

impl Record for LabelledText {
    fn from_fields(fields: &Fields) -> Result<Self, Problem> {
        let text = fields.required_passage("text", "text_ids")?;
        if text.is_empty() {
            return Err(
                "`text`: expected at least one token, found an empty text; drop the record"
                    .to_owned(),
            );
        }
        let remedy = "write 1 for the class to be rewarded and 0 for the other";
        let label = match fields.get("label") {
            None => return Err(fields.missing("label", "0 or 1", remedy)),
            Some(Value::Bool(label)) => *label,
            Some(value) => match value.as_f64() {
                Some(0.0) => false,
                Some(1.0) => true,
                _ => return Err(wrong("label", "0 or 1", value, remedy)),
            },
        };
        Ok(Self { id: fields.id(), text, label })
    }
}

/// A prompt to be completed: `prompt`.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptRecord {
    /// `id`, carried through.
    pub id: Option<Value>,
    /// `prompt`, `prompt_ids`.
    pub prompt: Passage,
}

impl Record for PromptRecord {
    fn from_fields(fields: &Fields) -> Result<Self, Problem> {
        Ok(Self { id: fields.id(), prompt: fields.prompt()? })
    }
}

impl Serialize for PromptRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        write_prompt(&mut map, self.id.as_ref(), &self.prompt)?;
        map.end()
    }
}

#[cfg(test)]
mod tests;
