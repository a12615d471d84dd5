//! When two texts count as the same: they agree in everything except case, and the number of blanks and line
//! ends between words and at the ends. `3+2` differs from `3-2`, and the speaker of a turn counts.

use serde_json::Value;

use super::Example;
use crate::data::{Conversation, Passage};

/// A hash of texts; equal for those that differ in case and blanks only.
pub(super) type Key = [u8; 16];

/// A hash of what a passage says, but for case and blanks; of one that has no text, of its token ids.
pub fn passage_key(passage: &Passage) -> [u8; 16] {
    let mut texts = Texts::default();
    match (&passage.ids, &passage.conversation, &passage.text) {
        (Some(ids), None, None) => texts.add(&format!("{ids:?}")),
        (_, conversation, text) => {
            if let Some(conversation) = conversation {
                texts.add_conversation(conversation);
            }
            text.iter().for_each(|text| texts.add(text));
        }
    }
    texts.key()
}

impl Example {
    /// What the prompt says, tools included; of a labelled text, what all of it says.
    pub fn prompt_key(&self) -> [u8; 16] {
        let (prompt, extras) = match self {
            Self::Labelled { text, .. } => return passage_key(&Passage::of_text(text)),
            Self::Demonstration { prompt, extras, .. } => (prompt, extras),
            Self::Preference { prompt, extras, .. } => (prompt, extras),
        };
        extras.prompt_key(prompt)
    }

    /// What all of it says. A label does not count.
    pub(super) fn key(&self) -> Key {
        let answers = match self {
            Self::Labelled { .. } => vec![],
            Self::Demonstration { chosen, .. } => vec![chosen],
            Self::Preference { chosen, rejected, .. } => vec![chosen, rejected],
        };
        let mut all = vec![self.prompt_key()];
        all.extend(answers.into_iter().map(passage_key));
        shortened(blake3::hash(&all.concat()))
    }
}

impl super::Extras {
    /// What a prompt says with them.
    pub fn prompt_key(&self, prompt: &Passage) -> [u8; 16] {
        let key = passage_key(prompt);
        let mut fields = self.fields().peekable();
        if fields.peek().is_none() {
            return key;
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&key);
        for (name, value) in fields {
            hasher.update(name.as_bytes()).update(value.to_string().as_bytes());
        }
        shortened(hasher.finalize())
    }
}

/// Texts in a row, each with its end.
#[derive(Default)]
struct Texts(blake3::Hasher);

impl Texts {
    fn add(&mut self, text: &str) {
        for word in text.split_whitespace() {
            self.0.update(word.to_lowercase().as_bytes()).update(b" ");
        }
        self.0.update(b"\n");
    }

    /// The messages, and what else the template reads.
    fn add_conversation(&mut self, conversation: &Conversation) {
        let Conversation { messages, tools, documents, template_kwargs } = conversation;
        messages.iter().for_each(|message| self.add_message(message));
        for more in [tools, documents].into_iter().flatten() {
            self.add(&Value::from(more.clone()).to_string());
        }
        if !template_kwargs.is_empty() {
            self.add(&Value::from(template_kwargs.clone()).to_string());
        }
    }

    /// A message with its role, its text and whatever else it has but what is empty.
    fn add_message(&mut self, message: &Value) {
        let Value::Object(fields) = message else { return self.add(&message.to_string()) };
        let text = |name: &str| message[name].as_str().unwrap_or_default();
        self.add(text("role"));
        self.add(text("content"));
        let is_text = |name: &str, value: &Value| name == "content" && value.is_string();
        let others = fields.iter().filter(|(name, value)| *name != "role" && !is_text(name, value));
        for (name, value) in others.filter(|(_, value)| !value.is_null()) {
            self.add(&format!("{name} {value}"));
        }
    }

    fn key(&self) -> Key {
        shortened(self.0.finalize())
    }
}

fn shortened(hash: blake3::Hash) -> Key {
    let mut key = Key::default();
    key.copy_from_slice(&hash.as_bytes()[..16]);
    key
}
