//! Undoes what tables do to the fields of a record.

use std::collections::BTreeMap;

use serde_json::Value;

use super::literal::Literal;
use crate::data::fields::remove_nulls;
use crate::data::{Fields, Problem};

/// Fields that are lists or objects, whatever their items.
const LISTS: [&str; 13] = [
    "messages",
    "conversations",
    "conversation",
    "completions",
    "rewards",
    "finished",
    "prompt_ids",
    "chosen_ids",
    "rejected_ids",
    "completion_ids",
    "tools",
    "history",
    "chat_template_kwargs",
];
/// Fields that are a text or a conversation.
const TEXTS_OR_MESSAGES: [&str; 4] = ["prompt", "chosen", "rejected", "completion"];

/// Further fields that records read and that may hold objects.
const OTHERS: [&str; 3] = ["documents", "reward_parts", "text"];

/// Whether records read the field. Others are carried as they are.
fn is_read(name: &str) -> bool {
    [&LISTS[..], &TEXTS_OR_MESSAGES, &OTHERS].iter().any(|names| names.contains(&name))
}

/// Undoes it, and counts.
#[derive(Default)]
pub(super) struct Cells {
    /// How many lists were written as text, by field.
    pub lists_as_text: BTreeMap<String, usize>,
}

impl Cells {
    /// The fields as they were before: those that records read without nulls inside, and with lists that were
    /// written as text.
    pub fn finish(&mut self, mut fields: Fields) -> Result<Fields, Problem> {
        for (name, value) in fields.values_mut() {
            if !is_read(name) {
                continue;
            }
            remove_nulls(value);
            if name != "history" && is_blank_list(name, value) {
                *value = Value::Null;
            }
            if let Some(read) = self.read(name, value)? {
                *self.lists_as_text.entry(name.clone()).or_default() += 1;
                *value = read;
            }
        }
        Ok(fields)
    }

    /// The list or object that a text is, if the field is to hold one.
    fn read(&self, name: &str, value: &Value) -> Result<Option<Value>, Problem> {
        let Some(text) = value.as_str().map(str::trim).filter(|it| it.starts_with(['[', '{']))
        else {
            return Ok(None);
        };
        let is_list = LISTS.contains(&name);
        if !is_list && !TEXTS_OR_MESSAGES.contains(&name) {
            return Ok(None);
        }
        match Literal::parse(text) {
            Literal::Whole(mut read) if is_list || is_conversation(&read) => {
                // TRL reads tools that are JSON after it has removed nulls, and so leaves theirs; so does the
                // field itself.
                let is_json = || serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
                if name == "tools" && is_json() {
                    return Ok(None);
                }
                remove_nulls(&mut read);
                Ok(Some(read))
            }
            Literal::Broken if begins_conversation(text) => Err(format!(
                "`{name}`: expected a list of messages, found a text that begins like one and is none; \
                 write the list as JSON"
            )),
            _ => Ok(None),
        }
    }
}

/// Whether a text stands for no list at all.
fn is_blank_list(name: &str, value: &Value) -> bool {
    LISTS.contains(&name) && value.as_str().is_some_and(|it| it.trim().is_empty())
}

/// Whether a value is a message or a list of messages.
fn is_conversation(value: &Value) -> bool {
    let is_message = |it: &Value| {
        let has = |name: &str| it.get(name).is_some();
        it["role"].is_string() && (has("content") || has("tool_calls"))
            || it["from"].is_string() && has("value")
    };
    match value {
        Value::Array(items) => !items.is_empty() && items.iter().all(is_message),
        value => is_message(value),
    }
}

/// Whether a text begins as a list of messages does: `[{'role':`.
fn begins_conversation(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('[').map(str::trim_start) else { return false };
    let Some(rest) = rest.strip_prefix('{').map(str::trim_start) else { return false };
    ["role", "content", "from", "value"].iter().any(|name| {
        ["'", "\""].iter().any(|quote| {
            let name = rest.strip_prefix(quote).and_then(|it| it.strip_prefix(name));
            let rest = name.and_then(|it| it.strip_prefix(quote));
            rest.is_some_and(|it| it.trim_start().starts_with(':'))
        })
    })
}
