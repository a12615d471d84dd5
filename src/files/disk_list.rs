//! Lists of any length in little memory: their values are in a file that has no name.

use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use burn::data::dataset::Dataset;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::{SpooledTempFile, spooled_tempfile_in};

use super::{cache_folder, create_dir};
use crate::{Error, Result};

/// Bytes of a list that stay in memory: a short list needs no file.
const IN_MEMORY: usize = 16 << 20;

/// A list of values, a data set of burn's. Values are read from a file one at a time; 16 bytes a value are
/// in memory. The file is in the [cache folder](cache_folder) and disappears with the process.
#[derive(Debug)]
pub struct DiskList<T> {
    file: Arc<Mutex<SpooledTempFile>>,
    places: Vec<Place>,
    kind: PhantomData<fn() -> T>,
}

/// Where a value is in the file, in bytes.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: u64,
    len: usize,
}

/// Writes a [`DiskList`], value by value.
#[derive(Debug)]
pub struct DiskListWriter<T> {
    file: BufWriter<SpooledTempFile>,
    folder: PathBuf,
    in_memory: usize,
    places: Vec<Place>,
    end: u64,
    kind: PhantomData<fn() -> T>,
}

impl<T> Default for DiskListWriter<T> {
    fn default() -> Self {
        Self::new(IN_MEMORY)
    }
}

impl<T> DiskListWriter<T> {
    /// Writes a list, of which so many bytes may stay in memory.
    fn new(in_memory: usize) -> Self {
        let folder = cache_folder();
        let file = BufWriter::new(spooled_tempfile_in(in_memory, &folder));
        Self { file, folder, in_memory, places: Vec::new(), end: 0, kind: PhantomData }
    }
}

impl<T: Serialize> DiskListWriter<T> {
    /// Adds a value.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn push(&mut self, value: &T) -> Result<()> {
        let write = || Error::io(&self.folder, "write into");
        let bytes = rmp_serde::to_vec(value).map_err(std::io::Error::other).map_err(write())?;
        if !self.file.get_ref().is_rolled() && self.end + bytes.len() as u64 > self.in_memory as u64
        {
            create_dir(&self.folder)?;
        }
        self.file.write_all(&bytes).map_err(write())?;
        self.places.push(Place { start: self.end, len: bytes.len() });
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// The list.
    ///
    /// # Errors
    /// If its end cannot be written.
    pub fn finish(mut self) -> Result<DiskList<T>> {
        self.places.shrink_to_fit();
        let write = Error::io(&self.folder, "write into");
        let file = self.file.into_inner().map_err(|error| write(error.into_error()))?;
        Ok(DiskList { file: Arc::new(Mutex::new(file)), places: self.places, kind: PhantomData })
    }
}

impl<T> DiskList<T> {
    /// The values of these numbers, in this order, as a list over the same file.
    pub fn select(&self, numbers: &[usize]) -> Self {
        let places = numbers.iter().map(|&number| self.places[number]).collect();
        Self { file: self.file.clone(), places, kind: PhantomData }
    }
}

impl<T: DeserializeOwned> Dataset<T, Error> for DiskList<T> {
    fn get(&self, index: usize) -> Result<T> {
        let Place { start, len } = self.places[index];
        let mut bytes = vec![0; len];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let read = file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(&mut bytes));
        drop(file);
        read.and_then(|()| rmp_serde::from_slice(&bytes).map_err(std::io::Error::other))
            .map_err(Error::io(cache_folder(), "read again what was written into"))
    }

    fn len(&self) -> usize {
        self.places.len()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_list_reads_back_from_memory_and_from_its_file() {
        type Record = (Option<Value>, Vec<u32>, Vec<f64>, Vec<f32>);
        let values: Vec<Record> = (0..300u32)
            .map(|i| {
                let id = (i % 3 > 0).then(|| json!({"a": [i, -1, 0.1, "ü", null]}));
                (id, (0..i).collect(), vec![f64::from(i) / 3.0, 1e-300], vec![f32::MIN_POSITIVE])
            })
            .collect();
        for in_memory in [usize::MAX, 1000] {
            let mut writer = DiskListWriter::new(in_memory);
            values.iter().try_for_each(|value| writer.push(value)).unwrap();
            let list = writer.finish().unwrap();
            assert_eq!(list.file.lock().unwrap().is_rolled(), in_memory == 1000);
            assert_eq!(list.iter().collect::<Result<Vec<_>>>().unwrap(), values);
            let some = list.select(&[7, 299, 0, 7]);
            let expected = [7, 299, 0, 7].map(|i: usize| values[i].clone());
            assert_eq!(some.iter().collect::<Result<Vec<_>>>().unwrap(), expected);
        }
    }
}
