//! The store of reference log-probs: they are computed once and read from then on.
//!
//! Every group has a key, the hash of its tokens, in the folder of one model at one temperature. So every
//! command that needs the same numbers finds them, whatever device computed them and whatever other groups
//! stand beside them, and no other command does. [Files](file) hold many groups each; several processes may
//! add to a store at once, each to files of its own.
//!
//! The rounding of a number depends on the groups that were computed with it. A number is kept as it was
//! computed first.

mod file;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use burn::data::dataset::Dataset;

use crate::data::TokenGroup;
use crate::files::sweep_stale;
use crate::{Error, Result};
use file::{ENDING, StoreFile};

/// Groups that are computed and written together: what an interrupted computation loses at most.
const SHARD: usize = 64;

/// Bytes after which a file of the store gets no more blocks: what a damaged byte costs at most.
const FULL: u64 = 64 << 20;

/// The key of a group, or of several.
pub type Key = [u8; 16];

/// Where the log-probs of a group stand in an opened store.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    file: u32,
    start: u64,
}

/// The log-prob of every scored token of every completion of a group, `[completion][token]`.
pub type GroupTokens = Vec<Vec<f32>>;

/// Reference log-probs of one model at one temperature.
#[derive(Debug)]
pub struct ReferenceStore {
    folder: PathBuf,
    files: Vec<StoreFile>,
    /// The file that this process adds to.
    own: Option<usize>,
    index: HashMap<Key, Place>,
    /// Further places of keys that several processes, or one after a damage, have written.
    repeated: Vec<(Key, Place)>,
    /// Part of every key; the groups that others are computed beside.
    among: Option<Key>,
}

/// What a store has of some groups.
#[derive(Clone, Debug, Default)]
pub struct LookUp {
    places: Vec<Option<Place>>,
    /// The groups that have to be computed, by number, each once.
    missing: Vec<usize>,
    /// Their completions.
    pub missing_completions: usize,
}

impl ReferenceStore {
    /// The store under `cache` for the model with content hash `model`. What is damaged in it is passed over.
    pub fn open(cache: &Path, model: &str, temperature: f64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"reference log-probs, f32, 2");
        hasher.update(model.as_bytes());
        hasher.update(&temperature.to_le_bytes());
        let name = hasher.finalize().to_hex()[..32].to_owned();
        let mut store = Self {
            folder: cache.join("reference").join(name),
            files: Vec::new(),
            own: None,
            index: HashMap::new(),
            repeated: Vec::new(),
            among: None,
        };
        let entries = std::fs::read_dir(&store.folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.retain(|path| path.to_str().is_some_and(|path| path.ends_with(ENDING)));
        paths.sort();
        for path in paths {
            match StoreFile::open(&path) {
                Ok((file, entries)) => store.add(file, entries),
                Err(error) => tracing::warn!("{}: cannot read: {error}", path.display()),
            }
        }
        store
    }

    fn add(&mut self, file: StoreFile, entries: Vec<(Key, u64)>) {
        let number = self.files.len() as u32;
        self.files.push(file);
        for (key, start) in entries {
            let place = Place { file: number, start };
            match self.index.get(&key) {
                Some(_) => self.repeated.push((key, place)),
                None => _ = self.index.insert(key, place),
            }
        }
    }

    /// From now on, a group's numbers are those that it has among all of `groups`, rounded as they are with
    /// these groups beside it.
    ///
    /// # Errors
    /// If a group cannot be read.
    pub fn among(&mut self, groups: &dyn Dataset<TokenGroup, Error>) -> Result<()> {
        self.among = None;
        let mut hasher = blake3::Hasher::new();
        for number in 0..groups.len() {
            hasher.update(&self.key(&groups.get(number)?));
        }
        self.among = Some(first_bytes(&hasher));
        Ok(())
    }

    /// What is there of `groups`. Every number that is found has been read and has its seal.
    ///
    /// # Errors
    /// If a group cannot be read.
    pub fn look_up(&mut self, groups: &dyn Dataset<TokenGroup, Error>) -> Result<LookUp> {
        let mut found = LookUp::default();
        let mut missing = HashSet::new();
        for number in 0..groups.len() {
            let group = groups.get(number)?;
            let key = self.key(&group);
            let place = self.find(&key, &group);
            if place.is_none() && missing.insert(key) {
                found.missing.push(number);
                found.missing_completions += group.completions.len();
            }
            found.places.push(place);
        }
        Ok(found)
    }

