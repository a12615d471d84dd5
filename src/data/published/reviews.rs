//! Texts with a sentiment: the IMDB reviews of Maas et al. 2011 as JSON Lines, tables or the
//! original folder of texts, and what is laid out like them.

use serde_json::Value;

use super::{Example, Reason, Refusal, is_blank};
use crate::data::Fields;
use crate::data::fields::wrong;

/// `text` and `label`, or what others call them. HTML line breaks become line ends.
pub(super) fn example(fields: &Fields) -> Result<Example, Refusal> {
    const TEXTS: [&str; 4] = ["text", "review", "sentence", "content"];
    let Some((name, _)) = fields.first(&TEXTS) else {
        let remedy = "call the columns `text` and `label`";
        return Err(fields.missing("text", "a text", remedy).into());
    };
    let text = fields.text(name)?.unwrap_or_default();
    let label = label(fields)?;
    let text = ["<br />", "<br/>", "<br>"].iter().fold(text, |text, it| text.replace(it, "\n"));
    match is_blank(&text) {
        true => Err(Refusal::Dropped(Reason::Empty)),
        false => Ok(Example::Labelled { text, label }),
    }
}

fn label(fields: &Fields) -> Result<bool, Refusal> {
    const LABELS: [&str; 3] = ["label", "sentiment", "labels"];
    let expected = "0, 1, negative or positive";
    let remedy = "write 1 for the class to be rewarded and 0 for the other";
    let Some((name, value)) = fields.first(&LABELS) else {
        return Err(fields.missing("label", expected, remedy).into());
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
