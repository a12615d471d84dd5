//! The kinds of records, from and to JSON.
//!
//! Invariant: every record has a prompt, and completions that are not empty. [`Group::check_for_alignment`]
//! checks the further needs of an alignment.

mod answered;
mod carried;
mod forms;
mod group;
mod passage;
mod unpaired;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::fields::{Fields, Problem, all_learned, unlearned, wrong};
use carried::{carried, write_carried};
use forms::PROMPT;
use passage::write_prompt;

pub use answered::Answered;
pub use group::{AsPreference, Group};
pub use passage::{Completion, Passage};
pub use unpaired::Unpaired;

/// A kind of record that a line can hold.
pub trait Record: Sized {
    /// The record, or what is wrong with it.
    fn from_fields(fields: &Fields) -> Result<Self, Problem>;

    /// Why a good line is no record of this kind, and is passed over and counted.
    fn passed_over(_: &Fields) -> Option<&'static str> {
        None
    }

    /// The fields that are read, or are known not to matter; none: all. Others are counted by name.
    fn reads() -> Vec<&'static str> {
        Vec::new()
    }

    /// Fields that are read of other records of the kind and not of this one. They are counted too.
    fn idle(_: &Fields) -> Vec<&'static str> {
        Vec::new()
    }
}

/// The fields themselves, for whoever reads records of another kind.
impl Record for Fields {
    fn from_fields(fields: &Fields) -> Result<Self, Problem> {
        Ok(fields.clone())
    }
}

/// A prompt with one completion to learn from: `prompt`, `chosen` (or `completion`), or a whole text
/// or conversation to learn from: `text`, `messages`.
#[derive(Clone, Debug, PartialEq)]
pub struct Demonstration {
    /// `id`, carried through.
    pub id: Option<Value>,
    /// `prompt`, `prompt_ids`; empty where all of a text or conversation is learned from.
    pub prompt: Passage,
    /// `chosen`, `chosen_ids`, `finished`.
    pub completion: Completion,
    /// Whether the completion is all there is: a text, or a conversation with all of its turns. Every
    /// token of it but the first is learned from, as in language modelling.
    pub is_whole: bool,
    /// Whether the completion is the chosen side of a preference.
    pub is_preference: bool,
}

/// What a label says, as data sets write it: true or false, 1, 0 or −1, or one of these as a text of a table.
fn truth(label: &Value) -> Option<bool> {
    match label {
        Value::Bool(label) => Some(*label),
        Value::String(text) => match text.trim().to_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            number => truth(&serde_json::from_str::<serde_json::Number>(number).ok()?.into()),
        },
        label => match label.as_f64()? {
            1.0 => Some(true),
            0.0 | -1.0 => Some(false),
            _ => None,
        },
    }
}

/// Why a completion with the label false is no demonstration.
const LABEL_IS_FALSE: &str = "`label` is false";
/// Why a conversation, or an answer of messages, is no demonstration.
const TURN_IS_UNWANTED: &str =
    "`weight` or `train` of the last turn says that it is not learned from";

/// The last message of what a record gives to learn from.
fn last_turn(fields: &Fields) -> Option<&Value> {
    match fields.first(&["chosen", "completion", "text", "messages"])?.1 {
        Value::Array(messages) => messages.last(),
        message => Some(message),
    }
}

impl Record for Demonstration {
    fn reads() -> Vec<&'static str> {
        let own = ["text", "text_ids", "completion", "completion_ids", "label", "finished"];
        let pair = ["chosen", "chosen_ids", "rejected", "rejected_ids"];
        [&PROMPT[..], &own, &pair].concat()
    }

    fn idle(fields: &Fields) -> Vec<&'static str> {
        forms::idle(fields)
    }

    fn passed_over(fields: &Fields) -> Option<&'static str> {
        if fields.get("label").is_some_and(|it| truth(it) == Some(false)) {
            return Some(LABEL_IS_FALSE);
        }
        last_turn(fields).and_then(unlearned).map(|_| TURN_IS_UNWANTED)
    }

    fn from_fields(fields: &Fields) -> Result<Self, Problem> {
        let record = Self::read(fields)?;
        let name = if record.is_whole { "messages" } else { "chosen" };
        all_learned(record.completion.passage.messages().unwrap_or_default(), name)?;
        Ok(record)
    }
}

impl Demonstration {
    /// The record, whether or not its turns are to be learned from.
    fn read(fields: &Fields) -> Result<Self, Problem> {
        forms::refuse_meant(fields)?;
        if let Some(label) = fields.get("label").filter(|it| truth(it).is_none()) {
            let remedy =
                "a label says whether to learn from a completion; correct it, or drop the column";
            return Err(wrong("label", "true or false", label, remedy));
        }
        let has = |text: &str, ids: &str| fields.has(text) || fields.has(ids);
        let finished = match fields.get("finished") {
            // A record of a preference may say it for both of its sides.
            Some(Value::Array(_)) => fields.flags("finished")?.and_then(|all| all.first().copied()),
            _ => fields.flag("finished")?,
        }
        .unwrap_or(true);
        let names = [("chosen", "chosen_ids"), ("completion", "completion_ids")];
        let Some((name, ids)) = names.into_iter().find(|(text, ids)| has(text, ids)) else {
            return Self::whole(fields, finished);
        };
        let mut sides = vec![(name.to_owned(), forms::required_side(fields, name, ids)?)];
        // What both sides begin with may be their prompt.
        if name == "chosen" && !has("prompt", "prompt_ids") && !fields.has("messages") {
            let rejected = forms::side(fields, "rejected", "rejected_ids")?;
            sides.extend(rejected.map(|it| ("rejected".to_owned(), it)));
        }
        let (prompt, answers) = forms::parted(fields, sides)?;
        let passage = answers.into_iter().next().unwrap_or_default();
        let completion = Completion { passage, finished }.checked(name)?;
        let is_preference = name == "chosen" && has("rejected", "rejected_ids");
        Ok(Self { id: fields.id(), prompt, completion, is_whole: false, is_preference })
    }

