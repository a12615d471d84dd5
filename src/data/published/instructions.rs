//! Instructions with answers: Alpaca (`instruction`, `input`, `output`), AlpacaFarm (`output_1`,
//! `output_2`, `preference`), UltraFeedback (`chosen`, `rejected` as texts or messages, perhaps with
//! scores), and conversations that end with the answer.

use serde_json::Value;

use super::{Example, Reason, Refusal, conversation, instruction};
use crate::data::{Fields, Passage, Problem};

/// A demonstration or a preference; the prompt is a conversation, for the model's chat template.
pub(super) fn example(fields: &Fields) -> Result<Example, Refusal> {
    if fields.has("chosen") && fields.has("rejected") {
        return preference(fields);
    }
    if fields.has("output_1") || fields.has("output_2") {
        return choice(fields);
    }
    const ANSWERS: [&str; 5] = ["output", "chosen", "completion", "response", "answer"];
    match fields.first(&ANSWERS) {
        Some((name, _)) => {
            let side = side(fields, name)?;
            let prompt = prompt(fields)?.or(side.prompt).ok_or_else(|| no_prompt(fields))?;
            Example::demonstration(prompt, side.answer)
        }
        None if fields.has("messages") => {
            let Side { prompt, answer } = side(fields, "messages")?;
            Example::demonstration(prompt.ok_or_else(|| no_prompt(fields))?, answer)
        }
        None => {
            let remedy = "call the columns `instruction`, `input` and `output`, or `prompt`, `chosen` \
                          and `rejected`";
            Err(fields.missing("output", "an answer", remedy).into())
        }
    }
}

/// `prompt`, `chosen`, `rejected`, and where two scores are equal, a tie.
fn preference(fields: &Fields) -> Result<Example, Refusal> {
    let (chosen, rejected) = (side(fields, "chosen")?, side(fields, "rejected")?);
    let scores = (fields.number("score_chosen")?, fields.number("score_rejected")?);
    if matches!(scores, (Some(one), Some(two)) if one == two) {
        return Err(Refusal::Dropped(Reason::Tie));
    }
    if chosen.prompt != rejected.prompt {
        return Err(Refusal::Dropped(Reason::NoCommonPrompt));
    }
    // Of messages, the turns before the answer say more than the prompt that stands beside them.
    let prompt = match chosen.prompt {
        Some(prompt) => prompt,
        None => prompt(fields)?.ok_or_else(|| no_prompt(fields))?,
    };
    Example::preference(prompt, chosen.answer, rejected.answer)
}

/// `output_1`, `output_2` and which of them is preferred: 1 or 2, or about half way.
fn choice(fields: &Fields) -> Result<Example, Refusal> {
    let text = |name| -> Result<String, Problem> {
        let missing = || fields.missing(name, "an answer", "drop the record");
        fields.text(name)?.ok_or_else(missing)
    };
    let (one, two) = (text("output_1")?, text("output_2")?);
    let prompt = prompt(fields)?.ok_or_else(|| no_prompt(fields))?;
    match fields.number("preference")? {
        Some(it) if (1.0..1.5).contains(&it) => Example::preference(prompt, one, two),
        Some(it) if it > 1.5 && it <= 2.0 => Example::preference(prompt, two, one),
        // 0 and 1.5 stand for neither.
        Some(_) => Err(Refusal::Dropped(Reason::Tie)),
        None => Err(fields.missing("preference", "1 or 2", "drop the record").into()),
    }
}

/// An answer, and what was said before it where it is the end of a conversation.
struct Side {
    prompt: Option<Passage>,
    answer: String,
}

fn side(fields: &Fields, name: &str) -> Result<Side, Problem> {
    if !matches!(fields.get(name), Some(Value::Array(_))) {
        let answer = fields.text(name)?.unwrap_or_default();
        return Ok(Side { prompt: None, answer });
    }
    let mut messages = fields.messages(name)?.unwrap_or_default();
    match messages.pop() {
        Some(last) if last["role"] == "assistant" => Ok(Side {
            answer: last["content"].as_str().unwrap_or_default().to_owned(),
            prompt: (!messages.is_empty()).then(|| conversation(messages)),
        }),
        _ => Err(format!(
            "`{name}`: expected messages that end with the assistant's, found others; drop the record"
        )),
    }
}

/// `prompt` as a text or messages, or `instruction` with its `input` after an empty line.
fn prompt(fields: &Fields) -> Result<Option<Passage>, Problem> {
    if let Some(Value::Array(_)) = fields.get("prompt") {
        return Ok(fields.messages("prompt")?.map(conversation));
    }
    let text = match fields.text("prompt")? {
        Some(text) => Some(text),
        None => fields.text("instruction")?,
    };
    let input = fields.text("input")?.unwrap_or_default();
    Ok(text.map(|text| match input.trim() {
        "" => instruction(text),
        input => instruction(format!("{text}\n\n{input}")),
    }))
}

fn no_prompt(fields: &Fields) -> Problem {
    fields.missing("instruction", "an instruction", "write `instruction` or `prompt`")
}
