//! The reply of an endpoint: one JSON object, or a stream of events with the answer in pieces, which some
//! servers send unasked.
//!
//! Only the text of the first choice is read. Parts that are not text, thoughts and reasoning are ignored; a reply
//! that is nothing but reasoning is known as one, because a server may take the whole answer for reasoning.

use serde_json::Value;

use super::answers::{Answer, Tokens};
use super::events::{events, is_stream};
use crate::secrets::without_keys;

/// A reply with status 200.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// The text and its cost.
    pub answer: Answer,
    /// Why it ended.
    pub end: End,
}

/// Why a reply ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// The model had said all.
    #[default]
    Whole,
    /// At a limit of tokens.
    Cut,
    /// A filter took the rest, or all.
    Filtered,
    /// The model refused, with these words.
    Declined(String),
    /// The model had said all, and all of it stands where the server puts reasoning.
    Reasoned,
}

/// What a body is that is no reply.
#[derive(Clone, Debug, PartialEq)]
pub enum Other {
    /// An error, in spite of the status.
    Error(Value),
    /// Cut, or something else.
    Unreadable,
}

impl Reply {
    /// The reply without keys that it repeats, written in whatever way JSON lets it.
    pub fn without_keys(mut self) -> Self {
        self.answer.text = without_keys(&self.answer.text).into_owned();
        if let End::Declined(words) = &mut self.end {
            *words = without_keys(words).into_owned();
        }
        self
    }
}

/// The reply in a body; `is_events` where it says that it is a stream.
pub fn reply_in(body: &str, is_events: bool) -> Result<Reply, Other> {
    let object = serde_json::from_str(body.trim_start_matches('\u{feff}'));
    match object {
        Ok(object) => whole(&object),
        Err(_) if is_events || is_stream(body) => streamed(body),
        Err(_) => Err(Other::Unreadable),
    }
}

fn whole(reply: &Value) -> Result<Reply, Other> {
    if let Some(error) = error_in(reply) {
        return Err(Other::Error(error));
    }
    let choice = first(&reply["choices"]).ok_or(Other::Unreadable)?;
    if let Some(error) = error_in(choice) {
        return Err(Other::Error(error));
    }
    let message = &choice["message"];
    let mut pieces = Pieces::default();
    match (message.is_object(), choice["text"].as_str()) {
        // Null where the model refused, or thought until its tokens were spent.
        (true, _) => pieces.add(message),
        // The form of completions.
        (false, Some(text)) => pieces.text.push_str(text),
        (false, None) => return Err(Other::Unreadable),
    }
    pieces.finish(choice["finish_reason"].as_str(), tokens(reply))
}

/// The pieces together; a stream is whole when it says why it ended.
fn streamed(body: &str) -> Result<Reply, Other> {
    let (mut pieces, mut counts) = (Pieces::default(), None);
    let (mut reason, mut is_whole) = (None, false);
    for event in events(body) {
        if event.data.trim() == "[DONE]" {
            is_whole = true;
            break;
        }
        let Ok(data) = serde_json::from_str::<Value>(&event.data) else {
            // A word to keep the connection open, or half an event.
            if event.kind == "message" || event.kind == "error" {
                return Err(match event.kind.as_str() {
                    "error" => Other::Error(Value::String(event.data)),
                    _ => Other::Unreadable,
                });
            }
            continue;
        };
        let choice = first(&data["choices"]);
        if let Some(error) = error_in(&data).or_else(|| choice.and_then(error_in)) {
            return Err(Other::Error(error));
        }
        if event.kind == "error" {
            return Err(Other::Error(data));
        }
        counts = tokens(&data).or(counts);
        let Some(choice) = choice else { continue };
        match (choice.get("delta"), choice.get("message"), choice["text"].as_str()) {
            (Some(delta), ..) => pieces.add(delta),
            (None, Some(message), _) => pieces.add(message),
            (None, None, Some(text)) => pieces.text.push_str(text),
            (None, None, None) => {}
        }
        reason = choice["finish_reason"].as_str().map(str::to_owned).or(reason);
        is_whole |= reason.is_some();
    }
    if !is_whole {
        return Err(Other::Unreadable);
    }
    pieces.finish(reason.as_deref(), counts)
}

/// The choice with index 0, or the first of those that have none; several may have been asked for.
fn first(choices: &Value) -> Option<&Value> {
    choices.as_array()?.iter().find(|it| it["index"].as_u64().unwrap_or(0) == 0)
}

/// The error that an object holds, or is.
fn error_in(object: &Value) -> Option<Value> {
    let is_said = |it: &Value| !(it.is_null() || *it == Value::Bool(false) || it == "");
    match object.get("error").filter(|it| is_said(it)) {
        Some(error) => Some(error.clone()),
        None if object["object"] == "error" => Some(object.clone()),
        None if object["finish_reason"] == "error" => Some(object.clone()),
        None => None,
    }
}

