//! An endpoint's refusal, and its scope: this request alone, all requests, or only the present moment.

use serde_json::Value;

use crate::secrets::without_keys;

/// What an endpoint says in place of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the reply, or the one that its error names.
    pub status: u16,
    /// Its words on one line, for people.
    pub said: String,
    /// All words of the error in lower case, without what it repeats of the request.
    words: String,
    /// What its error calls `param`.
    parameter: String,
}

/// Whom a refusal concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It may be gone the next time.
    Passing,
    /// This request, for what it says.
    Filter,
    /// This request, for its length.
    TooLong,
    /// Perhaps this request alone, perhaps something that all have.
    Unclear,
    /// All requests.
    Lasting,
}

impl Kind {
    /// What to do where it concerns a request, and the request cannot change.
    pub fn advice(self) -> &'static str {
        match self {
            Self::Filter => "ask a model without this filter",
            Self::TooLong => "ask a model with a longer context, or lower judge.max_tokens",
            Self::Passing => {
                "start the command again, or raise judge.timeout where answers come too late"
            }
            _ => {
                "check judge.model, judge.temperature, judge.max_tokens, judge.extra and the template"
            }
        }
    }
}

const FILTER: [&str; 23] = [
    "content_filter",
    "content filter",
    "contentfilter",
    "content-filter",
    "responsibleaipolicyviolation",
    "content management policy",
    "content policy",
    "content_policy",
    "data_inspection_failed",
    "datainspectionfailed",
    "inappropriate content",
    "sensitive content",
    "moderation",
    "flagged",
    "safety system",
    "safety filter",
    "safety reasons",
    "usage policies",
    "usage policy",
    "prohibited_content",
    "invalid_prompt",
    "guardrail",
    "jailbreak",
];

/// Of the model's context.
const CONTEXT: [&str; 12] = [
    "context_length",
    "context length",
    "context window",
    "context size",
    "context_size",
    "context limit",
    "maximum context",
    "max context",
    "max_model_len",
    "max_seq_len",
    "`inputs` tokens",
    "available context",
];

/// Of a text, where the status says that the request is at fault.
const LENGTH: [&str; 12] = [
    "too long",
    "too many tokens",
    "too many input tokens",
    "string_above_max_length",
    "maximum input length",
    "maximum number of tokens",
    "maximum number of input tokens",
    "reduce the length",
    "request too large",
    "prompt length",
    "input length",
    "payload too large",
];

/// Of an address at which there is no chat API.
const NO_ROUTE: [&str; 13] = [
    "unexpected endpoint",
    "unexpected method",
    "unexpected route",
    "unknown endpoint",
    "unknown method",
    "unknown route",
    "unknown url",
    "unknown path",
    "invalid url",
    "no such endpoint",
    "no such route",
    "no route found",
    "method not allowed",
];

/// Names of fields in which errors repeat the request.
const REPEATED: [&str; 6] = ["input", "messages", "prompt", "content", "body", "user_id"];

impl Refusal {
    /// The refusal in a reply with an error's status.
    pub fn new(status: u16, body: &str) -> Self {
        let error = serde_json::from_str::<Value>(body).unwrap_or(Value::String(body.to_owned()));
        Self::of(status, &error, excerpt(body))
    }

    /// An error that came with status 200; its own status, or what its words say.
    pub fn in_reply(error: &Value) -> Self {
        let mut refusal = Self::of(200, error, excerpt(&without_keys(&error.to_string())));
        let number = |name: &str| {
            let value = &error[name];
            let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
            number.and_then(|it| u16::try_from(it).ok()).filter(|it| (400..600).contains(it))
        };
        let status = ["status", "code", "status_code"].into_iter().find_map(number);
        refusal.status = status.unwrap_or_else(|| refusal.status_by_words());
        refusal
    }

    fn of(status: u16, error: &Value, said: String) -> Self {
        let mut words = String::new();
        collect(error, &mut words);
        let parameter = [error, &error["error"]]
            .into_iter()
            .find_map(|it| it["param"].as_str())
            .unwrap_or_default()
            .to_lowercase();
        Self { status, said, words: words.to_lowercase(), parameter }
    }

