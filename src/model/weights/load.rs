//! From stored tensors to the parameters of a module.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::packing::{Matrix, Packing, transpose};
use super::parameters::{ParameterPath, parameter};
use super::{SafetensorsFiles, abridged};
use crate::model::families::Binding;
use crate::{Error, Result};

/// Elements that are read at once.
const CHUNK: usize = 1 << 20;

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
        let mut places = HashMap::new();
        for binding in self.bindings {
            let widths = binding.parameters.iter().map(|name| shapes[name][1]).collect();
            let packing = Packing::new(binding, widths);
            for (part, parameter) in binding.parameters.iter().enumerate() {
                places.insert(parameter.clone(), (binding, packing.clone(), part));
            }
        }
        let mut loader =
            Loader { load: self, files, places, path: ParameterPath::default(), failed: None };
        let module = module.map(&mut loader);
        loader.failed.map_or(Ok(module), Err)
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

struct Loader<'a> {
    load: &'a Load<'a>,
    files: SafetensorsFiles,
    places: HashMap<String, (&'a Binding, Packing, usize)>,
    path: ParameterPath,
    failed: Option<Error>,
}

impl Loader<'_> {
    /// The values of the parameter at the current path, `[rows, columns]`.
    fn read(&mut self, rows: usize, columns: usize) -> Result<Vec<f32>> {
        let path = self.path.dotted();
        let (binding, packing, part) = self
            .places
            .get(&path)
            .ok_or_else(|| Error::usage(format!("no tensor is known to hold `{path}`")))?;
        let mut values = vec![0.0; rows * columns];
        if binding.transposed {
            for segment in packing.segments(*part) {
                let step = (CHUNK / rows).max(1);
                for start in segment.stored.clone().step_by(step) {
                    let end = (start + step).min(segment.stored.end);
                    let stored = self.files.read(&binding.name, start * rows..end * rows)?;
                    let first = segment.own + start - segment.stored.start;
                    let from = Matrix { values: &stored[..], width: rows, first: 0 };
                    let to = Matrix { values: &mut values[..], width: columns, first };
                    transpose(from, 0..end - start, to);
                }
            }
        } else {
            let width = packing.width();
            let step = (CHUNK / width).max(1);
            for start in (0..rows).step_by(step) {
                let end = (start + step).min(rows);
                let stored = self.files.read(&binding.name, start * width..end * width)?;
                for (row, stored) in (start..end).zip(stored.chunks(width)) {
                    for segment in packing.segments(*part) {
                        values[row * columns + segment.own..][..segment.stored.len()]
                            .copy_from_slice(&stored[segment.stored]);
                    }
                }
            }
        }
        Ok(values)
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
        if self.failed.is_some() {
            return param;
        }
        let shape: [usize; D] = param.lazy_shape().dims();
        match self.read(shape[..D - 1].iter().product(), shape[D - 1]) {
            Ok(values) => {
                // Normalisations are computed in f32, by weights that are.
                let path = self.path.dotted();
                let of_norm = path.ends_with(".gamma") || path.ends_with(".beta");
                let dtype = if of_norm { DType::F32 } else { self.load.dtype };
                parameter(TensorData::new(values, shape), dtype, self.load.device)
            }
            Err(error) => {
                self.failed = Some(error);
                param
            }
        }
    }
}
