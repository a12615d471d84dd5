//! From stored tensors to the parameters of a module.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{
    AllocationProperty, Bytes as TensorBytes, DType, Device, Element, Tensor, TensorData,
};
use bytemuck::zeroed_vec;
use bytes::Bytes as MappedBytes;
use half::{bf16, f16};
use rayon::prelude::*;

use super::number::Number;
use super::packing::{Matrix, Packing, Segment, transpose};
use super::parameters::{ParameterPath, parameter};
use super::{SafetensorsFiles, abridged};
use crate::device::has_kernels;
use crate::kernels::packed::{Format, Packed};
use crate::memory::Bytes;
use crate::model::adapter::{Adapters, frozen};
use crate::model::families::Binding;
use crate::model::precision::{WeightType, is_of_block, is_of_norm};
use crate::{Error, Result, memory};

/// How the parameters of a module are read from files.
pub struct Load<'a> {
    /// The folder, for messages.
    pub folder: &'a Path,
    /// Where each parameter is stored.
    pub bindings: &'a [Binding],
    /// Tensors that may stand in the files and have no place in the module.
    pub ignores: &'a dyn Fn(&str) -> bool,
    /// What the parameters are kept as.
    pub kept: WeightType,
    /// Where they are kept.
    pub device: &'a Device,
}

impl Load<'_> {
    /// The module with the parameters of `files`; frozen, with `adapters` beside them, where there are some.
    ///
    /// # Errors
    /// If tensors are missing, unexpected or misshapen: all of them are named.
    pub fn load<M: Module>(
        &self,
        module: M,
        files: SafetensorsFiles,
        adapters: Option<Adapters>,
    ) -> Result<M> {
        let shapes = shapes(&module);
        self.check(&files, &shapes)?;
        self.check_memory(&shapes)?;
        // What is trained is written to, and kept in f32.
        let maps = has_kernels(self.device) && (adapters.is_some() || !self.device.is_autodiff());
        let mut parameters: Vec<Parameter> = self
            .bindings
            .iter()
            .flat_map(|it| (0..it.parameters.len()).map(move |part| (it, part)))
            .map(|(binding, part)| self.parameter(binding, part, &shapes, maps.then_some(&files)))
            .collect();
        // Several at once: most of the time goes into pages that memory is taken of.
        parameters.par_iter_mut().try_for_each(|it| it.fill(&files, self.device))?;
        let mut loader = Loader {
            device: self.device,
            values: HashMap::new(),
            path: ParameterPath::default(),
            left: vec![],
        };
        let mut packed = HashMap::new();
        for Parameter { name, place, values } in parameters {
            let kept = match values.into_kept(&place) {
                Kept::Packed(weight) => {
                    packed.insert(name.to_owned(), *weight);
                    None
                }
                Kept::Dense(dense) => Some(dense),
            };
            loader.values.insert(name.to_owned(), kept);
        }
        let module = module.map(&mut loader);
        if loader.left.is_empty() {
            return Ok(frozen(module, adapters, packed, self.device));
        }
        let left = abridged(&loader.left);
        Err(Error::file(self.folder, format!("no tensor is known to hold the parameters {left}")))
    }

    /// Room for a parameter, unless it may stay in `files`, which are then mapped. Room is taken here and not where
    /// it is filled: memory that another thread took serves that thread alone once it is free.
    fn parameter<'b>(
        &self,
        binding: &'b Binding,
        part: usize,
        shapes: &HashMap<String, [usize; 2]>,
        files: Option<&SafetensorsFiles>,
    ) -> Parameter<'b> {
        let name = &binding.parameters[part];
        let widths = binding.parameters.iter().map(|name| shapes[name][1]).collect();
        let packing = Packing::new(binding, widths);
        let place = Place { binding, packing, part, shape: shapes[name] };
        let dtype = self.dtype(name);
        let stays = |files: &SafetensorsFiles| {
            dtype == DType::BF16
                && place.stored_rows().is_some()
                && files.is_stored_as::<bf16>(&binding.name)
        };
        let values = match self.format(name) {
            Some(format) => Values::Packed(format, None),
            None if files.is_some_and(stays) => Values::Mapped(None),
            None => Values::zeros(dtype, place.len()),
        };
        Parameter { name, place, values }
    }

    /// How a parameter is packed, if it is: the matrices of the blocks.
    fn format(&self, name: &str) -> Option<Format> {
        self.kept.format().filter(|_| is_of_block(name))
    }

    /// The type of a parameter that is not packed.
    fn dtype(&self, name: &str) -> DType {
        if is_of_norm(name) { DType::F32 } else { self.kept.precision().dtype() }
    }

    /// Refuses weights for which there is no room, before any is taken.
    fn check_memory(&self, shapes: &HashMap<String, [usize; 2]>) -> Result<()> {
        let of = |name: &String| {
            let [inputs, outputs] = shapes[name];
            match self.format(name) {
                Some(format) => Bytes::from(format.num_bytes(inputs) as u64) * outputs as Bytes,
                None => memory::product([inputs, outputs, self.dtype(name).size()]),
            }
        };
        let parameters = self.bindings.iter().flat_map(|it| &it.parameters);
        let needed = parameters.map(of).fold(0, memory::Bytes::saturating_add);
        memory::check(
            needed,
            &format!("{}: the weights as {}", self.folder.display(), self.kept.short_name()),
            "keep them in fewer bits where the command has --dtype or --base-dtype (bf16, q8, q4), or take a smaller \
             model or a larger machine",
        )
    }

    fn check(&self, files: &SafetensorsFiles, shapes: &HashMap<String, [usize; 2]>) -> Result<()> {
        files.check_gathered(self.bindings.iter().map(|binding| binding.name.as_str()))?;
        let expected: BTreeSet<&str> =
            self.bindings.iter().map(|binding| binding.name.as_str()).collect();
        let unexpected: Vec<&str> = files
            .names()
            .filter(|name| !expected.contains(name) && !(self.ignores)(name))
            .map(|name| files.stored_name(name))
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

/// A parameter while it is read.
struct Parameter<'a> {
    name: &'a str,
    place: Place<'a>,
    values: Values,
}

