//! Requests to a hub. The token goes to the hub alone, and to no host that the hub redirects to.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use ureq::Agent;
use ureq::config::RedirectAuthHeaders;
use ureq::http::Response;

use super::answers::{Commit, Etag, FileName};
use crate::progress::Progress;
use crate::secrets::percent_encoded;
use crate::{Error, interrupt};

/// Redirects within the hub that are followed to what it says of a file.
const MOST_REDIRECTS: usize = 5;
/// Times that a download is tried again at once.
const RETRIES: u64 = 2;
/// Bytes of a description.
const LONGEST_DESCRIPTION: u64 = 64 << 20;

/// Why nothing was fetched.
pub enum Failure {
    /// The hub was not reached, or answers with an error.
    Request(Box<ureq::Error>),
    /// The hub answers what cannot be followed.
    Answer(String),
    /// A file cannot be written, or the user wants to stop.
    Own(Error),
}

impl From<ureq::Error> for Failure {
    fn from(error: ureq::Error) -> Self {
        Self::Request(Box::new(error))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Own(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Request(error) => error.fmt(f),
            Self::Answer(message) => f.write_str(message),
            Self::Own(error) => error.fmt(f),
        }
    }
}

/// The result of a request.
pub type Fetched<T> = std::result::Result<T, Failure>;

/// A revision of a repository.
pub struct Described {
    pub commit: Commit,
    /// The names of its files, as they were answered.
    pub files: Vec<String>,
}

/// What the hub says of a file.
pub struct About {
    pub etag: Etag,
    pub size: u64,
}

/// Asks one hub about one repository.
pub struct Client {
    endpoint: String,
    /// The repository within addresses: `owner/name`, `datasets/owner/name`.
    repository: String,
    token: Option<String>,
    following: Agent,
    direct: Agent,
}

impl Client {
    pub fn new(endpoint: &str, repository: String, token: Option<String>) -> Self {
        let config = || {
            Agent::config_builder()
                .redirect_auth_headers(RedirectAuthHeaders::SameHost)
                .timeout_connect(Some(Duration::from_secs(30)))
                .timeout_recv_response(Some(Duration::from_secs(120)))
        };
        Self {
            endpoint: endpoint.to_owned(),
            repository,
            token,
            following: config().build().new_agent(),
            direct: config().max_redirects(0).max_redirects_will_error(false).build().new_agent(),
        }
    }

