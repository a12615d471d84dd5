//! The parameters of a request beside the question, and how to ask an endpoint that refuses one of them.
//!
//! Reasoning models refuse a temperature or `max_tokens`. After an endpoint has refused a parameter, the rest
//! of the run leaves the parameter out, or sends it under its other name. An endpoint that answers in streams
//! only is asked for streams. Answers are kept under the request as the settings have it.

use std::sync::Mutex;

use serde_json::{Value, json};

use super::refusal::{Kind, Refusal};
use crate::config::JudgeSettings;

/// The two names of the limit of an answer's tokens.
const LIMITS: [&str; 2] = ["max_tokens", "max_completion_tokens"];

/// The settings of all requests.
pub struct Parameters {
    settings: JudgeSettings,
    /// What the endpoint has answered to.
    accepted: Mutex<Form>,
}

/// How a request departs from the settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    no_temperature: bool,
    limit: Limit,
    is_streamed: bool,
}

/// What becomes of the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Limit {
    #[default]
    AsSet,
    OtherName,
    LeftOut,
}

/// What to do about a refusal.
#[derive(Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Ask in this form.
    Form(Form),
    /// Nothing: the setting of this name is refused.
    Setting(String),
    /// Nothing: it is not about a setting.
    None,
}

impl Parameters {
    /// As set.
    pub fn new(settings: &JudgeSettings) -> Self {
        Self { settings: settings.clone(), accepted: Mutex::default() }
    }

    /// The form that the endpoint has answered to, or the settings'.
    pub fn form(&self) -> Form {
        self.accepted.lock().map_or_else(|_| Form::default(), |it| *it)
    }

    /// The request that asks `content`.
    pub fn request(&self, content: &str, form: Form) -> Value {
        let mut request = json!({
            "model": self.settings.model,
            "messages": [{ "role": "user", "content": content }],
        });
        if let Some(temperature) = self.temperature().filter(|_| !form.no_temperature) {
            request["temperature"] = temperature;
        }
        request["stream"] = json!(form.is_streamed);
        if let Some((name, tokens)) = self.limit() {
            match form.limit {
                Limit::AsSet => request[name] = json!(tokens),
                Limit::OtherName => request[other(name)] = json!(tokens),
                Limit::LeftOut => {}
            }
        }
        for (name, value) in &self.settings.extra {
            request[name] = value.clone();
        }
        request
    }

    /// The temperature that is ours to send; a whole number as one.
    fn temperature(&self) -> Option<Value> {
        let temperature = self.settings.temperature?;
        let is_whole = temperature.fract() == 0.0 && temperature.abs() < 1e9;
        Some(if is_whole { json!(temperature as i64) } else { json!(temperature) })
    }

    /// The limit that is ours to send. One among the extra fields takes its place.
    fn limit(&self) -> Option<(&'static str, usize)> {
        let JudgeSettings { max_tokens, max_completion_tokens, extra, .. } = &self.settings;
        if LIMITS.iter().any(|name| extra.contains_key(*name)) {
            return None;
        }
        match (*max_completion_tokens, *max_tokens) {
            (0, 0) => None,
            (0, tokens) => Some((LIMITS[0], tokens)),
            (tokens, _) => Some((LIMITS[1], tokens)),
        }
    }

    /// What to do after `refusal` of a request in `form`.
    pub fn after(&self, refusal: &Refusal, form: Form) -> Remedy {
        if refusal.kind() != Kind::Unclear {
            return Remedy::None;
        }
        let mut extra = self.settings.extra.keys();
        if let Some(name) = extra.find(|name| refusal.quotes(&name.to_lowercase())) {
            return Remedy::Setting(format!("judge.extra.{name}"));
        }
        if refusal.names("temperature") && self.temperature().is_some() {
            return match form.no_temperature {
                false => Remedy::Form(Form { no_temperature: true, ..form }),
                true => Remedy::Setting("judge.temperature".to_owned()),
            };
        }
        if LIMITS.iter().any(|name| refusal.names(name)) && self.limit().is_some() {
            return match form.limit {
                Limit::AsSet if !refusal.is_about_size() => {
                    Remedy::Form(Form { limit: Limit::OtherName, ..form })
                }
                Limit::OtherName if !refusal.is_about_size() => {
                    Remedy::Form(Form { limit: Limit::LeftOut, ..form })
                }
                _ => Remedy::Setting("judge.max_tokens or judge.max_completion_tokens".to_owned()),
            };
        }
        let is_about_streams = ["stream", "streaming"].iter().any(|name| refusal.names(name));
        if is_about_streams && !form.is_streamed {
            return Remedy::Form(Form { is_streamed: true, ..form });
        }
        Remedy::None
    }

    /// The endpoint has answered to `form`: the rest of the run departs from the settings at least so
    /// far. Says what that changes.
    pub fn accept(&self, form: Form) -> Vec<String> {
        let Ok(mut accepted) = self.accepted.lock() else { return Vec::new() };
        let before = *accepted;
        accepted.no_temperature |= form.no_temperature;
        accepted.limit = accepted.limit.max(form.limit);
        accepted.is_streamed |= form.is_streamed;
        let mut changes = Vec::new();
        if accepted.is_streamed && !before.is_streamed {
            changes.push("answers in streams only and is sent `stream`: true".to_owned());
        }
        if accepted.no_temperature && !before.no_temperature {
            changes.push(
                "refuses judge.temperature and is asked without; set it to \"none\", or to a number \
                 that the endpoint takes"
                    .to_owned(),
            );
        }
        let limit = self.limit().filter(|_| accepted.limit > before.limit);
        changes.extend(limit.map(|(name, _)| match accepted.limit {
            Limit::LeftOut => {
                format!("refuses judge.{name} and is asked without a limit; set it to 0")
            }
            Limit::AsSet | Limit::OtherName => format!(
                "refuses {name} and is sent {} in its place; set judge.{}",
                other(name),
                other(name)
            ),
        }));
        changes
    }

