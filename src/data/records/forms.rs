//! The forms in which records write a prompt and its answers: texts, messages or token ids, with the prompt
//! apart, or as the common beginning of all answers. TRL documents the same forms.
//!
//! ```text
//! {"prompt": "Hi", "chosen": " Ho.", "rejected": " No."}                 the prompt apart
//! {"prompt": [user], "chosen": [assistant], "rejected": [assistant]}     as messages
//! {"chosen": [user, assistant], "rejected": [user, assistant]}           the prompt within
//! {"messages": [user], "chosen": "Ho.", "rejected": "No."}               messages and texts
//! ```

use serde_json::{Map, Value};

use super::Passage;
use crate::data::fields::{describe, wrong};
use crate::data::{Conversation, Fields, Problem};

/// The fields that say a prompt.
pub(super) const PROMPT: [&str; 7] =
    ["id", "prompt", "prompt_ids", "messages", "tools", "documents", "chat_template_kwargs"];

/// Columns of sets in circulation that would change a prompt or an answer, and what to do with them:
/// a record that holds one is refused, since what it says would be lost.
pub(super) const MEANT: [(&[&str], &str); 5] = [
    (
        &["system", "system_prompt", "history"],
        "write it into the conversation as messages, or let `exalign data instruction` do so",
    ),
    (
        &["question", "instruction", "query", "input"],
        "call the column `prompt`, or let `exalign data instruction` write the records",
    ),
    (
        &["conversations", "conversation"],
        "write `messages`, each with `role` and `content` (not `from` and `value`), or let \
         `exalign data instruction` do so",
    ),
    (
        &["images", "image", "videos", "video", "audios", "audio"],
        "only text is read: drop the column, or the record",
    ),
    (&["kto_tag"], "call the column `label`"),
];

/// Whether a value is there and says nothing.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::String(text) => text.trim().is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// Refuses a column whose meaning would be lost.
pub(super) fn refuse_meant(fields: &Fields) -> Result<(), Problem> {
    for (names, remedy) in MEANT {
        for name in names {
            if let Some(value) = fields.get(name).filter(|value| !says_nothing(value)) {
                let found = describe(value);
                return Err(format!("`{name}`: expected no such column, found {found}; {remedy}"));
            }
        }
    }
    Ok(())
}

/// A text, a message, a list of messages or token ids; none where the record has neither field.
pub(super) fn side(fields: &Fields, name: &str, ids: &str) -> Result<Option<Passage>, Problem> {
    let Some(messages) = fields.conversation(name)? else { return fields.passage(name, ids) };
    if fields.has(ids) {
        let ids = fields.passage("", ids)?.and_then(|it| it.ids);
        return Ok(Some(Passage { ids, ..Passage::of_messages(messages) }));
    }
    Ok(Some(Passage::of_messages(messages)))
}

/// As [`side`], where a record without is refused.
pub(super) fn required_side(fields: &Fields, name: &str, ids: &str) -> Result<Passage, Problem> {
    side(fields, name, ids)?.ok_or_else(|| {
        fields.missing(name, "a string", &format!("write `{name}`, or token ids as `{ids}`"))
    })
}

/// The prompt that the record writes apart: `prompt` or `messages`, with or without `prompt_ids`, or
/// `prompt_ids` alone. It may be empty.
pub(super) fn own_prompt(fields: &Fields) -> Result<Option<Passage>, Problem> {
    let Some(messages) = fields.conversation("messages")? else {
        let prompt = side(fields, "prompt", "prompt_ids")?;
        return prompt.map(|it| with_context(it, fields)).transpose();
    };
    if fields.has("prompt") {
        return Err(
            "`messages`: expected either a conversation or `prompt`, found both; drop one of \
                    them"
                .to_owned(),
        );
    }
    if messages.is_empty() {
        return Err(
            "`messages`: expected at least one message, found none; drop the record".to_owned()
        );
    }
    let ids = fields.passage("prompt", "prompt_ids")?.and_then(|passage| passage.ids);
    with_context(Passage { ids, ..Passage::of_messages(messages) }, fields).map(Some)
}

