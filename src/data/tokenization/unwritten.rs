//! What a chat template leaves out of the records that it writes: fields of messages, tools, documents, and parts of
//! answers.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::seam::Asked;
use super::{Intake, Tokenization};
use crate::data::{ChatTemplate, Conversation, Ending, Located, Passage, Tokenizer};

/// Records that are written anew without a field, until one of them shows that the template writes it.
const TRIED: usize = 4;

/// Fields that say something to the model. What else messages have, such as `id`, are notes of whoever made the set.
const WORDS: [&str; 6] =
    ["documents", "reasoning", "reasoning_content", "thinking", "tool_calls", "tools"];

/// What the chat template does not write.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Unwritten {
    /// Fields, and the records that have them.
    pub fields: BTreeMap<String, usize>,
    /// Records of whose answer a part is not written.
    pub answers: usize,
    /// The line of the first of them.
    pub first_answer: Option<usize>,
}

impl Unwritten {
    /// What a model does not learn of the records, and what to do about it; none where it learns all.
    pub fn words(&self) -> Option<String> {
        let records = |count| super::intake::count(count, "record");
        let fields = self.fields.iter().filter(|(name, _)| WORDS.contains(&name.as_str()));
        let mut left_out: Vec<String> =
            fields.map(|(name, count)| format!("`{name}` of {}", records(*count))).collect();
        if let Some(line) = self.first_answer {
            let of_answers = records(self.answers);
            left_out
                .push(format!("a part of the answer of {of_answers} (the first in line {line})"));
        }
        (!left_out.is_empty()).then(|| {
            format!(
                "the chat template does not write {}, and the model does not read it: give `prompt` and the \
                 answers as texts that hold it, or take a template that writes it",
                left_out.join(", ")
            )
        })
    }

    /// Other fields of messages, as columns that are not used.
    pub fn notes(&self) -> impl Iterator<Item = (String, usize)> {
        let fields = self.fields.iter().filter(|(name, _)| !WORDS.contains(&name.as_str()));
        fields.map(|(name, count)| (format!("messages.{name}"), *count))
    }
}

/// What has been found out so far.
#[derive(Debug, Default)]
pub(super) struct Search {
    fields: BTreeMap<String, Tried>,
    answers: usize,
    first_answer: Option<usize>,
    /// The line that was counted last: a group is one record.
    last_answer: Option<usize>,
}

/// Records with a field.
#[derive(Debug, Default)]
struct Tried {
    records: usize,
    tried: usize,
    is_written: bool,
}

impl Search {
    /// What the template does not write.
    pub fn unwritten(&self) -> Unwritten {
        let fields = self.fields.iter().filter(|(_, it)| !it.is_written && it.records > 0);
        Unwritten {
            fields: fields.map(|(name, it)| (name.clone(), it.records)).collect(),
            answers: self.answers,
            first_answer: self.first_answer,
        }
    }

    /// Counts a record whose answer, a text of one or several turns, is not in what the template wrote.
    pub fn look_at_answer<'a>(
        &mut self,
        line: usize,
        written: &str,
        answer: impl IntoIterator<Item = &'a str>,
    ) {
        let is_whole = answer.into_iter().all(|text| holds(written, text.trim()));
        if !is_whole && self.last_answer != Some(line) {
            self.answers += 1;
            self.first_answer.get_or_insert(line);
            self.last_answer = Some(line);
        }
    }

    /// Counts the fields of a record, of which `is_written` finds out whether the template writes them; none: the
    /// record does not show it.
    fn look_at_fields(
        &mut self,
        fields: BTreeSet<&str>,
        mut is_written: impl FnMut(&str) -> Option<bool>,
    ) {
        for name in fields {
            let found = match self.fields.get_mut(name) {
                Some(found) => found,
                None => self.fields.entry(name.to_owned()).or_default(),
            };
            if found.is_written {
                continue;
            }
            if found.tried < TRIED {
                let Some(written) = is_written(name) else { continue };
                found.tried += 1;
                found.is_written = written;
            }
            found.records += 1;
        }
    }
}

