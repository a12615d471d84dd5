//! LoRA adapters (Hu et al. 2021), in and out as PEFT folders.
//!
//! A weight `[in, out]` with an adapter is `base + alpha / rank · a b`, `a` `[in, rank]`,
//! `b` `[rank, out]`; burn's own [`LoraAdapter`] computes it. PEFT keeps one pair of factors for a
//! stored tensor. Where that tensor holds several of our parameters (GPT-2's queries, keys and
//! values), the file has their factors side by side: `a` one after the other, `b` block by block,
//! with a rank that many times as large.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use burn::module::{LoraAdapter, Module, ModuleVisitor, Param, Reparameterizer};
use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::families::{Binding, SCORE};
use super::weights::{Packing, ParameterPath, SafetensorsFiles, write_tensors};
use crate::files::{read_json, write_json};
use crate::{Error, Result};

/// Name of the weights in a PEFT folder.
const WEIGHTS: &str = "adapter_model.safetensors";
/// Name of the settings in a PEFT folder.
pub(super) const CONFIG: &str = "adapter_config.json";
/// What PEFT puts before the name of a model's tensor.
const PREFIX: &str = "base_model.model.";

/// Which adapters a training starts with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraConfig {
    /// Width of the factors; 0 trains all weights instead.
    pub rank: usize,
    /// The product of the factors counts `alpha / rank`.
    pub alpha: f64,
    /// Names of the adapted modules as the model's files have them (`q_proj`); none: all matrices
    /// of the blocks.
    pub target_modules: Vec<String>,
}

/// The factors of one parameter.
#[derive(Clone, Debug, PartialEq)]
struct Factors {
    /// `[in, rank]`
    a: Matrix,
    /// `[rank, out]`
    b: Matrix,
    scale: f64,
}

/// A small matrix, row by row.
#[derive(Clone, Debug, Default, PartialEq)]
struct Matrix {
    rows: usize,
    columns: usize,
    values: Vec<f32>,
}

impl Matrix {
    fn zeros(rows: usize, columns: usize) -> Self {
        Self { rows, columns, values: vec![0.0; rows * columns] }
    }

    fn at(&self, row: usize, column: usize) -> f32 {
        self.values[row * self.columns + column]
    }

    fn set(&mut self, row: usize, column: usize, value: f32) {
        self.values[row * self.columns + column] = value;
    }

    fn tensor(&self, device: &Device) -> Tensor<2> {
        let data = TensorData::new(self.values.clone(), [self.rows, self.columns]);
        Tensor::from_data(data, device)
    }
}

/// The adapters of a model: factors by the path of their parameter, and the scalar head where that
/// was trained beside them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adapters {
    factors: HashMap<String, Factors>,
    score: Option<(String, Matrix)>,
}

impl Adapters {
    /// Adapters that change nothing yet: `a` uniform in ±1/√in from `seed`, `b` zero.
    ///
    /// # Errors
    /// If no module has one of the names asked for.
    pub fn new<M: Module>(
        config: &LoraConfig,
        module: &M,
        bindings: &[Binding],
        seed: u64,
    ) -> Result<Self> {
        let shapes = super::weights::shapes(module);
        let adapted: Vec<&Binding> =
            bindings.iter().filter(|binding| binding.is_adapted(&config.target_modules)).collect();
        if let Some(target) = config
            .target_modules
            .iter()
            .find(|target| !adapted.iter().any(|binding| names(binding, target)))
        {
            let known: BTreeSet<&str> =
                bindings.iter().filter(|it| it.is_adapted(&[])).map(last_name).collect();
            let known: Vec<&str> = known.into_iter().collect();
            return Err(Error::usage(format!(
                "`adapter.target_modules`: expected names among {}, found `{target}`",
                known.join(", ")
            )));
        }
        let factors = adapted
            .into_iter()
            .flat_map(|binding| &binding.parameters)
            .map(|parameter| {
                let [input, output] = shapes[parameter];
                let bound = (input as f32).powf(-0.5);
                let mut random = rand_chacha::ChaCha12Rng::seed_from_u64(
                    seed ^ ParameterPath::of(parameter).number(),
                );
                let mut a = Matrix::zeros(input, config.rank);
                a.values.fill_with(|| random.random_range(-bound..bound));
                let b = Matrix::zeros(config.rank, output);
                (parameter.clone(), Factors { a, b, scale: config.scale() })
            })
            .collect();
        Ok(Self { factors, score: None })
    }