    /// A text, or a conversation that ends with the assistant's turn, all of it.
    fn whole(fields: &Fields, finished: bool) -> Result<Self, Problem> {
        let has_text = fields.has("text") || fields.has("text_ids");
        let (passage, name) = if has_text && !fields.has("prompt") && !fields.has("messages") {
            (forms::required_side(fields, "text", "text_ids")?, "text")
        } else if fields.has("messages") {
            (forms::own_prompt(fields)?.unwrap_or_default(), "messages")
        } else {
            let remedy = "write `prompt` with `chosen` or `completion`, `messages`, or `text`";
            return Err(match forms::own_prompt(fields)? {
                None => forms::no_prompt(fields),
                Some(_) => fields.missing("chosen", "a string", remedy),
            });
        };
        if let Some(messages) = passage.messages()
            && messages.last().is_none_or(|last| last["role"] != "assistant")
        {
            return Err("`messages`: expected a conversation that ends with the assistant's turn, or an \
                        answer beside it as `chosen`, found neither; add the answer or drop the record"
                .to_owned());
        }
        let completion = Completion { passage, finished }.checked(name)?;
        let (id, prompt) = (fields.id(), Passage::default());
        Ok(Self { id, prompt, completion, is_whole: true, is_preference: false })
    }
}

/// A text with a class: `text`, `label`, or a completion of a prompt with one: `prompt`, `completion`,
/// `label`.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledText {
    /// `id`, carried through.
    pub id: Option<Value>,
    /// `prompt` of a completion.
    pub prompt: Option<Passage>,
    /// `text`, `text_ids`, or the completion.
    pub text: Passage,
    /// `label`: 1 or true is the class whose log-odds become the reward.
    pub label: bool,
}

impl LabelledText {
    /// Whether a chat template writes it.
    pub fn is_conversation(&self) -> bool {
        let prompt = self.prompt.as_ref();
        self.text.ids.is_none()
            && (self.text.conversation.is_some()
                || prompt.is_some_and(|it| it.conversation.is_some()))
    }
}

impl Record for LabelledText {
    fn reads() -> Vec<&'static str> {
        let own = ["text", "text_ids", "completion", "completion_ids", "label"];
        [&PROMPT[..], &own].concat()
    }

    fn idle(fields: &Fields) -> Vec<&'static str> {
        forms::idle(fields)
    }

    fn from_fields(fields: &Fields) -> Result<Self, Problem> {
        forms::refuse_meant(fields)?;
        let has = |text: &str, ids: &str| fields.has(text) || fields.has(ids);
        if has("text", "text_ids") && has("completion", "completion_ids") {
            return Err("`text`: expected a `text` or a `completion` with the label, found both; drop one of \
                        the columns"
                .to_owned());
        }
        let (prompt, text) = if !has("text", "text_ids") && has("completion", "completion_ids") {
            let side = forms::required_side(fields, "completion", "completion_ids")?;
            let (prompt, sides) = forms::parted(fields, vec![("completion".to_owned(), side)])?;
            (Some(prompt), sides.into_iter().next().unwrap_or_default())
        } else {
            (None, forms::required_side(fields, "text", "text_ids")?)
        };
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
        Ok(Self { id: fields.id(), prompt, text, label })
    }
}

/// A prompt to be completed: `prompt`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PromptRecord {
    /// `id`, carried through.
    pub id: Option<Value>,
    /// `prompt`, `prompt_ids`.
    pub prompt: Passage,
    /// Fields that have no meaning here, such as `answer`, in their order: they are carried through.
    pub others: Map<String, Value>,
}

/// No field is unread but idle ones: those without a meaning are carried through.
impl Record for PromptRecord {
    fn idle(fields: &Fields) -> Vec<&'static str> {
        forms::idle(fields)
    }

    /// The prompt that stands apart, or what the answers begin with. Of `messages` that end with the
    /// assistant's turn, the turns before it.
    fn from_fields(fields: &Fields) -> Result<Self, Problem> {
        forms::refuse_meant(fields)?;
        let mut answers = Vec::new();
        for (name, ids) in [
            ("chosen", "chosen_ids"),
            ("rejected", "rejected_ids"),
            ("completion", "completion_ids"),
        ] {
            let side = forms::side(fields, name, ids)?;
            answers.extend(side.map(|it| (name.to_owned(), it)));
        }
        let mut prompt = match answers.is_empty() {
            true => forms::own_prompt(fields)?.ok_or_else(|| forms::no_prompt(fields))?,
            false => forms::parted(fields, answers)?.0,
        };
        if fields.has("messages")
            && let Some(conversation) = &mut prompt.conversation
            && conversation.messages.last().is_some_and(|last| last["role"] == "assistant")
        {
            conversation.messages.pop();
            if conversation.messages.is_empty() {
                return Err(
                    "`messages`: expected a turn before the assistant's, found none; drop the \
                            record"
                        .to_owned(),
                );
            }
        }
        Ok(Self { id: fields.id(), prompt, others: carried(fields) })
    }
}

impl Serialize for PromptRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        write_prompt(&mut map, self.id.as_ref(), &self.prompt)?;
        write_carried(&mut map, &self.others)?;
        map.end()
    }
}

#[cfg(test)]
mod forms_tests;
#[cfg(test)]
mod tests;
