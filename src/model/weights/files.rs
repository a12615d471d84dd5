//! The safetensors files of a folder, read tensor by tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::Value;

use super::number::{Number, each};
use crate::files::{is_plain_name, mapped, read_json};
use crate::{Error, Result};

/// The tensors of one or several safetensors files.
#[derive(Debug)]
pub struct SafetensorsFiles {
    places: BTreeMap<String, Place>,
}

#[derive(Clone, Debug)]
struct Place {
    /// The tensor's name as it stands in the file.
    name: String,
    file: PathBuf,
    dtype: Dtype,
    shape: Vec<usize>,
    start: u64,
}

impl SafetensorsFiles {
    /// Reads the headers of `files`. `rename` turns the names that stand there into those that
    /// are asked for. A tensor that several files hold is read from the one that their index names.
    ///
    /// # Errors
    /// If a file is cut, or no safetensors file, or two tensors are the same but for a prefix.
    pub fn open(files: &[PathBuf], rename: impl Fn(String) -> String) -> Result<Self> {
        let mut found = Self { places: BTreeMap::new() };
        let mut copies = Vec::new();
        for path in files {
            let mut file = File::open(path).map_err(Error::io(path, "read"))?;
            let size = file.metadata().map_err(Error::io(path, "read"))?.len();
            let (metadata, data_start) = read_header(path, &mut file, size)?;
            for (name, info) in metadata.tensors() {
                if data_start.saturating_add(info.data_offsets.1 as u64) > size {
                    return Err(Error::file(
                        path,
                        format!(
                            "the file is cut: its header promises {} bytes, it has {size}; fetch it again",
                            data_start.saturating_add(metadata.data_len() as u64)
                        ),
                    ));
                }
                let renamed = rename(name.clone());
                let place = Place {
                    name,
                    file: path.clone(),
                    dtype: info.dtype,
                    shape: info.shape.clone(),
                    start: data_start + info.data_offsets.0 as u64,
                };
                copies.extend(found.insert(&renamed, place)?.map(|earlier| (renamed, earlier)));
            }
        }
        found.choose(copies)?;
        Ok(found)
    }

    /// Takes a tensor in; the place of the same tensor in an earlier file, if there is one.
    fn insert(&mut self, name: &str, place: Place) -> Result<Option<Place>> {
        let named = place.name.clone();
        let file = place.file.clone();
        match self.places.insert(name.to_owned(), place) {
            Some(other) if other.name != named => Err(Error::file(
                file,
                format!(
                    "`{named}` and `{}` are the same tensor of the model; remove one of them",
                    other.name
                ),
            )),
            earlier => Ok(earlier),
        }
    }

    /// Puts the tensors that earlier files hold, too, back to these `copies` where the index names them.
    fn choose(&mut self, copies: Vec<(String, Place)>) -> Result<()> {
        let Some((name, first)) = copies.first() else { return Ok(()) };
        let folder = first.file.parent().unwrap_or(Path::new(""));
        let index: Value = read_json(&folder.join(INDEX))?;
        let file_name = |place: &Place| place.file.file_name().map(ToOwned::to_owned);
        tracing::warn!(
            "{}: {} of the tensors stand in several files, such as `{}` in {} and in {}; each is read from the file \
             that {INDEX} names for it",
            folder.display(),
            copies.len(),
            first.name,
            first.file.display(),
            self.places[name].file.display()
        );
        for (name, place) in copies {
            let named = index["weight_map"][&place.name].as_str().map(OsStr::new);
            if named.is_some() && named == file_name(&place).as_deref() {
                self.places.insert(name, place);
            }
        }
        Ok(())
    }

    /// Lets a tensor stand for another as well, and for that alone where it is stored twice.
    pub(in crate::model) fn alias(&mut self, name: &str, of: &str) {
        match self.places.get(of).cloned() {
            Some(place) => self.places.insert(name.to_owned(), place),
            None => self.places.remove(name),
        };
    }

    /// Lets a tensor of other files stand for one of these.
    pub(in crate::model) fn replace(&mut self, name: &str, others: &Self, by: &str) {
        if let Some(place) = others.places.get(by) {
            self.places.insert(name.to_owned(), place.clone());
        }
    }

    /// The names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// The name of a tensor as it stands in its file.
    pub fn stored_name<'a>(&'a self, name: &'a str) -> &'a str {
        self.places.get(name).map_or(name, |place| &place.name)
    }

    /// Refuses those of the tensors `names` that have no entries.
    pub(in crate::model) fn check_gathered<'a>(
        &self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<()> {
        let mut places = names.into_iter().filter_map(|name| self.places.get(name));
        let Some(place) = places.find(|place| place.shape.contains(&0)) else { return Ok(()) };
        Err(Error::file(
            &place.file,
            format!(
                "`{}`: expected weights, found a tensor of shape {:?}, as DeepSpeed's ZeRO-3 saves it where the \
                 weights are not gathered first; set stage3_gather_16bit_weights_on_model_save to true and save again, \
                 or make the weights of the checkpoint with zero_to_fp32.py",
                place.name, place.shape
            ),
        ))
    }