    /// The adapters of a trained `module`, which were made as `config` says.
    pub fn of<M: Module>(module: &M, config: &LoraConfig) -> Self {
        let mut collector = Collector::default();
        module.visit(&mut collector);
        let mut found = collector.found;
        let score = found.remove(SCORE).map(|score| (SCORE.to_owned(), score));
        let factors = found
            .keys()
            .filter_map(|path| path.strip_suffix(".lora.a"))
            .map(|path| {
                let factor = |name: &str| found[&format!("{path}.lora.{name}")].clone();
                let scale = config.scale();
                (path.to_owned(), Factors { a: factor("a"), b: factor("b"), scale })
            })
            .collect();
        Self { factors, score }
    }

    /// `module` with these adapters to be trained, and nothing else but a scalar head.
    pub fn attach<M: Module>(self, module: M, device: &Device) -> M {
        module.apply_reparameterization(Attach { adapters: self, device: device.clone() })
    }

    /// `module` with the adapters added into its weights.
    pub fn merge<M: Module>(self, module: M, device: &Device) -> M {
        module.apply_reparameterization(Merge { adapters: self, device: device.clone() })
    }
}

impl LoraConfig {
    fn scale(&self) -> f64 {
        self.alpha / self.rank as f64
    }
}

struct Attach {
    adapters: Adapters,
    device: Device,
}

impl Reparameterizer for Attach {
    type Reparam = LoraAdapter;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LoraAdapter>) {
        let path = ParameterPath::of(path).dotted();
        if path == SCORE {
            return (param, None);
        }
        let adapter = self.adapters.factors.remove(&path).map(|Factors { a, b, scale }| {
            let factor = |matrix: Matrix| {
                Param::from_tensor(matrix.tensor(&self.device)).set_require_grad(true)
            };
            LoraAdapter { a: factor(a), b: factor(b), scale }
        });
        (param.set_require_grad(false), adapter)
    }
}

struct Merge {
    adapters: Adapters,
    device: Device,
}

impl Reparameterizer for Merge {
    type Reparam = LoraAdapter;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LoraAdapter>) {
        let path = ParameterPath::of(path).dotted();
        let Some(Factors { a, b, scale }) = self.adapters.factors.remove(&path) else {
            return (param, None);
        };
        let delta = a.tensor(&self.device).matmul(b.tensor(&self.device)) * scale;
        let tracked = self.device.is_autodiff();
        let merged = param.map(|base: Tensor<D>| {
            let sum = (base.clone() + delta.reshape(base.dims())).detach();
            if tracked { sum.require_grad() } else { sum }
        });
        (merged, None)
    }
}

/// The factors and the scalar head of a module, by path.
#[derive(Default)]
struct Collector {
    path: ParameterPath,
    found: HashMap<String, Matrix>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.leave();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let path = self.path.dotted();
        if path == SCORE || path.ends_with(".lora.a") || path.ends_with(".lora.b") {
            let dims = param.val().dims();
            let values = param.val().into_data_as::<f32>().try_into_vec().expect("as f32");
            self.found.insert(path, Matrix { rows: dims[0], columns: dims[D - 1], values });
        }
    }
}

fn module_name(binding: &Binding) -> &str {
    binding.name.strip_suffix(".weight").unwrap_or(&binding.name)
}

fn last_name(binding: &Binding) -> &str {
    module_name(binding).rsplit('.').next().unwrap_or_default()
}