    fn status_by_words(&self) -> u16 {
        match () {
            () if self.says(&FILTER) || self.says(&CONTEXT) || self.says(&LENGTH) => 400,
            () if self.says(&["rate_limit", "rate limit", "overloaded", "unavailable"]) => 503,
            () if self.says(&["authentication", "api key", "api_key", "permission"]) => 401,
            () if self.says(&["not_found", "not found", "does not exist"]) => 404,
            () if self.says(&NO_ROUTE) => 404,
            () if self.says(&["invalid_request", "unsupported", "badrequest", "bad request"]) => {
                400
            }
            () => 503,
        }
    }

    fn says(&self, words: &[&str]) -> bool {
        words.iter().any(|it| self.words.contains(it))
    }

    /// Whom it concerns.
    pub fn kind(&self) -> Kind {
        let is_model = self.parameter == "model"
            || self.says(&[
                "model_not_found",
                "invalid_model",
                "invalid model",
                "model_not_available",
            ]);
        match self.status {
            429 if self.says(&["insufficient_quota"]) => Kind::Lasting,
            429 if self.says(&["request too large"]) => Kind::TooLong,
            403 if self.says(&FILTER) => Kind::Filter,
            401..=405 => Kind::Lasting,
            408 | 409 | 425 | 429 | 498 | 499 => Kind::Passing,
            500..=599 if self.says(&CONTEXT) => Kind::TooLong,
            500..=599 if self.says(&["content_filter", "responsibleaipolicyviolation"]) => {
                Kind::Filter
            }
            501 | 505 => Kind::Lasting,
            500..=599 => Kind::Passing,
            400..=499 if self.says(&CONTEXT) => Kind::TooLong,
            400..=499 if self.says(&FILTER) => Kind::Filter,
            413 => Kind::TooLong,
            400..=499 if self.says(&LENGTH) => Kind::TooLong,
            400 | 422 if is_model => Kind::Lasting,
            400 | 422 | 451 => Kind::Unclear,
            _ => Kind::Lasting,
        }
    }

    /// Whether it is about the field `name` of the request.
    pub fn names(&self, name: &str) -> bool {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let is_word = |(at, _): (usize, &str)| {
            !self.words[..at].ends_with(is_part)
                && !self.words[at + name.len()..].starts_with(is_part)
        };
        matches!(self.status, 400 | 422)
            && (self.parameter == name || self.words.match_indices(name).any(is_word))
    }

    /// Whether it is about the field `name` and says so as of a name, not as a word.
    pub fn quotes(&self, name: &str) -> bool {
        let is_quoted = |mark: &str| self.words.contains(&format!("{mark}{name}{mark}"));
        matches!(self.status, 400 | 422)
            && (self.parameter == name
                || self.words.lines().any(|line| line == name)
                || ["'", "\"", "`"].into_iter().any(is_quoted))
    }

    /// Whether it is about a number that is out of its range.
    pub fn is_about_size(&self) -> bool {
        self.says(&[
            "too large",
            "too small",
            "at most",
            "at least",
            "less than",
            "greater than",
            "<=",
            ">=",
            "exceed",
        ])
    }
}

/// The words of an error, without those that it repeats.
fn collect(error: &Value, into: &mut String) {
    let mut add = |text: &str| {
        into.push_str(text);
        into.push('\n');
    };
    match error {
        Value::String(text) => add(text),
        Value::Array(all) => all.iter().for_each(|it| collect(it, into)),
        Value::Object(all) => {
            for (name, value) in all.iter().filter(|it| !REPEATED.contains(&it.0.as_str())) {
                // What was looked at by filters is named in full where one of them found something.
                if !name.starts_with("content_filter") {
                    collect(value, into);
                }
            }
        }
        _ => {}
    }
}

/// Whether a body is a page for people.
pub fn is_page(body: &str) -> bool {
    let lower = body.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    lower.starts_with("<!doctype html") || lower.starts_with("<html")
}

