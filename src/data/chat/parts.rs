//! Content in parts: `[{"type": "text", "text": ..}, ..]`.

use serde_json::{Value, json};

use super::{ChatTemplate, Conversation};

/// The roles of which a template is asked whether it reads parts.
pub(super) const ROLES: [&str; 4] = ["user", "assistant", "system", "tool"];

/// Texts that stand in no template.
const PROBES: [&str; 2] = ["Xq7first9", "Xq7second9"];

/// Parts that are no text.
const MEDIA: [&str; 10] = [
    "audio",
    "audio_url",
    "file",
    "image",
    "image_url",
    "input_audio",
    "input_file",
    "input_image",
    "video",
    "video_url",
];

impl ChatTemplate {
    /// The messages with their parts as the template reads them: as they are, or one text.
    pub(super) fn readable(&self, messages: &[Value]) -> Result<Vec<Value>, String> {
        let mut messages = messages.to_vec();
        for (index, message) in messages.iter_mut().enumerate() {
            let role = message["role"].as_str().unwrap_or_default().to_owned();
            let Some(content) = message.get_mut("content") else { continue };
            let Value::Array(parts) = &*content else { continue };
            let kind = |part: &Value| part["type"].as_str().unwrap_or("text").to_owned();
            let other =
                parts.iter().map(kind).enumerate().find(|(_, kind)| MEDIA.contains(&kind.as_str()));
            if let Some((part, kind)) = other {
                return Err(format!(
                    "`messages[{index}].content[{part}]`: expected a part of type `text`, found \
                     `{kind}`; the model reads text alone"
                ));
            }
            if !self.reads_parts_of(&role) {
                *content = Value::String(joined(parts, index)?);
            }
        }
        Ok(messages)
    }

    /// Whether the template writes out the parts of a role's content.
    pub(super) fn reads_parts_of(&self, role: &str) -> bool {
        let found = self.reads_parts.get_or_init(|| ROLES.map(|role| self.probe(role)));
        let role = match role {
            "developer" => "system",
            "function" | "ipython" => "tool",
            role => role,
        };
        ROLES.iter().position(|it| *it == role).is_none_or(|at| found[at])
    }

    /// Renders parts, and looks whether their texts come out by themselves.
    fn probe(&self, role: &str) -> bool {
        let parts: Vec<_> =
            PROBES.iter().map(|text| json!({ "type": "text", "text": text })).collect();
        let asked = json!({ "role": role, "content": parts });
        let question = json!({ "role": "user", "content": "a" });
        let messages = match role {
            "user" => vec![asked],
            "system" => vec![asked, question],
            "assistant" => vec![question, asked],
            _ => {
                let call = json!({ "id": "callcall1", "type": "function", "function": { "name": "f", "arguments": {} } });
                let caller = json!({ "role": "assistant", "content": "", "tool_calls": [call] });
                let mut asked = asked;
                asked["name"] = json!("f");
                asked["tool_call_id"] = json!("callcall1");
                vec![question, caller, asked]
            }
        };
        self.run(&Conversation::default(), &messages, false).is_ok_and(|text| {
            // In quotes they are what Python or JSON prints of the list.
            let alone = |probe: &str| {
                let quoted = [format!("'{probe}'"), format!("\"{probe}\"")];
                text.contains(probe) && !quoted.iter().any(|it| text.contains(it))
            };
            PROBES.into_iter().all(alone)
        })
    }
}

/// The texts of parts, a line each.
fn joined(parts: &[Value], message: usize) -> Result<String, String> {
    let texts = parts.iter().enumerate().map(|(index, part)| {
        let text = match part["type"].as_str() {
            None | Some("text") => part.as_str().or(part["text"].as_str()),
            Some(_) => None,
        };
        text.ok_or_else(|| {
            format!(
                "`messages[{message}].content[{index}]`: expected a part of type `text` with its \
                 `text`, found {part}; the chat template reads no others"
            )
        })
    });
    texts.collect::<Result<Vec<_>, _>>().map(|texts| texts.join("\n"))
}