    /// Which commit a revision is, and which files are in it. `kind` is `models` or `datasets`.
    pub fn described(&self, kind: &str, name: &str, revision: &str) -> Fetched<Described> {
        #[derive(Deserialize)]
        struct Answer {
            sha: String,
            #[serde(default)]
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let revision = percent_encoded(revision);
        let url = format!("{}/api/{kind}/{name}/revision/{revision}", self.endpoint);
        let mut response = self.get(&self.following, &url, None)?;
        let body = response.body_mut().with_config().limit(LONGEST_DESCRIPTION).read_to_vec()?;
        let answer: Answer = serde_json::from_slice(&body).map_err(|error| {
            Failure::Answer(format!(
                "expected a description in JSON, found something else ({error})"
            ))
        })?;
        let commit = Commit::parse(&answer.sha).ok_or_else(|| {
            hostile("the commit", &answer.sha, "expected hexadecimal digits (`sha`)")
        })?;
        let files = answer.siblings.into_iter().map(|it| it.rfilename).collect();
        Ok(Described { commit, files })
    }

    /// The address of a file in a commit.
    pub fn url(&self, commit: &Commit, name: &FileName) -> String {
        let name: Vec<String> = name.as_str().split('/').map(percent_encoded).collect();
        format!(
            "{}/{}/resolve/{}/{}",
            self.endpoint,
            self.repository,
            commit.as_str(),
            name.join("/")
        )
    }

    /// What the hub says of the file at `url`, which is one of `commit`.
    pub fn about(&self, url: &str, commit: &Commit) -> Fetched<About> {
        const FIRST_BYTE: &str = "bytes=0-0";
        let mut response = self.get(&self.direct, url, Some(FIRST_BYTE))?;
        for _ in 0..MOST_REDIRECTS {
            let location = header(&response, "location").filter(|_| is_redirect(&response));
            let Some(within) = location.filter(|it| it.starts_with('/') && !it.starts_with("//"))
            else {
                break;
            };
            let next = format!("{}{within}", self.origin());
            response = self.get(&self.direct, &next, Some(FIRST_BYTE))?;
        }
        let etag = header(&response, "x-linked-etag").or_else(|| header(&response, "etag"));
        let etag = etag.ok_or_else(|| lacks("etag"))?;
        let etag = Etag::parse(&etag).ok_or_else(|| {
            hostile("the etag", &etag, "expected letters, digits, `-` and `_` alone")
        })?;
        if let Some(said) = header(&response, "x-repo-commit") {
            let said = Commit::parse(&said).ok_or_else(|| {
                hostile("the commit", &said, "expected hexadecimal digits (`x-repo-commit`)")
            })?;
            if !said.as_str().eq_ignore_ascii_case(commit.as_str()) {
                return Err(Failure::Answer(format!(
                    "expected a file of the commit {}, found one of {}",
                    commit.as_str(),
                    said.as_str()
                )));
            }
        }
        if is_redirect(&response) {
            let location = header(&response, "location").ok_or_else(|| lacks("location"))?;
            response = self.get(&self.following, &location, Some(FIRST_BYTE))?;
        }
        let range = header(&response, "content-range").ok_or_else(|| lacks("content-range"))?;
        let size = range.rsplit('/').next().and_then(|it| it.trim().parse().ok());
        let size = size.ok_or_else(|| {
            hostile("the content-range", &range, "expected a number of bytes at its end")
        })?;
        Ok(About { etag, size })
    }

    /// Appends to `part` what it lacks of the `size` bytes at `url`; tried again where a connection
    /// ends early.
    pub fn download(&self, url: &str, size: u64, part: &Path, bar: &mut Progress) -> Fetched<()> {
        let mut tried = 0;
        loop {
            match self.append(url, size, part, bar) {
                Err(error @ (Failure::Request(_) | Failure::Answer(_))) if tried == RETRIES => {
                    return Err(Failure::Answer(format!("Too many retries: {error}")));
                }
                Err(Failure::Request(_) | Failure::Answer(_)) => {
                    tried += 1;
                    std::thread::sleep(Duration::from_millis(300 * tried));
                }
                outcome => return outcome,
            }
        }
    }

    fn append(&self, url: &str, size: u64, part: &Path, bar: &mut Progress) -> Fetched<()> {
        const BLOCK: usize = 1 << 16;
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(part)
            .map_err(Error::io(part, "write"))?;
        let mut there = file.metadata().map_err(Error::io(part, "read"))?.len();
        if there >= size && size > 0 {
            return Ok(());
        }
        let range = format!("bytes={there}-");
        let mut response = self.get(
            &self.following,
            url,
            Some(&range).filter(|_| size > 0).map(|it| it.as_str()),
        )?;
        if there > 0 && response.status() != 206 {
            // All of it, from the beginning.
            file.set_len(0).map_err(Error::io(part, "write"))?;
            there = 0;
        }
        let mut body = response.body_mut().as_reader();
        let mut block = vec![0; BLOCK];
        loop {
            interrupt::check()?;
            let count = body.read(&mut block).map_err(ureq::Error::from)?;
            if count == 0 {
                break;
            }
            there += count as u64;
            if there > size {
                return Err(Failure::Own(Error::file(
                    part,
                    format!(
                        "expected {size} bytes, found more; check HF_ENDPOINT, and remove the file"
                    ),
                )));
            }
            file.write_all(&block[..count]).map_err(Error::io(part, "write"))?;
            bar.advance(count, "");
        }
        match there == size {
            true => Ok(()),
            // The connection ended early and nobody said so.
            false => Err(Failure::Answer(format!("expected {size} bytes, found {there}"))),
        }
    }

    fn get(&self, agent: &Agent, url: &str, range: Option<&str>) -> Fetched<Response<ureq::Body>> {
        let mut request = agent.get(url);
        if let Some(range) = range {
            request = request.header("Range", range);
        }
        let rest = url.strip_prefix(self.origin());
        let is_own = rest.is_some_and(|it| it.is_empty() || it.starts_with(['/', '?', '#']));
        if let Some(token) = self.token.as_ref().filter(|_| is_own) {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        Ok(request.call()?)
    }

    /// The hub's scheme and host.
    fn origin(&self) -> &str {
        let host = self.endpoint.find("://").map_or(0, |it| it + 3);
        let end = self.endpoint[host..].find('/').map_or(self.endpoint.len(), |it| host + it);
        &self.endpoint[..end]
    }
}

fn header(response: &Response<ureq::Body>, name: &str) -> Option<String> {
    let value = response.headers().get(name)?;
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn is_redirect(response: &Response<ureq::Body>) -> bool {
    matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn lacks(header: &str) -> Failure {
    Failure::Answer(format!("expected an answer with the header `{header}`, found none"))
}

/// Why an answer that would lead out of the cache is refused.
pub fn hostile(what: &str, found: &str, expected: &str) -> Failure {
    Failure::Answer(format!("{what} is {found:?}, {expected}; nothing was written"))
}
