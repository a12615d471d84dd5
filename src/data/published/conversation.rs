//! Conversations of published sets → messages with `role` and `content`.

use serde_json::{Map, Value, json};

use super::columns::Columns;
use super::{Reason, Refusal, is_blank};
use crate::data::fields::{LEARNING, all_learned, unlearned, wrong};
use crate::data::{Passage, Problem};

/// The columns that hold whole conversations.
const CONVERSATIONS: [&str; 5] =
    ["messages", "conversations", "conversation", "dialog", "dialogue"];

/// Messages, in order.
pub(super) type Messages = Vec<Value>;

/// One message of a user.
pub(super) fn user(text: impl Into<String>) -> Messages {
    vec![json!({ "role": "user", "content": text.into() })]
}

/// A conversation up to an answer, as a prompt.
pub(super) fn prompt(mut messages: Messages) -> Passage {
    // Of a prompt nothing is learned, and of an answer all of it.
    for fields in messages.iter_mut().filter_map(Value::as_object_mut) {
        LEARNING.iter().for_each(|name| drop(fields.shift_remove(*name)));
    }
    Passage::of_messages(messages)
}

/// An answer: a text where it is one message of the assistant and nothing but a text, messages
/// otherwise.
pub(super) fn answer(messages: Messages) -> Passage {
    let answer = prompt(messages);
    if let Some([message]) = answer.messages()
        && let (Some("assistant"), Some(text)) = (role(message), message["content"].as_str())
        && message.as_object().is_some_and(|it| it.len() == 2)
    {
        return Passage::of_text(text);
    }
    answer
}

/// Drops an answer whose last turn says that it is not learned from, and refuses one of which only an earlier
/// turn says so.
pub(super) fn is_learned(answer: &[Value], name: &str) -> Result<(), Refusal> {
    match answer.last().and_then(unlearned) {
        Some(_) => Err(Refusal::Dropped(Reason::Unwanted)),
        None => Ok(all_learned(answer, name)?),
    }
}

/// The role of a message.
pub(super) fn role(message: &Value) -> Option<&str> {
    message["role"].as_str()
}

/// The name of the column that holds a whole conversation.
pub(super) fn name(columns: &Columns) -> Option<&'static str> {
    CONVERSATIONS.into_iter().find(|name| columns.has(name))
}

/// The messages of a column: a list of them, or one. Not of a text.
pub(super) fn messages(columns: &Columns, name: &str) -> Result<Option<Messages>, Refusal> {
    match columns.get(name) {
        Some(Value::Array(items)) => list(items, name).map(Some),
        Some(message @ Value::Object(_)) => {
            let mut messages = Messages::new();
            push(&mut messages, message, name)?;
            Ok(Some(messages))
        }
        _ => Ok(None),
    }
}

fn list(items: &[Value], name: &str) -> Result<Messages, Refusal> {
    let mut messages = Messages::with_capacity(items.len());
    for (number, item) in items.iter().enumerate() {
        push(&mut messages, item, &format!("{name}[{number}]"))?;
    }
    Ok(messages)
}

/// Adds what an item of a conversation says: a message, a text whose turn it is, or an exchange.
fn push(messages: &mut Messages, item: &Value, path: &str) -> Result<(), Refusal> {
    let text = |name: &str| item.get(name).and_then(Value::as_str);
    match item {
        Value::Object(fields) => match (fields.get("input"), fields.get("output")) {
            (Some(Value::String(asked)), Some(Value::String(answered))) => {
                messages.extend(user(asked.clone()));
                messages.push(json!({ "role": "assistant", "content": answered }));
            }
            // A ShareGPT set without a system text leaves its turn empty.
            _ if text("from") == Some("system") && text("value").is_some_and(is_blank) => {}
            _ => messages.push(message(fields, path)?),
        },
        Value::String(text) => {
            let role = if messages.len().is_multiple_of(2) { "user" } else { "assistant" };
            messages.push(json!({ "role": role, "content": text }));
        }
        other => {
            let expected = "a message";
            let remedy = "write a message as {\"role\": .., \"content\": ..}";
            return Err(wrong(path, expected, other, remedy).into());
        }
    }
    Ok(())
}