/// The problem of a record without a prompt.
pub(super) fn no_prompt(fields: &Fields) -> Problem {
    fields.missing("prompt", "a string", "write `prompt`, or token ids as `prompt_ids`")
}

/// A conversation with what the record gives its template beside the messages.
fn with_context(mut prompt: Passage, fields: &Fields) -> Result<Passage, Problem> {
    let Some(conversation) = &mut prompt.conversation else { return Ok(prompt) };
    *conversation = Conversation {
        messages: std::mem::take(&mut conversation.messages),
        tools: fields.objects("tools")?,
        documents: fields.objects("documents")?,
        template_kwargs: template_kwargs(fields)?,
    };
    Ok(prompt)
}

fn template_kwargs(fields: &Fields) -> Result<Map<String, Value>, Problem> {
    const NAME: &str = "chat_template_kwargs";
    let remedy = "write the template's arguments by their names";
    match fields.get(NAME) {
        None => Ok(Map::new()),
        // Where rows differ in their arguments, a table fills the gaps with null.
        Some(Value::Object(all)) => Ok(all
            .iter()
            .filter(|(_, it)| !it.is_null())
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()),
        Some(Value::String(text)) => serde_json::from_str(text)
            .map_err(|_| wrong(NAME, "an object", &Value::from(text.as_str()), remedy)),
        Some(other) => Err(wrong(NAME, "an object", other, remedy)),
    }
}

/// What a record says beside the messages that its chat template writes.
const CONTEXT: [&str; 3] = ["tools", "documents", "chat_template_kwargs"];

/// Fields that have a meaning in other records and none in this one: what only a chat template reads, where no prompt
/// or answer is messages, and a prompt as text beside turns that say another.
pub(super) fn idle(fields: &Fields) -> Vec<&'static str> {
    let says = |name: &&str| fields.get(name).is_some_and(|value| !says_nothing(value));
    let answers = written_as_messages(fields);
    let is_talk = !answers.is_empty()
        || fields.has("messages")
        || fields.get("prompt").is_some_and(|it| !it.is_string());
    let mut idle: Vec<&str> = match is_talk {
        true => Vec::new(),
        false => CONTEXT.into_iter().filter(says).collect(),
    };
    if let Some(Value::String(prompt)) = fields.get("prompt").filter(|_| says(&"prompt"))
        && let Some(first) = answers.first()
        && !fields.has("messages")
        && !is_said_by(prompt, &first[..common_beginning(&answers)])
    {
        idle.push("prompt");
    }
    idle
}

/// The answers that are lists of messages, or a single message.
fn written_as_messages(fields: &Fields) -> Vec<&[Value]> {
    let several = fields.get("completions").and_then(Value::as_array).into_iter().flatten();
    let single = ["chosen", "rejected", "completion"].iter().filter_map(|name| fields.get(name));
    several.chain(single).filter_map(messages).collect()
}

fn messages(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(items) if items.first().is_some_and(Value::is_object) => Some(items),
        Value::Object(_) => Some(std::slice::from_ref(value)),
        _ => None,
    }
}

/// Whether turns say what a prompt beside them does: the words of one user turn, or those of all turns in their order,
/// as a chat template writes them.
fn is_said_by(prompt: &str, turns: &[Value]) -> bool {
    let words = |turn: &Value| Passage::of_messages(vec![turn.clone()]).words().unwrap_or_default();
    let is_turn = |turn: &Value| turn["role"] == "user" && words(turn).trim() == prompt.trim();
    let all = turns.iter().try_fold(prompt, |rest, turn| {
        rest.split_once(words(turn).trim()).map(|(_, behind)| behind)
    });
    turns.iter().any(is_turn) || all.is_some()
}

