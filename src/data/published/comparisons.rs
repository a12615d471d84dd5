//! Two answers to a prompt and which one is better, in the layouts of published sets.

use serde_json::Value;

use super::columns::Columns;
use super::conversation::{self, Messages, answer, common, framed};
use super::instructions::{asked, side};
use super::{Example, Extras, Reason, Refusal, dialogues};
use crate::data::Problem;

/// `chosen` and `rejected`: answers, or whole conversations that begin alike. Of scores that stand
/// beside them, equal ones are a tie.
pub(super) fn chosen_and_rejected(columns: &Columns, extras: Extras) -> Result<Example, Refusal> {
    if columns.text("chosen").is_ok_and(|it| it.is_some_and(|it| dialogues::begins(&it))) {
        let problem = "`chosen`: expected an answer, found a dialogue that begins with `\\n\\nHuman:`; read the \
                       set with `exalign data dialogue`";
        return Err(problem.to_owned().into());
    }
    is_label_free(columns)?;
    let (chosen, rejected) = (side(columns, "chosen")?, side(columns, "rejected")?);
    check_scores(columns)?;
    let is_answer = |it: &Messages| it.first().and_then(conversation::role) == Some("assistant");
    let (prompt, chosen, rejected) = match (is_answer(&chosen), is_answer(&rejected)) {
        (true, true) => (asked(columns)?, chosen, rejected),
        (false, false) => {
            let (prompt, chosen, rejected) = common(chosen, rejected)?;
            is_said_in(columns, &prompt)?;
            (framed(columns, prompt)?, chosen, rejected)
        }
        _ => return Err(Refusal::Dropped(Reason::NoCommonPrompt)),
    };
    conversation::is_learned(&chosen, "chosen")?;
    Example::preference(conversation::prompt(prompt), answer(chosen), answer(rejected), extras)
}

/// Of whole conversations the prompt stands in the turns before the answer. The same beside them is
/// used with them; another text stays unused, and another conversation is an error.
fn is_said_in(columns: &Columns, prompt: &[Value]) -> Result<(), Refusal> {
    let says = |text: &str| {
        let said =
            |message: &Value| message["content"].as_str().map(str::trim) == Some(text.trim());
        prompt.iter().any(said)
    };
    for name in ["prompt", "instruction", "question", "messages"] {
        if !columns.has(name) {
            continue;
        }
        // Read of a copy of the columns, so that what does not say the same does not count as used.
        match columns.peek(name) {
            Some(Value::String(text)) if says(text) => columns.mark(name),
            Some(Value::Array(_)) => {
                let messages = conversation::messages(columns, name)?.unwrap_or_default();
                let begins = messages.iter().zip(prompt).all(|(one, two)| one == two);
                if !begins {
                    let problem = format!(
                        "`{name}`: expected what `chosen` and `rejected` begin with, found another \
                         conversation; drop the column"
                    );
                    return Err(problem.into());
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A label beside two answers may say which is better, or anything else.
fn is_label_free(columns: &Columns) -> Result<(), Problem> {
    match columns.has("label") {
        true => Err(
            "`label`: expected none beside `chosen` and `rejected`, found one; if it says which \
                     answer is better, swap those it says so of, and drop the column"
                .to_owned(),
        ),
        false => Ok(()),
    }
}

/// Refuses ties, and pairs of which the rejected answer has the higher score.
fn check_scores(columns: &Columns) -> Result<(), Refusal> {
    const SCORES: [(&str, &str); 5] = [
        ("score_chosen", "score_rejected"),
        ("chosen_score", "rejected_score"),
        ("rating_chosen", "rating_rejected"),
        ("chosen_rating", "rejected_rating"),
        ("chosen-rating", "rejected-rating"),
    ];
    for (chosen, rejected) in SCORES {
        match (columns.number(chosen)?, columns.number(rejected)?) {
            (Some(one), Some(two)) if one == two => return Err(Refusal::Dropped(Reason::Tie)),
            (Some(one), Some(two)) if one < two => {
                return Err(Refusal::Dropped(Reason::ScoresDisagree));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Two answers in columns of their own and a column that says which is better; none if the row has no
/// two answers.
pub(super) fn two_answers(columns: &Columns, extras: &Extras) -> Option<Result<Example, Refusal>> {
    let has = |one: &str, two: &str| columns.is_there(one) && columns.is_there(two);
    let read = if columns.has("output_1") || columns.has("output_2") {
        choice(columns, "output_1", "output_2", by_preference)
    } else if has("response_0", "response_1") {
        choice(columns, "response_0", "response_1", by_better_response)
    } else if has("response_1", "response_2") {
        choice(columns, "response_1", "response_2", by_strength)
    } else if has("human_ref_A", "human_ref_B") {
        choice(columns, "human_ref_A", "human_ref_B", by_labels)
    } else {
        return None;
    };
    Some(read.and_then(|(chosen, rejected)| {
        let prompt = match columns.peek("history").and_then(Value::as_str) {
            // The post of a forum, as SHP has it.
            Some(post) if columns.has("human_ref_A") => {
                columns.mark("history");
                conversation::user(post)
            }
            _ => asked(columns)?,
        };
        let prompt = conversation::prompt(prompt);
        Example::preference(prompt, answer(chosen), answer(rejected), extras.clone())
    }))
}

/// Which of two answers is better.
enum Better {
    First,
    Second,
    Neither,
}

/// The better and the worse of two answers.
fn choice(
    columns: &Columns,
    one: &str,
    two: &str,
    better: impl Fn(&Columns) -> Result<Better, Refusal>,
) -> Result<(Messages, Messages), Refusal> {
    for name in [one, two] {
        if !columns.has(name) {
            return Err(columns.missing(name, "an answer", "drop the record"));
        }
    }
    let (first, second) = (side(columns, one)?, side(columns, two)?);
    match better(columns)? {
        Better::First => Ok((first, second)),
        Better::Second => Ok((second, first)),
        Better::Neither => Err(Refusal::Dropped(Reason::Tie)),
    }
}

fn number(columns: &Columns, name: &str, expected: &str) -> Result<f64, Refusal> {
    let number = columns.number(name)?;
    number.ok_or_else(|| columns.problem(name, expected, "drop the record").into())
}

/// 1 or 2, or about half way; 0 and 1.5 stand for neither.
fn by_preference(columns: &Columns) -> Result<Better, Refusal> {
    Ok(match number(columns, "preference", "1 or 2")? {
        it if (1.0..1.5).contains(&it) => Better::First,
        it if it > 1.5 && it <= 2.0 => Better::Second,
        _ => Better::Neither,
    })
}

/// The number of the better response, from 0.
fn by_better_response(columns: &Columns) -> Result<Better, Refusal> {
    Ok(match number(columns, "better_response_id", "0 or 1")? {
        0.0 => Better::First,
        1.0 => Better::Second,
        _ => Better::Neither,
    })
}

/// Below 0 the first is better, above the second.
fn by_strength(columns: &Columns) -> Result<Better, Refusal> {
    Ok(match number(columns, "preference_strength", "a number from -3 to 3")? {
        it if it < 0.0 => Better::First,
        it if it > 0.0 => Better::Second,
        _ => Better::Neither,
    })
}

/// 1: the first is better, 0: the second.
fn by_labels(columns: &Columns) -> Result<Better, Refusal> {
    Ok(match number(columns, "labels", "0 or 1")? {
        1.0 => Better::First,
        0.0 => Better::Second,
        _ => Better::Neither,
    })
}