/// Whether PEFT would take `target` for the module.
fn names(binding: &Binding, target: &str) -> bool {
    let name = module_name(binding);
    name == target || name.strip_suffix(target).is_some_and(|rest| rest.ends_with('.'))
}

impl Binding {
    /// Whether it is a matrix of a block and one of the `targets`, or any where there are none.
    fn is_adapted(&self, targets: &[String]) -> bool {
        let matrix = self.parameters.iter().all(|it| {
            it.ends_with(".weight") && it.trim_start_matches("decoder.").starts_with("blocks.")
        });
        matrix && (targets.is_empty() || targets.iter().any(|target| names(self, target)))
    }
}

/// A PEFT folder.
#[derive(Clone, Debug)]
pub struct AdapterFolder {
    /// The folder.
    pub path: PathBuf,
    /// `adapter_config.json`.
    json: Value,
}

impl AdapterFolder {
    /// Whether `path` is one.
    pub fn is_at(path: &Path) -> bool {
        path.join(CONFIG).is_file()
    }

    /// Reads `adapter_config.json`.
    ///
    /// # Errors
    /// If it is no LoRA adapter, or one of a kind that is not supported.
    pub fn open(path: &Path) -> Result<Self> {
        let file = path.join(CONFIG);
        let json: Value = read_json(&file)?;
        for (key, only) in [
            ("peft_type", json!("LORA")),
            ("use_dora", json!(false)),
            ("bias", json!("none")),
            ("trainable_token_indices", json!(null)),
        ] {
            let found = &json[key];
            if !found.is_null() && *found != only {
                return Err(Error::file(
                    &file,
                    format!("`{key}`: {found} is not supported, only {only}"),
                ));
            }
        }
        Ok(Self { path: path.to_owned(), json })
    }

    /// The folder, or hub id, of the model it belongs to.
    ///
    /// # Errors
    /// If the settings do not say.
    pub fn base(&self) -> Result<PathBuf> {
        let name = self.json["base_model_name_or_path"].as_str().ok_or_else(|| {
            Error::file(
                self.path.join(CONFIG),
                "`base_model_name_or_path`: expected the folder of the model this adapter belongs \
                 to, found none; merge with `exalign merge --model FOLDER`",
            )
        })?;
        Ok(PathBuf::from(name))
    }

    /// Whether it makes a reward model or classifier of its base.
    pub fn is_classifier(&self) -> bool {
        self.json["task_type"] == json!("SEQ_CLS")
    }

    /// Its weights, for the hash of what a model computes.
    pub fn files(&self) -> [PathBuf; 2] {
        [self.path.join(CONFIG), self.path.join(WEIGHTS)]
    }

    /// The scalar head trained beside the adapters, `[labels, hidden]`, if there is one.
    ///
    /// # Errors
    /// If the weights cannot be read.
    pub fn score(&self) -> Result<Option<(Vec<usize>, Vec<f32>)>> {
        let files = self.weights()?;
        let name = format!("{PREFIX}{SCORE}");
        let Some(shape) = files.shape(&name).map(<[usize]>::to_vec) else { return Ok(None) };
        let values = files.read(&name)?;
        Ok(Some((shape, values)))
    }

    fn weights(&self) -> Result<SafetensorsFiles> {
        let file = self.path.join(WEIGHTS);
        if !file.is_file() {
            return Err(Error::file(
                &self.path,
                format!(
                    "expected {WEIGHTS} beside {CONFIG}, found none; adapters saved as .bin are pickles: save them with safe_serialization=True"
                ),
            ));
        }
        SafetensorsFiles::open(&[file], |name| name)
    }

