//! Models and data sets by their hub id, `owner/name[@revision]`, kept in the cache that Python's
//! `huggingface_hub` keeps.
//!
//! `HF_ENDPOINT`, `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN` and `HF_HUB_OFFLINE` mean what they mean
//! there. A file is in a snapshot whole or not at all; a download that was cut goes on where it was.

use std::path::{Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};

use crate::model::weights::{INDEX, SINGLE, shards};
use crate::progress::Progress;
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
        let revised = !revision.is_empty()
            && !revision.contains("..")
            && revision.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c));
        (word(owner) && word(model) && revised)
            .then(|| Self { name: name.to_owned(), revision: revision.to_owned() })
    }

    /// The folder with the model's files, fetched where they are not in the cache yet.
    ///
    /// # Errors
    /// If there is no such model, it may not be read, or the hub cannot be reached.
    pub fn folder(&self) -> Result<PathBuf> {
        self.fetched(&Wanted {
            what: "model",
            repo_type: RepoType::Model,
            is_read: &is_read,
            has_weights: true,
            marks_whole: &|file| ["config.json", "adapter_config.json"].contains(&file),
        })
    }

    /// The folder with those files of a data set that `is_read` wants, fetched where they are not in
    /// the cache yet.
    ///
    /// # Errors
    /// If there is no such data set, it may not be read, or the hub cannot be reached.
    pub fn dataset_folder(&self, is_read: &dyn Fn(&str) -> bool) -> Result<PathBuf> {
        self.fetched(&Wanted {
            what: "data set",
            repo_type: RepoType::Dataset,
            is_read,
            has_weights: false,
            marks_whole: is_read,
        })
    }

    fn fetched(&self, wanted: &Wanted) -> Result<PathBuf> {
        let place = Place::from_environment();
        let cached = place.cache.repo(self.repo(wanted));
        if let Some(whole) = self.cached(&cached, wanted).filter(|_| place.offline) {
            return Ok(whole);
        }
        if place.offline {
            return Err(self.error(format!(
                "expected it in {}, since HF_HUB_OFFLINE is set, found none; unset it, or give the \
                 {}'s folder",
                place.cache.path().display(),
                wanted.what,
            )));
        }
        let hub = Hub {
            id: self,
            wanted,
            api: place.api().map_err(|it| self.failed(it, &place, wanted))?,
            cached,
        };
        match hub.fetch() {
            Err(ApiError::RequestError(error)) if !answered(&error) => {
                match self.cached(&hub.cached, wanted) {
                    Some(folder) => {
                        tracing::warn!(
                            "{}: {error}; the copy in the cache is used",
                            place.endpoint
                        );
                        Ok(folder)
                    }
                    None => Err(self.failed(ApiError::RequestError(error), &place, wanted)),
                }
            }
            outcome => outcome.map_err(|error| self.failed(error, &place, wanted)),
        }
    }

    fn repo(&self, wanted: &Wanted) -> Repo {
        Repo::with_revision(self.name.clone(), wanted.repo_type, self.revision.clone())
    }

    /// The snapshot of the revision as it was last seen.
    fn cached(&self, cached: &CacheRepo, wanted: &Wanted) -> Option<PathBuf> {
        let is_whole = |folder: &PathBuf| has_file(folder, folder, wanted.marks_whole);
        // The file of no name is the snapshot's folder itself.
        let named = cached.get("").map(|it| it.components().collect()).filter(is_whole);
        // A commit has no reference of its own.
        named.or_else(|| Some(cached.pointer_path(&self.revision)).filter(is_whole))
    }

    fn error(&self, message: impl std::fmt::Display) -> Error {
        Error::file(format!("{}@{}", self.name, self.revision), message.to_string())
    }

    fn failed(&self, error: ApiError, place: &Place, wanted: &Wanted) -> Error {
        let (endpoint, what) = (&place.endpoint, wanted.what);
        let status = match &error {
            ApiError::RequestError(request) => match **request {
                ureq::Error::StatusCode(status) => status,
                _ => 0,
            },
            _ => 0,
        };
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
                error.to_string().replace('\n', " ")
            ),
        })
    }
}

/// What is wanted of a repository.
struct Wanted<'a> {
    /// In words.
    what: &'static str,
    repo_type: RepoType,
    /// The files, weights aside.
    is_read: &'a dyn Fn(&str) -> bool,
    /// Whether a model's weights are among them.
    has_weights: bool,
    /// A file without which a snapshot in the cache counts as none.
    marks_whole: &'a dyn Fn(&str) -> bool,
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
    cache: Cache,
    token: Option<String>,
    offline: bool,
}

