//! Requests to an endpoint that speaks the OpenAI API, repeated until they are answered.
//!
//! Transient failures are tried again (a refused or broken connection, a timeout, the status 408, 409, 425,
//! 429 or 5xx, an answer that is cut or not JSON), after a wait that doubles or that the endpoint asks for in
//! `Retry-After`; in the latter case all threads wait. A failure of one request is a refusal of that request
//! ([`Refusal`]). Every other failure ends the work, and so does a page for people, or an answer without TLS to an
//! `https` address, as long as nothing was answered: the address is at fault then.

use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use flate2::read::MultiGzDecoder;
use serde_json::Value;
use ureq::http::HeaderMap;

use super::address::Address;
use super::connection::agent;
use super::refusal::{Kind, Refusal, excerpt, is_page};
use super::reply::{Other, Reply, reply_in};
use crate::config::JudgeSettings;
use crate::{Error, Result, interrupt, secrets};

/// What to do where nothing at the address is a chat API.
const CHECK_URL: &str = "check the URL, which ends in /v1 mostly";

/// Sends requests to one endpoint.
pub struct Client {
    agent: ureq::Agent,
    address: Address,
    key: Option<String>,
    settings: JudgeSettings,
    requests: AtomicUsize,
    /// Requests that were answered.
    answered: AtomicUsize,
    /// Requests in a row that were given up after all retries.
    given_up: AtomicUsize,
    /// Before this nobody sends anything.
    not_before: Mutex<Instant>,
    stopped: AtomicBool,
}

/// Why a request was not answered.
pub enum Failure {
    /// It is refused, and others may not be.
    Refused(Refusal),
    /// The endpoint gave it no answer, however often, and answered others.
    GivenUp(String),
    /// No other would be answered either.
    Ended(Error),
}

/// What came of one attempt.
enum Attempt {
    Answered(Reply),
    Refused(Refusal),
    /// It may be answered the next time, after what the endpoint asks to wait.
    Passing(Trouble, Option<Duration>),
    /// No request would be answered.
    Lasting(String),
}

/// What may pass.
struct Trouble {
    message: String,
    /// Whether the endpoint is there at all.
    is_reached: bool,
    /// Whether the answer was not there in time.
    is_late: bool,
}

impl Client {
    /// A client of the endpoint at `url`, its key from the environment.
    ///
    /// # Errors
    /// If `url`, the key, a file of certificates or a proxy cannot be used.
    pub fn new(url: &str, settings: &JudgeSettings) -> Result<Self> {
        let address = Address::parse(url)?;
        let key = std::env::var_os(&settings.key_variable);
        let key = key.map(|it| it.to_string_lossy().trim().to_owned()).filter(|it| !it.is_empty());
        key.iter().for_each(|it| secrets::keep(it));
        secrets::keep_fields(&settings.extra);
        check_key(&settings.key_variable, key.as_deref().unwrap_or_default())?;
        Ok(Self {
            agent: agent(&address, settings)?,
            address,
            key,
            settings: settings.clone(),
            requests: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            given_up: AtomicUsize::new(0),
            not_before: Mutex::new(Instant::now()),
            stopped: AtomicBool::new(false),
        })
    }

