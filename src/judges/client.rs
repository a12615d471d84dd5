//! Requests to an endpoint that speaks the OpenAI API, until they are answered.
//!
//! What may pass (a refused or broken connection, a timeout, the status 408, 425, 429 or 5xx, an
//! answer that is cut or no JSON) is tried again, after a time that doubles or that the endpoint asks
//! for in `Retry-After`; then all threads wait. Everything else ends the work.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use serde_json::Value;
use ureq::http::{HeaderMap, StatusCode};

use super::answers::Answer;
use super::reply::answer_in;
use crate::config::JudgeSettings;
use crate::{Error, Result, interrupt};

/// Sends requests to one endpoint.
pub struct Client {
    agent: ureq::Agent,
    /// The endpoint's base, as in `http://127.0.0.1:8000/v1`.
    base: String,
    key: Option<String>,
    settings: JudgeSettings,
    requests: AtomicUsize,
    /// Before this nobody sends anything.
    not_before: Mutex<Instant>,
    stopped: AtomicBool,
}

/// Why a request was not answered.
enum Failure {
    /// It would not be the next time either.
    Lasting(String),
    /// It may be the next time, after what the endpoint asks to wait.
    Passing(String, Option<Duration>),
}

impl Client {
    /// A client of the endpoint at `url`, its key from the environment.
    ///
    /// # Errors
    /// If `url` is none.
    pub fn new(url: &str, settings: &JudgeSettings) -> Result<Self> {
        let base = base_of(url)?;
        let key = std::env::var(&settings.key_variable).ok().filter(|it| !it.is_empty());
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(Duration::from_secs_f64(settings.timeout)))
            .max_idle_connections_per_host(settings.concurrency)
            .build()
            .new_agent();
        Ok(Self {
            agent,
            base,
            key,
            settings: settings.clone(),
            requests: AtomicUsize::new(0),
            not_before: Mutex::new(Instant::now()),
            stopped: AtomicBool::new(false),
        })
    }

    /// The endpoint's base.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Requests sent so far.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Whoever waits to try again gives up.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
    }

    /// Whether there is to be no further request.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst) || interrupt::requested()
    }

    /// The answer to a chat request.
    ///
    /// # Errors
    /// If the endpoint refuses it, or does not answer after all retries.
    pub fn chat(&self, request: &Value) -> Result<Answer> {
        let body = request.to_string();
        let mut retries = 0;
        loop {
            self.wait()?;
            self.requests.fetch_add(1, Ordering::Relaxed);
            let (why, asked) = match self.attempt(&body) {
                Ok(answer) => return Ok(answer),
                Err(Failure::Lasting(why)) => return Err(self.error(why)),
                Err(Failure::Passing(why, asked)) => (self.without_key(&why), asked),
            };
            let longest = Duration::from_secs_f64(self.settings.max_wait);
            if let Some(asked) = asked.filter(|asked| *asked > longest) {
                return Err(self.error(format!(
                    "{why}, and asks to wait {:.0} s; start the command again then (answers so far are \
                     kept), or raise judge.max_wait",
                    asked.as_secs_f64()
                )));
            }
            if retries == self.settings.max_retries {
                return Err(self.error(format!(
                    "{why}, {} times; start the command again to go on, answers so far are kept",
                    retries + 1
                )));
            }
            let doubled = self.settings.first_wait * 2f64.powi(retries.min(60) as i32);
            let wait = Duration::from_secs_f64(doubled.min(self.settings.max_wait))
                .max(asked.unwrap_or_default());
            retries += 1;
            tracing::warn!("{}: {why}; trying again in {:.1} s", self.base, wait.as_secs_f64());
            self.hold(wait);
        }
    }

    /// Nobody sends anything for so long.
    fn hold(&self, wait: Duration) {
        let until = Instant::now() + wait;
        if let Ok(mut not_before) = self.not_before.lock() {
            *not_before = until.max(*not_before);
        }
    }

    fn wait(&self) -> Result<()> {
        const SLICE: Duration = Duration::from_millis(50);
        loop {
            if self.is_stopped() {
                return Err(Error::Interrupted);
            }
            let until = self.not_before.lock().map_or_else(|_| Instant::now(), |it| *it);
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(SLICE));
        }
    }

    fn attempt(&self, body: &str) -> std::result::Result<Answer, Failure> {
        let mut request = self
            .agent
            .post(format!("{}/chat/completions", self.base))
            .header("Content-Type", "application/json");
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let mut response = request.send(body).map_err(not_sent)?;
        let (status, asked) = (response.status(), retry_after(response.headers()));
        let text = response.body_mut().read_to_string();
        if status.is_success() {
            let text = text.map_err(not_sent)?;
            return answer_in(&text)
                .ok_or_else(|| Failure::Passing(format!("answers {}", excerpt(&text)), None));
        }
        let said = excerpt(&text.unwrap_or_default());
        Err(self.refusal(status, &said, asked))
    }

    fn refusal(&self, status: StatusCode, said: &str, asked: Option<Duration>) -> Failure {
        let variable = &self.settings.key_variable;
        let advice = match status.as_u16() {
            408 | 425 | 429 | 500..=599 => {
                return Failure::Passing(format!("answers with status {status} ({said})"), asked);
            }
            300..=399 => "give the URL that it points to".to_owned(),
            401 | 403 if self.key.is_some() => format!("check the key in {variable}"),
            401 | 403 => format!("put the key into {variable}"),
            404 => format!(
                "check the URL, which ends in /v1 mostly, and judge.model ({}); {}/models lists those \
                 that it has",
                self.settings.model, self.base
            ),
            _ => "check judge.model, judge.max_tokens and the template".to_owned(),
        };
        Failure::Lasting(format!("refuses with status {status} ({said}); {advice}"))
    }

    fn error(&self, message: String) -> Error {
        Error::file(&self.base, self.without_key(&message))
    }

    /// Endpoints repeat the key in what they say of it.
    fn without_key(&self, text: &str) -> String {
        self.key.as_ref().map_or_else(|| text.to_owned(), |key| text.replace(key.as_str(), "…"))
    }
}