/// The beginning of what an endpoint said, on one line: the title of a page, the message of an error.
pub fn excerpt(text: &str) -> String {
    const SHOWN: usize = 200;
    let is_page = is_page(text);
    let title = text.to_ascii_lowercase().find("<title>").filter(|_| is_page).and_then(|at| {
        let rest = &text[at + "<title>".len()..];
        Some(format!("a page, \"{}\"", rest.split_once('<')?.0.trim()))
    });
    let text = title.as_deref().unwrap_or(text);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        _ if line.is_empty() => "nothing".to_owned(),
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_concerns_a_request_or_all_or_nobody_in_a_moment() {
        let error = |message: &str| json!({"error": {"message": message}}).to_string();
        for (status, body, kind) in [
            (400, json!({"error": {"message": "It was filtered.", "code": "content_filter"}}).to_string(), Kind::Filter),
            (400, json!({"error": {"message": "No.", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}).to_string(), Kind::Filter),
            (400, json!({"error": {"message": "flagged as against our usage policy", "code": "invalid_prompt"}}).to_string(), Kind::Filter),
            (403, error("Your input was flagged by moderation"), Kind::Filter),
            (403, error("no access"), Kind::Lasting),
            (401, error("wrong key"), Kind::Lasting),
            (404, error("no such model"), Kind::Lasting),
            (400, json!({"message": "Invalid model: x", "type": "invalid_model"}).to_string(), Kind::Lasting),
            (400, json!({"error": {"message": "too long", "code": "context_length_exceeded"}}).to_string(), Kind::TooLong),
            (400, error("This model's maximum context length is 64 tokens, your request has 99"), Kind::TooLong),
            (400, error("'max_tokens' is too large: 256. This model's maximum context length is 64 tokens"), Kind::TooLong),
            (422, json!({"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 2048", "error_type": "validation"}).to_string(), Kind::TooLong),
            (500, json!({"error": {"code": 500, "type": "exceed_context_size_error", "message": "the request exceeds the available context size"}}).to_string(), Kind::TooLong),
            (413, String::new(), Kind::TooLong),
            (429, error("Request too large for gpt on tokens per min: Limit 100, Requested 900"), Kind::TooLong),
            (429, error("slow down"), Kind::Passing),
            (429, json!({"error": {"code": "insufficient_quota"}}).to_string(), Kind::Lasting),
            (504, "upstream took too long".to_owned(), Kind::Passing),
            (529, error("overloaded"), Kind::Passing),
            (501, String::new(), Kind::Lasting),
            (400, error("bad request"), Kind::Unclear),
            (422, json!({"detail": [{"loc": ["body"], "msg": "wrong", "input": "a moderation question"}]}).to_string(), Kind::Unclear),
            (400, "<html>".to_owned(), Kind::Unclear),
        ] {
            assert_eq!(Refusal::new(status, &body).kind(), kind, "{status} {body}");
        }
    }

    #[test]
    fn an_error_with_status_200_has_the_status_that_it_names_or_means() {
        for (error, status) in [
            (json!({"code": 429, "message": "wait"}), 429),
            (json!({"code": "401", "message": "key"}), 401),
            (json!({"type": "overloaded_error", "message": "busy"}), 503),
            (json!({"type": "authentication_error", "message": "who?"}), 401),
            (json!({"message": "unsupported parameter", "type": "invalid_request_error"}), 400),
            (json!({"code": "content_filter"}), 400),
            (json!("Unexpected endpoint or method. (POST /chat/completions)"), 404),
            (json!({"message": "Method Not Allowed"}), 404),
            (json!("Unexpected error"), 503),
            (json!("out of order"), 503),
        ] {
            assert_eq!(Refusal::in_reply(&error).status, status, "{error}");
        }
    }

    #[test]
    fn the_parameter_that_is_refused_is_found_and_what_is_repeated_is_not_it() {
        let names = |body: Value, name: &str| Refusal::new(400, &body.to_string()).names(name);
        let openai = json!({"error": {"message": "Unsupported value", "param": "temperature"}});
        assert!(names(openai.clone(), "temperature") && !names(openai, "max_tokens"));
        let words = json!({"error": {"message": "Unsupported parameter: 'max_tokens'."}});
        assert!(names(words, "max_tokens"));
        let other = json!({"error": {"message": "'max_tokens_to_sample' is unknown"}});
        assert!(!names(other, "max_tokens"));
        let pydantic = json!({"detail": [{"loc": ["body", "max_completion_tokens"], "msg": "Extra inputs", "input": {"temperature": 0}}]});
        assert!(
            names(pydantic.clone(), "max_completion_tokens") && !names(pydantic, "temperature")
        );
    }

    #[test]
    fn what_an_endpoint_says_is_shown_on_one_line_and_not_for_long() {
        assert_eq!(excerpt("{\n  \"error\": 1\n}"), "{ \"error\": 1 }");
        assert_eq!(excerpt(" \n"), "nothing");
        assert_eq!(excerpt(&"word ".repeat(100)).chars().count(), 201);
        assert_eq!(
            excerpt("<!DOCTYPE html>\n<head><title>502 Bad\nGateway</title>"),
            "a page, \"502 Bad Gateway\""
        );
    }
}
