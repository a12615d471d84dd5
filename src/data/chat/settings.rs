//! `chat.*`: the settings that all conversations of a run give their template.

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Names of `apply_chat_template`'s own; no argument of a template can be called so.
pub(super) const RESERVED: [&str; 16] = [
    "add_generation_prompt",
    "chat_template",
    "continue_final_message",
    "conversation",
    "conversations",
    "documents",
    "max_length",
    "messages",
    "padding",
    "return_assistant_tokens_mask",
    "return_dict",
    "return_tensors",
    "tokenize",
    "tokenizer_kwargs",
    "tools",
    "truncation",
];

/// `chat.*`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChatSettings {
    /// Arguments of the template; a record's own win.
    pub template_kwargs: Map<String, Value>,
    /// The day that the template takes for today: `YYYY-MM-DD`, with or without ` HH:MM[:SS]`;
    /// empty for the day the template is read on.
    pub date: String,
}

impl ChatSettings {
    /// The first key whose value makes no sense, and why.
    pub(crate) fn violation(&self) -> Option<(String, String)> {
        if let Some(key) = self.template_kwargs.keys().find(|key| RESERVED.contains(&key.as_str()))
        {
            let message = "expected an argument of the template's own, found one that every \
                           template is given; leave it out";
            return Some((format!("chat.template_kwargs.{key}"), message.to_owned()));
        }
        let wrong = !self.date.is_empty() && self.moment().is_none();
        wrong.then(|| {
            let found = &self.date;
            let message = format!("expected a date such as 2024-07-26, found {found:?}");
            ("chat.date".to_owned(), message)
        })
    }

    /// The moment that the template takes for now, if one is set.
    pub(super) fn moment(&self) -> Option<NaiveDateTime> {
        let (day, time) = match self.date.split_once([' ', 'T']) {
            Some((day, time)) => (day, time),
            None => (self.date.as_str(), "00:00"),
        };
        let date = NaiveDate::parse_from_str(day, "%Y-%m-%d").ok().filter(|_| day.len() == 10)?;
        let time = NaiveTime::parse_from_str(time, "%H:%M:%S")
            .or_else(|_| NaiveTime::parse_from_str(time, "%H:%M"));
        Some(date.and_time(time.ok()?))
    }
}

/// The moment by the clock and the time zone of this machine.
pub(super) fn now() -> NaiveDateTime {
    chrono::Local::now().naive_local()
}

/// Today's date, `YYYY-MM-DD`, as [`ChatSettings::date`] takes it.
pub fn today() -> String {
    now().format("%Y-%m-%d").to_string()
}
