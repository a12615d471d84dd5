//! Instructions with answers, in their published layouts: Alpaca (`instruction`, `input`, `output`,
//! `system`, `history`); pairs (`chosen`, `rejected`) as texts, messages or ShareGPT's turns; conversations
//! that end with the answer. An answer with a thumb up is a demonstration; one with a thumb down is dropped.

use serde_json::Value;

use super::columns::Columns;
use super::conversation::{self, Messages, answer, framed, parted};
use super::{Example, Extras, Reason, Refusal, comparisons, dialogues};
use crate::data::fields::wrong;

/// What the columns of a demonstration's answer are called, the first that is there counts.
const ANSWERS: [&str; 6] = ["output", "chosen", "completion", "response", "answer", "solution"];
/// What the columns of a prompt of one text are called.
const PROMPTS: [&str; 5] = ["prompt", "instruction", "question", "query", "problem"];

/// A demonstration or a preference; the prompt is a conversation, for the model's chat template.
pub(super) fn example(columns: &Columns) -> Result<Example, Refusal> {
    refuse_ratings(columns)?;
    let extras = extras(columns)?;
    if columns.has("chosen") && columns.has("rejected") {
        return comparisons::chosen_and_rejected(columns, extras);
    }
    if let Some(example) = comparisons::two_answers(columns, &extras) {
        return example;
    }
    if columns.is_there("rejected") {
        return Err(columns.missing("rejected", "an answer", "give both `chosen` and `rejected`"));
    }
    is_wanted(columns)?;
    let (prompt, chosen) = demonstration(columns)?;
    let name = ANSWERS.into_iter().find(|name| columns.has(name)).unwrap_or("messages");
    conversation::is_learned(&chosen, name)?;
    Example::demonstration(conversation::prompt(prompt), answer(chosen), extras)
}

/// A prompt and an answer to learn from.
fn demonstration(columns: &Columns) -> Result<(Messages, Messages), Refusal> {
    let answers: Vec<&str> = ANSWERS.into_iter().filter(|name| columns.has(name)).collect();
    if let [one, two, ..] = answers.as_slice() {
        let problem = format!(
            "`{two}`: expected one answer, found one in `{one}` as well; drop the column that is not to \
             be learned from"
        );
        return Err(problem.into());
    }
    let Some(name) = answers.first() else {
        return match conversation::name(columns) {
            Some(name) => {
                let messages = conversation::messages(columns, name)?.unwrap_or_default();
                let (prompt, answer) = parted(messages)?;
                Ok((framed(columns, prompt)?, answer))
            }
            None => {
                let remedy = "call the columns `instruction`, `input` and `output`, or `prompt`, \
                              `chosen` and `rejected`, or give `messages` with `role` and `content`";
                let empty = ANSWERS.iter().find(|name| columns.is_there(name));
                Err(columns.missing(empty.unwrap_or(&"output"), "an answer", remedy))
            }
        };
    };
    let side = side(columns, name)?;
    match side.first().and_then(conversation::role) {
        Some("assistant") => Ok((asked(columns)?, side)),
        _ => {
            let (prompt, answer) = parted(side)?;
            Ok((framed(columns, prompt)?, answer))
        }
    }
}

/// An answer as messages: a text, one message, or several. A list of one text is that text.
pub(super) fn side(columns: &Columns, name: &str) -> Result<Messages, Refusal> {
    match columns.get(name) {
        Some(Value::Array(items)) if items.iter().all(Value::is_string) => {
            if let [text] = items.as_slice() {
                return Ok(vec![serde_json::json!({ "role": "assistant", "content": text })]);
            }
            // Without a prompt, texts are the turns of a conversation.
            if items.len() > 1 && has_prompt(columns) {
                let found = items.len();
                let problem = format!(
                    "`{name}`: expected one answer, found a list of {found}; write a row for each, or the \
                     better one as `chosen` and a worse one as `rejected`"
                );
                return Err(problem.into());
            }
        }
        _ => {}
    }
    if let Some(messages) = conversation::messages(columns, name)? {
        return Ok(messages);
    }
    let text = columns.text(name)?.unwrap_or_default();
    Ok(vec![serde_json::json!({ "role": "assistant", "content": text })])
}

fn has_prompt(columns: &Columns) -> bool {
    PROMPTS.iter().any(|name| columns.has(name)) || conversation::name(columns).is_some()
}

