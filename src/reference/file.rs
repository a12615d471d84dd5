//! A file of the store. It only grows: a block of entries at a time, each an entry's key and its log-probs.
//!
//! ```text
//! block  number of entries (u32) · for each its key (16 bytes) and its number of values (u32) · their seal
//!        for each entry its values (f32) and their seal
//! ```
//!
//! Numbers are little-endian. What does not have its seal, the beginning of a BLAKE3 hash, is not believed.
//!
//! A block has reached the disk before the next one is begun. So a kill, a full disk or a power cut leaves the
//! last block alone incomplete, and that block counts as a whole or not at all: its groups are then computed
//! with the same groups beside them as before, and have the same rounding.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::{Key, SHARD};
use crate::files::write_atomic;
use crate::{Error, Result};

/// Bytes of a seal.
const SEAL: usize = 16;

/// What the names of the files end with.
pub(super) const ENDING: &str = ".log-probs";

/// A file of the store, open to be read, and by the process that made it to be written.
#[derive(Debug)]
pub(super) struct StoreFile {
    path: PathBuf,
    file: Mutex<File>,
    /// Where the next block begins.
    pub end: u64,
}

impl StoreFile {
    /// A new file in `folder`, of this process alone, with its first block, which has reached the disk when this
    /// returns; the place of each entry's values. The file is called after the block.
    ///
    /// # Errors
    /// If it cannot be written; there is no file then.
    pub fn create(folder: &Path, entries: &[(Key, Vec<f32>)]) -> Result<(Self, Vec<u64>)> {
        let (block, places) = block_at(0, entries);
        let name = blake3::hash(&block).to_hex()[..32].to_owned();
        let named = |number: usize| match number {
            // Another process may have begun with the same groups.
            0 => folder.join(format!("{name}{ENDING}")),
            _ => folder.join(format!("{name}-{number}{ENDING}")),
        };
        let path = (0..).map(named).find(|path| !path.exists()).unwrap_or_else(|| named(0));
        write_atomic(&path, |writer| writer.write_all(&block))?;
        let file = File::options().read(true).write(true).open(&path);
        let file = Mutex::new(file.map_err(Error::io(&path, "read"))?);
        Ok((Self { path, file, end: block.len() as u64 }, places))
    }

    /// An existing file, and what it holds: each entry's key and the place of its values.
    pub fn open(path: &Path) -> std::io::Result<(Self, Vec<(Key, u64)>)> {
        let file = File::open(path)?;
        let (mut entries, mut last, mut end) = (Vec::new(), Vec::new(), 0);
        let mut reader = BufReader::new(&file);
        while let Some(table) = read_table(&mut reader) {
            entries.extend(last.drain(..).map(|(key, start, _)| (key, start)));
            end += table_len(table.len());
            for (key, count) in table {
                last.push((key, end, count as usize));
                end += values_len(count as usize);
            }
            reader.seek(SeekFrom::Start(end))?;
        }
        drop(reader);
        let file = Self { path: path.to_owned(), file: Mutex::new(file), end };
        if last.iter().all(|(key, start, count)| file.read(key, *start, *count).is_some()) {
            entries.extend(last.into_iter().map(|(key, start, _)| (key, start)));
        }
        Ok((file, entries))
    }

    /// Adds a block, which has reached the disk when this returns; the place of each entry's values.
    ///
    /// # Errors
    /// If the file cannot be written; the block may be there in part, and is not believed then.
    pub fn append(&mut self, entries: &[(Key, Vec<f32>)]) -> Result<Vec<u64>> {
        let (block, places) = block_at(self.end, entries);
        let write = || Error::io(&self.path, "write");
        let file = self.file.get_mut().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.end)).map_err(write())?;
        file.write_all(&block).map_err(write())?;
        file.sync_data().map_err(write())?;
        self.end += block.len() as u64;
        Ok(places)
    }

    /// The `count` values of `key` at a place; none where they are not what was written.
    pub fn read(&self, key: &Key, start: u64, count: usize) -> Option<Vec<f32>> {
        let mut bytes = vec![0; 4 * count + SEAL];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(&mut bytes)).ok()?;
        drop(file);
        let (values, found) = bytes.split_at(4 * count);
        let value = |bytes: &[u8; 4]| f32::from_le_bytes(*bytes);
        (seal(&[key, values]) == found).then(|| values.as_chunks().0.iter().map(value).collect())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The bytes of a block at a place in its file, and the place of each entry's values.
fn block_at(start: u64, entries: &[(Key, Vec<f32>)]) -> (Vec<u8>, Vec<u64>) {
    let mut table = (entries.len() as u32).to_le_bytes().to_vec();
    for (key, values) in entries {
        table.extend_from_slice(key);
        table.extend_from_slice(&(values.len() as u32).to_le_bytes());
    }
    let mut block = [&table[..], &seal(&[&table])].concat();
    let mut places = Vec::with_capacity(entries.len());
    for (key, values) in entries {
        places.push(start + block.len() as u64);
        let values: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        block.extend_from_slice(&values);
        block.extend_from_slice(&seal(&[key, &values]));
    }
    (block, places)
}

/// The table that begins here; none where there is none that can be believed.
fn read_table(reader: &mut impl Read) -> Option<Vec<(Key, u32)>> {
    let mut count = [0; 4];
    reader.read_exact(&mut count).ok()?;
    let entries = u32::from_le_bytes(count) as usize;
    if entries > SHARD {
        return None;
    }
    let mut bytes = vec![0; 20 * entries + SEAL];
    reader.read_exact(&mut bytes).ok()?;
    let (table, found) = bytes.split_at(20 * entries);
    if seal(&[&count, table]) != found {
        return None;
    }
    let entry = |entry: &[u8; 20]| {
        let (key, count) = entry.split_at(16);
        Some((key.try_into().ok()?, u32::from_le_bytes(count.try_into().ok()?)))
    };
    table.as_chunks().0.iter().map(entry).collect()
}

/// Bytes of the table of so many entries.
fn table_len(entries: usize) -> u64 {
    (4 + 20 * entries + SEAL) as u64
}

/// Bytes of so many values.
fn values_len(count: usize) -> u64 {
    (4 * count + SEAL) as u64
}

fn seal(parts: &[&[u8]]) -> [u8; SEAL] {
    let mut hasher = blake3::Hasher::new();
    parts.iter().for_each(|part| _ = hasher.update(part));
    let mut seal = [0; SEAL];
    hasher.finalize_xof().fill(&mut seal);
    seal
}