impl Parameter<'_> {
    fn fill(&mut self, files: &SafetensorsFiles, device: &Device) -> Result<()> {
        match &mut self.values {
            Values::Packed(format, packed) => {
                let columns = self.place.read_columns(files)?;
                *packed =
                    Some(Box::new(Packed::new(&columns, self.place.shape[0], *format, device)));
                Ok(())
            }
            Values::Mapped(mapped) => {
                *mapped = self.place.map(files);
                if mapped.is_none() {
                    self.values = Values::zeros(DType::BF16, self.place.len());
                    return self.fill(files, device);
                }
                Ok(())
            }
            Values::F32(values) => self.place.read(files, values),
            Values::F16(values) => {
                self.place.read(files, values)?;
                match values.iter().find(|it| !it.is_finite()) {
                    Some(_) => Err(beyond_f16(&self.place.binding.name)),
                    None => Ok(()),
                }
            }
            Values::BF16(values) => self.place.read(files, values),
        }
    }
}

/// Why weights cannot be kept as f16.
fn beyond_f16(name: &str) -> Error {
    Error::usage(format!(
        "dtype f16: expected weights up to {}, found larger ones in `{name}`; keep the weights as bf16 or f32 \
         (--dtype bf16)",
        f16::MAX
    ))
}

/// Values of the type they are kept in.
enum Values {
    /// Packed once they are read.
    Packed(Format, Option<Box<Packed>>),
    /// In bf16, as they stand in the file, once it is mapped.
    Mapped(Option<MappedBytes>),
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
}

impl Values {
    fn zeros(dtype: DType, len: usize) -> Self {
        match dtype {
            DType::F16 => Self::F16(zeroed_vec(len)),
            DType::BF16 => Self::BF16(zeroed_vec(len)),
            _ => Self::F32(zeroed_vec(len)),
        }
    }

    fn into_kept(self, place: &Place) -> Kept {
        let data = match self {
            Self::Packed(_, packed) => {
                return Kept::Packed(packed.expect("a parameter that was filled"));
            }
            Self::Mapped(bytes) => {
                let bytes = bytes.expect("a parameter that was filled");
                let bytes = TensorBytes::from_shared(bytes, AllocationProperty::File);
                let data = TensorData::from_bytes(bytes, [place.len()], DType::BF16);
                return Kept::Dense(Dense { data, transposed: place.binding.transposed });
            }
            Self::F32(values) => flat(values),
            Self::F16(values) => flat(values),
            Self::BF16(values) => flat(values),
        };
        Kept::Dense(Dense { data, transposed: false })
    }
}

/// A parameter that was read.
enum Kept {
    Packed(Box<Packed>),
    Dense(Dense),
}

