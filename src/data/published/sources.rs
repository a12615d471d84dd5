//! Files, folders and hub ids → the files to read, each with the split that its name gives.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::saved;
use crate::data::rows::{self, Rows};
use crate::hub::{HubId, Kind, Wanted};
use crate::{Error, Result, files};

/// The part of a set that a record belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// To learn from.
    Train,
    /// To evaluate on: what a set calls test, validation or the like.
    HeldOut,
}

impl Split {
    /// The split that a word of `name` says.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        const HELD_OUT: [&str; 7] =
            ["test", "valid", "validation", "val", "dev", "eval", "heldout"];
        let name =
            name.to_lowercase().replace("held-out", "heldout").replace("held_out", "heldout");
        name.split(|c: char| !c.is_ascii_alphabetic()).find_map(|word| match word {
            "train" | "training" => Some(Self::Train),
            word => HELD_OUT.contains(&word).then_some(Self::HeldOut),
        })
    }
}

/// A file of a set, or a folder of texts that have one label.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Where it lies.
    pub path: PathBuf,
    /// Its name within what was asked for.
    pub name: String,
    /// The split that its name, or whoever asked for it, says.
    pub split: Option<Split>,
    /// Of a folder of texts: whether they are positive.
    label: Option<bool>,
}

/// The files of a set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// Finds the files of `paths`: files, folders with everything below them, hub ids of data sets
    /// (`owner/name[@revision]`, with `:part` after it only the files whose path begins so). Where
    /// `held_out` names files, those are held out and all of `paths` is to learn from, whatever they
    /// are called.
    ///
    /// # Errors
    /// If a path is none of these or holds no data.
    pub fn find(paths: &[PathBuf], held_out: &[PathBuf]) -> Result<Self> {
        let mut found = Vec::new();
        for (paths, split) in [(paths, Split::Train), (held_out, Split::HeldOut)] {
            for path in paths {
                let named = |it: Source| match held_out.is_empty() {
                    true => it,
                    false => Source { split: Some(split), ..it },
                };
                found.extend(find(path)?.into_iter().map(named));
            }
        }
        Ok(Self(found))
    }

    /// The files, in the order they are read.
    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        self.0.iter()
    }

    /// The content of all files, as one hash in hexadecimal.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn hash(&self) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        for source in &self.0 {
            hasher.update(source.hash()?.as_bytes());
            hasher.update(&[source.split.map_or(0, |it| it as u8 + 1)]);
        }
        Ok(hasher.finalize().to_hex().to_string())
    }
}

impl Source {
    /// The content, as a hash in hexadecimal.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn hash(&self) -> Result<String> {
        if self.label.is_none() {
            return files::hash_file(&self.path);
        }
        let mut hasher = blake3::Hasher::new();
        for file in texts(&self.path)? {
            hasher.update(file.file_name().unwrap_or_default().as_encoded_bytes());
            hasher.update(files::hash_file(&file)?.as_bytes());
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Its rows. Of a folder of texts: one a file, by their names.
    pub(super) fn rows(&self) -> Result<Rows> {
        let Some(label) = self.label else { return rows::open(&self.path) };
        let files = texts(&self.path)?.into_iter().enumerate();
        Ok(Rows::given(
            &self.path,
            files.map(move |(number, file)| {
                let text = std::fs::read_to_string(&file).map_err(Error::io(&file, "read"))?;
                let fields = [("text", Value::from(text)), ("label", Value::from(u8::from(label)))];
                let fields: Map<String, Value> =
                    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                Ok((number + 1, Ok(fields.into())))
            }),
        ))
    }
}

fn find(path: &Path) -> Result<Vec<Source>> {
    let (root, part) = match path.exists() {
        true => (path.to_owned(), String::new()),
        false => fetched(path)?,
    };
    let mut found = Vec::new();
    // Of a data set that has nothing to fetch there is no folder.
    if root.exists() {
        collect(&root, &mut found)?;
    }
    let of_part = |source: &Source| {
        source.path.strip_prefix(&root).is_ok_and(|it| it.to_string_lossy().starts_with(&part))
    };
    found.retain(|source| part.is_empty() || of_part(source));
    if found.is_empty() {
        return Err(Error::file(
            path,
            "expected data: .jsonl, .json, .csv, .tsv (.gz and .zst as well), .parquet or .arrow, or folders \
             `pos` and `neg` of texts, found none; give the files themselves",
        ));
    }
    for source in &mut found {
        let inner = source.path.strip_prefix(&root).unwrap_or(&source.path).to_owned();
        let of_root = root.file_name().map(|it| it.to_string_lossy().into_owned());
        let parts = inner.iter().rev().map(|it| it.to_string_lossy().into_owned());
        source.split = parts.chain(of_root).find_map(|it| Split::of_name(&it));
        source.name = match inner.as_os_str().is_empty() {
            true => root.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            false => inner.to_string_lossy().into_owned(),
        };
    }
    Ok(found)
}

/// The folder of a data set on the hub, and the part of it that is asked for.
fn fetched(path: &Path) -> Result<(PathBuf, String)> {
    let text = path.to_string_lossy();
    let (id, part) = text.split_once(':').unwrap_or((&text, ""));
    let id = HubId::parse(id).ok_or_else(|| {
        Error::file(
            path,
            "expected a file, a folder, or the id of a data set on the hub (owner/name[@revision] or \
             owner/name[@revision]:part), found none; check the path",
        )
    })?;
    let part = part.trim_start_matches('/').to_owned();
    let is_read = |file: &str| is_data(Path::new(file)) && file.starts_with(&part);
    let folder = id.folder(&Wanted {
        kind: Kind::DataSet,
        files: &|there, _| {
            there.iter().filter(|file| is_read(file)).map(|file| file.to_string()).collect()
        },
        marks_whole: &is_read,
    })?;
    Ok((folder, part))
}

/// The data below `path`, by their names.
fn collect(path: &Path, found: &mut Vec<Source>) -> Result<()> {
    let source = |label| Source { path: path.to_owned(), name: String::new(), split: None, label };
    if path.is_file() {
        found.push(source(None));
        return Ok(());
    }
    let entries = std::fs::read_dir(path).map_err(Error::io(path, "read"))?;
    let mut entries: Vec<PathBuf> = entries
        .map(|entry| entry.map(|it| it.path()).map_err(Error::io(path, "read")))
        .collect::<Result<_>>()?;
    entries.sort();
    let label = match path.file_name().and_then(|it| it.to_str()) {
        Some("pos") => Some(true),
        Some("neg") => Some(false),
        _ => None,
    };
    if label.is_some() && entries.iter().any(|it| is_text(it)) {
        found.push(source(label));
        return Ok(());
    }
    let saved = saved::files_of(path)?;
    for entry in entries {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_part = match &saved {
            Some(names) => names.contains(&name),
            None => is_data(&entry),
        };
        if !name.starts_with('.') && (entry.is_dir() || is_part) {
            collect(&entry, found)?;
        } else if is_unread(&name) {
            tracing::warn!("{}: not read, since its name is none of data", entry.display());
        }
    }
    Ok(())
}

fn texts(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(Error::io(folder, "read"))?;
    let mut texts = entries
        .map(|entry| entry.map(|it| it.path()).map_err(Error::io(folder, "read")))
        .collect::<Result<Vec<_>>>()?;
    texts.retain(|it| is_text(it));
    texts.sort();
    Ok(texts)
}

fn is_text(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "txt")
}

