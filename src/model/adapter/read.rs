//! The adapters of a PEFT folder.

use std::collections::{BTreeSet, HashMap};

use burn::module::Module;

use super::factors::{Factors, Matrix, is_apart, unpacked, unpacked_vector};
use super::folder::{AdapterFolder, ORIGINAL_SCORE, SAVED_SCORE, candidate};
use super::{Adapters, EmbeddingRows, PREFIX, WEIGHTS, module_name};
use crate::model::families::{Binding, SCORE};
use crate::model::weights::{Packing, SafetensorsFiles, abridged, shapes, shown};
use crate::{Error, Result};

impl AdapterFolder {
    /// The adapters for a module whose parameters are stored as `bindings` say.
    ///
    /// # Errors
    /// If a tensor belongs to no parameter, or does not fit it, or a setting is not supported.
    pub fn read<M: Module>(&self, module: &M, bindings: &[Binding]) -> Result<Adapters> {
        self.read_beside(module, bindings, &|_| false)
    }

    /// The same, leaving aside the tensors of modules that the model is loaded without.
    ///
    /// # Errors
    /// The same.
    pub(in crate::model) fn read_beside<M: Module>(
        &self,
        module: &M,
        bindings: &[Binding],
        left_aside: &dyn Fn(&str) -> bool,
    ) -> Result<Adapters> {
        let files = self.weights()?;
        if files.names().next().is_none() {
            return Err(Error::file(
                self.path.join(WEIGHTS),
                format!(
                    "expected the factors of adapters, found no tensor at all; save the adapter again{GATHERED}"
                ),
            ));
        }
        let mut left: BTreeSet<String> = files.names().map(str::to_owned).collect();
        for head in [SCORE, SAVED_SCORE, ORIGINAL_SCORE] {
            left.remove(&format!("{PREFIX}{head}"));
        }
        left.retain(|name| !left_aside(name.strip_prefix(PREFIX).unwrap_or(name)));
        for replaced in self.replacements(bindings, None)?.names() {
            left.remove(replaced);
        }
        let mut reading = Reading {
            folder: self,
            files,
            shapes: shapes(module),
            left,
            adapters: Adapters::default(),
        };
        let (mut num_found, mut missing) = (0, Vec::new());
        for binding in bindings.iter().filter(|it| it.name.ends_with(".weight")) {
            if reading.factors(binding, bindings)? {
                num_found += 1;
            } else if self.settings.targets(candidate(binding))? {
                missing.push(module_name(binding));
            }
            reading.rows(binding)?;
        }
        let adapters = reading.finish()?;
        if !missing.is_empty() {
            tracing::warn!(
                "{}: expected the factors of the {} modules that target_modules takes, found those of {num_found}. \
                 The base's weights stand unchanged in {}. Save the adapter again if it was trained on them{GATHERED}",
                self.path.join(WEIGHTS).display(),
                num_found + missing.len(),
                abridged(&missing)
            );
        }
        Ok(adapters)
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

/// What to do where a training in parts has left factors out.
const GATHERED: &str =
    "; with ZeRO-3, gather the weights first (stage3_gather_16bit_weights_on_model_save)";

/// An adapter's file while it is read.
struct Reading<'a> {
    folder: &'a AdapterFolder,
    files: SafetensorsFiles,
    /// Of the module's parameters.
    shapes: HashMap<String, [usize; 2]>,
    /// Tensors that are not read yet.
    left: BTreeSet<String>,
    adapters: Adapters,
}

impl Reading<'_> {
    /// Reads the factors of a stored tensor; whether the file has them.
    fn factors(&mut self, binding: &Binding, bindings: &[Binding]) -> Result<bool> {
        let module = module_name(binding);
        let name = |factor: &str| match is_embedding(binding) {
            true => format!("{PREFIX}{module}.lora_embedding_{factor}"),
            false => format!("{PREFIX}{module}.lora_{factor}.weight"),
        };
        let (a_name, b_name) = (name("A"), name("B"));
        if !(self.left.remove(&a_name) & self.left.remove(&b_name)) {
            if self.files.shape(&a_name).or(self.files.shape(&b_name)).is_some() {
                return Err(self.folder.misfit(module, "two factors", "one"));
            }
            return Ok(false);
        }
        if !self.folder.settings.targets(candidate(binding))? {
            return Err(self.folder.settings.error(
                "target_modules",
                format!(
                    "does not take `{module}`, whose factors stand in {WEIGHTS} (see also \
                     exclude_modules, layers_to_transform and modules_to_save); peft would leave \
                     them out: correct the settings, or save the adapter without them"
                ),
            ));
        }
        let (a, b) = (self.matrix(&a_name)?, self.matrix(&b_name)?); // [rank, in], [out, rank]
        let parts: Vec<[usize; 2]> = binding.parameters.iter().map(|it| self.shapes[it]).collect();
        let packing = Packing::new(binding, parts.iter().map(|[_, output]| *output).collect());
        if a.columns != parts[0][0] || b.rows != packing.width() || a.rows != b.columns {
            return Err(self.folder.misfit(
                module,
                &format!("factors [rank, {}] and [{}, rank]", parts[0][0], packing.width()),
                &format!("[{}, {}] and [{}, {}]", a.rows, a.columns, b.rows, b.columns),
            ));
        }
        let rank = self.folder.settings.rank(module)?;
        if a.rows != rank {
            let expected = format!("factors of rank {rank}, as r and rank_pattern say");
            return Err(self.folder.misfit(module, &expected, &a.rows.to_string()));
        }
        let scale = self.folder.settings.scale(module)?;
        let magnitude = self.magnitude(module, packing.width())?;
        let is_split = self.is_split(rank, parts.len()) && is_apart(&b, &packing, parts.len());
        let split = is_split.then_some(parts.len());
        for (part, parameter) in binding.parameters.iter().enumerate() {
            let factors = unpacked(&a, &b, &packing, part, split, scale);
            let magnitude = magnitude.as_ref().map(|it| unpacked_vector(it, &packing, part));
            self.adapters.factors.insert(parameter.clone(), Factors { magnitude, ..factors });
        }
        self.bias(module, scale, bindings)?;
        Ok(true)
    }