/// A message with `role` and `content`, whatever they are called; what else it has stays.
fn message(fields: &Map<String, Value>, path: &str) -> Result<Value, Refusal> {
    let calls_tools = fields.contains_key("tool_calls");
    if fields.get("function_call").is_some_and(|call| !call.is_null()) {
        return Err(Refusal::Bad(format!(
            "`{path}.function_call`: expected calls as `tool_calls`, found the older `function_call`; write \
             [{{\"type\": \"function\", \"function\": {{\"name\": .., \"arguments\": ..}}}}] as `tool_calls`"
        )));
    }
    let mut message = Map::new();
    for (name, value) in fields {
        let name = match name.as_str() {
            "from" if !fields.contains_key("role") => "role",
            "value" | "text" if !fields.contains_key("content") => "content",
            name => name,
        };
        message.insert(name.to_owned(), value.clone());
    }
    let remedy = "write a message as {\"role\": .., \"content\": ..}";
    let absent = |name: &str, found: Option<&Value>| match found {
        Some(found) => wrong(&format!("{path}.{name}"), "a text", found, remedy),
        None => format!("`{path}.{name}`: expected a text, found nothing; {remedy}"),
    };
    let Some(said) = message.get("role").and_then(Value::as_str) else {
        return Err(absent("role", message.get("role")).into());
    };
    let Some(role) = role_of(said) else {
        let expected = "user, assistant, system or tool (human, gpt, .. as well)";
        let found = Value::from(said);
        return Err(wrong(&format!("{path}.role"), expected, &found, "rename the role").into());
    };
    let is_call = matches!(said, "function_call" | "function-call");
    message.insert("role".to_owned(), role.into());
    match message.get("content") {
        Some(Value::String(call)) if is_call => {
            let calls = tool_calls(call).ok_or_else(|| absent("content", Some(&json!(call))))?;
            message.remove("content");
            message.insert("tool_calls".to_owned(), calls);
        }
        Some(Value::String(_)) => {}
        Some(Value::Array(parts)) if parts.iter().all(is_text_part) => {}
        Some(Value::Array(_)) => return Err(Refusal::Dropped(Reason::Media)),
        None if calls_tools => {}
        other => return Err(absent("content", other).into()),
    }
    Ok(message.into())
}

fn is_text_part(part: &Value) -> bool {
    part.is_string() || (part["type"] == "text" && part["text"].is_string())
}

/// The role that a name of one stands for.
fn role_of(name: &str) -> Option<&str> {
    Some(match name.to_lowercase().as_str() {
        "user" | "human" | "prompter" | "question" => "user",
        "assistant" | "gpt" | "chatgpt" | "bing" | "bard" | "chatbot" | "model" | "bot" | "ai"
        | "function_call" | "function-call" => "assistant",
        "system" => "system",
        "tool" | "observation" | "function_response" | "function-response" | "tool_response" => {
            "tool"
        }
        "developer" | "function" | "ipython" => name,
        _ => return None,
    })
}

/// The calls of `{"name": .., "arguments": ..}`, or of a list of such, written as text.
fn tool_calls(text: &str) -> Option<Value> {
    let calls = match serde_json::from_str(text).ok()? {
        Value::Array(calls) => calls,
        call => vec![call],
    };
    let call = |call: Value| {
        call["name"].is_string().then(|| json!({ "type": "function", "function": call }))
    };
    calls.into_iter().map(call).collect()
}