/// The values of a parameter.
struct Dense {
    data: TensorData,
    /// Whether its columns follow one another, and not its rows.
    transposed: bool,
}

fn flat<T: Element>(values: Vec<T>) -> TensorData {
    let len = values.len();
    TensorData::new(values, [len])
}

/// Where a parameter stands in a stored tensor.
struct Place<'a> {
    binding: &'a Binding,
    packing: Packing,
    /// Which of the tensor's parameters it is.
    part: usize,
    /// The parameter's, a vector being one row.
    shape: [usize; 2],
}

impl Place<'_> {
    /// The number of its values.
    fn len(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// The rows of the stored tensor that are the parameter and nothing else, if there are such.
    fn stored_rows(&self) -> Option<Range<usize>> {
        let [rows, columns] = self.shape;
        let mut segments = self.packing.segments(self.part);
        match segments.next()?.stored {
            _ if rows == 1 => None, // a vector
            stored if stored.len() < columns => None,
            stored if self.binding.transposed => Some(stored),
            _ => (self.packing.width() == columns).then_some(0..rows),
        }
    }

    /// Those rows, where they stand.
    fn map(&self, files: &SafetensorsFiles) -> Option<MappedBytes> {
        let width = self.shape[usize::from(!self.binding.transposed)];
        files.map_rows::<bf16>(&self.binding.name, width, self.stored_rows()?)
    }

    /// The columns of the parameter one after the other, in f32.
    fn read_columns(&self, files: &SafetensorsFiles) -> Result<Vec<f32>> {
        let [rows, columns] = self.shape;
        let mut out = zeroed_vec(rows * columns);
        if self.binding.transposed {
            files.read_rows(&self.binding.name, rows, |first, stored: &[f32]| {
                let end = first + stored.len() / rows;
                for Segment { stored: of, own } in self.packing.segments(self.part) {
                    let here = of.start.max(first)..of.end.min(end);
                    if !here.is_empty() {
                        let own = own + here.start - of.start;
                        out[own * rows..(own + here.len()) * rows].copy_from_slice(
                            &stored[(here.start - first) * rows..(here.end - first) * rows],
                        );
                    }
                }
            })?;
            return Ok(out);
        }
        let mut by_rows = zeroed_vec(rows * columns);
        self.read(files, &mut by_rows)?;
        let from = Matrix { values: &by_rows[..], width: columns, first: 0 };
        transpose(from, 0..rows, Matrix { values: &mut out[..], width: rows, first: 0 });
        Ok(out)
    }

    fn read<T: Number>(&self, files: &SafetensorsFiles, out: &mut [T]) -> Result<()> {
        let [rows, columns] = self.shape;
        let name = &self.binding.name;
        if self.binding.transposed {
            files.read_rows(name, rows, |first, stored| {
                let end = first + stored.len() / rows;
                for Segment { stored: of, own } in self.packing.segments(self.part) {
                    let here = of.start.max(first)..of.end.min(end);
                    if here.is_empty() {
                        continue;
                    }
                    let from = Matrix { values: stored, width: rows, first: 0 };
                    let own = own + here.start - of.start;
                    let to = Matrix { values: &mut *out, width: columns, first: own };
                    transpose(from, here.start - first..here.end - first, to);
                }
            })
        } else {
            let width = self.packing.width();
            files.read_rows(name, width, |first, stored| {
                let own = out[first * columns..].chunks_mut(columns);
                for (stored, out) in stored.chunks(width).zip(own) {
                    for Segment { stored: of, own } in self.packing.segments(self.part) {
                        out[own..own + of.len()].copy_from_slice(&stored[of]);
                    }
                }
            })
        }
    }
}

struct Loader<'a> {
    device: &'a Device,
    /// Nothing for a weight that is packed: its parameter says the shape alone.
    values: HashMap<String, Option<Dense>>,
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
        let Some(values) = values else {
            let zero = Tensor::<D>::zeros([1; D], (self.device, DType::BF16));
            return Param::from_tensor(zero.expand(shape));
        };
        let Dense { data, transposed } = values;
        let (bytes, _, dtype) = data.into_parts();
        let tensor = |shape: [usize; D]| {
            let data = TensorData::from_bytes(bytes, shape, dtype);
            Tensor::from_data(data, (self.device, dtype))
        };
        if transposed {
            let mut stored = shape;
            stored.reverse(); // a matrix has two axes
            return parameter(tensor(stored).transpose());
        }
        parameter(tensor(shape))
    }
}