    /// The endpoint's address.
    pub fn address(&self) -> &Address {
        &self.address
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

    /// The reply to a chat request.
    ///
    /// # Errors
    /// If the endpoint refuses it, or does not answer after all retries.
    pub fn chat(&self, request: &Value) -> std::result::Result<Reply, Failure> {
        let body = request.to_string();
        let answered_before = self.answered.load(Ordering::SeqCst);
        let mut retries = 0;
        loop {
            self.wait().map_err(Failure::Ended)?;
            self.requests.fetch_add(1, Ordering::Relaxed);
            let (trouble, asked) = match self.attempt(&body) {
                Attempt::Answered(reply) => {
                    self.answered.fetch_add(1, Ordering::SeqCst);
                    self.given_up.store(0, Ordering::SeqCst);
                    return Ok(reply);
                }
                Attempt::Refused(refusal) => return Err(Failure::Refused(refusal)),
                Attempt::Lasting(why) => return Err(Failure::Ended(self.error(why))),
                Attempt::Passing(trouble, asked) => (trouble, asked),
            };
            let why = &trouble.message;
            let longest = Duration::from_secs_f64(self.settings.max_wait);
            if let Some(asked) = asked.filter(|asked| *asked > longest) {
                return Err(Failure::Ended(self.error(format!(
                    "{why}, and asks to wait {:.0} s; start the command again then (answers so far are \
                     kept), or raise judge.max_wait",
                    asked.as_secs_f64()
                ))));
            }
            if retries == self.settings.max_retries {
                let message = format!("{why}, {} times", retries + 1);
                return Err(self.give_up(Trouble { message, ..trouble }, answered_before));
            }
            let doubled = self.settings.first_wait * 2f64.powi(retries.min(60) as i32);
            let wait = Duration::from_secs_f64(doubled.min(self.settings.max_wait))
                .max(asked.unwrap_or_default());
            retries += 1;
            tracing::warn!(
                "{}: {why}; trying again in {:.1} s",
                self.address.base,
                wait.as_secs_f64()
            );
            self.hold(wait);
        }
    }

    /// What it means that a request was not answered after all retries: something about the request
    /// where others are answered meanwhile, or were until now.
    fn give_up(&self, trouble: Trouble, answered_before: usize) -> Failure {
        let Trouble { message: why, is_reached, is_late } = trouble;
        let is_first = self.given_up.fetch_add(1, Ordering::SeqCst) == 0;
        let are_others_answered = self.answered.load(Ordering::SeqCst) > answered_before;
        let was_any_answered = self.answered.load(Ordering::SeqCst) > 0;
        if is_reached && (are_others_answered || (is_first && was_any_answered)) {
            return Failure::GivenUp(why);
        }
        let raise = match is_late {
            true => {
                let doubled = (self.settings.timeout * 2.0).min(86_400.0);
                format!("raise the time, such as with --set judge.timeout={doubled}, and ")
            }
            false => String::new(),
        };
        let message =
            format!("{why}; {raise}start the command again to go on, answers so far are kept");
        Failure::Ended(self.error(message))
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

    fn attempt(&self, body: &str) -> Attempt {
        let mut request =
            self.agent.post(self.address.chat()).header("Content-Type", "application/json");
        if let Some(key) = &self.key {
            let (name, value) = match self.settings.key_header.as_str() {
                "auto" if self.address.has_version() => ("api-key", key.clone()),
                "auto" => ("Authorization", format!("Bearer {key}")),
                name if name.eq_ignore_ascii_case("authorization") => {
                    (name, format!("Bearer {key}"))
                }
                name => (name, key.clone()),
            };
            request = request.header(name, value);
        }
        let mut response = match request.send(body) {
            Ok(response) => response,
            Err(error) => return self.not_sent(&error),
        };
        let (status, asked) = (response.status(), retry_after(response.headers()));
        let kind = response.headers().get("content-type").and_then(|it| it.to_str().ok());
        let is_events = kind.is_some_and(|it| it.trim_start().starts_with("text/event-stream"));
        // Endpoints repeat the key; nobody behind this line sees it.
        let text = response.body_mut().read_to_vec().map(|body| {
            let text = decoded(body);
            secrets::without_keys(&text).into_owned()
        });
        if !status.is_success() {
            let location = status.is_redirection().then(|| location(response.headers())).flatten();
            let said = location.or(text.ok()).unwrap_or_default();
            return self.refused(Refusal::new(status.as_u16(), &said), &status.to_string(), asked);
        }
        let text = match text {
            Ok(text) => text,
            Err(error) => return self.not_sent(&error),
        };
        match reply_in(&text, is_events) {
            Ok(reply) => Attempt::Answered(reply.without_keys()),
            Err(Other::Error(error)) => {
                let refusal = Refusal::in_reply(&error);
                let status = format!("200 and the error {}", refusal.status);
                self.refused(refusal, &status, asked)
            }
            Err(Other::Unreadable) if is_page(&text) && self.is_never_answered() => {
                Attempt::Lasting(format!(
                    "answers with {}, where a reply in JSON is expected; {CHECK_URL}",
                    excerpt(&text)
                ))
            }
            Err(Other::Unreadable) => {
                Attempt::Passing(Trouble::of(format!("answers {}", excerpt(&text))), asked)
            }
        }
    }

    fn refused(&self, refusal: Refusal, status: &str, asked: Option<Duration>) -> Attempt {
        let Refusal { status: number, said, .. } = &refusal;
        match refusal.kind() {
            Kind::Passing => Attempt::Passing(
                Trouble::of(format!("answers with status {status} ({said})")),
                asked,
            ),
            Kind::Lasting => Attempt::Lasting(format!(
                "refuses with status {status} ({said}); {}",
                self.advice(*number, &refusal)
            )),
            Kind::Filter | Kind::TooLong | Kind::Unclear => Attempt::Refused(refusal),
        }
    }

    /// What to do where all requests are refused.
    fn advice(&self, status: u16, refusal: &Refusal) -> String {
        let variable = &self.settings.key_variable;
        match status {
            300..=399 => "give the URL that it points to".to_owned(),
            401 | 403 if self.key.is_some() => format!("check the key in {variable}"),
            401 | 403 => format!("put the key into {variable}"),
            402 | 429 => "check the account that the key belongs to".to_owned(),
            404 => format!(
                "{CHECK_URL}, and judge.model ({}); {}/models lists those that it has",
                self.settings.model, self.address.base
            ),
            405 => CHECK_URL.to_owned(),
            400 | 422 => format!(
                "check judge.model ({}); {}/models lists those that it has",
                self.settings.model, self.address.base
            ),
            _ => refusal.kind().advice().to_owned(),
        }
    }

    /// What it means that a request did not arrive, or its answer.
    fn not_sent(&self, error: &ureq::Error) -> Attempt {
        use ureq::Error::{BadUri, Http, InvalidProxyUrl, Pem, RequireHttpsOnly, Timeout, Tls};
        let said = error.to_string();
        // A certificate's faults arrive as text alone.
        if matches!(error, Tls(_) | Pem(_)) || said.contains("peer certificate") {
            let host = self.address.host().0;
            return Attempt::Lasting(format!(
                "its certificate is not trusted ({said}); name the file of the certificate that signed it \
                 in judge.ca_file or SSL_CERT_FILE, and see that it is one for {host}"
            ));
        }
        if said.contains("InvalidContentType") && self.is_never_answered() {
            return Attempt::Lasting(format!(
                "does not speak TLS ({said}); write http:// in place of https://"
            ));
        }
        match error {
            Timeout(_) => {
                let message = format!(
                    "gives no whole answer within judge.timeout ({} s)",
                    self.settings.timeout
                );
                Attempt::Passing(Trouble { is_late: true, ..Trouble::of(message) }, None)
            }
            BadUri(_) | Http(_) | InvalidProxyUrl | RequireHttpsOnly(_) => {
                Attempt::Lasting(format!("cannot be asked: {said}; check the URL and the key"))
            }
            _ => {
                let message = format!("does not answer ({said})");
                Attempt::Passing(Trouble { is_reached: false, ..Trouble::of(message) }, None)
            }
        }
    }

    /// Whether nothing was answered so far.
    fn is_never_answered(&self) -> bool {
        self.answered.load(Ordering::SeqCst) == 0
    }

    /// An error that names the endpoint.
    pub fn error(&self, message: String) -> Error {
        Error::file(&self.address.base, secrets::redact(&message))
    }
}

impl Trouble {
    /// Of an endpoint that is there.
    fn of(message: String) -> Self {
        Self { message, is_reached: true, is_late: false }
    }
}

/// Refuses a key that no header can hold. Of the key, only the character that is at fault is shown.
fn check_key(variable: &str, key: &str) -> Result<()> {
    match key.chars().zip(1..).find(|(c, _)| !matches!(c, ' '..='~')) {
        None => Ok(()),
        Some((found, place)) => Err(Error::usage(format!(
            "{variable}: expected a key of printable ASCII characters, found {found:?} as character {place}; \
             copy the key again, without quotes around it"
        ))),
    }
}

/// Where a reply says that the endpoint is.
fn location(headers: &HeaderMap) -> Option<String> {
    let location = headers.get("location")?;
    Some(format!("Location: {}", secrets::redact(&String::from_utf8_lossy(location.as_bytes()))))
}

/// The text of a body, which some send as gzip without having been asked to.
fn decoded(body: Vec<u8>) -> String {
    /// More than any answer has; what goes on behind it is left out.
    const LONGEST: u64 = 64 << 20;
    let mut unpacked = Vec::new();
    let is_gzip = body.starts_with(&[0x1f, 0x8b]);
    let mut reader = MultiGzDecoder::new(body.as_slice()).take(LONGEST);
    if is_gzip && reader.read_to_end(&mut unpacked).is_ok() {
        return String::from_utf8_lossy(&unpacked).into_owned();
    }
    String::from_utf8_lossy(&body).into_owned()
}

/// What the endpoint asks to wait: milliseconds, seconds, or until a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = |name: &str| Some(headers.get(name)?.to_str().ok()?.trim().to_owned());
    let milliseconds = value("retry-after-ms").and_then(|it| it.parse::<f64>().ok());
    if let Some(milliseconds) = milliseconds {
        return Duration::try_from_secs_f64(milliseconds / 1000.0).ok();
    }
    let value = value("retry-after")?;
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = DateTime::parse_from_rfc2822(&value).ok()?;
    (date.with_timezone(&Utc) - Utc::now()).to_std().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_wait_is_read_in_milliseconds_in_seconds_or_as_a_date() {
        let of = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            retry_after(&headers)
        };
        let wait = |value: &str| of("retry-after", value);
        assert_eq!(wait("2"), Some(Duration::from_secs(2)));
        assert_eq!(wait("0.25"), Some(Duration::from_millis(250)));
        assert_eq!(of("retry-after-ms", "250"), Some(Duration::from_millis(250)));
        assert_eq!(wait("soon"), None);
        assert_eq!(wait("-1"), None);
        let date = (Utc::now() + Duration::from_secs(90)).to_rfc2822().replace("+0000", "GMT");
        let seconds = wait(&date).unwrap().as_secs_f64();
        assert!((88.0..=90.0).contains(&seconds), "{date}: {seconds}");
    }

    #[test]
    fn a_key_that_no_header_can_hold_is_refused_by_the_name_of_its_variable() {
        let refusal = |key: &str| check_key("KEY", key).map_err(|it| it.to_string());
        assert_eq!(refusal("sk-~ !"), Ok(()));
        assert_eq!(refusal(""), Ok(()));
        insta::assert_snapshot!(refusal("“sk-x”").unwrap_err(), @"KEY: expected a key of printable ASCII characters, found '“' as character 1; copy the key again, without quotes around it");
        insta::assert_snapshot!(refusal("sk-x\ny").unwrap_err(), @r"KEY: expected a key of printable ASCII characters, found '\n' as character 5; copy the key again, without quotes around it");
    }

    #[test]
    fn a_body_is_unpacked_where_it_is_gzip() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"{}").unwrap();
        assert_eq!(decoded(packed.finish().unwrap()), "{}");
        assert_eq!(decoded(b"{}".to_vec()), "{}");
    }
}
