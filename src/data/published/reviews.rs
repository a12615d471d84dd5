//! Texts with a sentiment: the IMDB reviews of Maas et al. 2011 as JSON Lines, as tables or as the original
//! folder of texts, and other sets of the same layout.

use serde_json::Value;

use super::columns::Columns;
use super::{Example, Reason, Refusal, is_blank};
use crate::data::fields::wrong;

/// `text` and `label`, or what others call them. HTML line breaks become line ends.
pub(super) fn example(columns: &Columns) -> Result<Example, Refusal> {
    const TEXTS: [&str; 4] = ["text", "review", "sentence", "content"];
    let Some((name, _)) = columns.first(&TEXTS) else {
        let remedy = "call the columns `text` and `label`";
        let empty = TEXTS.iter().find(|name| columns.is_there(name));
        return Err(columns.missing(empty.unwrap_or(&"text"), "a text", remedy));
    };
    let text = columns.text(name)?.unwrap_or_default();
    let label = label(columns)?;
    let text = ["<br />", "<br/>", "<br>"].iter().fold(text, |text, it| text.replace(it, "\n"));
    match is_blank(&text) {
        true => Err(Refusal::Dropped(Reason::Empty)),
        false => Ok(Example::Labelled { text, label }),
    }
}

fn label(columns: &Columns) -> Result<bool, Refusal> {
    const LABELS: [&str; 3] = ["label", "sentiment", "labels"];
    let expected = "0, 1, negative or positive";
    let remedy = "write 1 for the class to be rewarded and 0 for the other";
    let Some((name, value)) = columns.first(&LABELS) else {
        return match LABELS.iter().any(|name| columns.is_there(name)) {
            true => Err(Refusal::Dropped(Reason::NoLabel)),
            false => Err(columns.problem("label", expected, remedy).into()),
        };
    };
    let word = match value {
        Value::String(word) => word.trim().to_lowercase(),
        value => value.to_string(),
    };
    match word.as_str() {
        "1" | "1.0" | "true" | "pos" | "positive" => Ok(true),
        "0" | "0.0" | "false" | "neg" | "negative" => Ok(false),
        // What the set has without a label.
        "-1" | "unsup" => Err(Refusal::Dropped(Reason::NoLabel)),
        _ => Err(wrong(name, expected, value, remedy).into()),
    }
}
