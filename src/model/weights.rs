//! Hugging Face folders in and out: `config.json`, `model.safetensors` (also in shards), companions.
//!
//! Reading takes one tensor at a time from the file, so its peak is the model and one tensor.
//! What is missing, unexpected or misshapen is listed at once. Writing goes through a temporary
//! file and a rename; what is written loads in `transformers` without a warning.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{DType, Device, Tensor, TensorData};
use rayon::prelude::*;
use safetensors::{Dtype, View};
use serde_json::{Value, json};

use super::config::DecoderConfig;
use super::families::{Binding, Family};
use crate::files::{persist, read_json, write_json};
use crate::{Error, Result};

/// What a model folder says of itself, apart from the weights.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    /// The folder.
    pub path: PathBuf,
    /// `config.json`.
    pub json: Value,
    /// The family it belongs to.
    pub family: &'static Family,
    /// The shape of its decoder.
    pub shape: DecoderConfig,
}

impl ModelFolder {
    /// Reads `config.json` (and `generation_config.json` for the end-of-text tokens).
    ///
    /// # Errors
    /// If the folder or file is missing, or the architecture is not supported.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if !path.is_dir() {
            return Err(Error::file(
                path,
                "expected a Hugging Face model folder, found none; give the path of a folder with config.json, \
                 model.safetensors and tokenizer.json",
            ));
        }
        let file = path.join("config.json");
        let json: Value = read_json(&file)?;
        let family = Family::of(&file, &json)?;
        let mut shape = family.shape(&file, &json)?;
        let generation = path.join("generation_config.json");
        if generation.is_file() {
            let generation: Value = read_json(&generation)?;
            for token in token_list(generation.get("eos_token_id")) {
                if !shape.end_of_text.contains(&token) {
                    shape.end_of_text.push(token);
                }
            }
        }
        Ok(Self { path: path.to_owned(), json, family, shape })
    }

    /// Identifies what the model computes: the hash of its shape and weights.
    pub fn content_hash(&self) -> Result<String> {
        let mut hasher = blake3::Hasher::new();
        for file in std::iter::once(self.path.join("config.json")).chain(weight_files(&self.path)?)
        {
            let opened = File::open(&file).map_err(Error::io(&file, "read"))?;
            hasher.update_reader(opened).map_err(Error::io(&file, "read"))?;
        }
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Whether the folder holds a model with a scalar head.
    pub fn is_classifier(&self) -> bool {
        self.json["architectures"][0]
            .as_str()
            .is_some_and(|architecture| architecture == self.family.classifier_architecture)
    }

    /// Loads `module`'s parameters as `bindings` say; every tensor of the folder must have a place.
    pub fn load<M: Module>(&self, module: M, bindings: &[Binding], device: &Device) -> Result<M> {
        self.load_with(module, bindings, device, |_| false)
    }

    /// Like [`load`](Self::load), leaving the folder's vocabulary head aside.
    pub fn load_trunk<M: Module>(
        &self,
        module: M,
        bindings: &[Binding],
        device: &Device,
    ) -> Result<M> {
        self.load_with(module, bindings, device, |name| name == "lm_head.weight")
    }

    fn load_with<M: Module>(
        &self,
        module: M,
        bindings: &[Binding],
        device: &Device,
        left_aside: impl Fn(&str) -> bool,
    ) -> Result<M> {
        let files = SafetensorsFiles::open(&self.path, self.family.optional_prefix)?;
        let mut problems = Vec::new();
        let expected: BTreeSet<&str> =
            bindings.iter().map(|binding| binding.name.as_str()).collect();
        let unexpected: Vec<&str> = files
            .names()
            .filter(|name| {
                !expected.contains(name)
                    && !self.family.ignores(&self.shape, name)
                    && !left_aside(name)
            })
            .collect();
        if !unexpected.is_empty() {
            problems.push(format!("unexpected tensors: {}", abridged(&unexpected)));
        }
        let missing: Vec<&str> =
            expected.iter().copied().filter(|name| !files.contains(name)).collect();
        if !missing.is_empty() {
            problems.push(format!("missing tensors: {}", abridged(&missing)));
        }
        let mut places = HashMap::new();
        for binding in bindings {
            for (part, parameter) in binding.parameters.iter().enumerate() {
                places.insert(parameter.as_str(), (binding, part));
            }
        }
        let mut loader = Loader {
            files,
            places,
            path: ParameterPath::default(),
            device,
            misshapen: Vec::new(),
            failed: None,
            whole: None,
        };
        let module = module.map(&mut loader);
        if !loader.misshapen.is_empty() {
            problems.push(format!("misshapen tensors: {}", abridged(&loader.misshapen)));
        }
        match loader.failed {
            _ if !problems.is_empty() => Err(Error::file(
                &self.path,
                format!("the weights do not fit config.json; {}", problems.join("; ")),
            )),
            Some(error) => Err(error),
            None => Ok(module),
        }
    }
}