/// The turns of `history`, each a list of a question and its answer, or messages.
fn history(columns: &Columns) -> Result<Messages, Refusal> {
    if !columns.has("history") {
        return Ok(Messages::new());
    }
    let value = columns.get("history").unwrap_or(&Value::Null);
    let remedy = "write it as [[question, answer], ..]";
    let refuse = || Refusal::from(wrong("history", "a list of exchanges", value, remedy));
    let Value::Array(items) = value else { return Err(refuse()) };
    let mut messages = Messages::new();
    for (number, item) in items.iter().enumerate() {
        match item {
            Value::Array(exchange) => match exchange.as_slice() {
                [Value::String(asked), Value::String(answered)] => {
                    messages.extend(user(asked.clone()));
                    messages.push(json!({ "role": "assistant", "content": answered }));
                }
                _ => return Err(refuse()),
            },
            Value::Object(_) => push(&mut messages, item, &format!("history[{number}]"))?,
            _ => return Err(refuse()),
        }
    }
    Ok(messages)
}

/// A conversation with the system text and the earlier turns that stand in columns of their own.
pub(super) fn framed(columns: &Columns, messages: Messages) -> Result<Messages, Refusal> {
    let mut framed = history(columns)?;
    let begins_with_system = messages.first().and_then(role) == Some("system");
    if begins_with_system && !framed.is_empty() {
        let problem = "`history`: expected none beside a conversation with a system text, found some; \
                       drop one of them";
        return Err(problem.to_owned().into());
    }
    framed.extend(messages);
    for name in ["system", "system_prompt"] {
        let Some(system) = columns.text(name)?.filter(|it| !it.trim().is_empty()) else { continue };
        match framed.first() {
            Some(first) if role(first) == Some("system") => {
                if first["content"].as_str() != Some(&system) {
                    let problem = format!(
                        "`{name}`: expected the system text that the conversation begins with, found \
                         another; drop one of them"
                    );
                    return Err(problem.into());
                }
            }
            _ => framed.insert(0, json!({ "role": "system", "content": system })),
        }
    }
    Ok(framed)
}

/// A conversation up to its last answer, and the answer.
pub(super) fn parted(mut messages: Messages) -> Result<(Messages, Messages), Refusal> {
    match messages.pop() {
        None => Err(Refusal::Dropped(Reason::Empty)),
        Some(last) if role(&last) == Some("assistant") => match messages.iter().any(is_asking) {
            true => Ok((messages, vec![last])),
            false => Err(Refusal::Dropped(Reason::NoPrompt)),
        },
        Some(_) => Err(Refusal::Dropped(Reason::NoAnswer)),
    }
}

fn is_asking(message: &Value) -> bool {
    matches!(role(message), Some("user" | "tool"))
}

/// What two conversations begin with, and how each goes on.
pub(super) fn common(
    chosen: Messages,
    rejected: Messages,
) -> Result<(Messages, Messages, Messages), Refusal> {
    if chosen == rejected {
        return Err(Refusal::Dropped(Reason::EqualSides));
    }
    let same = chosen.iter().zip(&rejected).take_while(|(one, two)| one == two).count();
    let (mut prompt, mut rejected) = (chosen, rejected);
    let (chosen, rejected) = (prompt.split_off(same), rejected.split_off(same));
    let starts = [&chosen, &rejected].map(|side| side.first().and_then(role));
    match starts {
        [Some("assistant"), Some("assistant")] if prompt.iter().any(is_asking) => {}
        [Some("assistant"), Some("assistant")] => return Err(Refusal::Dropped(Reason::NoPrompt)),
        [Some("user" | "system"), _] | [_, Some("user" | "system")] if same < 2 => {
            return Err(Refusal::Dropped(Reason::NoCommonPrompt));
        }
        _ => return Err(Refusal::Dropped(Reason::DifferentTurns)),
    }
    match [&chosen, &rejected].iter().all(|it| it.last().and_then(role) == Some("assistant")) {
        true => Ok((prompt, chosen, rejected)),
        false => Err(Refusal::Dropped(Reason::NoAnswer)),
    }
}

/// A problem of a prompt that ends with the assistant's turn.
pub(super) fn ends_with_user(messages: &[Value], name: &str) -> Result<(), Problem> {
    match messages.last().and_then(role) {
        Some("assistant") => Err(format!(
            "`{name}`: expected a conversation up to the assistant's turn, found one that ends with it; \
             move the last message to the answers"
        )),
        _ => Ok(()),
    }
}