/// Text and refusal, piece by piece.
#[derive(Default)]
struct Pieces {
    text: String,
    refusal: String,
    has_reasoning: bool,
}

impl Pieces {
    /// Adds what a message or a piece of one holds.
    fn add(&mut self, message: &Value) {
        self.add_content(&message["content"]);
        self.refusal.push_str(message["refusal"].as_str().unwrap_or_default());
        let reasoning = ["reasoning_content", "reasoning"].map(|name| message[name].as_str());
        self.has_reasoning |= reasoning.into_iter().flatten().any(|it| !it.trim().is_empty());
    }

    /// A text, a part, or a list of them.
    fn add_content(&mut self, content: &Value) {
        match content {
            Value::String(text) => self.text.push_str(text),
            Value::Array(parts) => parts.iter().for_each(|part| self.add_content(part)),
            Value::Object(part) => match part.get("type").and_then(Value::as_str) {
                None | Some("text" | "output_text") => {
                    // The text itself, or an object around it.
                    let text = part.get("text").map(|it| it.get("value").unwrap_or(it));
                    self.text.push_str(text.and_then(Value::as_str).unwrap_or_default());
                }
                Some("refusal") => {
                    let refusal = part.get("refusal").and_then(Value::as_str);
                    self.refusal.push_str(refusal.unwrap_or_default());
                }
                Some("thinking" | "reasoning") => self.has_reasoning = true,
                // Calls, pictures.
                Some(_) => {}
            },
            _ => {}
        }
    }

    fn finish(self, reason: Option<&str>, tokens: Option<Tokens>) -> Result<Reply, Other> {
        let reason = reason.unwrap_or_default().to_lowercase();
        let end = match reason.as_str() {
            "length" | "max_tokens" | "model_length" | "max_output_tokens" => End::Cut,
            "content_filter"
            | "content-filter"
            | "safety"
            | "recitation"
            | "prohibited_content"
            | "blocklist"
            | "sensitive"
            | "guardrail_intervened" => End::Filtered,
            "refusal" => End::Declined(format!("{}{}", self.text, self.refusal)),
            _ if !self.refusal.is_empty() => End::Declined(self.refusal),
            _ if self.has_reasoning && self.text.trim().is_empty() => End::Reasoned,
            _ => End::Whole,
        };
        Ok(Reply { answer: Answer { text: self.text, tokens, ..Answer::default() }, end })
    }
}