/// The base of the endpoint that a user writes as its base or its address for chats.
fn base_of(url: &str) -> Result<String> {
    let refused = |why: &str| {
        Error::usage(format!(
            "--judge openai:URL: expected the endpoint's base such as http://127.0.0.1:8000/v1, {why}"
        ))
    };
    let base = url.trim_end_matches('/').trim_end_matches("/chat/completions");
    let rest = ["http://", "https://"].iter().find_map(|scheme| base.strip_prefix(scheme));
    match rest {
        // Nothing of the address is shown that may be a secret.
        Some(rest) if rest.contains(['@', '?', '#']) => {
            Err(refused("found one with a user, a query or a mark; keys go into the environment"))
        }
        Some(rest) if !rest.is_empty() && !rest.contains(char::is_whitespace) => {
            Ok(base.to_owned())
        }
        _ => Err(refused(&format!("found `{url}`"))),
    }
}

fn not_sent(error: ureq::Error) -> Failure {
    use ureq::Error::{BadUri, Http, InvalidProxyUrl, RequireHttpsOnly};
    match error {
        BadUri(_) | Http(_) | InvalidProxyUrl | RequireHttpsOnly(_) => {
            Failure::Lasting(format!("cannot be asked: {error}; check the URL and the key"))
        }
        _ => Failure::Passing(format!("does not answer ({error})"), None),
    }
}

/// What the endpoint asks to wait: seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("retry-after")?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = DateTime::parse_from_rfc2822(value).ok()?;
    (date.with_timezone(&Utc) - Utc::now()).to_std().ok()
}

/// The beginning of what an endpoint said, on one line.
fn excerpt(text: &str) -> String {
    const SHOWN: usize = 200;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        _ if line.is_empty() => "nothing".to_owned(),
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_is_taken_with_or_without_what_follows_and_secrets_are_refused_unread() {
        let base = |url: &str| base_of(url).map_err(|error| error.to_string());
        assert_eq!(base("http://h:8000/v1/").unwrap(), "http://h:8000/v1");
        assert_eq!(base("https://h/v1/chat/completions").unwrap(), "https://h/v1");
        insta::assert_snapshot!(base("localhost:8000").unwrap_err(), @"--judge openai:URL: expected the endpoint's base such as http://127.0.0.1:8000/v1, found `localhost:8000`");
        for secret in ["http://me:secret@h/v1", "https://h/v1?key=secret", "https://h/v1#secret"] {
            let message = base(secret).unwrap_err();
            assert!(!message.contains("secret"), "{message}");
        }
    }

    #[test]
    fn a_wait_is_read_in_seconds_or_as_a_date() {
        let wait = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", value.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(wait("2"), Some(Duration::from_secs(2)));
        assert_eq!(wait("0.25"), Some(Duration::from_millis(250)));
        assert_eq!(wait("soon"), None);
        assert_eq!(wait("-1"), None);
        let date = (Utc::now() + Duration::from_secs(90)).to_rfc2822().replace("+0000", "GMT");
        let seconds = wait(&date).unwrap().as_secs_f64();
        assert!((88.0..=90.0).contains(&seconds), "{date}: {seconds}");
    }

    #[test]
    fn what_an_endpoint_says_is_shown_on_one_line_and_not_for_long() {
        assert_eq!(excerpt("{\n  \"error\": 1\n}"), "{ \"error\": 1 }");
        assert_eq!(excerpt(" \n"), "nothing");
        assert_eq!(excerpt(&"word ".repeat(100)).chars().count(), 201);
    }
}