/// Whether a file's name is that of data, and not of what describes it.
fn is_data(path: &Path) -> bool {
    const DESCRIPTIONS: [&str; 6] = [
        "dataset_infos.json",
        "dataset_info.json",
        "dataset_dict.json",
        "state.json",
        "data.json",
        "run.json",
    ];
    const KINDS: [&str; 8] =
        [".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".feather"];
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let packed = [".gz", ".zst", ".zstd"].iter().find_map(|it| name.strip_suffix(it));
    let inner = packed.unwrap_or(&name);
    let is_kind = KINDS.iter().any(|kind| inner.ends_with(kind));
    is_kind && !DESCRIPTIONS.contains(&inner) && !saved::is_cache(inner)
}

/// Whether a file may hold rows in a form that is not read.
fn is_unread(name: &str) -> bool {
    const KINDS: [&str; 16] = [
        ".zip", ".tar", ".tgz", ".xz", ".bz2", ".7z", ".rar", ".gz", ".zst", ".pkl", ".pickle",
        ".pt", ".db", ".sqlite", ".xlsx", ".xls",
    ];
    KINDS.iter().any(|kind| name.to_lowercase().ends_with(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_its_split() {
        use Split::{HeldOut, Train};
        for (name, split) in [
            ("train.jsonl.gz", Some(Train)),
            ("helpful_rejection_sampled_test.jsonl.gz", Some(HeldOut)),
            ("train_prefs-00000-of-00001.parquet", Some(Train)),
            ("valid1", Some(HeldOut)),
            ("held-out.jsonl", Some(HeldOut)),
            ("contest.csv", None),
            ("alpaca_data.json", None),
        ] {
            assert_eq!(Split::of_name(name), split, "{name}");
        }
    }

    #[test]
    fn a_folder_is_its_data_files_and_folders_of_labelled_texts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        };
        for name in [
            "README.md",
            "dataset_infos.json",
            ".hidden/train.jsonl",
            "more/test.csv",
            "train/pos/0_9.txt",
            "train/neg/0_1.txt",
            "train/unsup/0_0.txt",
            "cache-0123.arrow",
            "z.parquet",
        ] {
            write(name);
        }
        let sources = Sources::find(&[folder.path().to_owned()], &[]).unwrap();
        let found: Vec<_> = sources.iter().map(|it| (it.name.as_str(), it.split)).collect();
        let (train, held_out) = (Some(Split::Train), Some(Split::HeldOut));
        assert_eq!(
            found,
            [
                ("more/test.csv", held_out),
                ("train/neg", train),
                ("train/pos", train),
                ("z.parquet", None)
            ]
        );
        let (texts, table) = (folder.path().join("train"), folder.path().join("z.parquet"));
        let test = folder.path().join("more/test.csv");
        let sources = Sources::find(&[texts, test], &[table]).unwrap();
        let splits: Vec<_> = sources.iter().map(|it| (it.name.as_str(), it.split)).collect();
        assert_eq!(
            splits,
            [("neg", train), ("pos", train), ("test.csv", train), ("z.parquet", held_out)]
        );
        assert_ne!(sources.hash().unwrap(), Sources::default().hash().unwrap());
    }

    #[test]
    fn what_is_no_data_says_what_would_be() {
        let error = Sources::find(&["no such".into()], &[]).unwrap_err();
        insta::assert_snapshot!(error, @"no such: expected a file, a folder, or the id of a data set on the hub (owner/name[@revision] or owner/name[@revision]:part), found none; check the path");
    }
}