    /// The shape of a tensor, if it is there.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.places.get(name)?.shape)
    }

    /// Hands over the values of tensor `name` in order, many rows of `width` values at a time: the number of the
    /// first row, and the rows. Where the file has the type that is asked for, the values are as they stand there.
    ///
    /// # Errors
    /// If the file cannot be read, the tensor is missing or not of a float type, or a value is not
    /// finite.
    pub(in crate::model) fn read_rows<T: Number>(
        &self,
        name: &str,
        width: usize,
        mut take: impl FnMut(usize, &[T]),
    ) -> Result<()> {
        /// Values that are held at a time: rows enough to be turned into columns in whole lines of the cache.
        const BLOCK: usize = 1 << 19;
        let place = self
            .places
            .get(name)
            .ok_or_else(|| Error::usage(format!("expected a tensor `{name}`, found none")))?;
        type Widen = fn(&[u8], &mut Vec<f32>);
        let (size, widen): (usize, Widen) = match place.dtype {
            Dtype::F32 => (4, |bytes, out| each(bytes, out, f32::from_le_bytes)),
            Dtype::F64 => (8, |bytes, out| each(bytes, out, |it| f64::from_le_bytes(it) as f32)),
            Dtype::F16 => (2, |bytes, out| each(bytes, out, |it| f16::from_le_bytes(it).to_f32())),
            Dtype::BF16 => {
                (2, |bytes, out| each(bytes, out, |it| bf16::from_le_bytes(it).to_f32()))
            }
            other => return Err(no_floats(place, other)),
        };
        let width = width.max(1);
        let rows = place.shape.iter().product::<usize>() / width;
        let block = (BLOCK / width).clamp(1, rows.max(1));
        let mut bytes = vec![0; block * width * size];
        let (mut wide, mut values) = (Vec::new(), Vec::with_capacity(block * width));
        let read = || Error::io(&place.file, "read");
        let mut file = File::open(&place.file).map_err(read())?;
        file.seek(SeekFrom::Start(place.start)).map_err(read())?;
        for first in (0..rows).step_by(block) {
            let bytes = &mut bytes[..block.min(rows - first) * width * size];
            file.read_exact(bytes).map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => {
                    let cut =
                        format!("`{name}`: expected {} bytes, found fewer", rows * width * size);
                    Error::file(&place.file, cut)
                }
                _ => read()(error),
            })?;
            values.clear();
            wide.clear();
            let is_finite = if place.dtype == T::STORED {
                T::from_bytes(bytes, &mut values);
                T::all_finite(&values)
            } else {
                widen(bytes, &mut wide);
                values.extend(wide.iter().map(|&it| T::from_f32(it)));
                all_finite(&wide)
            };
            if !is_finite {
                wide.clear();
                widen(bytes, &mut wide);
                return Err(not_finite(place, first * width, &wide));
            }
            take(first, &values);
        }
        Ok(())
    }

    /// The values of some rows of tensor `name`, of `width` values each, as they stand in the file, which stays
    /// mapped. Nothing where the file has another type than `T`, holds a value that is not finite, or cannot be mapped.
    pub(in crate::model) fn map_rows<T: Number>(
        &self,
        name: &str,
        width: usize,
        rows: Range<usize>,
    ) -> Option<Bytes> {
        /// Values of a task of the search for those that are not finite.
        const TASK: usize = 1 << 20;
        let place = self.places.get(name)?;
        let size = size_of::<T>();
        let start = place.start + (rows.start * width * size) as u64;
        if place.dtype != T::STORED || cfg!(target_endian = "big") {
            return None;
        }
        let file = File::open(&place.file).ok()?;
        let bytes = mapped(&file, start, rows.len() * width * size)?;
        let values: &[T] = bytemuck::try_cast_slice(&bytes).ok()?;
        values.par_chunks(TASK).all(T::all_finite).then_some(bytes)
    }

    /// Whether [`Self::map_rows`] may give values of tensor `name`.
    pub(in crate::model) fn is_stored_as<T: Number>(&self, name: &str) -> bool {
        self.places.get(name).is_some_and(|place| place.dtype == T::STORED)
    }

    /// Reads all tensors of float types for the one purpose of finding numbers that are not finite.
    ///
    /// # Errors
    /// If there is one, or a file cannot be read.
    pub fn check_finite(&self) -> Result<()> {
        let is_float = |place: &Place| {
            [Dtype::F32, Dtype::F64, Dtype::F16, Dtype::BF16].contains(&place.dtype)
        };
        let names: Vec<&String> =
            self.places.iter().filter(|(_, it)| is_float(it)).map(|(name, _)| name).collect();
        names.into_par_iter().try_for_each(|name| self.read_rows::<f32>(name, 1, |_, _| ()))
    }

    /// The values of tensor `name`, as f32.
    ///
    /// # Errors
    /// The same.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let len = self.shape(name).unwrap_or_default().iter().product();
        let mut all = Vec::with_capacity(len);
        self.read_rows(name, 1, |_, values| all.extend_from_slice(values))?;
        Ok(all)
    }
}