    /// The adapters for a module whose parameters are stored as `bindings` say.
    ///
    /// # Errors
    /// If a tensor belongs to no parameter, or does not fit it.
    pub fn read<M: Module>(&self, module: &M, bindings: &[Binding]) -> Result<Adapters> {
        let shapes = super::weights::shapes(module);
        let files = self.weights()?;
        let mut left: BTreeSet<String> = files.names().map(str::to_owned).collect();
        left.remove(&format!("{PREFIX}{SCORE}"));
        let mut adapters = Adapters::default();
        for binding in bindings {
            let name =
                |factor: &str| format!("{PREFIX}{}.lora_{factor}.weight", module_name(binding));
            let (a_name, b_name) = (name("A"), name("B"));
            if !(left.remove(&a_name) && left.remove(&b_name)) {
                continue;
            }
            let whole = |name: &str| -> Result<Matrix> {
                match files.shape(name) {
                    Some(&[rows, columns]) => {
                        Ok(Matrix { rows, columns, values: files.read(name)? })
                    }
                    shape => Err(self.misfit(name, "a matrix", &format!("{shape:?}"))),
                }
            };
            let (a, b) = (whole(&a_name)?, whole(&b_name)?); // [rank, in], [out, rank]
            let parts: Vec<[usize; 2]> = binding.parameters.iter().map(|it| shapes[it]).collect();
            let packing = Packing::new(binding, parts.iter().map(|[_, output]| *output).collect());
            if a.columns != parts[0][0] || b.rows != packing.width() || a.rows != b.columns {
                return Err(self.misfit(
                    module_name(binding),
                    &format!("factors [rank, {}] and [{}, rank]", parts[0][0], packing.width()),
                    &format!("[{}, {}] and [{}, {}]", a.rows, a.columns, b.rows, b.columns),
                ));
            }
            let scale = self.scale(module_name(binding), a.rows);
            let split = self.is_split(a.rows, parts.len());
            for (part, parameter) in binding.parameters.iter().enumerate() {
                let factors = unpacked(&a, &b, &packing, part, split.then_some(parts.len()), scale);
                adapters.factors.insert(parameter.clone(), factors);
            }
        }
        if left.is_empty() {
            return Ok(adapters);
        }
        let left: Vec<String> = left.into_iter().collect();
        Err(Error::file(
            self.path.join(WEIGHTS),
            format!(
                "expected adapters of the model's matrices, found tensors of nothing it has: {}",
                super::weights::abridged(&left)
            ),
        ))
    }

    /// Whether a tensor of `parts` parameters has a rank of its own for each of them, as
    /// [`Adapters::write`] makes it.
    fn is_split(&self, rank: usize, parts: usize) -> bool {
        parts > 1 && self.json["r"].as_u64().is_some_and(|r| rank == r as usize * parts)
    }

    fn scale(&self, module: &str, rank: usize) -> f64 {
        let patterned = self.json["alpha_pattern"].as_object().into_iter().flatten();
        let alpha = patterned
            .into_iter()
            .find(|(name, _)| {
                module == *name
                    || module.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'))
            })
            .map_or(&self.json["lora_alpha"], |(_, alpha)| alpha)
            .as_f64()
            .unwrap_or(8.0);
        let rank = rank as f64;
        alpha / if self.json["use_rslora"] == json!(true) { rank.sqrt() } else { rank }
    }

    fn misfit(&self, tensor: &str, expected: &str, found: &str) -> Error {
        Error::file(
            self.path.join(WEIGHTS),
            format!(
                "`{tensor}`: expected {expected}, found {found}; is it another model's adapter?"
            ),
        )
    }
}

/// The factors of parameter `part` out of those of its tensor, `a` `[rank, in]`, `b` `[out, rank]`;
/// with only its share of the ranks where each of `split` parameters has one.
fn unpacked(
    a: &Matrix,
    b: &Matrix,
    packing: &Packing,
    part: usize,
    split: Option<usize>,
    scale: f64,
) -> Factors {
    let rank = a.rows / split.unwrap_or(1);
    let first = if split.is_some() { part * rank } else { 0 };
    let mut own_a = Matrix::zeros(a.columns, rank);
    for r in 0..rank {
        for input in 0..a.columns {
            own_a.set(input, r, a.at(first + r, input));
        }
    }
    let mut own_b = Matrix::zeros(rank, packing.part(part));
    for segment in packing.segments(part) {
        for (offset, stored) in segment.stored.enumerate() {
            for r in 0..rank {
                own_b.set(r, segment.own + offset, b.at(stored, first + r));
            }
        }
    }
    Factors { a: own_a, b: own_b, scale }
}

