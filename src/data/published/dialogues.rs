//! Conversations with two continuations: Bai et al. 2022, where `chosen` and `rejected` are whole dialogues,
//! and the same as messages.

use serde_json::Value;

use super::columns::Columns;
use super::conversation::{self, role};
use super::{Example, Extras, Reason, Refusal};
use crate::data::Passage;

const HUMAN: &str = "\n\nHuman:";
const ASSISTANT: &str = "\n\nAssistant:";

/// The prompt is the longest common beginning of both sides that ends with `\n\nAssistant:`. Sides
/// that differ in an earlier turn, or of which one goes on after the answer, are no comparison of two
/// answers and are dropped.
pub(super) fn example(columns: &Columns) -> Result<Example, Refusal> {
    let (chosen, rejected) = (dialogue(columns, "chosen")?, dialogue(columns, "rejected")?);
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
    let [prompt, chosen, rejected] = [prompt, chosen, rejected].map(Passage::of_text);
    Example::preference(prompt, chosen, rejected, Extras::default())
}

/// Whether a text begins with a turn.
pub(super) fn begins(text: &str) -> bool {
    text.starts_with(HUMAN)
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
fn dialogue(columns: &Columns, name: &str) -> Result<String, Refusal> {
    let Some(side) = written(columns, name)? else {
        let remedy = "give both `chosen` and `rejected` as whole dialogues";
        return Err(columns.missing(name, "a dialogue", remedy));
    };
    match begins(&side) {
        true => Ok(side),
        false => Ok(written(columns, "prompt")?.unwrap_or_default() + &side),
    }
}

/// A text as it is, messages with the marks of their turns.
fn written(columns: &Columns, name: &str) -> Result<Option<String>, Refusal> {
    let Some(messages) = conversation::messages(columns, name)? else {
        return Ok(columns.text(name)?);
    };
    let mut text = String::new();
    for (number, message) in messages.iter().enumerate() {
        let mark = match role(message) {
            Some("user") => HUMAN,
            Some("assistant") => ASSISTANT,
            other => {
                return Err(Refusal::Bad(format!(
                    "`{name}[{number}].role`: expected a user or an assistant, found {}; read the set with \
                     `exalign data instruction`",
                    other.unwrap_or("none")
                )));
            }
        };
        let Value::String(content) = &message["content"] else {
            return Err(Refusal::Bad(format!(
                "`{name}[{number}].content`: expected a text, found something else; read the set with \
                 `exalign data instruction`"
            )));
        };
        text += &format!("{mark} {content}");
    }
    Ok(Some(text))
}
