//! What an endpoint replies: one JSON object, or a stream of events with the answer in pieces, which
//! some servers send although it was not asked for.

use serde_json::Value;

use super::answers::{Answer, Tokens};

/// The answer in the body of a reply; none where it is no answer, or cut.
pub fn answer_in(body: &str) -> Option<Answer> {
    let is_stream = body.trim_start().starts_with("data:");
    if is_stream { streamed(body) } else { whole(&serde_json::from_str(body).ok()?) }
}

fn whole(reply: &Value) -> Option<Answer> {
    let message = reply["choices"].get(0)?.get("message")?;
    // Null where the model refused, or thought until its tokens were spent.
    let text = message["content"].as_str().unwrap_or_default().to_owned();
    Some(Answer { text, tokens: tokens(reply) })
}

/// The pieces together; a stream is whole when it says why it ended.
fn streamed(body: &str) -> Option<Answer> {
    let mut answer = Answer::default();
    let mut is_whole = false;
    for event in body.lines().filter_map(|line| line.strip_prefix("data:")).map(str::trim) {
        if event == "[DONE]" {
            is_whole = true;
            break;
        }
        let event: Value = serde_json::from_str(event).ok()?;
        let choice = &event["choices"][0];
        answer.text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        answer.tokens = tokens(&event).or(answer.tokens);
        is_whole |= choice["finish_reason"].is_string();
    }
    is_whole.then_some(answer)
}

fn tokens(reply: &Value) -> Option<Tokens> {
    let count = |name: &str| reply["usage"][name].as_u64();
    let (prompt, completion) = (count("prompt_tokens")?, count("completion_tokens")?);
    Some(Tokens { prompt, completion })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: &str) -> Option<String> {
        answer_in(body).map(|it| it.text)
    }

    #[test]
    fn an_object_holds_a_message_and_perhaps_a_content_and_counts() {
        let counted = r#"{"choices": [{"message": {"content": "A"}}], "usage": {"prompt_tokens": 7, "completion_tokens": 1}}"#;
        let tokens = Some(Tokens { prompt: 7, completion: 1 });
        assert_eq!(answer_in(counted), Some(Answer { text: "A".to_owned(), tokens }));
        let refused = r#"{"choices": [{"message": {"content": null}}]}"#;
        assert_eq!(answer_in(refused), Some(Answer::default()));
        for none in
            ["", "<html>", r#"{"error": "overloaded"}"#, r#"{"choices": []}"#, &counted[..40]]
        {
            assert_eq!(answer_in(none), None, "{none}");
        }
    }

    #[test]
    fn a_stream_is_put_together_and_one_that_was_cut_is_none() {
        let piece = |content: &str| {
            format!("data: {{\"choices\": [{{\"delta\": {{\"content\": \"{content}\"}}}}]}}\n\n")
        };
        let role = "data: {\"choices\": [{\"delta\": {\"role\": \"assistant\"}}]}\n\n";
        let end = "data: {\"choices\": [{\"delta\": {}, \"finish_reason\": \"stop\"}]}\n\n";
        let said = format!("{role}{}{}", piece("Verdict: "), piece("A"));
        assert_eq!(text(&said), None);
        assert_eq!(text(&format!("{said}{end}")), Some("Verdict: A".to_owned()));
        assert_eq!(text(&format!("{said}data: [DONE]\n\n")), Some("Verdict: A".to_owned()));
        assert_eq!(text(&format!("{said}{}", &end[..20])), None);
        let counts = "data: {\"choices\": [], \"usage\": {\"prompt_tokens\": 7, \"completion_tokens\": 1}}\n\n";
        let counted = answer_in(&format!("{said}{end}{counts}data: [DONE]\n\n")).unwrap();
        assert_eq!(counted.tokens, Some(Tokens { prompt: 7, completion: 1 }));
    }
}