    /// Settings that shape answers and that a request in `form` leaves out.
    pub fn left_out(&self, form: Form) -> Vec<String> {
        let limit = self.limit().filter(|_| form.limit == Limit::LeftOut);
        let temperature = form.no_temperature.then_some("temperature");
        temperature.into_iter().chain(limit.map(|it| it.0)).map(str::to_owned).collect()
    }

    /// What limits the tokens of an answer, as a hint names it.
    pub fn limit_setting(&self) -> String {
        match self.limit() {
            Some((name, tokens)) => format!("judge.{name} ({tokens}); raise it, or set it to 0"),
            None => "the endpoint's own limit; set judge.max_tokens above it".to_owned(),
        }
    }
}

fn other(name: &str) -> &'static str {
    if name == LIMITS[0] { LIMITS[1] } else { LIMITS[0] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{EndpointSettings, Settings, Sources, Stage};

    fn parameters(set: &[&str]) -> Parameters {
        let set = set.iter().map(|it| (*it).to_owned()).collect();
        let sources = Sources { set, ..Sources::default() };
        Parameters::new(&EndpointSettings::load(Stage::Endpoint, &sources).unwrap().judge)
    }

    fn request(set: &[&str]) -> String {
        parameters(set).request("q", Form::default()).to_string()
    }

    #[test]
    fn settings_are_sent_as_they_are_given() {
        // Kept answers are known by the first of these.
        insta::assert_snapshot!(request(&[]), @r#"{"model":"default","messages":[{"role":"user","content":"q"}],"temperature":0,"stream":false,"max_tokens":256}"#);
        insta::assert_snapshot!(request(&["judge.temperature=0.7", "judge.max_completion_tokens=9"]), @r#"{"model":"default","messages":[{"role":"user","content":"q"}],"temperature":0.7,"stream":false,"max_completion_tokens":9}"#);
        insta::assert_snapshot!(request(&["judge.temperature=none", "judge.max_tokens=0"]), @r#"{"model":"default","messages":[{"role":"user","content":"q"}],"stream":false}"#);
        insta::assert_snapshot!(request(&["judge.extra.reasoning_effort=low", "judge.extra.top_p=1", "judge.extra.max_completion_tokens=7", "judge.extra.chat_template_kwargs={enable_thinking=false}"]), @r#"{"model":"default","messages":[{"role":"user","content":"q"}],"temperature":0,"stream":false,"chat_template_kwargs":{"enable_thinking":false},"max_completion_tokens":7,"reasoning_effort":"low","top_p":1}"#);
    }

    fn refused(words: &str) -> Refusal {
        Refusal::new(400, &json!({"error": {"message": words}}).to_string())
    }

    #[test]
    fn what_is_refused_is_left_out_or_called_otherwise_and_then_named() {
        let parameters = parameters(&["judge.extra.effort=low"]);
        let start = Form::default();
        let next = |words: &str, form: Form| parameters.after(&refused(words), form);
        let cold = Form { no_temperature: true, ..start };
        assert_eq!(next("'temperature' is not supported", start), Remedy::Form(cold));
        assert_eq!(next("'temperature'?", cold), Remedy::Setting("judge.temperature".to_owned()));
        let renamed = Form { limit: Limit::OtherName, ..start };
        assert_eq!(
            next("no 'max_tokens', use 'max_completion_tokens'", start),
            Remedy::Form(renamed)
        );
        let bare = Form { limit: Limit::LeftOut, ..start };
        assert_eq!(next("unknown field max_completion_tokens", renamed), Remedy::Form(bare));
        let both = "judge.max_tokens or judge.max_completion_tokens".to_owned();
        assert_eq!(next("max_tokens must be at most 99", start), Remedy::Setting(both));
        assert_eq!(
            next("unknown 'effort'", start),
            Remedy::Setting("judge.extra.effort".to_owned())
        );
        assert_eq!(next("bad request", start), Remedy::None);
        let streamed = Form { is_streamed: true, ..start };
        let words = "this model only supports stream mode, please enable the stream parameter";
        assert_eq!(next(words, start), Remedy::Form(streamed));
        assert_eq!(next("not for non-streaming calls", start), Remedy::Form(streamed));
        assert_eq!(next(words, streamed), Remedy::None);
        assert_eq!(next("the upstream is away", start), Remedy::None);
        let too_long = "maximum context length is 9; lower max_tokens";
        assert_eq!(next(too_long, start), Remedy::None);
    }

    #[test]
    fn a_form_that_was_accepted_is_told_once_and_kept() {
        let parameters = parameters(&[]);
        let form = Form { no_temperature: true, limit: Limit::OtherName, is_streamed: true };
        assert_eq!(parameters.accept(form).len(), 3);
        assert_eq!(parameters.accept(form), Vec::<String>::new());
        assert_eq!(parameters.form(), form);
        assert_eq!(parameters.left_out(form), ["temperature"]);
        insta::assert_snapshot!(parameters.request("q", form), @r#"{"model":"default","messages":[{"role":"user","content":"q"}],"stream":true,"max_completion_tokens":256}"#);
    }
}
