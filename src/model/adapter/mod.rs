//! LoRA adapters (Hu et al. 2021), in and out as PEFT folders.
//!
//! A weight `[in, out]` with an adapter is `base + alpha / rank · a b`, `a` `[in, rank]`,
//! `b` `[rank, out]`; [`Frozen`] computes it. PEFT keeps one pair of factors for a
//! stored tensor. Where that tensor holds several of our parameters (GPT-2's queries, keys and
//! values), the file has their factors side by side: `a` one after the other, `b` block by block,
//! with a rank that many times as large.
//!
//! | part | what |
//! |---|---|
//! | [`AdapterFolder`] | a PEFT folder: its base, its tensors |
//! | `settings` | what `adapter_config.json` says, or a refusal by the setting's name |
//! | `pattern` | which modules a name or a regular expression of PEFT takes |
//! | `factors` | factors of a stored tensor and of the parameters in it |
//! | `without` | the model that adapters were trained on |
//! | `write` | the folder that PEFT loads |

mod factors;
mod folder;
mod merge;
mod pattern;
mod read;
mod settings;
mod without;
mod write;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use burn::module::{Module, ModuleVisitor, Param, Reparameterizer};
use burn::tensor::{Device, Tensor};
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::families::{Binding, SCORE};
use super::precision::is_of_block;
use super::weights::ParameterPath;
use crate::kernels::linear::Frozen;
use crate::kernels::packed::Packed;
use crate::{Error, Result, memory};
use factors::{Factors, Matrix};

pub use folder::AdapterFolder;
pub(super) use folder::Replacements;
pub(super) use without::is_packed;
pub use without::{with_adapters_added, without_adapters};
pub use write::AdapterTarget;

/// Name of the weights in a PEFT folder.
pub(super) const WEIGHTS: &str = "adapter_model.safetensors";
/// Name of the settings in a PEFT folder.
pub(super) const CONFIG: &str = "adapter_config.json";
/// The setting that holds an object of notes.
const NOTES: &str = "auto_mapping";
/// What PEFT puts before the name of a model's tensor.
const PREFIX: &str = "base_model.model.";

/// Which adapters a training starts with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraConfig {
    /// Width of the factors; 0 trains all weights instead.
    pub rank: usize,
    /// The product of the factors counts `alpha / rank`.
    pub alpha: f64,
    /// Whether it counts `alpha / √rank` instead (rsLoRA, Kalajdzievski 2023).
    pub rslora: bool,
    /// Other ranks, by names as PEFT's `rank_pattern` has them.
    pub rank_pattern: BTreeMap<String, usize>,
    /// Other alphas, by names as PEFT's `alpha_pattern` has them.
    pub alpha_pattern: BTreeMap<String, f64>,
    /// The share of the entries that adapters do not read in a pass of a training, from 0 to less than 1; of use
    /// to the training, none to the adapters themselves.
    pub dropout: f64,
    /// Names of the adapted modules as the model's files have them (`q_proj`); none: all matrices
    /// of the blocks.
    pub target_modules: Vec<String>,
}

/// The adapters of a model: factors by the path of their parameter, what else is added to its
/// parameters, and the scalar head where that was trained beside them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adapters {
    factors: HashMap<String, Factors>,
    /// What is added to a bias, by its path: the bias of a factor, scaled.
    biases: HashMap<String, Vec<f32>>,
    /// Rows that stand for those of an embedding, by its path.
    rows: HashMap<String, EmbeddingRows>,
    score: Option<(String, Matrix)>,
}

