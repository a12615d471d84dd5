//! Conversations that go on in two ways: Bai et al. 2022, where `chosen` and `rejected` are whole
//! dialogues, and the same as messages.

use serde_json::Value;

use super::{Example, Reason, Refusal};
use crate::data::{Fields, Passage, Problem};

const HUMAN: &str = "\n\nHuman:";
const ASSISTANT: &str = "\n\nAssistant:";

/// The prompt is the longest common beginning of both sides that ends with `\n\nAssistant:`. Sides
/// that differ in an earlier turn as well are no comparison of two answers and are dropped.
pub(super) fn example(fields: &Fields) -> Result<Example, Refusal> {
    let (chosen, rejected) = (dialogue(fields, "chosen")?, dialogue(fields, "rejected")?);
    if chosen == rejected {
        return Err(Refusal::Dropped(Reason::EqualSides));
    }
    let Some(prompt) = common_prompt(&chosen, &rejected) else {
        return Err(Refusal::Dropped(Reason::NoCommonPrompt));
    };
    let (chosen, rejected) = (&chosen[prompt.len()..], &rejected[prompt.len()..]);
    if [chosen, rejected].iter().any(|side| side.contains(HUMAN) || side.contains(ASSISTANT)) {
        return Err(Refusal::Dropped(Reason::DifferentTurns));
    }
    Example::preference(Passage::of_text(prompt), chosen.to_owned(), rejected.to_owned())
}

fn common_prompt<'a>(chosen: &'a str, rejected: &str) -> Option<&'a str> {
    let same = chosen.bytes().zip(rejected.bytes()).take_while(|(one, two)| one == two).count();
    let common = &chosen.as_bytes()[..same];
    // The marks are ASCII, so that the text may be cut after one.
    let mark = ASSISTANT.as_bytes();
    let start = common.windows(mark.len()).rposition(|window| window == mark)?;
    Some(&chosen[..start + mark.len()])
}

/// A side from its first turn on; where it has the answer alone, the prompt stands apart.
fn dialogue(fields: &Fields, name: &str) -> Result<String, Problem> {
    let Some(side) = written(fields, name)? else {
        let remedy = "give both `chosen` and `rejected` as whole dialogues";
        return Err(fields.missing(name, "a dialogue", remedy));
    };
    match side.starts_with(HUMAN) {
        true => Ok(side),
        false => Ok(written(fields, "prompt")?.unwrap_or_default() + &side),
    }
}

/// A text as it is, messages with the marks of their turns.
fn written(fields: &Fields, name: &str) -> Result<Option<String>, Problem> {
    let Some(Value::Array(_)) = fields.get(name) else { return fields.text(name) };
    let turn = |message: &Value| {
        let mark = if message["role"] == "assistant" { ASSISTANT } else { HUMAN };
        format!("{mark} {}", message["content"].as_str().unwrap_or_default())
    };
    Ok(fields.messages(name)?.map(|messages| messages.iter().map(turn).collect()))
}
