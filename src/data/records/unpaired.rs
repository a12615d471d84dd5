//! Completions that are desirable or not, each by itself.

use serde_json::Value;

use super::{Completion, Group, LabelledText, Record};
use crate::data::{Fields, Problem};

/// A completion with a label of its own, `prompt`, `completion`, `label`, as a group of one with the reward
/// 1 where it is desirable and 0 where it is not; or any [`Group`] with rewards, of which the completions of
/// positive reward are desirable.
#[derive(Clone, Debug, PartialEq)]
pub struct Unpaired(pub Group);

impl Record for Unpaired {
    fn reads() -> Vec<&'static str> {
        [Group::reads(), LabelledText::reads()].concat()
    }

    fn idle(fields: &Fields) -> Vec<&'static str> {
        Group::idle(fields)
    }

    fn from_fields(fields: &Fields) -> Result<Self, Problem> {
        // Token ids of several completions are a list of lists.
        let ids = fields.get("completion_ids").and_then(Value::as_array);
        let is_single =
            ids.is_none_or(|ids| ids.iter().all(Value::is_number)) && !fields.has("completions");
        let is_single = is_single && !["chosen", "chosen_ids"].iter().any(|it| fields.has(it));
        let is_labelled = fields.has("label") || fields.has("completion") || ids.is_some();
        if !is_single || !is_labelled {
            return Group::from_fields(fields).map(Self);
        }
        if !fields.has("completion") && ids.is_none() {
            let remedy = "write `prompt`, `completion` and `label`";
            return Err(fields.missing("completion", "a string", remedy));
        }
        let finished = fields.flag("finished")?.unwrap_or(true);
        let LabelledText { id, prompt, text, label } = LabelledText::from_fields(fields)?;
        let completion = Completion { passage: text, finished }.checked("completion")?;
        Ok(Self(Group {
            id,
            prompt: prompt.unwrap_or_default(),
            completions: vec![completion],
            rewards: Some(vec![f64::from(u8::from(label))]),
            ..Group::default()
        }))
    }
}

impl Unpaired {
    /// Refuses what has no finite label for each completion.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), Problem> {
        self.0.check_rewards()
    }
}
