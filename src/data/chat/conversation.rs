//! A conversation as a template renders it, and where the text ends.

use serde_json::{Map, Value, json};

use super::jinja::is_space;
use super::settings::RESERVED;

/// A conversation as chat templates read it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    /// `role`, `content` and whatever else a message has.
    pub messages: Vec<Value>,
    /// JSON schemas of the tools that may be called.
    pub tools: Option<Vec<Value>>,
    /// What an answer may rest on, with `title` and `text`.
    pub documents: Option<Vec<Value>>,
    /// Arguments of the template; they win over those of the settings.
    pub template_kwargs: Map<String, Value>,
}

impl From<Vec<Value>> for Conversation {
    fn from(messages: Vec<Value>) -> Self {
        Self { messages, ..Self::default() }
    }
}

/// Where the text of a conversation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Where the assistant's next turn begins (`add_generation_prompt`).
    GenerationPrompt,
    /// With its last message.
    Closed,
    /// Within its last message, so that it can go on (`continue_final_message`).
    Continued,
}

impl Conversation {
    /// With an answer behind it.
    pub(crate) fn answered(&self, text: &str) -> Self {
        let mut whole = self.clone();
        whole.messages.push(json!({ "role": "assistant", "content": text }));
        whole
    }

    /// Whether it ends with the assistant's turn.
    pub(crate) fn is_begun(&self) -> bool {
        self.messages.last().is_some_and(|it| it["role"] == "assistant")
    }

    /// The text of the answer that it ends with.
    pub(crate) fn begun(&self) -> Option<&str> {
        self.messages.last().filter(|_| self.is_begun())?["content"].as_str()
    }

    /// With its last message going on.
    pub(crate) fn continued(&self, text: &str) -> Self {
        let mut whole = self.clone();
        let begun = self.begun().unwrap_or_default();
        if let Some(last) = whole.messages.last_mut() {
            last["content"] = Value::from(format!("{begun}{text}"));
        }
        whole
    }

    /// Refuses what `apply_chat_template` does not take.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.messages.is_empty() {
            return Err("expected messages, found none".to_owned());
        }
        let lists = [
            ("messages", Some(&self.messages)),
            ("tools", self.tools.as_ref()),
            ("documents", self.documents.as_ref()),
        ];
        for (name, values) in lists {
            let mut values = values.into_iter().flatten().enumerate();
            if let Some((index, value)) = values.find(|(_, value)| !value.is_object()) {
                return Err(format!("`{name}[{index}]`: expected an object, found {value}"));
            }
        }
        match self.template_kwargs.keys().find(|key| RESERVED.contains(&key.as_str())) {
            Some(key) => Err(format!(
                "`chat_template_kwargs.{key}`: expected an argument of the template's own, found \
                 one that every template is given; leave it out"
            )),
            None => Ok(()),
        }
    }
}

/// Stands where the final message goes on.
const TAG: &str = "CONTINUE_FINAL_MESSAGE_TAG ";

/// Messages of which the last ends in the tag.
pub(super) struct Marked {
    pub messages: Vec<Value>,
    /// The text of the last.
    last: String,
}

/// Puts the tag behind the text of the last message, or behind its last part that has text.
pub(super) fn mark_final(mut messages: Vec<Value>) -> Result<Marked, String> {
    let nothing = "expected a final message with text to continue, found none";
    let content = messages.last_mut().and_then(|message| message.get_mut("content"));
    let text = match content {
        Some(Value::Array(parts)) => parts.iter_mut().rev().find_map(|part| part.get_mut("text")),
        content => content,
    };
    let Some(Value::String(text)) = text else { return Err(nothing.to_owned()) };
    let last = text.clone();
    text.push_str(TAG);
    Ok(Marked { messages, last })
}

impl Marked {
    /// The text up to the tag.
    pub fn cut(&self, text: &str) -> Result<String, String> {
        let Some(at) =
            text.rfind(TAG.trim_end()).filter(|_| text.contains(self.last.trim_matches(is_space)))
        else {
            return Err("expected the final message in the text of the conversation, so that it \
                        can go on there, and found it changed by the chat template"
                .to_owned());
        };
        let kept = &text[..at];
        // Without its blank the tag was at the end of a text that the template trims.
        let whole = text[at..].starts_with(TAG);
        Ok(if whole { kept } else { kept.trim_end_matches(is_space) }.to_owned())
    }
}