/// Why values of a type cannot be taken for weights.
fn no_floats(place: &Place, found: Dtype) -> Error {
    Error::file(
        &place.file,
        format!(
            "`{}`: expected F32, F16, BF16 or F64, found {found:?}, which only quantised weights \
             have; take the full-precision model, or dequantise it in transformers \
             (model.dequantize(), save_pretrained)",
            place.name
        ),
    )
}

/// Whether all values are finite; one pass without a branch for each.
pub(crate) fn all_finite(values: &[f32]) -> bool {
    /// The bits that are all set in what is infinite or no number.
    const EXPONENT: u32 = 0x7f80_0000;
    values.iter().fold(0, |most, value| most.max(value.to_bits() & EXPONENT)) != EXPONENT
}

/// Why a tensor cannot be weights.
fn not_finite(place: &Place, first: usize, values: &[f32]) -> Error {
    let at = values.iter().position(|it| !it.is_finite()).unwrap_or(0);
    let index = first + at;
    Error::file(
        &place.file,
        format!(
            "`{}`: expected finite numbers, found {} at entry {index}; fetch the file again, or take an \
             earlier checkpoint if a training has written it",
            place.name, values[at]
        ),
    )
}

/// The longest header that safetensors allows, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;

/// The header and where the data begins.
fn read_header(path: &Path, file: &mut File, size: u64) -> Result<(Metadata, u64)> {
    let cut = |_| {
        Error::file(
            path,
            "expected a safetensors file, found one cut in its header; fetch it again",
        )
    };
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(cut)?;
    let length = u64::from_le_bytes(length);
    if length > size.min(LONGEST_HEADER) {
        return Err(Error::file(
            path,
            format!(
                "expected a safetensors file, found a header of {length} bytes in {size}; fetch it again"
            ),
        ));
    }
    let mut header = vec![0; length as usize];
    file.read_exact(&mut header).map_err(cut)?;
    let metadata = serde_json::from_slice(&header).map_err(|error| {
        Error::file(
            path,
            format!("expected a safetensors header, found: {error}; fetch the file again"),
        )
    })?;
    Ok((metadata, 8 + length))
}

/// The safetensors file of a model that is in one.
pub(crate) const SINGLE: &str = "model.safetensors";
/// What tells the safetensors files of a model that is in shards.
pub(crate) const INDEX: &str = "model.safetensors.index.json";

/// The safetensors files of a model folder, shards in order: as transformers, one file before an
/// index, and of the others only those that the index names.
///
/// # Errors
/// If there are none, saying what there is instead, or if one that the index names is not there.
pub fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let single = folder.join(SINGLE);
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index = folder.join(INDEX);
    if !index.is_file() {
        return Err(Error::file(folder, nothing_to_read(folder)?));
    }
    let files = shards(&index)?;
    if let Some(lost) = files.iter().find(|file| !folder.join(file).is_file()) {
        return Err(Error::file(
            &index,
            format!(
                "expected the file `{lost}`, which it names, beside it, found none; fetch it again"
            ),
        ));
    }
    Ok(files.into_iter().map(|file| folder.join(file)).collect())
}

/// The files that an index names.
///
/// # Errors
/// If it cannot be read, or names a file outside of its folder.
pub(crate) fn shards(index: &Path) -> Result<BTreeSet<String>> {
    let json: Value = read_json(index)?;
    let map = json["weight_map"].as_object().ok_or_else(|| {
        Error::file(index, "`weight_map`: expected an object of tensor names and files")
    })?;
    map.iter()
        .map(|(name, file)| match file.as_str() {
            Some(file) if file.ends_with(".safetensors") && is_plain_name(file) => {
                Ok(file.to_owned())
            }
            _ => Err(Error::file(
                index,
                format!(
                    "`weight_map.{name}`: expected a safetensors file beside the index, found {file}"
                ),
            )),
        })
        .collect()
}

/// What stands in a folder instead of weights that can be read, and what to do.
fn nothing_to_read(folder: &Path) -> Result<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .map_err(Error::io(folder, "read"))?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let ending = |endings: &[&str]| {
        names.iter().find(|name| endings.iter().any(|ending| name.ends_with(ending)))
    };
    let convert = "convert them with transformers' save_pretrained(safe_serialization=True)";
    Ok(if let Some(name) = ending(&[".bin", ".pt", ".pth", ".ckpt"]) {
        format!(
            "expected {SINGLE}, found {name} and its like (.bin files), which are pickles and can \
             run code when read; {convert}"
        )
    } else if let Some(name) = ending(&[".safetensors"]) {
        format!(
            "expected {SINGLE} or {INDEX}, found {name} without an index that names it; fetch the \
             index, too, or rename the only file to {SINGLE}"
        )
    } else if let Some(name) = ending(&[".gguf", ".h5", ".msgpack", ".onnx", ".npz"]) {
        format!(
            "expected {SINGLE} or {INDEX}, found {name}, which is another program's format; take the \
             model as safetensors, or {convert}"
        )
    } else {
        format!(
            "expected {SINGLE} or {INDEX}, found neither; where the model is published as \
             pytorch_model.bin (pickles), {convert}"
        )
    })
}