/// The factors of a tensor, `a` `[rank, in]` and `b` `[out, rank]`, out of those of its parameters.
fn packed(parts: &[&Factors], packing: &Packing) -> (Matrix, Matrix) {
    let rank: usize = parts.iter().map(|part| part.a.columns).sum();
    let mut a = Matrix::zeros(rank, parts[0].a.rows);
    let mut b = Matrix::zeros(packing.width(), rank);
    let mut first = 0;
    for (index, part) in parts.iter().enumerate() {
        for r in 0..part.a.columns {
            for input in 0..part.a.rows {
                a.set(first + r, input, part.a.at(input, r));
            }
            for segment in packing.segments(index) {
                for (offset, stored) in segment.stored.enumerate() {
                    b.set(stored, first + r, part.b.at(r, segment.own + offset));
                }
            }
        }
        first += part.a.columns;
    }
    (a, b)
}

/// What a PEFT folder says of the model its adapters belong to.
#[derive(Clone, Copy, Debug)]
pub struct AdapterTarget<'a> {
    /// Where each parameter of the model is stored.
    pub bindings: &'a [Binding],
    /// The folder or hub id of the model.
    pub base: &'a str,
    /// Whether it is a reward model's.
    pub is_classifier: bool,
}

impl Adapters {
    /// Writes the folder that `peft` loads.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, config: &LoraConfig, target: AdapterTarget, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        let mut tensors = BTreeMap::new();
        let (mut modules, mut ranks, mut alphas) =
            (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        for binding in target.bindings {
            let parts: Vec<&Factors> =
                binding.parameters.iter().filter_map(|it| self.factors.get(it)).collect();
            if parts.is_empty() {
                continue;
            }
            let module = module_name(binding);
            let packing = Packing::new(binding, parts.iter().map(|part| part.b.columns).collect());
            let (a, b) = packed(&parts, &packing);
            modules.insert(last_name(binding));
            if a.rows != config.rank {
                ranks.insert(module, a.rows);
                alphas.insert(module, parts[0].scale * a.rows as f64);
            }
            for (factor, Matrix { rows, columns, values }) in [("A", a), ("B", b)] {
                let name = format!("{PREFIX}{module}.lora_{factor}.weight");
                tensors.insert(name, (vec![rows, columns], values));
            }
        }
        if let Some((_, score)) = &self.score {
            // Stored [labels, hidden], and a single label's row is its column.
            let shape = vec![score.columns, score.rows];
            tensors.insert(format!("{PREFIX}{SCORE}"), (shape, score.values.clone()));
        }
        let targets: Vec<&str> = modules.into_iter().collect();
        let given = &config.target_modules;
        write_json(
            &folder.join(CONFIG),
            &json!({
                "peft_type": "LORA",
                "task_type": if target.is_classifier { "SEQ_CLS" } else { "CAUSAL_LM" },
                "base_model_name_or_path": target.base,
                "r": config.rank,
                "lora_alpha": config.alpha,
                "lora_dropout": 0.0,
                "bias": "none",
                "fan_in_fan_out": target.bindings.iter().any(|it| it.is_adapted(&[]) && !it.transposed),
                "target_modules": if given.is_empty() { json!(targets) } else { json!(given) },
                "rank_pattern": ranks,
                "alpha_pattern": alphas,
                "modules_to_save": if self.score.is_some() { json!(["score"]) } else { json!(null) },
                "inference_mode": true,
                "use_rslora": false,
                "use_dora": false,
            }),
        )?;
        write_tensors(tensors, &folder.join(WEIGHTS))
    }
}