/// The prompt that stands in columns of its own, system text and earlier turns included.
pub(super) fn asked(columns: &Columns) -> Result<Messages, Refusal> {
    if let Some(messages) = conversation::messages(columns, "prompt")? {
        conversation::ends_with_user(&messages, "prompt")?;
        return framed(columns, messages);
    }
    let texts = PROMPTS.into_iter().filter(|name| columns.has(name));
    let texts: Vec<&str> = texts.collect();
    if let Some(name) = conversation::name(columns).filter(|_| texts.is_empty()) {
        let messages = conversation::messages(columns, name)?.unwrap_or_default();
        conversation::ends_with_user(&messages, name)?;
        return framed(columns, messages);
    }
    let context = ["input", "context"].into_iter().find(|name| columns.has(name));
    let Some(first) = texts.first() else {
        if columns.has("input") {
            return framed(columns, conversation::user(columns.text("input")?.unwrap_or_default()));
        }
        return Err(no_prompt(columns));
    };
    let text = columns.text(first)?.unwrap_or_default();
    if dialogues::begins(&text) {
        let problem = format!(
            "`{first}`: expected one turn of a user, found a dialogue that begins with `\\n\\nHuman:`; read the \
             set with `exalign data dialogue`, or write the turns as messages"
        );
        return Err(problem.into());
    }
    for other in &texts[1..] {
        if columns.text(other)?.unwrap_or_default().trim() != text.trim() {
            let problem = format!(
                "`{other}`: expected one prompt, found another in `{first}`; call one of them `prompt` \
                 and the other `system` or `input`, or drop it"
            );
            return Err(problem.into());
        }
    }
    let input = context.map(|name| columns.text(name)).transpose()?.flatten().unwrap_or_default();
    framed(
        columns,
        conversation::user(match input.trim() {
            "" => text,
            input => format!("{text}\n\n{input}"),
        }),
    )
}

fn no_prompt(columns: &Columns) -> Refusal {
    let empty = PROMPTS.iter().find(|name| columns.is_there(name)).unwrap_or(&"instruction");
    let remedy = "write `instruction`, `prompt` or `question`";
    columns.missing(empty, "an instruction", remedy)
}

/// What the chat template takes beside the messages.
pub(super) fn extras(columns: &Columns) -> Result<Extras, Refusal> {
    let tools = ["tools", "functions"].into_iter().find(|name| columns.has(name));
    let tools = match tools {
        // A text of JSON stays one, since records read it with its nulls.
        Some(name) => columns.objects(name)?.and_then(|_| columns.get(name).cloned()),
        None => None,
    };
    let kwargs = match columns.get("chat_template_kwargs") {
        Some(kwargs @ Value::Object(fields)) => (!fields.is_empty()).then(|| kwargs.clone()),
        None => None,
        Some(other) => {
            let remedy = "write the template's arguments by name";
            return Err(wrong("chat_template_kwargs", "an object", other, remedy).into());
        }
    };
    Ok(Extras { tools, chat_template_kwargs: kwargs })
}

/// Refuses an answer whose thumb is down, as sets of unpaired preferences have them.
pub(super) fn is_wanted(columns: &Columns) -> Result<(), Refusal> {
    let Some((name, value)) = columns.first(&["label", "kto_tag"]) else { return Ok(()) };
    let word = match value {
        Value::String(word) => word.trim().to_lowercase(),
        value => value.to_string(),
    };
    match word.as_str() {
        "true" | "1" | "1.0" => Ok(()),
        "false" | "0" | "0.0" | "-1" => Err(Refusal::Dropped(Reason::Unwanted)),
        _ => {
            let remedy = "write whether the answer is wanted, or drop the column";
            Err(wrong(name, "true or false", value, remedy).into())
        }
    }
}

/// Refuses answers that were rated and not compared: what is good enough to learn from, and what is
/// better than what, is for whoever knows the ratings to say.
fn refuse_ratings(columns: &Columns) -> Result<(), Refusal> {
    let is_list = |name: &str| columns.has(name) && columns.get(name).is_some_and(Value::is_array);
    let problem = if columns.has("helpfulness") && columns.has("response") {
        "`helpfulness`: expected a comparison or answers to learn from, found rated answers; keep the rows \
         to learn from and drop the column, or make `chosen` and `rejected` of two answers to a prompt"
    } else if is_list("completions") {
        "`completions`: expected one answer or two, found a list; give groups to `exalign pairs` or \
         `exalign align` as {\"prompt\", \"completions\", \"rewards\"}, or make `chosen` and `rejected` of the \
         best and another"
    } else if is_list("answers") {
        "`answers`: expected one answer or two, found a list; make `chosen` and `rejected` of the best and \
         another"
    } else {
        return Ok(());
    };
    Err(problem.to_owned().into())
}