/// Writes `module`'s parameters as `bindings` say, with `config` as `config.json`.
///
/// The weights come last, so that a folder with weights is a whole one.
pub fn save<M: Module>(
    module: &M,
    bindings: &[Binding],
    config: &Value,
    folder: &Path,
) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
    write_json(&folder.join("config.json"), config)?;
    let mut collector = Collector { path: ParameterPath::default(), tensors: HashMap::new() };
    module.visit(&mut collector);
    let tensors: Vec<(String, Stored)> = bindings
        .iter()
        .map(|binding| (binding.name.clone(), assemble(binding, &mut collector.tensors)))
        .collect();
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let file = folder.join("model.safetensors");
    let temporary = tempfile::Builder::new()
        .prefix(".model.safetensors.")
        .tempfile_in(folder)
        .map_err(Error::io(folder, "write into"))?;
    safetensors::serialize_to_file(tensors, Some(metadata), temporary.path())
        .map_err(|error| Error::file(&file, format!("cannot write: {error}")))?;
    persist(temporary, &file)
}

/// Initial weights of a GPT-2 to be trained from nothing, from `seed`: normal with deviation 0.02,
/// the projections into the residual stream scaled down by √(2 · layers) (Radford et al. 2019).
pub fn initialize<M: Module>(module: M, shape: &DecoderConfig, seed: u64, device: &Device) -> M {
    let mut initializer = Initializer {
        path: ParameterPath::default(),
        seed,
        residual: 0.02 / (2.0 * shape.num_layers as f64).sqrt(),
        device,
    };
    module.map(&mut initializer)
}

/// `a.b.c` of the parameter a walk over a module stands at.
#[derive(Default)]
struct ParameterPath(Vec<String>);

impl ParameterPath {
    fn enter(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    fn leave(&mut self) {
        self.0.pop();
    }

    /// The path without the names of enum variants, which say nothing about the parameter.
    fn dotted(&self) -> String {
        self.0
            .iter()
            .filter(|name| !name.starts_with(char::is_uppercase))
            .cloned()
            .collect::<Vec<_>>()
            .join(".")
    }

    /// A number that stands for the path in every process.
    fn number(&self) -> u64 {
        let hash = blake3::hash(self.dotted().as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_le_bytes(first)
    }
}

fn parameter<const D: usize>(data: TensorData, device: &Device) -> Param<Tensor<D>> {
    let tensor = Tensor::from_data(data, device);
    Param::from_tensor(if device.is_autodiff() { tensor.require_grad() } else { tensor })
}

/// Gives every parameter the identity its path has in every process, so that an optimizer's saved
/// state finds its parameter again.
pub fn with_stable_ids<M: Module>(module: M) -> M {
    struct Stable(ParameterPath);

    impl ModuleMapper for Stable {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.enter(name);
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.leave();
        }

        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (_, tensor, mapper) = param.consume();
            Param::from_mapped_value(ParamId::from(self.0.number()), tensor, mapper)
        }
    }

    module.map(&mut Stable(ParameterPath::default()))
}

struct Loader<'a> {
    files: SafetensorsFiles,
    places: HashMap<&'a str, (&'a Binding, usize)>,
    path: ParameterPath,
    device: &'a Device,
    misshapen: Vec<String>,
    failed: Option<Error>,
    /// The last tensor read, which usually holds the next parameter too.
    whole: Option<(&'a str, Plain)>,
}