    /// Whether a tensor of `parts` parameters may have a rank of its own for each of them, as
    /// [`Adapters::write`] makes it; any adapter may have as many ranks.
    fn is_split(&self, rank: usize, parts: usize) -> bool {
        let r = self.folder.settings.get("r").and_then(serde_json::Value::as_u64);
        parts > 1 && r.is_some_and(|r| rank == r as usize * parts)
    }

    /// The lengths of a weight's columns, where the adapter has learned them.
    fn magnitude(&mut self, module: &str, width: usize) -> Result<Option<Vec<f32>>> {
        let name = [".weight", ""]
            .map(|end| format!("{PREFIX}{module}.lora_magnitude_vector{end}"))
            .into_iter()
            .find(|name| self.left.remove(name));
        match (name, self.folder.settings.is_set("use_dora")) {
            (None, false) => Ok(None),
            (Some(name), true) => self.vector(&name, width).map(Some),
            (None, true) => Err(self.folder.misfit(module, "a lora_magnitude_vector", "none")),
            (Some(_), false) => Err(self.folder.settings.error(
                "use_dora",
                format!(
                    "is false, but `{module}` has a lora_magnitude_vector; correct the setting"
                ),
            )),
        }
    }

    /// What the bias of a factor adds to the module's own.
    fn bias(&mut self, module: &str, scale: f64, bindings: &[Binding]) -> Result<()> {
        let name = format!("{PREFIX}{module}.lora_B.bias");
        if !self.left.remove(&name) {
            return Ok(());
        }
        let own = format!("{module}.bias");
        let Some(binding) = bindings.iter().find(|it| it.name == own) else {
            return Err(self.folder.settings.error(
                "lora_bias",
                format!(
                    "adds a bias to `{module}`, which has none in this model, so the two cannot be \
                     merged (neither by peft); train the adapter with lora_bias=False"
                ),
            ));
        };
        let widths = binding.parameters.iter().map(|it| self.shapes[it][1]).collect();
        let packing = Packing::new(binding, widths);
        let mut values = self.vector(&name, packing.width())?;
        values.iter_mut().for_each(|it| *it = (f64::from(*it) * scale) as f32);
        for (part, parameter) in binding.parameters.iter().enumerate() {
            let own = unpacked_vector(&values, &packing, part);
            self.adapters.biases.insert(parameter.clone(), own);
        }
        Ok(())
    }

    /// The rows of an embedding that the file has.
    fn rows(&mut self, binding: &Binding) -> Result<()> {
        let module = module_name(binding);
        let name = format!("{PREFIX}{module}.token_adapter.trainable_tokens_delta");
        if !self.left.remove(&name) {
            return Ok(());
        }
        if !is_embedding(binding) {
            return Err(self.folder.settings.not_read(
                "trainable_token_indices",
                &format!("is supported for the token embedding, found `{module}`"),
            ));
        }
        let indices = self.folder.settings.token_indices(module)?;
        let values = self.matrix(&name)?;
        let [vocabulary, hidden] = self.shapes[&binding.parameters[0]];
        if values.rows != indices.len() || values.columns != hidden {
            return Err(self.folder.misfit(
                module,
                &format!("[{}, {hidden}] for {indices:?}", indices.len()),
                &format!("[{}, {}]", values.rows, values.columns),
            ));
        }
        if let Some(token) = indices.iter().find(|&&it| it >= vocabulary) {
            return Err(self.folder.settings.error(
                "trainable_token_indices",
                format!(
                    "expected tokens of the {vocabulary} that the model has, found {token}, and no embedding of more \
                     tokens in {WEIGHTS}; save the adapter again with save_embedding_layers=True"
                ),
            ));
        }
        let rows = EmbeddingRows { indices, values };
        self.adapters.rows.insert(binding.parameters[0].clone(), rows);
        Ok(())
    }

    fn matrix(&self, name: &str) -> Result<Matrix> {
        match self.files.shape(name) {
            Some(&[rows, columns]) => Ok(Matrix { rows, columns, values: self.files.read(name)? }),
            found => Err(self.folder.misfit(name, "a matrix", &shown(found))),
        }
    }

    fn vector(&self, name: &str, width: usize) -> Result<Vec<f32>> {
        match self.files.shape(name) {
            Some(shape) if shape.iter().product::<usize>() == width => self.files.read(name),
            found => Err(self.folder.misfit(name, &format!("[{width}]"), &shown(found))),
        }
    }

    fn finish(self) -> Result<Adapters> {
        if self.left.is_empty() {
            return Ok(self.adapters);
        }
        let left: Vec<&str> = self.left.iter().map(|name| self.files.stored_name(name)).collect();
        Err(Error::file(
            self.folder.path.join(WEIGHTS),
            format!(
                "expected adapters of the model's matrices, found tensors of nothing it has: {}",
                abridged(&left)
            ),
        ))
    }
}

/// Whether a tensor is an embedding, whose factors PEFT calls otherwise.
fn is_embedding(binding: &Binding) -> bool {
    matches!(
        binding.parameters[0].trim_start_matches("decoder."),
        "tokens.weight" | "positions.weight"
    )
}
