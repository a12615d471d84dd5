//! What of a model's input the program settles: the day of its chat template, its float type.

use std::path::Path;

use exalign::Result;
use exalign::data::{ChatSettings, today};
use exalign::model::{ModelFolder, Precision};
use exalign::tuning::reads_date;
use serde_json::Value;

use crate::record::date_in;

/// Sets the day that chat templates take for today, where one of `folders` has a template that reads it
/// and none is set: the day that the output's record has from an earlier start, or today. So an output
/// that is continued another day is what it would have been.
pub fn set_date(
    chat: &mut ChatSettings,
    folders: &[&ModelFolder],
    record: Option<&Path>,
) -> Result<()> {
    if !chat.date.is_empty() {
        return Ok(());
    }
    for folder in folders {
        if reads_date(folder)? {
            let kept = record.and_then(date_in).filter(|date| !date.is_empty());
            chat.date = kept.unwrap_or_else(today);
            break;
        }
    }
    Ok(())
}

/// The precision that a flag names.
pub fn dtype(name: &str) -> std::result::Result<Precision, String> {
    serde_json::from_value(Value::from(name))
        .map_err(|_| format!("expected f32, bf16 or f16, found `{name}`"))
}