/// Some rows of an embedding.
#[derive(Clone, Debug, PartialEq)]
struct EmbeddingRows {
    indices: Vec<usize>,
    /// `[indices, hidden]`
    values: Matrix,
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
        let adapted = config.adapted(bindings)?;
        let sizes = adapted.iter().map(|(parameter, rank, _)| (shapes[*parameter], *rank));
        check_memory(sizes)?;
        let factors = adapted
            .into_iter()
            .map(|(parameter, rank, scale)| {
                let [input, output] = shapes[parameter];
                let bound = (input as f32).powf(-0.5);
                let mut random = rand_chacha::ChaCha12Rng::seed_from_u64(
                    seed ^ ParameterPath::of(parameter).number(),
                );
                let mut a = Matrix::zeros(input, rank);
                a.values.fill_with(|| random.random_range(-bound..bound));
                let b = Matrix::zeros(rank, output);
                (parameter.clone(), Factors::new(a, b, scale))
            })
            .collect();
        Ok(Self { factors, ..Self::default() })
    }

    /// The adapters of a trained `module`, whose parameters are stored as `bindings` say; they were made as
    /// `config` says.
    ///
    /// # Errors
    /// If a pattern of the settings cannot be read.
    pub fn of<M: Module>(module: &M, config: &LoraConfig, bindings: &[Binding]) -> Result<Self> {
        let mut collector = Collector::default();
        module.visit(&mut collector);
        let mut found = collector.found;
        let score = found.remove(SCORE).map(|score| (SCORE.to_owned(), score));
        let factors = config
            .adapted(bindings)?
            .into_iter()
            .filter(|(path, ..)| found.contains_key(&format!("{path}.lora.a")))
            .map(|(path, _, scale)| {
                let factor = |name: &str| found[&format!("{path}.lora.{name}")].clone();
                (path.clone(), Factors::new(factor("a"), factor("b"), scale))
            })
            .collect();
        Ok(Self { factors, score, ..Self::default() })
    }

    /// `module` frozen, with these adapters to be trained. They are those of [`new`](Self::new), or of a folder
    /// that [`write`](Self::write) wrote: factors alone.
    pub fn attach<M: Module>(self, module: M, device: &Device) -> M {
        frozen(module, Some(self), HashMap::new(), device)
    }

    /// Whether there is nothing but factors.
    pub(super) fn are_factors_alone(&self) -> bool {
        self.biases.is_empty()
            && self.rows.is_empty()
            && self.factors.values().all(|factors| factors.magnitude.is_none())
    }

    /// The adapters of the module under `prefix`, whose parameters are called without it.
    pub(super) fn under(mut self, prefix: &str) -> Self {
        let short = |(path, factors): (String, Factors)| {
            (path.strip_prefix(prefix).map_or(path.clone(), str::to_owned), factors)
        };
        self.factors = self.factors.into_iter().map(short).collect();
        self
    }

    /// `module` with the adapters added into its weights.
    pub fn merge<M: Module>(self, module: M, device: &Device) -> M {
        merge::merge(self, module, device)
    }
}

impl LoraConfig {
    /// None: the whole model is trained.
    pub fn none() -> Self {
        Self {
            rank: 0,
            alpha: 1.0,
            rslora: false,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            dropout: 0.0,
            target_modules: Vec::new(),
        }
    }

    /// How many weights the adapters of a module have.
    ///
    /// # Errors
    /// If no module has one of the names asked for.
    pub fn num_parameters<M: Module>(&self, module: &M, bindings: &[Binding]) -> Result<u128> {
        let shapes = super::weights::shapes(module);
        let adapted = self.adapted(bindings)?;
        check_memory(adapted.iter().map(|(name, rank, _)| (shapes[*name], *rank)))?;
        let size = |(name, rank, _): (&String, usize, f64)| {
            memory::product([shapes[name].iter().sum(), rank])
        };
        Ok(adapted.into_iter().map(size).sum())
    }