impl Place {
    fn from_environment() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|it| !it.is_empty());
        let cache = variable("HF_HUB_CACHE")
            .map_or_else(Cache::from_env, |folder| Cache::new(PathBuf::from(folder)));
        Self {
            endpoint: variable("HF_ENDPOINT")
                .unwrap_or("https://huggingface.co".to_owned())
                .trim_end_matches('/')
                .to_owned(),
            token: variable("HF_TOKEN").or_else(|| cache.token()),
            cache,
            offline: variable("HF_HUB_OFFLINE")
                .is_some_and(|it| ["1", "true", "yes", "on"].contains(&it.to_lowercase().as_str())),
        }
    }

    fn api(&self) -> std::result::Result<Api, ApiError> {
        ApiBuilder::from_cache(self.cache.clone())
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_retries(2)
            .build()
    }
}

struct Hub<'a> {
    id: &'a HubId,
    wanted: &'a Wanted<'a>,
    api: Api,
    cached: CacheRepo,
}

impl Hub<'_> {
    fn fetch(&self) -> std::result::Result<PathBuf, ApiError> {
        let repo = self.api.repo(self.id.repo(self.wanted));
        let info = repo.info()?;
        let folder = self.cached.pointer_path(&info.sha);
        let there: Vec<&str> = info.siblings.iter().map(|it| it.rfilename.as_str()).collect();
        let fetch = |file: &str| {
            if folder.join(file).exists() {
                return Ok(());
            }
            tracing::info!("fetching {file} of {}@{}", self.id.name, self.id.revision);
            self.download(&repo, file)
        };
        for file in there.iter().filter(|it| (self.wanted.is_read)(it)) {
            fetch(file)?;
        }
        if self.wanted.has_weights {
            for file in weights(&there, &folder, &fetch)? {
                fetch(&file)?;
            }
        }
        self.cached.create_ref(&info.sha)?;
        tracing::info!("{}@{} is {}", self.id.name, self.id.revision, info.sha);
        Ok(folder)
    }

    fn download(
        &self,
        repo: &hf_hub::api::sync::ApiRepo,
        file: &str,
    ) -> std::result::Result<(), ApiError> {
        let metadata = self.api.metadata(&repo.url(file))?;
        let blob = self.cached.blob_path(metadata.etag());
        let part = blob.with_extension("part");
        let of = |path: &Path| path.metadata().map_or(0, |it| it.len());
        // Whole, but killed before it was named: asking for the rest of nothing is an error.
        if of(&part) >= metadata.size() as u64 {
            std::fs::remove_file(&part)?;
        }
        let pointer = repo.download_with_progress(file, Bytes::default())?;
        if of(&pointer) == metadata.size() as u64 {
            return Ok(());
        }
        // The connection ended early and nobody said so.
        std::fs::rename(&blob, &part)?;
        std::fs::remove_file(&pointer)?;
        Err(ApiError::IoError(std::io::Error::new(
            std::io::ErrorKind::UnexpectedEof,
            format!("{file}: expected {} bytes, found {}", metadata.size(), of(&part)),
        )))
    }
}

/// Whether a file of a model is one that this software, or whoever gets the model from it, reads;
/// weights aside.
fn is_read(file: &str) -> bool {
    ["config.json", ADAPTER].contains(&file) || crate::data::COMPANIONS.contains(&file)
}

/// The settings of a LoRA adapter, whose weights stand beside it.
const ADAPTER: &str = "adapter_config.json";

/// The files of a model's weights among those that are `there`: an adapter's, else the one file, else
/// those that the index names, which is fetched for it. Other copies of the weights stay away.
fn weights(
    there: &[&str],
    folder: &Path,
    fetch: &dyn Fn(&str) -> std::result::Result<(), ApiError>,
) -> std::result::Result<Vec<String>, ApiError> {
    let first = if there.contains(&ADAPTER) { "adapter_model.safetensors" } else { SINGLE };
    if there.contains(&first) {
        return Ok(vec![first.to_owned()]);
    }
    if !there.contains(&INDEX) || there.contains(&ADAPTER) {
        return Ok(Vec::new());
    }
    fetch(INDEX)?;
    // An index that cannot be read is named where the weights are.
    let named = shards(&folder.join(INDEX)).unwrap_or_default();
    Ok(named.into_iter().filter(|file| there.contains(&file.as_str())).collect())
}

/// A bar of the bytes of one file.
#[derive(Default)]
struct Bytes(Option<Progress>);

impl hf_hub::api::Progress for Bytes {
    fn init(&mut self, size: usize, file: &str) {
        self.0.get_or_insert_with(|| Progress::new(file, "bytes", 0, size));
    }

    fn update(&mut self, size: usize) {
        if let Some(progress) = &mut self.0 {
            progress.advance(size, "");
        }
    }

    fn finish(&mut self) {
        if let Some(progress) = self.0.take() {
            progress.finish();
        }
    }
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
        for no in
            ["name", "./name", "/owner/name", "a/b/c", "a/", "a/b@", "a/b@../x", "a b/c", "~/x"]
        {
            assert_eq!(id(no), None, "{no}");
        }
    }
}
