//! Models and data sets by their hub id, `owner/name[@revision]`, in the cache of Python's `huggingface_hub`.
//!
//! `HF_ENDPOINT`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_TOKEN_PATH` and
//! `HF_HUB_OFFLINE` have the same meaning as in `huggingface_hub`. A file is in a snapshot whole or not at
//! all; an interrupted download continues where it was.
//!
//! The reader of the files says which of them it wants ([`Wanted`]).

mod answers;
mod cache;
mod client;

use std::path::{Path, PathBuf};

use self::answers::{Commit, FileName};
use self::cache::Cached;
use self::client::{Client, Failure, Fetched, hostile};
use crate::progress::Progress;
use crate::secrets::{self, redact};
use crate::{Error, Result};

/// A model or a data set on the hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubId {
    /// `owner/name`.
    pub name: String,
    /// A branch, a tag or a commit.
    pub revision: String,
}

impl HubId {
    /// Reads `owner/name` or `owner/name@revision`; none if the text is no hub id.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        let (owner, model) = name.split_once('/')?;
        let word = |it: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            !it.is_empty() && !it.starts_with(['.', '-']) && it.chars().all(allowed)
        };
        // A reference is a file of its name.
        let revised = FileName::parse(revision).is_some()
            && !revision.contains("..")
            && revision.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        (word(owner) && word(model) && revised)
            .then(|| Self { name: name.to_owned(), revision: revision.to_owned() })
    }

    /// The folder with the files that are wanted, fetched where they are not in the cache yet.
    ///
    /// # Errors
    /// If there is no such repository, it may not be read, or the hub cannot be reached.
    pub fn folder(&self, wanted: &Wanted<'_>) -> Result<PathBuf> {
        let place = Place::from_environment();
        let folder = format!("{}--{}", wanted.kind.in_addresses(), self.name.replace('/', "--"));
        let cached = Cached::new(&place.cache, &folder, &self.revision);
        if let Some(whole) = self.cached(&cached, wanted).filter(|_| place.offline) {
            return cached.check_snapshot(&whole).map(|()| whole);
        }
        if place.offline {
            return Err(self.error(format!(
                "expected it in {}, since HF_HUB_OFFLINE is set, found none; unset it, or give the \
                 {}'s folder",
                place.cache.display(),
                wanted.kind.in_words(),
            )));
        }
        let client = Client::new(
            &place.endpoint,
            wanted.kind.within_addresses(&self.name),
            place.token.clone(),
        );
        let folder = match (Hub { id: self, wanted, client, cached: &cached }).fetch() {
            Err(Failure::Request(error)) if !answered(&error) => {
                let Some(folder) = self.cached(&cached, wanted) else {
                    return Err(self.failed(Failure::Request(error), &place, wanted));
                };
                tracing::warn!("{}: {error}; the copy in the cache is used", place.shown());
                folder
            }
            outcome => outcome.map_err(|error| self.failed(error, &place, wanted))?,
        };
        cached.check_snapshot(&folder)?;
        Ok(folder)
    }

    /// The snapshot of the revision as it was last seen.
    fn cached(&self, cached: &Cached, wanted: &Wanted<'_>) -> Option<PathBuf> {
        let folder = cached.snapshot(&cached.last_seen()?);
        has_file(&folder, &folder, wanted.marks_whole).then_some(folder)
    }

    fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::file(format!("{}@{}", self.name, self.revision), message.to_string())
    }

    fn failed(&self, error: Failure, place: &Place, wanted: &Wanted<'_>) -> Error {
        let (endpoint, what) = (place.shown(), wanted.kind.in_words());
        let status = match &error {
            Failure::Request(request) => match **request {
                ureq::Error::StatusCode(status) => status,
                _ => 0,
            },
            _ => 0,
        };
        if let Failure::Own(error) = error {
            return error;
        }
        self.error(match status {
            401 | 403 if place.token.is_some() => format!(
                "{endpoint} does not let the owner of HF_TOKEN read it (status {status}); accept the \
                 {what}'s licence there, or check the id"
            ),
            401 | 403 => format!(
                "{endpoint} lets nobody read it without a token (status {status}); set HF_TOKEN, or \
                 check the id"
            ),
            404 => format!(
                "expected a {what} of this name and revision on {endpoint}, found none; check both, \
                 and set HF_TOKEN if it is private"
            ),
            _ => format!(
                "cannot be fetched from {endpoint}: {}; start the command again to go on, or give \
                 the {what}'s folder",
                redact(&error.to_string()).replace('\n', " ")
            ),
        })
    }
}

/// A kind of repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A model.
    Model,
    /// A data set.
    DataSet,
}

impl Kind {
    fn in_words(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::DataSet => "data set",
        }
    }

    fn in_addresses(self) -> &'static str {
        match self {
            Self::Model => "models",
            Self::DataSet => "datasets",
        }
    }

    /// A repository in addresses of files.
    fn within_addresses(self, name: &str) -> String {
        match self {
            Self::Model => name.to_owned(),
            Self::DataSet => format!("datasets/{name}"),
        }
    }
}

/// What is wanted of a repository.
pub struct Wanted<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Names the files to fetch among those there are. Asked again with the folder of what was
    /// fetched until it names no other, so that a fetched file may name more.
    pub files: &'a dyn Fn(&[&str], &Path) -> Vec<String>,
    /// Whether a file is one without which a copy in the cache counts as none.
    pub marks_whole: &'a dyn Fn(&str) -> bool,
}

