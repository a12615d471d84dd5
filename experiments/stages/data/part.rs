//! One example of a published set → the records that are made of it.

use exalign::data::published::Extras;
use exalign::data::{Completion, Passage, PromptRecord};
use serde_json::{Value, json};

/// An example as the parts that records are made of.
pub struct Part {
    pub prompt: PromptRecord,
    pub chosen: Completion,
    pub rejected: Option<Completion>,
    /// What the chat template takes beside the messages.
    pub extras: Extras,
    /// Of a review, all of it and its label.
    pub review: Option<(Passage, bool)>,
}

impl Part {
    pub fn key(&self) -> [u8; 16] {
        self.extras.prompt_key(&self.prompt.prompt)
    }

    /// A record of the prompt, what its template takes beside it, and further fields.
    pub fn with(&self, fields: Vec<(&str, Value)>) -> Value {
        let mut record = json!(self.prompt);
        if fields.iter().any(|(name, value)| is_side(name) && value.is_array()) {
            // As TRL has answers that are messages: the prompt by its own name.
            record = json!({ "prompt": self.prompt.prompt.messages() });
        }
        for (name, value) in self.extras.fields() {
            record[name] = value.clone();
        }
        for (name, value) in fields {
            record[name] = value;
        }
        record
    }

    /// The sides of a record, all of them messages where one is.
    fn sides(&self, rejected: Option<&Completion>) -> Vec<(&'static str, Value)> {
        let chosen = side("chosen", "chosen_ids", &self.chosen.passage);
        let rejected = rejected.map(|it| side("rejected", "rejected_ids", &it.passage));
        let mut sides: Vec<_> = std::iter::once(chosen).chain(rejected).collect();
        if sides.iter().any(|(name, value)| is_side(name) && value.is_array()) {
            for (_, value) in sides.iter_mut().filter(|(_, value)| value.is_string()) {
                *value = json!([{ "role": "assistant", "content": value.take() }]);
            }
        }
        sides
    }

    pub fn demonstration(&self) -> Value {
        let mut fields = self.sides(None);
        if !self.chosen.finished {
            fields.push(("finished", json!(false)));
        }
        self.with(fields)
    }

    /// A group of one: the answer that was given, as people and as models read it.
    /// None of an answer that is more than a text: what is compared with it is a text.
    pub fn answer(&self) -> Option<Value> {
        let Passage { text, ids, conversation } = &self.chosen.passage;
        if conversation.is_some() {
            return None;
        }
        let given = [
            text.as_ref().map(|it| ("completions", json!([it]))),
            ids.as_ref().map(|it| ("completion_ids", json!([it]))),
            Some(("finished", json!([self.chosen.finished]))),
        ];
        Some(self.with(given.into_iter().flatten().collect()))
    }

    /// Whether it is a text with a label or a pair.
    pub fn has_label(&self) -> bool {
        self.review.is_some() || self.rejected.is_some()
    }

    /// A text with its label, or a pair; none of a demonstration.
    pub fn labelled(&self) -> Option<Value> {
        if let Some((text, label)) = &self.review {
            let (name, value) = side("text", "text_ids", text);
            return Some(json!({ name: value, "label": u8::from(*label) }));
        }
        let rejected = self.rejected.as_ref()?;
        Some(self.with(self.sides(Some(rejected))))
    }
}

pub fn side(text: &'static str, ids: &'static str, passage: &Passage) -> (&'static str, Value) {
    match (&passage.ids, passage.messages()) {
        (Some(values), _) => (ids, json!(values)),
        (None, Some(messages)) => (text, json!(messages)),
        (None, None) => (text, json!(passage.text)),
    }
}

fn is_side(name: &str) -> bool {
    matches!(name, "chosen" | "rejected")
}

/// Pairs of an answer and the answer to another prompt. In the order of their lengths each answer
/// is rejected for the prompt of the next one: every answer is chosen once and rejected once, so
/// that neither its length nor its style tells which it is.
pub fn mismatched(parts: &[Part]) -> Vec<Value> {
    let length = |part: &Part| part.chosen.passage.text.as_deref().map_or(0, str::len);
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_cached_key(|&it| (length(&parts[it]), parts[it].key()));
    let mut other = vec![0; parts.len()];
    for (place, &part) in order.iter().enumerate() {
        other[part] = order[(place + 1) % order.len()];
    }
    parts
        .iter()
        .zip(other)
        .filter(|(part, other)| parts[*other].chosen != part.chosen)
        .map(|(part, other)| {
            let mut fields = part.sides(Some(&parts[other].chosen));
            fields.push(("source", json!("proxy: the summary of another post")));
            part.with(fields)
        })
        .collect()
}