impl Loader<'_> {
    fn read<const D: usize>(&mut self, shape: [usize; D]) -> Option<TensorData> {
        let path = self.path.dotted();
        let Some(&(binding, part)) = self.places.get(path.as_str()) else {
            self.misshapen.push(format!("no tensor is known to hold `{path}`"));
            return None;
        };
        if !self.files.contains(&binding.name) {
            return None;
        }
        if self.whole.as_ref().is_none_or(|(name, _)| *name != binding.name) {
            match self.files.read(&binding.name) {
                Ok(tensor) => self.whole = Some((&binding.name, tensor)),
                Err(error) => {
                    self.failed.get_or_insert(error);
                    return None;
                }
            }
        }
        let (_, whole) = self.whole.as_ref()?;
        let mut stored = shape.to_vec();
        if let Some(last) = stored.last_mut() {
            *last *= binding.parameters.len();
        }
        if binding.transposed {
            stored.reverse();
        }
        if stored != whole.shape {
            self.misshapen
                .push(format!("{} (expected {stored:?}, found {:?})", binding.name, whole.shape));
            return None;
        }
        let values = if binding.transposed {
            transpose(&whole.values, stored[0], stored[1])
        } else if binding.parameters.len() == 1 {
            whole.values.clone()
        } else {
            let (width, all) = (shape[D - 1], shape[D - 1] * binding.parameters.len());
            whole
                .values
                .chunks(all)
                .flat_map(|row| &row[part * width..][..width])
                .copied()
                .collect()
        };
        Some(TensorData::new(values, shape))
    }
}

impl ModuleMapper for Loader<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.leave();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.read::<D>(param.lazy_shape().dims()) {
            Some(data) => parameter(data, self.device),
            None => param,
        }
    }
}

struct Initializer<'a> {
    path: ParameterPath,
    seed: u64,
    residual: f64,
    device: &'a Device,
}

impl ModuleMapper for Initializer<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.leave();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        use rand::SeedableRng;
        use rand_distr::Distribution;
        let shape: [usize; D] = param.lazy_shape().dims();
        let path = self.path.dotted();
        let deviation = match path.as_str() {
            _ if path.ends_with("output.weight") || path.ends_with("down.weight") => self.residual,
            _ if path.ends_with("weight") => 0.02,
            _ => 0.0,
        };
        let constant = if path.ends_with("gamma") { 1.0 } else { 0.0 };
        let mut random = rand_chacha::ChaCha12Rng::seed_from_u64(self.seed ^ self.path.number());
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| {
                let normal: f64 = rand_distr::StandardNormal.sample(&mut random);
                (constant + deviation * normal) as f32
            })
            .collect();
        parameter(TensorData::new(values, shape), self.device)
    }
}

struct Collector {
    path: ParameterPath,
    tensors: HashMap<String, TensorData>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.leave();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.tensors.insert(self.path.dotted(), param.val().into_data_dtype(DType::F32));
    }
}

/// A tensor ready to be written.
struct Stored {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

fn assemble(binding: &Binding, tensors: &mut HashMap<String, TensorData>) -> Stored {
    let parts: Vec<Plain> = binding
        .parameters
        .iter()
        .map(|parameter| {
            let data = tensors
                .remove(parameter)
                .unwrap_or_else(|| panic!("the module has no `{parameter}`"));
            let shape = data.shape().to_vec();
            Plain { shape, values: data.try_into_vec().expect("collected as f32") }
        })
        .collect();
    let mut shape = parts[0].shape.clone();
    let width = *shape.last().expect("parameters have at least one axis");
    let mut values = if parts.len() == 1 {
        parts.into_iter().next().expect("one part").values
    } else {
        let rows = parts[0].values.len() / width;
        (0..rows)
            .flat_map(|row| parts.iter().flat_map(move |part| &part.values[row * width..][..width]))
            .copied()
            .collect()
    };
    if let Some(last) = shape.last_mut() {
        *last *= binding.parameters.len();
    }
    if binding.transposed {
        values = transpose(&values, shape[0], shape[1]);
        shape.reverse();
    }
    Stored { shape, bytes: bytemuck::cast_slice(&values).to_vec() }
}

/// `[rows, columns]` → `[columns, rows]`.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let mut turned = vec![0.0; values.len()];
    turned.par_chunks_mut(rows * TILE).enumerate().for_each(|(tile, out)| {
        let first = tile * TILE;
        let count = out.len() / rows;
        for start in (0..rows).step_by(TILE) {
            for row in start..(start + TILE).min(rows) {
                for column in 0..count {
                    out[column * rows + row] = values[row * columns + first + column];
                }
            }
        }
    });
    turned
}

