//! A passage is a prompt or a completion: a text, a conversation, or token ids.

use serde::ser::SerializeMap;
use serde_json::{Value, json};

use crate::data::{Conversation, Problem};

/// A text or a conversation, its token ids, or both; where both are, the ids are what counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Passage {
    /// The text.
    pub text: Option<String>,
    /// The token ids, taken exactly as they are.
    pub ids: Option<Vec<u32>>,
    /// Messages in place of a text; the model's chat template makes a text of them. Of a completion,
    /// the messages that follow the prompt's.
    pub conversation: Option<Conversation>,
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

    /// Messages.
    pub fn of_messages(messages: Vec<Value>) -> Self {
        Self { conversation: Some(messages.into()), ..Self::default() }
    }

    /// The messages, where it is a conversation.
    pub fn messages(&self) -> Option<&[Value]> {
        self.conversation.as_ref().map(|it| it.messages.as_slice())
    }

    /// What a person reads: the text, the words of a single message, or the turns of several with
    /// their roles; none where there are only token ids.
    pub fn words(&self) -> Option<String> {
        let turn = |message: &Value| {
            format!("{}: {}", message["role"].as_str().unwrap_or_default(), words_of(message))
        };
        match (&self.text, self.messages()) {
            (Some(text), _) => Some(text.clone()),
            (None, Some([only])) => Some(words_of(only)),
            (None, Some(turns)) => Some(turns.iter().map(turn).collect::<Vec<_>>().join("\n\n")),
            (None, None) => None,
        }
    }

    /// Whether what counts of it holds nothing.
    pub fn is_empty(&self) -> bool {
        match (&self.ids, &self.conversation, &self.text) {
            (Some(ids), ..) => ids.is_empty(),
            (None, Some(conversation), _) => conversation.messages.is_empty(),
            (None, None, text) => text.as_deref().unwrap_or_default().is_empty(),
        }
    }

    /// Whether both say the same, compared by ids where both have them, and by messages or text
    /// otherwise.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.ids, &other.ids) {
            (Some(one), Some(two)) => one == two,
            _ if self.conversation.is_some() => self.conversation == other.conversation,
            _ => self.text.is_some() && self.text == other.text,
        }
    }

    /// As a value of a list: the text or the messages; null where there are only token ids.
    pub(super) fn value(&self) -> Value {
        match self.messages() {
            Some(messages) => json!(messages),
            None => json!(self.text),
        }
    }
}

/// The words of a message: its text, the texts of its parts, or what it asks of tools.
fn words_of(message: &Value) -> String {
    let content = match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    };
    match message.get("tool_calls") {
        Some(calls) if content.is_empty() => calls.to_string(),
        _ => content,
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

    /// Refuses an empty one, and messages that were cut.
    pub(super) fn checked(self, field: &str) -> Result<Self, Problem> {
        let found = match &self.passage {
            it if !it.is_empty() && it.messages().is_some() && !self.finished => {
                return Err(format!(
                    "`finished`: expected true for messages, since a template ends their turn, found \
                     false; give the cut `{field}` as text or token ids"
                ));
            }
            it if !it.is_empty() => return Ok(self),
            it if it.ids.is_some() => "no token ids",
            it if it.messages().is_some() => "no messages",
            _ => "an empty text",
        };
        Err(format!(
            "`{field}`: expected a completion of at least one token, found {found}; drop the record"
        ))
    }
}

/// Writes the prompt of a record, its `id` first.
pub(super) fn write_prompt<M: SerializeMap>(
    map: &mut M,
    id: Option<&Value>,
    prompt: &Passage,
) -> Result<(), M::Error> {
    if let Some(id) = id {
        map.serialize_entry("id", id)?;
    }
    if let Some(conversation) = &prompt.conversation {
        // `messages` that end with the assistant's turn are a demonstration.
        let field = if conversation.is_begun() { "prompt" } else { "messages" };
        map.serialize_entry(field, &conversation.messages)?;
        if let Some(tools) = &conversation.tools {
            // A list loses its nulls where it is read; a text keeps them.
            match tools.iter().any(has_null) {
                true => map.serialize_entry("tools", &Value::from(tools.clone()).to_string())?,
                false => map.serialize_entry("tools", tools)?,
            }
        }
        if let Some(documents) = &conversation.documents {
            map.serialize_entry("documents", documents)?;
        }
        if !conversation.template_kwargs.is_empty() {
            map.serialize_entry("chat_template_kwargs", &conversation.template_kwargs)?;
        }
    }
    write_passage(map, "prompt", "prompt_ids", &Passage { conversation: None, ..prompt.clone() })
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(has_null),
        Value::Object(fields) => fields.values().any(has_null),
        _ => false,
    }
}

/// Writes a side of a record.
pub(super) fn write_passage<M: SerializeMap>(
    map: &mut M,
    text: &str,
    ids: &str,
    passage: &Passage,
) -> Result<(), M::Error> {
    if passage.text.is_some() || passage.conversation.is_some() {
        map.serialize_entry(text, &passage.value())?;
    }
    if let Some(value) = &passage.ids {
        map.serialize_entry(ids, value)?;
    }
    Ok(())
}
