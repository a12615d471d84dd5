//! The kind of records in a file, and the form in which they are written.

use serde::Serialize;
use serde_json::Value;

use crate::data::Fields;

/// What a file holds, told from the fields of its first good line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `text`, `label`.
    LabelledTexts,
    /// `text`.
    Texts,
    /// `prompt`, `completions`.
    Groups,
    /// `prompt`, `chosen`, `rejected`.
    Preferences,
    /// `prompt`, `completion`, `label`.
    Unpaired,
    /// `prompt`, `chosen` or `completion`; `messages` that end with the answer.
    Demonstrations,
    /// `prompt`.
    Prompts,
}

impl Kind {
    pub(super) fn of(fields: &Fields) -> Self {
        let has = |text: &str, ids: &str| fields.has(text) || fields.has(ids);
        let last = fields.get("messages").and_then(Value::as_array).and_then(|it| it.last());
        let is_answered = last.is_some_and(|last| last["role"] == "assistant");
        if has("completions", "") || is_list_of_lists(fields.get("completion_ids")) {
            Self::Groups
        } else if has("rejected", "rejected_ids") {
            Self::Preferences
        } else if has("completion", "completion_ids") && fields.has("label") {
            Self::Unpaired
        } else if has("chosen", "chosen_ids") || has("completion", "completion_ids") {
            Self::Demonstrations
        } else if has("text", "text_ids") && !has("prompt", "prompt_ids") {
            if fields.has("label") { Self::LabelledTexts } else { Self::Texts }
        } else if is_answered {
            Self::Demonstrations
        } else {
            Self::Prompts
        }
    }

    /// The kind in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::LabelledTexts => "labelled texts",
            Self::Texts => "texts",
            Self::Groups => "groups",
            Self::Preferences => "preference pairs",
            Self::Unpaired => "completions with a label (unpaired preferences)",
            Self::Demonstrations => "demonstrations",
            Self::Prompts => "prompts",
        }
    }

    /// Whether a record is one text without a prompt.
    pub fn is_text(self) -> bool {
        matches!(self, Self::LabelledTexts | Self::Texts)
    }
}

fn is_list_of_lists(value: Option<&Value>) -> bool {
    let first = value.and_then(Value::as_array).and_then(|all| all.first());
    first.is_some_and(|it| !it.is_number())
}

/// How a record writes its prompt and its answers, in words.
pub(super) fn form_of(fields: &Fields) -> String {
    const ANSWERS: [&str; 5] = ["chosen", "rejected", "completion", "completions", "text"];
    let written = |name: &str| {
        let value = match fields.get(name)? {
            Value::Array(items) if name == "completions" => items.first()?,
            value => value,
        };
        let is_messages = value.is_object()
            || value.as_array().is_some_and(|it| it[..].first().is_none_or(Value::is_object));
        Some(if is_messages { "messages" } else { "text" })
    };
    let ids = |name: &str| {
        let name =
            if name == "completions" { "completion_ids".to_owned() } else { format!("{name}_ids") };
        fields.has(&name).then_some("token ids")
    };
    let mut parts = Vec::new();
    match (written("messages"), ids("prompt").or(written("prompt"))) {
        (Some(_), _) => parts.push("`messages`".to_owned()),
        (None, Some(how)) => parts.push(format!("`prompt` as {how}")),
        (None, None) if written("text").is_none() && ids("text").is_none() => {
            parts.push("the prompt is what the answers begin with".to_owned());
        }
        (None, None) => {}
    }
    for name in ANSWERS {
        if let Some(how) = ids(name).or(written(name)) {
            parts.push(format!("`{name}` as {how}"));
        }
    }
    for name in ["tools", "chat_template_kwargs", "documents", "label", "rewards"] {
        if fields.has(name) {
            parts.push(format!("`{name}`"));
        }
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_that_end_with_the_answer_are_demonstrations_and_others_prompts() {
        let kind = |role: &str| {
            let messages =
                json!([{"role": "user", "content": "a"}, {"role": role, "content": "b"}]);
            let fields = json!({ "messages": messages });
            Kind::of(&Fields::from(fields.as_object().unwrap().clone()))
        };
        assert_eq!((kind("assistant"), kind("user")), (Kind::Demonstrations, Kind::Prompts));
    }
}