    /// The parameters that get adapters, each with its rank and what the product of the factors counts.
    fn adapted<'b>(&self, bindings: &'b [Binding]) -> Result<Vec<(&'b String, usize, f64)>> {
        let adapted: Vec<&Binding> =
            bindings.iter().filter(|binding| binding.is_adapted(&self.target_modules)).collect();
        let lacks = |name: &&String| !adapted.iter().any(|binding| names(binding, name));
        if let Some(target) = self.target_modules.iter().find(lacks) {
            return Err(unknown("target_modules", target, bindings));
        }
        let mut all = Vec::new();
        for binding in &adapted {
            let rank = patterned("rank_pattern", &self.rank_pattern, binding)?.unwrap_or(self.rank);
            let alpha =
                patterned("alpha_pattern", &self.alpha_pattern, binding)?.unwrap_or(self.alpha);
            let scale = alpha / if self.rslora { (rank as f64).sqrt() } else { rank as f64 };
            if binding.parameters.len() > 1 && rank != self.rank {
                return Err(Error::usage(format!(
                    "`adapter.rank_pattern`: expected modules of one matrix, found `{}`, which holds {}; leave it out, \
                     or set adapter.rank",
                    last_name(binding),
                    binding.parameters.len()
                )));
            }
            all.extend(binding.parameters.iter().map(|parameter| (parameter, rank, scale)));
        }
        self.check_patterns(&adapted, bindings)?;
        Ok(all)
    }

    /// Refuses a pattern that takes none of the adapted modules.
    fn check_patterns(&self, adapted: &[&Binding], bindings: &[Binding]) -> Result<()> {
        let ranks = self.rank_pattern.keys().map(|name| ("rank_pattern", name));
        let alphas = self.alpha_pattern.keys().map(|name| ("alpha_pattern", name));
        for (key, name) in ranks.chain(alphas) {
            let takes = |binding: &&Binding| pattern::takes(name, module_name(binding)) == Ok(true);
            if !adapted.iter().any(takes) {
                return Err(unknown(key, name, bindings));
            }
        }
        Ok(())
    }
}

/// The value of the first pattern that takes a module.
fn patterned<T: Copy>(
    key: &str,
    patterns: &BTreeMap<String, T>,
    binding: &Binding,
) -> Result<Option<T>> {
    for (expression, &value) in patterns {
        let takes = pattern::takes(expression, module_name(binding)).map_err(|error| {
            Error::usage(format!(
                "`adapter.{key}`: expected a regular expression, found `{expression}`: {error}"
            ))
        })?;
        if takes {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// A name that no module has.
fn unknown(key: &str, name: &str, bindings: &[Binding]) -> Error {
    let known: BTreeSet<&str> =
        bindings.iter().filter(|it| it.is_adapted(&[])).map(last_name).collect();
    let known: Vec<&str> = known.into_iter().collect();
    Error::usage(format!(
        "`adapter.{key}`: expected names among {}, found `{name}`",
        known.join(", ")
    ))
}

/// Refuses factors for which there is no room: of each the values, their gradients and Adam's two averages.
/// Given are the shapes of the parameters that get them, and the ranks.
fn check_memory(sizes: impl Iterator<Item = ([usize; 2], usize)>) -> Result<()> {
    const COPIES: usize = 4;
    let of = |([input, output], rank): ([usize; 2], usize)| {
        let width = input.saturating_add(output);
        memory::product([width, rank, COPIES, size_of::<f32>()])
    };
    let (mut largest, mut needed) = (0, 0);
    for (shape, rank) in sizes {
        largest = largest.max(rank);
        needed = memory::Bytes::saturating_add(needed, of((shape, rank)));
    }
    memory::check(
        needed,
        &format!("`adapter.rank` {largest}"),
        "lower it (--lora-rank), or adapt fewer matrices (--lora-targets)",
    )
}

/// `module` frozen, with `adapters` to be trained if there are some, and with the weights of `packed` in few bits,
/// by path.
pub(super) fn frozen<M: Module>(
    module: M,
    adapters: Option<Adapters>,
    packed: HashMap<String, Packed>,
    device: &Device,
) -> M {
    if adapters.is_none() && packed.is_empty() {
        return module;
    }
    module.apply_reparameterization(Attach {
        adapters: adapters.unwrap_or_default(),
        packed,
        device: device.clone(),
    })
}

struct Attach {
    adapters: Adapters,
    packed: HashMap<String, Packed>,
    device: Device,
}

impl Reparameterizer for Attach {
    type Reparam = Frozen;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<Frozen>) {
        let path = ParameterPath::of(path);
        let (number, path) = (path.number(), path.dotted());
        if path == SCORE {
            return (param, None);
        }
        let packed = self.packed.remove(&path);
        let factors = self.adapters.factors.remove(&path).map(|Factors { a, b, scale, .. }| {
            let factor = |matrix: Matrix| {
                Param::from_tensor(matrix.tensor(&self.device)).set_require_grad(true)
            };
            (factor(a), factor(b), scale)
        });
        (param.set_require_grad(false), Frozen::new(factors, packed, number))
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
        let matrix = self.parameters.iter().all(|it| is_of_block(it));
        matrix && (targets.is_empty() || targets.iter().any(|target| names(self, target)))
    }
}