/// A tensor as f32.
struct Plain {
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// The tensors of a folder, wherever they are stored.
struct SafetensorsFiles {
    places: BTreeMap<String, Place>,
}

struct Place {
    file: PathBuf,
    dtype: Dtype,
    shape: Vec<usize>,
    start: u64,
    len: usize,
}

impl SafetensorsFiles {
    fn open(folder: &Path, optional_prefix: &str) -> Result<Self> {
        let mut places = BTreeMap::new();
        for file in weight_files(folder)? {
            let mut opened = File::open(&file).map_err(Error::io(&file, "read"))?;
            let size = opened.metadata().map_err(Error::io(&file, "read"))?.len();
            let mut length = [0; 8];
            let cut = |_| {
                Error::file(
                    &file,
                    "expected a safetensors file, found one cut in its header; fetch it again",
                )
            };
            opened.read_exact(&mut length).map_err(cut)?;
            let length = u64::from_le_bytes(length);
            if length > size {
                return Err(Error::file(
                    &file,
                    format!(
                        "expected a safetensors file, found a header of {length} bytes in {size}; fetch it again"
                    ),
                ));
            }
            let mut header = vec![0; length as usize];
            opened.read_exact(&mut header).map_err(cut)?;
            let metadata: safetensors::tensor::Metadata =
                serde_json::from_slice(&header).map_err(|error| {
                    Error::file(
                        &file,
                        format!(
                            "expected a safetensors header, found: {error}; fetch the file again"
                        ),
                    )
                })?;
            for (name, info) in metadata.tensors() {
                let start = 8 + length + info.data_offsets.0 as u64;
                let len = info.data_offsets.1 - info.data_offsets.0;
                if start + len as u64 > size {
                    return Err(Error::file(
                        &file,
                        format!(
                            "the file is cut: its header promises {} bytes, it has {size}; fetch it again",
                            8 + length + metadata.data_len() as u64
                        ),
                    ));
                }
                let name = if name.starts_with(optional_prefix)
                    || name == "lm_head.weight"
                    || name == "score.weight"
                {
                    name
                } else {
                    format!("{optional_prefix}{name}")
                };
                places.insert(
                    name,
                    Place {
                        file: file.clone(),
                        dtype: info.dtype,
                        shape: info.shape.clone(),
                        start,
                        len,
                    },
                );
            }
        }
        Ok(Self { places })
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    fn read(&self, name: &str) -> Result<Plain> {
        let place = &self.places[name];
        let mut file = File::open(&place.file).map_err(Error::io(&place.file, "read"))?;
        file.seek(SeekFrom::Start(place.start)).map_err(Error::io(&place.file, "read"))?;
        let mut bytes = vec![0; place.len];
        file.read_exact(&mut bytes).map_err(Error::io(&place.file, "read"))?;
        let values = match place.dtype {
            Dtype::F32 => bytemuck::pod_collect_to_vec(&bytes),
            Dtype::F16 => pairs(&bytes, |bits| half::f16::from_bits(bits).to_f32()),
            Dtype::BF16 => pairs(&bytes, |bits| half::bf16::from_bits(bits).to_f32()),
            other => {
                return Err(Error::file(
                    &place.file,
                    format!("`{name}`: expected F32, F16 or BF16, found {other:?}"),
                ));
            }
        };
        Ok(Plain { shape: place.shape.clone(), values })
    }
}

fn pairs(bytes: &[u8], value: impl Fn(u16) -> f32) -> Vec<f32> {
    bytes.chunks_exact(2).map(|pair| value(u16::from_le_bytes([pair[0], pair[1]]))).collect()
}

/// The safetensors files of a folder, shards in order.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>> {
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

fn token_list(value: Option<&Value>) -> Vec<u32> {
    match value {
        Some(Value::Array(list)) => {
            list.iter().filter_map(Value::as_u64).map(|it| it as u32).collect()
        }
        Some(value) => value.as_u64().map(|it| it as u32).into_iter().collect(),
        None => Vec::new(),
    }
}

/// The first few of a list, and how many more there are.
fn abridged(names: &[impl AsRef<str>]) -> String {
    const SHOWN: usize = 8;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// `config.json` of a model whose weights are written as f32.
pub fn as_f32(config: &Value) -> Value {
    let mut json = config.clone();
    json["dtype"] = json!("float32");
    if json.get("torch_dtype").is_some() {
        json["torch_dtype"] = json!("float32");
    }
    json
}

/// `config.json` of a reward model or classifier whose trunk has `config` as its own.
pub fn classifier_json(config: &Value, family: &Family) -> Value {
    let mut json = as_f32(config);
    json["architectures"] = json!([family.classifier_architecture]);
    json["id2label"] = json!({"0": "LABEL_0"});
    json["label2id"] = json!({"LABEL_0": 0});
    if json.get("pad_token_id").is_none_or(Value::is_null) {
        json["pad_token_id"] = match &json["eos_token_id"] {
            Value::Array(list) => list.first().cloned().unwrap_or(Value::Null),
            token => token.clone(),
        };
    }
    json
}
