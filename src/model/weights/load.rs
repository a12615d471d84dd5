//! From stored tensors to the parameters of a module.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};
use rayon::prelude::*;

use super::packing::{Matrix, Packing, transpose};
use super::parameters::{ParameterPath, parameter};
use super::{SafetensorsFiles, abridged};
use crate::model::families::Binding;
use crate::model::precision::is_of_norm;
use crate::{Error, Result};

/// How the parameters of a module are read from files.
pub struct Load<'a> {
    /// The folder, for messages.
    pub folder: &'a Path,
    /// Where each parameter is stored.
    pub bindings: &'a [Binding],
    /// Tensors that may stand in the files and have no place in the module.
    pub ignores: &'a dyn Fn(&str) -> bool,
    /// What the parameters are kept as.
    pub dtype: DType,
    /// Where they are kept.
    pub device: &'a Device,
}

impl Load<'_> {
    /// The module with the parameters of `files`.
    ///
    /// # Errors
    /// If tensors are missing, unexpected or misshapen: all of them are named.
    pub fn load<M: Module>(&self, module: M, files: SafetensorsFiles) -> Result<M> {
        let shapes = shapes(&module);
        self.check(&files, &shapes)?;
        // Several at once: most of the time goes into pages that memory is taken of.
        let parameters: Vec<(&String, &Binding, usize)> = self
            .bindings
            .iter()
            .flat_map(|it| {
                it.parameters.iter().enumerate().map(move |(part, name)| (name, it, part))
            })
            .collect();
        let kept_as = self.dtype;
        let values = parameters
            .into_par_iter()
            .map(|(name, binding, part)| {
                let dtype = if is_of_norm(name) { DType::F32 } else { kept_as };
                let stored = values(&files, &shapes, binding, part)?;
                Ok((name.clone(), stored.convert_dtype(dtype)))
            })
            .collect::<Result<_>>()?;
        let mut loader =
            Loader { load: self, values, path: ParameterPath::default(), left: vec![] };
        let module = module.map(&mut loader);
        if loader.left.is_empty() {
            return Ok(module);
        }
        let left = abridged(&loader.left);
        Err(Error::file(self.folder, format!("no tensor is known to hold the parameters {left}")))
    }

    fn check(&self, files: &SafetensorsFiles, shapes: &HashMap<String, [usize; 2]>) -> Result<()> {
        let expected: BTreeSet<&str> =
            self.bindings.iter().map(|binding| binding.name.as_str()).collect();
        let unexpected: Vec<&str> = files
            .names()
            .filter(|name| !expected.contains(name) && !(self.ignores)(name))
            .collect();
        let missing: Vec<&str> =
            expected.iter().copied().filter(|name| files.shape(name).is_none()).collect();
        let misshapen: Vec<String> =
            self.bindings.iter().filter_map(|binding| misshapen(binding, files, shapes)).collect();
        let problems: Vec<String> = [
            ("unexpected", abridged(&unexpected)),
            ("missing", abridged(&missing)),
            ("misshapen", abridged(&misshapen)),
        ]
        .into_iter()
        .filter(|(_, names)| !names.is_empty())
        .map(|(problem, names)| format!("{problem} tensors: {names}"))
        .collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::file(
            self.folder,
            format!("the weights do not fit config.json; {}", problems.join("; ")),
        ))
    }
}

/// What is wrong with the shape of a tensor that is there.
fn misshapen(
    binding: &Binding,
    files: &SafetensorsFiles,
    shapes: &HashMap<String, [usize; 2]>,
) -> Option<String> {
    let found = files.shape(&binding.name)?;
    let total: usize = binding.parameters.iter().map(|name| shapes[name][1]).sum();
    let rows = shapes[&binding.parameters[0]][0];
    let expected = match found.len() {
        1 if rows == 1 => vec![total],
        _ if binding.transposed => vec![total, rows],
        _ => vec![rows, total],
    };
    (found != expected)
        .then(|| format!("{} (expected {expected:?}, found {found:?})", binding.name))
}

/// The shape of every parameter as rows and columns, a vector being one row.
pub(in crate::model) fn shapes<M: Module>(module: &M) -> HashMap<String, [usize; 2]> {
    #[derive(Default)]
    struct Shapes {
        path: ParameterPath,
        found: HashMap<String, [usize; 2]>,
    }

    impl ModuleVisitor for Shapes {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.enter(name);
        }

        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.leave();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let dims: [usize; D] = param.lazy_shape().dims();
            let shape = [dims[..D - 1].iter().product(), dims[D - 1]];
            self.found.insert(self.path.dotted(), shape);
        }
    }

    let mut shapes = Shapes::default();
    module.visit(&mut shapes);
    shapes.found
}

/// The values of parameter `part` of a tensor.
fn values(
    files: &SafetensorsFiles,
    shapes: &HashMap<String, [usize; 2]>,
    binding: &Binding,
    part: usize,
) -> Result<TensorData> {
    if binding.parameters.len() == 1 && !binding.transposed {
        return files.read(&binding.name);
    }
    let widths = binding.parameters.iter().map(|name| shapes[name][1]).collect();
    let packing = Packing::new(binding, widths);
    let [rows, columns] = shapes[&binding.parameters[part]];
    let stored = files.read_f32(&binding.name)?;
    let mut values = vec![0.0; rows * columns];
    for segment in packing.segments(part) {
        if binding.transposed {
            let from = Matrix { values: &stored[..], width: rows, first: 0 };
            let to = Matrix { values: &mut values[..], width: columns, first: segment.own };
            transpose(from, segment.stored, to);
        } else {
            for (stored, own) in stored.chunks(packing.width()).zip(values.chunks_mut(columns)) {
                own[segment.own..][..segment.stored.len()]
                    .copy_from_slice(&stored[segment.stored.clone()]);
            }
        }
    }
    Ok(TensorData::new(values, [rows * columns]))
}

struct Loader<'a> {
    load: &'a Load<'a>,
    values: HashMap<String, TensorData>,
    path: ParameterPath,
    /// Parameters that no tensor holds.
    left: Vec<String>,
}

impl ModuleMapper for Loader<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.leave();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.dotted();
        let Some(values) = self.values.remove(&path) else {
            self.left.push(path);
            return param;
        };
        let shape: [usize; D] = param.lazy_shape().dims();
        let (bytes, _, dtype) = values.into_parts();
        parameter(TensorData::from_bytes(bytes, shape, dtype), dtype, self.load.device)
    }
}
