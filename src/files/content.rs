//! The content of a finished output, recorded so that the output is checked before it is used again.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::{create_dir, hash_file, is_aside, set_aside};
use crate::{Error, Result};

/// Every file of an output with its size, time and hash, by its path from the output on; a file that
/// is an output by itself has the empty path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Mark>")]
pub struct Content(BTreeMap<String, Mark>);

/// A record may come from anywhere, and what it names is copied and renamed.
impl TryFrom<BTreeMap<String, Mark>> for Content {
    type Error = String;

    fn try_from(files: BTreeMap<String, Mark>) -> std::result::Result<Self, String> {
        let leads_out = |name: &&String| {
            Path::new(name.as_str()).components().any(|it| !matches!(it, Component::Normal(_)))
        };
        match files.keys().find(leads_out) {
            Some(name) => Err(format!("expected files of the output, found {name:?}")),
            None => Ok(Self(files)),
        }
    }
}

/// A file as it was when it was finished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Mark {
    bytes: u64,
    /// Nanoseconds since 1970.
    modified: u64,
    hash: String,
}

/// What is no longer as it was.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The file is gone.
    Gone(PathBuf),
    /// The file has another content.
    Changed(PathBuf),
}

impl Content {
    /// The content of the file `output`, or of those files of the folder `output` that are its own by
    /// their path from it on. Hidden, locking and partial files are nobody's.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn of(output: &Path, is_own: impl Fn(&str) -> bool) -> Result<Self> {
        let names = match output.is_dir() {
            true => names(output)?.into_iter().filter(|it| is_own(it)).collect(),
            false => vec![String::new()],
        };
        let mut files = BTreeMap::new();
        for name in names {
            let path = place(output, &name);
            let (bytes, modified) = state(&path)?;
            files.insert(name, Mark { bytes, modified, hash: hash_file(&path)? });
        }
        Ok(Self(files))
    }

    /// The first of its files that `found`, the content of a copy, does not hold as it was.
    pub fn first_difference(&self, found: &Self) -> Option<Change> {
        let same =
            |name: &str, mark: &Mark| found.0.get(name).is_some_and(|it| it.hash == mark.hash);
        let (name, _) = self.0.iter().find(|(name, mark)| !same(name, mark))?;
        Some(Change::Changed(name.into()))
    }

    /// What has changed in `output`. A file of the same size and time is the same; of the others, the
    /// content is looked at.
    ///
    /// # Errors
    /// If a file that is there cannot be read.
    pub fn changes(&self, output: &Path) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        for (name, mark) in &self.0 {
            let path = place(output, name);
            if !path.is_file() {
                changes.push(Change::Gone(path));
                continue;
            }
            let (bytes, modified) = state(&path)?;
            let same = bytes == mark.bytes
                && (modified == mark.modified || hash_file(&path)? == mark.hash);
            if !same {
                changes.push(Change::Changed(path));
            }
        }
        Ok(changes)
    }

    /// What has changed in `output`, where it was finished: says so, one line for everything, and
    /// gives what has another content another name, since it is going to be written anew. Nobody may
    /// miss the folder `spare`: where all of it is gone, it was removed for its space.
    ///
    /// # Errors
    /// If a file cannot be read or renamed.
    pub fn set_changes_aside(&self, output: &Path, spare: &str) -> Result<bool> {
        let spare = output.join(spare);
        let mut changes = self.changes(output)?;
        changes.retain(|it| spare.exists() || !it.path().starts_with(&spare));
        let Some(first) = changes.first() else { return Ok(false) };
        let more = match changes.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let mut aside = None;
        for change in &changes {
            if let Change::Changed(path) = change {
                aside = Some(set_aside(path)?);
            }
        }
        let kept = aside
            .map_or(String::new(), |it| format!(", what was there is kept as {}", it.display()));
        tracing::warn!("{first}{more} since it was finished; it is made again{kept}");
        Ok(true)
    }

    /// The paths of its files from the output on.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl Change {
    /// The file.
    pub fn path(&self) -> &Path {
        let (Self::Gone(path) | Self::Changed(path)) = self;
        path
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gone(path) => write!(out, "{} is gone", path.display()),
            Self::Changed(path) => {
                write!(out, "{} is not what was written", path.display())
            }
        }
    }
}

fn place(output: &Path, name: &str) -> PathBuf {
    if name.is_empty() { output.to_owned() } else { output.join(name) }
}

fn state(path: &Path) -> Result<(u64, u64)> {
    let metadata = path.metadata().map_err(Error::io(path, "read"))?;
    let modified = metadata.modified().ok().and_then(|it| it.duration_since(UNIX_EPOCH).ok());
    Ok((metadata.len(), modified.map_or(0, |it| it.as_nanos() as u64)))
}