/// The prompt of several answers, given with their names, and the answers without it.
///
/// Of answers that are messages, the prompt may be what all of them begin with, whether it stands
/// apart as well or not. Of two texts without a prompt, it is what both begin with.
pub(super) fn parted(
    fields: &Fields,
    mut answers: Vec<(String, Passage)>,
) -> Result<(Passage, Vec<Passage>), Problem> {
    let own = own_prompt(fields)?;
    let of_messages = answers.iter().filter(|(_, it)| it.messages().is_some()).count();
    if of_messages == 0 {
        let only =
            |answers: Vec<(String, Passage)>| answers.into_iter().map(|(_, it)| it).collect();
        return match own {
            Some(prompt) => Ok((prompt, only(answers))),
            None => within_texts(fields, &answers),
        };
    }
    if of_messages < answers.len() {
        let text = answers.iter().find(|(_, it)| it.messages().is_none());
        let name = text.map_or("", |(name, _)| name.as_str());
        return Err(format!(
            "`{name}`: expected messages as in the other answers, found text; write all answers in one way"
        ));
    }
    let all: Vec<&[Value]> = answers.iter().filter_map(|(_, it)| it.messages()).collect();
    let begin_alike = match &own {
        Some(Passage { conversation: Some(prompt), .. }) => {
            let begins = |it: &&[Value]| {
                it.len() > prompt.messages.len() && it.starts_with(&prompt.messages)
            };
            if all.iter().all(begins) { prompt.messages.len() } else { 0 }
        }
        _ => common_beginning(&all),
    };
    let prompt = match own {
        Some(prompt) if prompt.conversation.is_some() => prompt,
        Some(_) if begin_alike == 0 => {
            return Err(format!(
                "`prompt`: expected messages, since `{}` is a list of messages, found text; write \
                 [{{\"role\": \"user\", \"content\": ..}}]",
                answers[0].0
            ));
        }
        None if begin_alike == 0 => {
            let names: Vec<String> = answers.iter().map(|(name, _)| format!("`{name}`")).collect();
            return Err(format!(
                "`prompt`: expected a prompt, or messages that {} begin with, found none; write \
                 `prompt`",
                names.join(" and ")
            ));
        }
        // The turns say more than a text of the same prompt beside them.
        _ => with_context(Passage::of_messages(all[0][..begin_alike].to_vec()), fields)?,
    };
    for (_, answer) in &mut answers {
        if let Some(conversation) = &mut answer.conversation {
            conversation.messages.drain(..begin_alike);
        }
    }
    Ok((prompt, answers.into_iter().map(|(_, it)| it).collect()))
}

/// How many messages all answers begin with; each has one left. Of a single answer, all but the last.
fn common_beginning(answers: &[&[Value]]) -> usize {
    let shortest = answers.iter().map(|it| it.len()).min().unwrap_or(0);
    let alike = |at: &usize| answers.iter().all(|it| it[*at] == answers[0][*at]);
    (0..shortest.saturating_sub(1)).take_while(alike).count()
}

/// Marks of turns in dialogues that are written out.
const ASSISTANT: &str = "\n\nAssistant:";

/// The prompt of two texts: of dialogues up to the assistant's last turn that both share, otherwise
/// all that both begin with, less a blank at its end.
fn within_texts(
    fields: &Fields,
    answers: &[(String, Passage)],
) -> Result<(Passage, Vec<Passage>), Problem> {
    let [(_, one), (_, two)] = answers else { return Err(no_prompt(fields)) };
    let (Some(one), Some(two)) = (&one.text, &two.text) else { return Err(no_prompt(fields)) };
    let end = if one.contains(ASSISTANT) && two.contains(ASSISTANT) {
        same_bytes(one, two, |same| same.rfind(ASSISTANT).map(|at| at + ASSISTANT.len()))
    } else {
        same_bytes(one, two, |same| Some(same.strip_suffix(' ').unwrap_or(same).len()))
    };
    if end == 0 || one.len() == end || two.len() == end {
        return Err(no_prompt(fields));
    }
    let rest = |text: &str| Passage::of_text(&text[end..]);
    Ok((Passage::of_text(&one[..end]), vec![rest(one), rest(two)]))
}

/// Where the prompt ends in the text that `one` and `two` begin with, as `end` says; 0 if nowhere.
fn same_bytes(one: &str, two: &str, end: impl Fn(&str) -> Option<usize>) -> usize {
    let pairs = one.char_indices().zip(two.chars());
    let len =
        pairs.take_while(|((_, a), b)| a == b).last().map_or(0, |((at, c), _)| at + c.len_utf8());
    end(&one[..len]).unwrap_or(0)
}
