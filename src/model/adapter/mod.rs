//! LoRA adapters (Hu et al. 2021), in and out as PEFT folders.
//!
//! A weight `[in, out]` with an adapter is `base + alpha / rank · a b`, `a` `[in, rank]`,
//! `b` `[rank, out]`; burn's own [`LoraAdapter`] computes it. PEFT keeps one pair of factors for a
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

use std::collections::{BTreeSet, HashMap};

use burn::module::{LoraAdapter, Module, ModuleVisitor, Param, Reparameterizer};
use burn::tensor::{Device, Tensor};
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::families::{Binding, SCORE};
use super::weights::ParameterPath;
use crate::{Error, Result, memory};
use factors::{Factors, Matrix};

pub use folder::AdapterFolder;
pub(super) use folder::Replacements;
pub use without::without_adapters;
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
        let adapted: Vec<&String> = adapted.into_iter().flat_map(|it| &it.parameters).collect();
        config.check_memory(adapted.iter().map(|&it| shapes[it]))?;
        let factors = adapted
            .into_iter()
            .map(|parameter| {
                let [input, output] = shapes[parameter];
                let bound = (input as f32).powf(-0.5);
                let mut random = rand_chacha::ChaCha12Rng::seed_from_u64(
                    seed ^ ParameterPath::of(parameter).number(),
                );
                let mut a = Matrix::zeros(input, config.rank);
                a.values.fill_with(|| random.random_range(-bound..bound));
                let b = Matrix::zeros(config.rank, output);
                (parameter.clone(), Factors::new(a, b, config.scale()))
            })
            .collect();
        Ok(Self { factors, ..Self::default() })
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
                (path.to_owned(), Factors::new(factor("a"), factor("b"), scale))
            })
            .collect();
        Self { factors, score, ..Self::default() }
    }

    /// `module` with these adapters to be trained, and nothing else but a scalar head. They are those
    /// of [`new`](Self::new), or of a folder that [`write`](Self::write) wrote: factors alone.
    pub fn attach<M: Module>(self, module: M, device: &Device) -> M {
        module.apply_reparameterization(Attach { adapters: self, device: device.clone() })
    }

    /// `module` with the adapters added into its weights.
    pub fn merge<M: Module>(self, module: M, device: &Device) -> M {
        merge::merge(self, module, device)
    }
}

impl LoraConfig {
    /// Refuses factors for which there is no room: of each the values, their gradients and Adam's two
    /// averages. `shapes` are those of the parameters that get them.
    fn check_memory(&self, shapes: impl Iterator<Item = [usize; 2]>) -> Result<()> {
        const COPIES: usize = 4;
        let of = |[input, output]: [usize; 2]| {
            let width = input.saturating_add(output);
            memory::product([width, self.rank, COPIES, size_of::<f32>()])
        };
        memory::check(
            shapes.map(of).fold(0, memory::Bytes::saturating_add),
            &format!("`adapter.rank` {}", self.rank),
            "lower it (--lora-rank), or adapt fewer matrices (--lora-targets)",
        )
    }

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
        let adapter = self.adapters.factors.remove(&path).map(|Factors { a, b, scale, .. }| {
            let factor = |matrix: Matrix| {
                Param::from_tensor(matrix.tensor(&self.device)).set_require_grad(true)
            };
            LoraAdapter { a: factor(a), b: factor(b), scale }
        });
        (param.set_require_grad(false), adapter)
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