/// The files in a folder, from the folder on. What links to folders lead to is not in it.
fn names(folder: &Path) -> Result<Vec<String>> {
    fn walk(folder: &Path, prefix: &str, into: &mut Vec<String>) -> Result<()> {
        for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "read"))? {
            let entry = entry.map_err(Error::io(folder, "read"))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_nobodys = [".lock", ".partial"].iter().any(|it| name.ends_with(it));
            if name.starts_with('.') || is_nobodys || is_aside(&name) {
                continue;
            }
            let kind = entry.file_type().map_err(Error::io(folder, "read"))?;
            let name = format!("{prefix}{name}");
            if kind.is_dir() {
                walk(&entry.path(), &format!("{name}/"), into)?;
            } else if entry.path().is_file() {
                into.push(name);
            }
        }
        Ok(())
    }
    let mut names = Vec::new();
    walk(folder, "", &mut names)?;
    Ok(names)
}

/// Moves what was set aside in the folder `from` into the folder `to`, which takes its place.
///
/// # Errors
/// If something cannot be moved.
pub fn carry_aside(from: &Path, to: &Path) -> Result<()> {
    for entry in std::fs::read_dir(from).map_err(Error::io(from, "read"))?.flatten() {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            carry_aside(&path, &target)?;
        } else if entry.file_name().to_str().is_some_and(is_aside) {
            create_dir(to)?;
            std::fs::rename(&path, &target).map_err(Error::io(&path, "move"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_is_gone_or_changed_is_told_and_what_was_added_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("model")).unwrap();
        for name in ["run.json", "a", "b", "model/c", "a.lock", ".hidden", "b.partial"] {
            fs::write(root.join(name), name).unwrap();
        }
        let content = Content::of(root, |name| name != "run.json").unwrap();
        assert_eq!(content.names().collect::<Vec<_>>(), ["a", "b", "model/c"]);
        assert_eq!(content.changes(root).unwrap(), []);
        let now = || Content::of(root, |name| name != "run.json").unwrap();
        assert_eq!(content.first_difference(&now()), None);
        fs::write(root.join("new"), "").unwrap();
        fs::write(root.join("a"), "b").unwrap();
        fs::remove_dir_all(root.join("model")).unwrap();
        let changes = [Change::Changed(root.join("a")), Change::Gone(root.join("model/c"))];
        assert_eq!(content.changes(root).unwrap(), changes);
        assert_eq!(content.first_difference(&now()), Some(Change::Changed("a".into())));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_of_the_folder_is_not_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(root.join("a"), "a").unwrap();
        std::os::unix::fs::symlink(root, root.join("circle")).unwrap();
        std::os::unix::fs::symlink("nothing", root.join("dangling")).unwrap();
        let content = Content::of(root, |_| true).unwrap();
        assert_eq!(content.names().collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn a_folder_that_may_be_spared_is_missed_only_in_part() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        for name in ["model/w", "checkpoints/step-1/w", "checkpoints/step-2/w"] {
            fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs::write(root.join(name), name).unwrap();
        }
        let content = Content::of(root, |_| true).unwrap();
        fs::remove_dir_all(root.join("checkpoints/step-1")).unwrap();
        assert!(content.set_changes_aside(root, "checkpoints").unwrap());
        fs::remove_dir_all(root.join("checkpoints")).unwrap();
        assert!(!content.set_changes_aside(root, "checkpoints").unwrap());
        fs::remove_dir_all(root.join("model")).unwrap();
        assert!(content.set_changes_aside(root, "checkpoints").unwrap());
    }

    #[test]
    fn what_was_set_aside_is_carried_into_the_folder_that_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir_all(from.join("inner")).unwrap();
        fs::create_dir(&to).unwrap();
        for text in ["one", "two"] {
            fs::write(from.join("inner/w"), text).unwrap();
            set_aside(&from.join("inner/w")).unwrap();
        }
        fs::write(from.join("inner/w"), "three").unwrap();
        carry_aside(&from, &to).unwrap();
        let read = |name: &str| fs::read_to_string(to.join("inner").join(name)).unwrap();
        assert_eq!((read("w.changed"), read("w.2.changed")), ("one".to_owned(), "two".to_owned()));
        assert!(!to.join("inner/w").exists());
    }

    #[test]
    fn a_time_is_believed_only_where_it_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "one").unwrap();
        let content = Content::of(&path, |_| false).unwrap();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(&path, "two").unwrap();
        let file = fs::File::options().append(true).open(&path).unwrap();
        file.set_modified(modified).unwrap();
        assert_eq!(content.changes(&path).unwrap(), []);
        let now = Content::of(&path, |_| false).unwrap();
        assert_eq!(content.first_difference(&now), Some(Change::Changed("".into())));
        // Copied elsewhere: another time, the same content.
        let copy = folder.path().join("copy");
        fs::write(&copy, "one").unwrap();
        assert_eq!(content.changes(&copy).unwrap(), []);
    }

    #[test]
    fn a_record_names_files_of_its_output_alone() {
        let read = |name: &str| {
            let mark = serde_json::json!({ "bytes": 1, "modified": 0, "hash": "0" });
            serde_json::from_value::<Content>(serde_json::json!({ name: mark }))
        };
        for name in ["", "model/config.json", "a\\b"] {
            assert!(read(name).is_ok(), "{name}");
        }
        for name in ["../x", "/abs", "a/../../x", "./x"] {
            assert!(read(name).is_err(), "{name}");
        }
    }
}
