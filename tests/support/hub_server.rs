//! A server on loopback that speaks the hub's endpoints for one model or data set: its description,
//! its small files with ranges, its weights behind a redirect.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

pub const NAME: &str = "owner/tiny";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server has and how it behaves.
#[derive(Default)]
pub struct Behaviour {
    pub files: BTreeMap<String, Vec<u8>>,
    /// The token that is asked for.
    pub token: Option<String>,
    /// How often a connection ends in the middle of the weights.
    pub cuts: usize,
    /// The paths that were asked for.
    pub asked: Vec<String>,
    /// Answered in place of [`COMMIT`] in the description, and in the header of every file.
    pub sha: Option<String>,
    pub repo_commit: Option<String>,
    /// Answered as `ETag`.
    pub etag: Option<String>,
    /// Answered as `X-Linked-Etag` of files that lie elsewhere.
    pub linked_etag: Option<String>,
    /// Names of files that the description adds.
    pub named: Vec<String>,
    /// Where redirects lead to, if not to the endpoint.
    pub elsewhere: Option<String>,
    /// The host that was asked and the token that came, for each request.
    pub tokens: Vec<(String, Option<String>)>,
}

pub struct HubServer {
    pub endpoint: String,
    pub behaviour: Arc<Mutex<Behaviour>>,
}

impl HubServer {
    /// Serves the files of `folder` as a model and as a data set until the process ends.
    pub fn start(folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        collect(folder, folder, &mut files);
        let behaviour = Arc::new(Mutex::new(Behaviour { files, ..Behaviour::default() }));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (shared, own) = (behaviour.clone(), endpoint.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &own, &mut shared.lock().unwrap());
            }
        });
        Self { endpoint, behaviour }
    }
}

fn collect(root: &Path, folder: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.insert(name, std::fs::read(&path).unwrap());
        }
    }
}

fn answer(mut stream: TcpStream, endpoint: &str, behaviour: &mut Behaviour) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    let headers: BTreeMap<String, String> = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            let (name, value) = line.split_once(':')?;
            Some((name.to_lowercase(), value.trim().to_owned()))
        })
        .collect();
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    behaviour.asked.push(path.clone());
    let mut reply = |status: &str, headers: &str, body: &[u8], sent: usize| {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n",
            body.len()
        );
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body[..sent]));
    };
    let of = |name: &str| headers.get(name).cloned();
    behaviour.tokens.push((of("host").unwrap_or_default(), of("authorization")));
    let expected = behaviour.token.as_ref().map(|token| format!("Bearer {token}"));
    let is_stored = path.starts_with("/lfs/");
    if !is_stored && expected.is_some() && headers.get("authorization") != expected.as_ref() {
        return reply("401 Unauthorized", "", b"", 0);
    }
    let revisions = ["main", "v1", COMMIT];
    for revision in revisions {
        let described = |kind: &str| path == format!("/api/{kind}/{NAME}/revision/{revision}");
        if described("models") || described("datasets") {
            let names = behaviour.files.keys().chain(&behaviour.named);
            let siblings: Vec<_> = names.map(|it| serde_json::json!({ "rfilename": it })).collect();
            let sha = behaviour.sha.as_deref().unwrap_or(COMMIT);
            let body = serde_json::json!({ "sha": sha, "siblings": siblings }).to_string();
            return reply("200 OK", "", body.as_bytes(), body.len());
        }
    }
    let of_model = path.strip_prefix("/datasets").unwrap_or(&path);
    let named =
        revisions.iter().find_map(|it| of_model.strip_prefix(&format!("/{NAME}/resolve/{it}/")));
    let resolved = named.is_some();
    let file = named.or(path.strip_prefix("/lfs/")).unwrap_or_default();
    let Some(content) = behaviour.files.get(file) else {
        return reply("404 Not Found", "", b"", 0);
    };
    let named = format!("etag-of-{}", file.replace(['.', '/'], "-"));
    let etag = behaviour.etag.as_ref().unwrap_or(&named);
    let commit = behaviour.repo_commit.as_deref().unwrap_or(COMMIT);
    let mut about = format!("X-Repo-Commit: {commit}\r\nETag: \"{etag}\"\r\n");
    if resolved && file.ends_with(".safetensors") {
        let linked = behaviour.linked_etag.as_ref().unwrap_or(&named);
        let to = behaviour.elsewhere.as_deref().unwrap_or(endpoint);
        about += &format!("X-Linked-Etag: \"{linked}\"\r\nLocation: {to}/lfs/{file}\r\n");
        return reply("302 Found", &about, b"", 0);
    }
    let range = headers.get("range").and_then(|it| it.strip_prefix("bytes=")?.split_once('-'));
    let (start, end) = range.unwrap_or(("0", ""));
    let start: usize = start.parse().unwrap();
    let end = end.parse().map_or(content.len(), |end: usize| end + 1);
    if start >= content.len() {
        return reply("416 Range Not Satisfiable", "", b"", 0);
    }
    about += &format!("Content-Range: bytes {start}-{}/{}\r\n", end - 1, content.len());
    let body = &content[start..end];
    let cut = behaviour.cuts > 0 && path.starts_with("/lfs/") && body.len() > 1;
    behaviour.cuts -= usize::from(cut);
    reply("206 Partial Content", &about, body, if cut { body.len() / 2 } else { body.len() });
}