    /// Where the numbers of a group are. A place that turns out to be damaged is forgotten.
    fn find(&mut self, key: &Key, group: &TokenGroup) -> Option<Place> {
        let first = *self.index.get(key)?;
        let others =
            self.repeated.iter().filter(|(other, _)| other == key).map(|(_, place)| *place);
        let is_whole = |place: &Place| self.read_at(*place, key, group).is_some();
        let whole = std::iter::once(first).filter(is_whole).chain(others.filter(is_whole)).next();
        match whole {
            Some(place) => _ = self.index.insert(*key, place),
            None => _ = self.index.remove(key),
        }
        whole
    }

    /// Computes what is missing, up to 64 groups at a time, and keeps it; where the numbers of each group are.
    ///
    /// # Errors
    /// Those of `compute`; if a group cannot be read or the store cannot be written.
    pub fn complete(
        &mut self,
        groups: &dyn Dataset<TokenGroup, Error>,
        found: LookUp,
        mut compute: impl FnMut(&[TokenGroup]) -> Result<Vec<GroupTokens>>,
    ) -> Result<Vec<Place>> {
        for shard in found.missing.chunks(SHARD) {
            let shard: Vec<TokenGroup> =
                shard.iter().map(|&number| groups.get(number)).collect::<Result<_>>()?;
            // A look-up before may have found the same ones missing.
            let is_new = |group: &TokenGroup| !self.index.contains_key(&self.key(group));
            let shard: Vec<TokenGroup> = shard.into_iter().filter(is_new).collect();
            if !shard.is_empty() {
                let log_probs = compute(&shard)?;
                self.keep(&shard, log_probs)?;
            }
        }
        let place = |(number, place): (usize, Option<Place>)| match place {
            Some(place) => Ok(place),
            None => Ok(self.index[&self.key(&groups.get(number)?)]),
        };
        found.places.into_iter().enumerate().map(place).collect()
    }

    /// Adds the log-probs of groups, which have reached the disk when this returns.
    fn keep(&mut self, groups: &[TokenGroup], log_probs: Vec<GroupTokens>) -> Result<()> {
        let keys = groups.iter().map(|group| self.key(group));
        let entries: Vec<(Key, Vec<f32>)> =
            keys.zip(log_probs.iter().map(|group| group.concat())).collect();
        let (file, places) = match self.own.filter(|&own| self.files[own].end < FULL) {
            Some(own) => (own as u32, self.files[own].append(&entries)?),
            None => {
                sweep_stale(&self.folder);
                let (file, places) = StoreFile::create(&self.folder, &entries)?;
                self.own = Some(self.files.len());
                self.files.push(file);
                (self.files.len() as u32 - 1, places)
            }
        };
        let places = places.into_iter().map(|start| Place { file, start });
        self.index.extend(entries.into_iter().map(|(key, _)| key).zip(places));
        Ok(())
    }

    /// The log-probs of a group at the place where they were found.
    ///
    /// # Errors
    /// If they are not there any more.
    pub fn read(&self, place: Place, group: &TokenGroup) -> Result<GroupTokens> {
        self.read_at(place, &self.key(group), group).ok_or_else(|| {
            Error::file(
                self.files[place.file as usize].path(),
                "expected the log-probs that were there when the command started, found others: the file was \
                 damaged or changed meanwhile; start the command again, which computes them anew",
            )
        })
    }

    fn read_at(&self, place: Place, key: &Key, group: &TokenGroup) -> Option<GroupTokens> {
        let count = scored_lengths(group).sum();
        let values = self.files[place.file as usize].read(key, place.start, count)?;
        let mut values = values.into_iter();
        let of_completion = |len: usize| values.by_ref().take(len).collect();
        Some(scored_lengths(group).map(of_completion).collect())
    }

    /// Without the index, which nothing but [`look_up`](Self::look_up) needs.
    pub fn without_index(self) -> Self {
        Self { index: HashMap::new(), repeated: Vec::new(), ..self }
    }

    fn key(&self, group: &TokenGroup) -> Key {
        let mut hasher = blake3::Hasher::new();
        let mut tokens = |ids: &[u32]| {
            hasher.update(&(ids.len() as u64).to_le_bytes());
            hasher.update(bytemuck::cast_slice(ids));
        };
        tokens(&group.prompt);
        tokens(&[group.completions.len() as u32]);
        group.completions.iter().for_each(|ids| tokens(ids));
        if let Some(among) = &self.among {
            hasher.update(among);
        }
        first_bytes(&hasher)
    }
}

fn first_bytes(hasher: &blake3::Hasher) -> Key {
    let mut key = Key::default();
    hasher.finalize_xof().fill(&mut key);
    key
}

/// Scored tokens of each completion: all, but the first after an empty prompt.
fn scored_lengths(group: &TokenGroup) -> impl Iterator<Item = usize> + '_ {
    let unscored = usize::from(group.prompt.is_empty());
    group.completions.iter().map(move |ids| ids.len().saturating_sub(unscored))
}
