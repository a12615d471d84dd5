//! A server on loopback that speaks the chat part of the OpenAI API as a judge would, and misbehaves
//! in every way that is asked of it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

/// What is wrong with the reply to one request.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// The connection ends without a word.
    Hangup,
    /// The reply comes after so long.
    Slow(Duration),
    /// A status and its `Retry-After`.
    Status(&'static str, Option<&'static str>),
    /// The body ends early.
    Cut,
    /// A page for people.
    NotJson,
    /// An answer that holds no verdict.
    NoVerdict,
    /// A refusal that repeats the key.
    WrongKey,
}

/// Whom the judge prefers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Taste {
    /// The longer answer.
    #[default]
    Longer,
    /// The answer shown first.
    First,
    /// Nobody, and it does not say so.
    Silent,
}

/// A reply made by a test.
pub struct Reply {
    pub status: &'static str,
    /// Headers, each with its line end.
    pub headers: &'static str,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn new(status: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: "Content-Type: application/json\r\n", body: body.into() }
    }
}

/// What a test answers to a request; none where the judge's own answer will do.
pub type Answer = Box<dyn Fn(&Value) -> Option<Reply> + Send>;

#[derive(Default)]
pub struct State {
    pub answer: Option<Answer>,
    pub taste: Taste,
    /// Faults of the next requests, in order.
    pub faults: VecDeque<Fault>,
    /// Questions by their text: how often they came.
    pub asked: HashMap<String, usize>,
    /// When each request came.
    pub times: Vec<Instant>,
    /// The values of `Authorization` that came.
    pub keys: Vec<Option<String>>,
    /// All headers that came, and the paths with their queries.
    pub headers: Vec<BTreeMap<String, String>>,
    pub paths: Vec<String>,
    /// Bodies of the requests.
    pub requests: Vec<Value>,
    /// So many are answered; the others wait until this is raised.
    pub answer_at_most: Option<usize>,
    pub answered: usize,
    pub waiting: usize,
}

pub struct JudgeServer {
    pub url: String,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl JudgeServer {
    pub fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    /// Serves until the process ends.
    pub fn on(listener: TcpListener) -> Self {
        Self::serve(listener, None)
    }

    /// Serves through TLS with a certificate in PEM, all with the one key there is.
    pub fn with_certificate(certificate: &[u8]) -> Self {
        let key = include_bytes!("certificates/server.key.pem");
        let chain = vec![CertificateDer::from_pem_slice(certificate).unwrap()];
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, PrivateKeyDer::from_pem_slice(key).unwrap())
            .unwrap();
        Self::serve(TcpListener::bind("127.0.0.1:0").unwrap(), Some(Arc::new(config)))
    }

    fn serve(listener: TcpListener, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/v1", listener.local_addr().unwrap());
        let shared = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let own = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, shared, tls) = (stream.unwrap(), own.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    None => reply(stream, &shared),
                    Some(config) => {
                        let connection = rustls::ServerConnection::new(config).unwrap();
                        reply(rustls::StreamOwned::new(connection, stream), &shared);
                    }
                });
            }
        });
        Self { url, shared }
    }

    /// Looks at the state, or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        let result = look(&mut self.shared.0.lock().unwrap());
        self.shared.1.notify_all();
        result
    }

    pub fn num_requests(&self) -> usize {
        self.with(|state| state.times.len())
    }

    /// Waits until `holds`.
    pub fn until(&self, holds: impl Fn(&State) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.with(|state| holds(state)) {
            assert!(Instant::now() < deadline, "it never happens");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn reply(mut stream: impl Read + Write, shared: &(Mutex<State>, Condvar)) {
    let received = request(&mut BufReader::new(&mut stream));
    let Some((path, headers, body)) = received else { return };
    let question = body["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
    let (fault, taste) = {
        let mut state = shared.0.lock().unwrap();
        state.times.push(Instant::now());
        state.keys.push(headers.get("authorization").cloned());
        state.headers.push(headers.clone());
        state.paths.push(path.clone());
        state.requests.push(body.clone());
        *state.asked.entry(question.clone()).or_default() += 1;
        state.waiting += 1;
        let held = |state: &mut State| state.answer_at_most.is_some_and(|it| state.answered >= it);
        let mut state = shared.1.wait_while(state, held).unwrap();
        state.waiting -= 1;
        state.answered += 1;
        let own = state.answer.as_ref().and_then(|answer| answer(&body));
        if let Some(Reply { status, headers, body }) = own {
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}Connection: close\r\n\r\n",
                body.len()
            );
            drop(state);
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
            return;
        }
        (state.faults.pop_front(), state.taste)
    };
    let mut send = |status: &str, more: &str, body: &str, sent: usize| {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{more}Connection: close\r\n\r\n",
            body.len()
        );
        let _ = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(&body.as_bytes()[..sent]));
    };
    let said = |text: &str| {
        json!({
            "choices": [{ "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110 },
        })
        .to_string()
    };
    if path.split('?').next() != Some("/v1/chat/completions") {
        return send("404 Not Found", "", "{}", 2);
    }
    let answer = said(&verdict(taste, &question));
    match fault {
        None => send("200 OK", "", &answer, answer.len()),
        Some(Fault::Hangup) => {}
        Some(Fault::Slow(time)) => {
            std::thread::sleep(time);
            send("200 OK", "", &answer, answer.len());
        }
        Some(Fault::Status(status, after)) => {
            let more = after.map_or(String::new(), |it| format!("Retry-After: {it}\r\n"));
            send(status, &more, "{\"error\": \"not now\"}", 20);
        }
        Some(Fault::Cut) => send("200 OK", "", &answer, answer.len() / 2),
        Some(Fault::NotJson) => send("200 OK", "", "<html>busy</html>", 17),
        Some(Fault::NoVerdict) => {
            let answer = said("Both have their merits.");
            send("200 OK", "", &answer, answer.len());
        }
        Some(Fault::WrongKey) => {
            let key = headers.get("authorization").cloned().unwrap_or_default();
            let body = json!({ "error": format!("incorrect key: {key}") }).to_string();
            send("401 Unauthorized", "", &body, body.len());
        }
    }
}

/// Path, headers and body of a request.
fn request(reader: &mut impl BufRead) -> Option<(String, BTreeMap<String, String>, Value)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some((path, headers, serde_json::from_slice(&body).ok()?))
}

/// What a judge that takes the longer answer says to a request.
pub fn verdict_on(request: &Value) -> String {
    verdict(Taste::Longer, request["messages"][0]["content"].as_str().unwrap_or_default())
}

fn verdict(taste: Taste, question: &str) -> String {
    let shown = |letter: char| {
        let (_, after) = question.split_once(&format!("_{letter}>\n"))?;
        Some(after.split_once("\n</")?.0.len())
    };
    match (taste, shown('a'), shown('b')) {
        (Taste::Silent, ..) | (_, None, _) | (_, _, None) => "Who can tell?".to_owned(),
        (Taste::First, ..) => "The first convinces.\nVerdict: A".to_owned(),
        (_, Some(a), Some(b)) if a == b => "Both are as long.\nVerdict: tie".to_owned(),
        (_, Some(a), Some(b)) => {
            format!("One says more.\n**Verdict:** {}", if a > b { "A" } else { "B" })
        }
    }
}
