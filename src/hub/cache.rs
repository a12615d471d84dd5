//! The folder of a repository in the cache, laid out as `huggingface_hub` lays it out: `refs` holds the
//! commit of each revision; `snapshots` holds one folder a commit, with links to `blobs`.
//!
//! Nothing is read or written through a link that leads out of the repository's folder.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::answers::{Commit, Etag, FileName};
use crate::files::create_dir;
use crate::{Error, Result, interrupt};

/// A repository in the cache.
#[derive(Clone, Debug)]
pub struct Cached {
    folder: PathBuf,
    revision: String,
}

impl Cached {
    /// The folder `name` of a cache, for one revision; neither need be there.
    pub fn new(cache: &Path, name: &str, revision: &str) -> Self {
        Self { folder: cache.join(name), revision: revision.to_owned() }
    }

    /// The folder of a commit.
    pub fn snapshot(&self, commit: &Commit) -> PathBuf {
        self.folder.join("snapshots").join(commit.as_str())
    }

    /// The commit that the revision was when it was last seen; a commit has no reference of its own.
    pub fn last_seen(&self) -> Option<Commit> {
        let noted = std::fs::read_to_string(self.reference()).ok();
        Commit::parse(noted.as_deref().unwrap_or(&self.revision).trim())
    }

    /// Notes which commit the revision is.
    pub fn note(&self, commit: &Commit) -> Result<()> {
        let path = self.reference();
        let folder = path.parent().unwrap_or(&self.folder);
        self.create(folder)?;
        // The name is replaced, so that nothing is written through a link in its place.
        crate::files::sweep_stale(folder);
        let mut file = crate::files::temporary(&path)?;
        file.write_all(commit.as_str().as_bytes()).map_err(Error::io(&path, "write"))?;
        crate::files::persist(file, &path)
    }

    fn reference(&self) -> PathBuf {
        self.folder.join("refs").join(&self.revision)
    }

    /// Where the content called `etag` is, or is to be.
    pub fn blob(&self, etag: &Etag) -> Result<PathBuf> {
        let blobs = self.folder.join("blobs");
        self.create(&blobs)?;
        Ok(blobs.join(etag.as_str()))
    }

    /// Keeps other processes from fetching the same content, until the file is dropped.
    pub fn lock(&self, blob: &Path) -> Result<File> {
        let path = blob.with_extension("lock");
        remove_link(&path)?;
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(Error::io(&path, "create"))?;
        let mut told = false;
        while !crate::files::try_lock(&file, &path) {
            if !told {
                tracing::info!("another process fetches {}; waiting for it", blob.display());
                told = true;
            }
            interrupt::check()?;
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(file)
    }

    /// Gives content its name in the snapshot of a commit.
    pub fn link(&self, blob: &Path, commit: &Commit, name: &FileName) -> Result<()> {
        let pointer = self.snapshot(commit).join(name.as_str());
        let folder = pointer.parent().unwrap_or(&self.folder);
        self.create(folder)?;
        if pointer.is_symlink() {
            std::fs::remove_file(&pointer).map_err(Error::io(&pointer, "replace"))?;
        }
        // blobs is beside snapshots: from the folder of a commit two up, one more for each folder in
        // the name.
        let depth = name.as_str().matches('/').count() + 2;
        let mut target = PathBuf::from("../".repeat(depth));
        target.push("blobs");
        target.push(blob.file_name().unwrap_or_default());
        put_link(&target, blob, &pointer).map_err(Error::io(&pointer, "write"))
    }

    /// Creates a folder of the repository.
    fn create(&self, folder: &Path) -> Result<()> {
        create_dir(&self.folder)?;
        let there = folder.ancestors().find(|it| it.symlink_metadata().is_ok());
        there.map_or(Ok(()), |it| self.check(it))?;
        create_dir(folder)
    }

    /// Refuses what is a link to the outside: what is there must lie in the repository's folder, or in
    /// the folder that its `blobs` or `snapshots` are a link to.
    pub fn check(&self, path: &Path) -> Result<()> {
        let real = path.canonicalize().map_err(Error::io(path, "read"))?;
        let roots = [self.folder.clone(), self.folder.join("blobs"), self.folder.join("snapshots")];
        let mut roots = roots.iter().filter_map(|it| it.canonicalize().ok());
        if roots.any(|root| real.starts_with(root)) {
            return Ok(());
        }
        Err(Error::file(
            path,
            format!(
                "expected a file of the cache, found a link that leads out of it, to {}; remove the link, \
                 and fetch the file again",
                real.display()
            ),
        ))
    }

    /// Refuses a snapshot with links to the outside.
    pub fn check_snapshot(&self, folder: &Path) -> Result<()> {
        // Where nothing was wanted of the repository there is no folder, as who asked will say.
        if !folder.exists() {
            return Ok(());
        }
        self.check(folder)?;
        for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "read"))? {
            let entry = entry.map_err(Error::io(folder, "read"))?;
            let kind = entry.file_type().map_err(Error::io(folder, "read"))?;
            if kind.is_dir() {
                self.check_snapshot(&entry.path())?;
            } else if entry.path().exists() {
                self.check(&entry.path())?;
            }
        }
        Ok(())
    }
}

/// Removes a link, so that nothing is written through it.
pub fn remove_link(path: &Path) -> Result<()> {
    match path.is_symlink() {
        true => std::fs::remove_file(path).map_err(Error::io(path, "remove")),
        false => Ok(()),
    }
}

#[cfg(unix)]
fn put_link(target: &Path, _: &Path, pointer: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, pointer)
}

/// Windows lets few users make links; the content moves then.
#[cfg(windows)]
fn put_link(target: &Path, blob: &Path, pointer: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_file(target, pointer).or_else(|_| std::fs::rename(blob, pointer))
}
