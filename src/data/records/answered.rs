//! Any record with answers, as a group.

use serde_json::Value;

use super::{Completion, Demonstration, Group, Passage, Record};
use crate::data::{Fields, Problem};

/// A group, a pair, a demonstration as a group of one, or the answer of a completion with a label. Of
/// a conversation, the assistant's last turn is the answer; of a text, all of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answered {
    /// The prompt and its answers.
    pub group: Group,
    /// Whether the only answer is a whole text.
    pub is_whole: bool,
}

impl Record for Answered {
    fn reads() -> Vec<&'static str> {
        [Group::reads(), Demonstration::reads()].concat()
    }

    fn idle(fields: &Fields) -> Vec<&'static str> {
        Group::idle(fields)
    }

    fn from_fields(fields: &Fields) -> Result<Self, Problem> {
        let has = |text: &str, ids: &str| fields.has(text) || fields.has(ids);
        let single = has("chosen", "chosen_ids") || has("completion", "completion_ids");
        // Token ids of several completions are a list of lists.
        let ids = fields.get("completion_ids").and_then(Value::as_array);
        let is_list = ids.and_then(|ids| ids.first()).is_some_and(|it| !it.is_number());
        let is_compared = fields.has("completions") || is_list || has("rejected", "rejected_ids");
        if is_compared {
            return Ok(Self { group: Group::from_fields(fields)?, is_whole: false });
        }
        let is_text = has("text", "text_ids") && !has("prompt", "prompt_ids");
        if !single && !is_text && !fields.has("messages") {
            return Group::from_fields(fields).map(|group| Self { group, is_whole: false });
        }
        let Demonstration { id, mut prompt, mut completion, is_whole, .. } =
            Demonstration::read(fields)?;
        let mut is_whole = is_whole;
        if let (true, Some(conversation)) = (is_whole, &mut completion.passage.conversation) {
            let answer: Vec<_> = conversation.messages.pop().into_iter().collect();
            if conversation.messages.is_empty() {
                return Err(
                    "`messages`: expected a turn before the assistant's, found none; drop the \
                            record"
                        .to_owned(),
                );
            }
            prompt = std::mem::take(&mut completion.passage);
            completion = Completion::finished(Passage::of_messages(answer));
            is_whole = false;
        }
        Ok(Self {
            group: Group { id, prompt, completions: vec![completion], ..Group::default() },
            is_whole,
        })
    }
}