/// Whether a text is written, whatever the template makes of the white space between its words.
fn holds(written: &str, text: &str) -> bool {
    let dense = |text: &str| text.split_whitespace().collect::<String>();
    written.contains(text) || dense(written).contains(&dense(text))
}

/// The words of the assistant's turns among messages.
pub(super) fn words_of(messages: &[Value]) -> impl Iterator<Item = &str> {
    let answers = messages.iter().filter(|message| message["role"] == "assistant");
    answers.flat_map(|message| match &message["content"] {
        Value::String(text) => vec![text.as_str()],
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => Vec::new(),
    })
}

impl Tokenization<'_> {
    /// Looks at what the template leaves out of a conversation that stands for itself and ends with an answer.
    pub(super) fn look_at_whole<R>(
        &self,
        located: &Located<R>,
        passage: &Passage,
        asked: &Asked,
        intake: &mut Intake,
    ) {
        self.look_at_fields(passage, [], intake);
        if let (Some([.., answer]), Some(written)) = (passage.messages(), asked.text()) {
            let words = words_of(std::slice::from_ref(answer));
            intake.search.look_at_answer(located.line, written, words);
        }
    }

    /// Looks which fields of a prompt and its answers the template leaves out.
    pub(super) fn look_at_fields<'p>(
        &self,
        prompt: &'p Passage,
        answers: impl IntoIterator<Item = &'p Passage>,
        intake: &mut Intake,
    ) {
        let template = self.tokenizer.and_then(Tokenizer::chat_template);
        let (Some(asked), Some(template)) = (&prompt.conversation, template) else { return };
        let answers = answers.into_iter().filter(|it| it.ids.is_none());
        let answers: Vec<&[Value]> = answers.filter_map(Passage::messages).collect();
        // Nothing is written where all is token ids.
        if prompt.ids.is_some() && answers.is_empty() {
            return;
        }
        let messages = asked.messages.iter().chain(answers.iter().copied().flatten());
        let mut fields: BTreeSet<&str> = messages.flat_map(fields_of).collect();
        fields.extend(asked.tools.as_ref().map(|_| "tools"));
        fields.extend(asked.documents.as_ref().map(|_| "documents"));
        let ends = if answers.is_empty() { vec![&[][..]] } else { answers };
        let whole = |answer: &[Value]| {
            let mut whole = asked.clone();
            whole.messages.extend_from_slice(answer);
            whole
        };
        intake.search.look_at_fields(fields, |name| {
            let found = ends.iter().filter_map(|answer| writes(template, name, &whole(answer)));
            found.reduce(|one, two| one || two)
        });
    }
}

/// The fields of a message that say something beside its role and content.
fn fields_of(message: &Value) -> impl Iterator<Item = &str> {
    let says_something = |value: &Value| match value {
        Value::Null => false,
        Value::String(text) => !text.trim().is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    };
    let fields = message.as_object().into_iter().flatten();
    let fields = fields.filter(move |(name, value)| {
        !["role", "content"].contains(&name.as_str()) && says_something(value)
    });
    fields.map(|(name, _)| name.as_str())
}

/// Whether a template writes something else of a conversation without a field; none where it cannot write the
/// conversation. What it refuses to go without, it reads.
fn writes(template: &ChatTemplate, name: &str, conversation: &Conversation) -> Option<bool> {
    let mut without = conversation.clone();
    match name {
        "tools" => without.tools = None,
        "documents" => without.documents = None,
        _ => {}
    }
    for message in without.messages.iter_mut().filter_map(Value::as_object_mut) {
        message.remove(name);
    }
    if without == *conversation {
        return None;
    }
    let written = template.render(conversation, Ending::Closed).ok()?;
    Some(template.render(&without, Ending::Closed).ok().is_none_or(|it| it != written))
}