/// Whether there is a file below `folder` whose path from `root` on is one that is looked for.
fn has_file(root: &Path, folder: &Path, is_it: &dyn Fn(&str) -> bool) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.flatten().map(|it| it.path()).any(|path| match path.strip_prefix(root) {
        _ if path.is_dir() => has_file(root, &path, is_it),
        Ok(name) => is_it(&name.to_string_lossy()),
        Err(_) => false,
    })
}

/// Whether the hub said something, and be it no.
fn answered(error: &ureq::Error) -> bool {
    matches!(error, ureq::Error::StatusCode(_))
}

/// Where models come from and where they are kept.
struct Place {
    endpoint: String,
    cache: PathBuf,
    token: Option<String>,
    offline: bool,
}

impl Place {
    fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|it| !it.is_empty());
        let folder =
            |name: &str| std::env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
        let caches = || {
            let of_user = || std::env::home_dir().unwrap_or_default().join(".cache");
            folder("XDG_CACHE_HOME").unwrap_or_else(of_user)
        };
        let home = folder("HF_HOME").unwrap_or_else(|| caches().join("huggingface"));
        let cache = folder("HF_HUB_CACHE").unwrap_or_else(|| home.join("hub"));
        // Where `hf auth login` puts it.
        let token_file = folder("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let logged_in = || std::fs::read_to_string(token_file).ok();
        let token = variable("HF_TOKEN").or_else(logged_in).map(|it| it.trim().to_owned());
        let token = token.filter(|it| !it.is_empty());
        if let Some(token) = &token {
            secrets::keep(token);
        }
        let endpoint = variable("HF_ENDPOINT").unwrap_or("https://huggingface.co".to_owned());
        secrets::keep_user(&endpoint);
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token,
            cache,
            offline: variable("HF_HUB_OFFLINE")
                .is_some_and(|it| ["1", "true", "yes", "on"].contains(&it.to_lowercase().as_str())),
        }
    }

    /// The endpoint without a user and a password.
    fn shown(&self) -> String {
        redact(&self.endpoint)
    }
}

struct Hub<'a> {
    id: &'a HubId,
    wanted: &'a Wanted<'a>,
    client: Client,
    cached: &'a Cached,
}

impl Hub<'_> {
    fn fetch(&self) -> Fetched<PathBuf> {
        let HubId { name, revision } = self.id;
        let described = self.client.described(self.wanted.kind.in_addresses(), name, revision)?;
        let commit = &described.commit;
        let folder = self.cached.snapshot(commit);
        let there: Vec<&str> = described.files.iter().map(String::as_str).collect();
        let mut fetched: Vec<String> = Vec::new();
        loop {
            let mut files = (self.wanted.files)(&there, &folder);
            files.retain(|file| !fetched.contains(file));
            if files.is_empty() {
                break;
            }
            // All names before anything is written.
            for file in files.iter().map(|it| file_name(it)).collect::<Fetched<Vec<_>>>()? {
                if !folder.join(file.as_str()).exists() {
                    tracing::info!("fetching {} of {name}@{revision}", file.as_str());
                    self.download(commit, &file)?;
                }
            }
            fetched.extend(files);
        }
        self.cached.note(commit)?;
        tracing::info!("{name}@{revision} is {}", commit.as_str());
        Ok(folder)
    }

    fn download(&self, commit: &Commit, file: &FileName) -> Fetched<()> {
        let url = self.client.url(commit, file);
        let about = self.client.about(&url, commit)?;
        let blob = self.cached.blob(&about.etag)?;
        let _lock = self.cached.lock(&blob)?;
        cache::remove_link(&blob)?;
        let size_of = |path: &Path| path.metadata().ok().map(|it| it.len());
        if size_of(&blob) != Some(about.size) {
            let part = blob.with_extension("part");
            cache::remove_link(&part)?;
            let there = size_of(&part).unwrap_or(0);
            if there > about.size {
                std::fs::remove_file(&part).map_err(Error::io(&part, "remove"))?;
            }
            let (done, all) = (there.min(about.size) as usize, about.size as usize);
            let mut bar = Progress::new(file.as_str(), "bytes", done, all);
            let outcome = self.client.download(&url, about.size, &part, &mut bar);
            bar.finish();
            outcome?;
            crate::files::sync_file(&part)?;
            crate::files::rename(&part, &blob)?;
        }
        Ok(self.cached.link(&blob, commit, file)?)
    }
}

fn file_name(text: &str) -> Fetched<FileName> {
    let expected = "expected a path that leads nowhere but below the repository";
    FileName::parse(text).ok_or_else(|| hostile("the name of a file", text, expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_an_owner_a_name_and_perhaps_a_revision() {
        let id = |text: &str| HubId::parse(text).map(|it| (it.name, it.revision));
        let some = |name: &str, revision: &str| Some((name.to_owned(), revision.to_owned()));
        assert_eq!(id("owner/My-Model_1.5"), some("owner/My-Model_1.5", "main"));
        assert_eq!(id("owner/name@refs/pr/1"), some("owner/name", "refs/pr/1"));
        for no in [
            "name",
            "./name",
            "/owner/name",
            "a/b/c",
            "a/",
            "a/b@",
            "a/b@../x",
            "a b/c",
            "~/x",
            "a/b@/etc",
            "a/b@x//y",
            "a/b@./x",
        ] {
            assert_eq!(id(no), None, "{no}");
        }
    }
}