fn tokens(reply: &Value) -> Option<Tokens> {
    let count = |name: &str| reply["usage"][name].as_u64();
    let (prompt, completion) = (count("prompt_tokens")?, count("completion_tokens")?);
    Some(Tokens { prompt, completion })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: &Value) -> Result<(String, End), Other> {
        reply_in(&body.to_string(), false).map(|it| (it.answer.text, it.end))
    }

    fn said(message: Value) -> (String, End) {
        read(&json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}))
            .unwrap()
    }

    fn text(text: &str) -> (String, End) {
        (text.to_owned(), End::Whole)
    }

    #[test]
    fn text_is_read_from_a_string_or_its_parts_and_thoughts_are_passed_over() {
        assert_eq!(said(json!({"content": "A"})), text("A"));
        assert_eq!(
            said(
                json!({"content": [{"type": "text", "text": "Verdict: "}, {"type": "output_text", "text": "A"}]})
            ),
            text("Verdict: A")
        );
        assert_eq!(
            said(json!({"content": ["Verdict: ", {"text": {"value": "B"}}]})),
            text("Verdict: B")
        );
        let thought = json!({"type": "thinking", "thinking": [{"type": "text", "text": "B?"}]});
        assert_eq!(said(json!({"content": [thought, {"type": "text", "text": "A"}]})), text("A"));
        let reasoned = (String::new(), End::Reasoned);
        assert_eq!(said(json!({"content": [{"type": "reasoning", "text": "B?"}]})), reasoned);
        assert_eq!(
            said(json!({"content": "A", "reasoning_content": "B?", "reasoning": "B?"})),
            text("A")
        );
        assert_eq!(said(json!({"content": null, "reasoning_content": "B?"})), reasoned);
        assert_eq!(
            said(json!({"content": "\n", "reasoning": "B?"})),
            ("\n".to_owned(), End::Reasoned)
        );
        assert_eq!(said(json!({"content": "", "reasoning_content": "\n"})), text(""));
    }

    #[test]
    fn a_refusal_is_no_text() {
        let declined = |words: &str| (String::new(), End::Declined(words.to_owned()));
        assert_eq!(
            said(json!({"content": null, "refusal": "I will not."})),
            declined("I will not.")
        );
        assert_eq!(
            said(json!({"content": [{"type": "refusal", "refusal": "No."}]})),
            declined("No.")
        );
        assert_eq!(said(json!({"content": "A", "refusal": null})), text("A"));
    }

    #[test]
    fn the_first_choice_is_read_whatever_its_place_and_form() {
        let choices = json!([{"index": 1, "message": {"content": "B"}}, {"index": 0, "message": {"content": "A"}}]);
        assert_eq!(read(&json!({ "choices": choices })), Ok(text("A")));
        assert_eq!(
            read(&json!({"choices": [{"text": " A", "finish_reason": "stop"}]})),
            Ok(text(" A"))
        );
        for (reason, end) in [
            ("stop", End::Whole),
            ("length", End::Cut),
            ("MAX_TOKENS", End::Cut),
            ("content_filter", End::Filtered),
            ("SAFETY", End::Filtered),
        ] {
            let reply =
                json!({"choices": [{"message": {"content": "A"}, "finish_reason": reason}]});
            assert_eq!(read(&reply), Ok(("A".to_owned(), end)), "{reason}");
        }
    }

    #[test]
    fn errors_with_status_200_are_errors_and_what_is_no_reply_is_unreadable() {
        let error = json!({"message": "busy", "code": 429});
        assert_eq!(read(&json!({ "error": error })), Err(Other::Error(error.clone())));
        let late = json!({"choices": [{"error": error, "message": {"content": "A"}}]});
        assert_eq!(read(&late), Err(Other::Error(error)));
        let vllm = json!({"object": "error", "message": "no", "code": 400});
        assert_eq!(read(&vllm), Err(Other::Error(vllm.clone())));
        assert_eq!(
            read(&json!({"error": null, "choices": [{"message": {"content": "A"}}]})),
            Ok(text("A"))
        );
        for none in [
            "",
            "<html>",
            "[]",
            "{\"choices\": []}",
            "{\"choices\": [{}]}",
            "{\"choices\": [{\"mess",
        ] {
            assert_eq!(reply_in(none, false), Err(Other::Unreadable), "{none}");
            assert_eq!(reply_in(none, true), Err(Other::Unreadable), "{none}");
        }
    }

    #[test]
    fn usage_is_counted() {
        let counted = json!({"choices": [{"message": {"content": "A"}}], "usage": {"prompt_tokens": 7, "completion_tokens": 1}});
        let reply = reply_in(&counted.to_string(), false).unwrap();
        assert_eq!(reply.answer.tokens, Some(Tokens { prompt: 7, completion: 1 }));
    }

    fn stream(events: &[Value]) -> String {
        events.iter().map(|it| format!("data: {it}\n\n")).collect()
    }

    fn piece(delta: Value) -> Value {
        json!({"choices": [{"index": 0, "delta": delta}]})
    }

    #[test]
    fn a_stream_is_put_together_and_one_that_was_cut_is_none() {
        let read = |body: &str| reply_in(body, false).map(|it| (it.answer.text, it.end));
        let end = |reason: &str| json!({"choices": [{"delta": {}, "finish_reason": reason}]});
        let said = [
            piece(json!({"role": "assistant"})),
            piece(json!({"reasoning_content": "B?"})),
            piece(json!({"content": "Verdict: "})),
            json!({"choices": [{"index": 1, "delta": {"content": "Verdict: B"}}]}),
            piece(json!({"content": [{"type": "text", "text": "A"}]})),
        ];
        let body = stream(&said);
        assert_eq!(read(&body), Err(Other::Unreadable));
        let ended = format!("{body}{}", stream(&[end("stop")]));
        assert_eq!(read(&ended), Ok(text("Verdict: A")));
        assert_eq!(read(&format!("{body}data: [DONE]\n\n")), Ok(text("Verdict: A")));
        assert_eq!(
            read(&ended.replace("data: ", ": ping\r\ndata:").replace('\n', "\r\n")),
            Ok(text("Verdict: A"))
        );
        assert_eq!(read(&ended[..ended.len() - 20]), Err(Other::Unreadable));
        let cut = format!("{body}{}", stream(&[end("length")]));
        assert_eq!(read(&cut), Ok(("Verdict: A".to_owned(), End::Cut)));
        let counts = json!({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 1}});
        let counted =
            reply_in(&format!("{ended}{}data: [DONE]\n\n", stream(&[counts])), true).unwrap();
        assert_eq!(counted.answer.tokens, Some(Tokens { prompt: 7, completion: 1 }));
    }

    #[test]
    fn an_error_within_a_stream_is_one() {
        let error = json!({"message": "overloaded", "type": "server_error"});
        let body = stream(&[piece(json!({"content": "A"})), json!({ "error": error })]);
        assert_eq!(reply_in(&body, true), Err(Other::Error(error.clone())));
        let kind = format!("event: ping\ndata: hello\n\nevent: error\ndata: {error}\n\n");
        assert_eq!(reply_in(&kind, true), Err(Other::Error(error)));
    }
}
