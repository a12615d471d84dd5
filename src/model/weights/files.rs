//! The safetensors files of a folder, read tensor by tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use serde_json::Value;

use crate::files::read_json;
use crate::{Error, Result};

/// The tensors of one or several safetensors files.
#[derive(Debug)]
pub struct SafetensorsFiles {
    places: BTreeMap<String, Place>,
}

#[derive(Debug)]
struct Place {
    file: PathBuf,
    dtype: Dtype,
    shape: Vec<usize>,
    start: u64,
}

impl SafetensorsFiles {
    /// Reads the headers of `files`. `rename` turns the names that stand there into those that
    /// are asked for.
    ///
    /// # Errors
    /// If a file is cut, or no safetensors file.
    pub fn open(files: &[PathBuf], rename: impl Fn(String) -> String) -> Result<Self> {
        let mut found = Self { places: BTreeMap::new() };
        for path in files {
            let mut file = File::open(path).map_err(Error::io(path, "read"))?;
            let size = file.metadata().map_err(Error::io(path, "read"))?.len();
            let (metadata, data_start) = read_header(path, &mut file, size)?;
            for (name, info) in metadata.tensors() {
                if data_start + info.data_offsets.1 as u64 > size {
                    return Err(Error::file(
                        path,
                        format!(
                            "the file is cut: its header promises {} bytes, it has {size}; fetch it again",
                            data_start + metadata.data_len() as u64
                        ),
                    ));
                }
                let place = Place {
                    file: path.clone(),
                    dtype: info.dtype,
                    shape: info.shape.clone(),
                    start: data_start + info.data_offsets.0 as u64,
                };
                found.places.insert(rename(name), place);
            }
        }
        Ok(found)
    }

    /// The names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// The shape of a tensor, if it is there.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.places.get(name)?.shape)
    }

    /// Hands over the values of tensor `name` in order, as f32, a few rows of `width` values at a
    /// time: the number of the first row, and the rows.
    ///
    /// # Errors
    /// If the file cannot be read or the tensor is missing or not of a float type.
    pub fn read_rows(
        &self,
        name: &str,
        width: usize,
        mut take: impl FnMut(usize, &[f32]),
    ) -> Result<()> {
        /// Values that are held at a time.
        const BLOCK: usize = 1 << 16;
        let place = self
            .places
            .get(name)
            .ok_or_else(|| Error::usage(format!("expected a tensor `{name}`, found none")))?;
        type Widen = fn(&[u8], &mut Vec<f32>);
        let (size, widen): (usize, Widen) = match place.dtype {
            Dtype::F32 => (4, |bytes, out| widen(bytes, out, f32::from_le_bytes)),
            Dtype::F16 => (2, |bytes, out| widen(bytes, out, |it| f16::from_le_bytes(it).to_f32())),
            Dtype::BF16 => {
                (2, |bytes, out| widen(bytes, out, |it| bf16::from_le_bytes(it).to_f32()))
            }
            other => {
                return Err(Error::file(
                    &place.file,
                    format!("`{name}`: expected F32, F16 or BF16, found {other:?}"),
                ));
            }
        };
        let width = width.max(1);
        let rows = place.shape.iter().product::<usize>() / width;
        let block = (BLOCK / width).clamp(1, rows.max(1));
        let mut bytes = vec![0; block * width * size];
        let mut values = Vec::with_capacity(block * width);
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
            widen(bytes, &mut values);
            take(first, &values);
        }
        Ok(())
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

fn widen<const N: usize>(bytes: &[u8], out: &mut Vec<f32>, one: impl Fn([u8; N]) -> f32) {
    out.extend(bytes.as_chunks().0.iter().map(|&it| one(it)));
}

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
    if length > size {
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

/// The safetensors files of a model folder, shards in order.
///
/// # Errors
/// If there are none, saying what there is instead.
pub fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let single = folder.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index = folder.join("model.safetensors.index.json");
    if index.is_file() {
        let json: Value = read_json(&index)?;
        let map = json["weight_map"].as_object().ok_or_else(|| {
            Error::file(&index, "`weight_map`: expected an object of tensor names and files")
        })?;
        let files: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
        return Ok(files.into_iter().map(|file| folder.join(file)).collect());
    }
    let pickled = std::fs::read_dir(folder)
        .map_err(Error::io(folder, "read"))?
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().ends_with(".bin"));
    Err(Error::file(
        folder,
        if pickled {
            "expected model.safetensors, found .bin files, which are pickles and can run code when read; \
             convert them with transformers' save_pretrained(safe_serialization=True)"
        } else {
            "expected model.safetensors or model.safetensors.index.json, found neither"
        },
    ))
}
