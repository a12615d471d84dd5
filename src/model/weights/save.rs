//! From the parameters of a module to stored tensors.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, View};

use super::files::all_finite;
use super::packing::{Matrix, Packing, transpose};
use super::parameters::ParameterPath;
use crate::files::Output;
use crate::files::{persist, temporary};
use crate::model::families::Binding;
use crate::{Error, Result};

/// How a module's parameters are written.
#[derive(Clone, Copy, Debug)]
pub struct Saving<'a> {
    /// Where each parameter is stored.
    pub bindings: &'a [Binding],
    /// What the parameters are written as: F32, F16 or BF16.
    pub dtype: DType,
}

/// Writes `module`'s parameters into the safetensors file `file`, one tensor at a time.
///
/// # Errors
/// If the file cannot be written, or a value is beyond what `dtype` can hold.
pub fn save<M: Module>(module: &M, saving: Saving, file: &Path) -> Result<()> {
    let mut collector = Collector { path: ParameterPath::default(), found: HashMap::new() };
    module.visit(&mut collector);
    let fault = Cell::new(None);
    let tensors: Vec<(&str, Stored)> = saving
        .bindings
        .iter()
        .map(|binding| {
            let parameters = binding
                .parameters
                .iter()
                .map(|name| &collector.found.get(name).expect("bindings name parameters").0);
            let widths = binding
                .parameters
                .iter()
                .map(|name| *collector.found[name].1.last().expect("an axis"))
                .collect();
            let stored = Stored::new(
                binding,
                parameters.collect(),
                Packing::new(binding, widths),
                &collector.found[&binding.parameters[0]].1,
                saving.dtype,
                &fault,
            );
            (binding.name.as_str(), stored)
        })
        .collect();
    write_file(tensors, file, || match fault.get() {
        None => Ok(()),
        Some(Fault::TooLarge) => Err(Error::file(
            file,
            format!(
                "expected values that {:?} can hold, found larger ones; write f32 or bf16 instead",
                saving.dtype
            ),
        )),
        Some(Fault::NotFinite) => Err(Error::Numeric(format!(
            "{}: expected finite weights, found some that are not; nothing was written. Where an adapter \
             was added to them, look at its lora_alpha and its factors",
            file.display()
        ))),
    })
}

/// Writes f32 tensors, given by name with their shapes, into the safetensors file `file`.
///
/// # Errors
/// If it cannot be written.
pub(in crate::model) fn write_tensors(
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    file: &Path,
) -> Result<()> {
    let bytes: Vec<_> = tensors
        .iter()
        .map(|(name, (shape, values))| (name, shape.clone(), bytemuck::cast_slice(values)))
        .collect();
    let views = bytes
        .into_iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape, bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|error| Error::file(file, format!("cannot write: {error}")))?;
    write_file(views, file, || Ok(()))
}

/// Writes the file whole or not at all; not if `check` finds something wrong with what was written.
fn write_file<S: AsRef<str> + Ord + Display, V: View>(
    tensors: Vec<(S, V)>,
    file: &Path,
    check: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let target = Output::resolve(file)?;
    let file = target.path();
    let temporary = temporary(file)?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(tensors, Some(metadata), temporary.path())
        .map_err(|error| Error::file(file, format!("cannot write: {error}")))?;
    check()?;
    persist(temporary, file)
}

/// Why values are not written.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Beyond what the type can hold.
    TooLarge,
    /// Infinite, or no number.
    NotFinite,
}

/// Reads the values of one parameter.
type Read = Box<dyn Fn() -> Vec<f32>>;

struct Collector {
    path: ParameterPath,
    found: HashMap<String, (Read, Vec<usize>)>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.enter(name);
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.leave();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        let shape = tensor.dims().to_vec();
        self.found.insert(self.path.dotted(), (Box::new(move || values(tensor.clone())), shape));
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data_as::<f32>().try_into_vec().expect("converted to f32")
}

/// A tensor that is put together when it is written.
struct Stored<'a> {
    parameters: Vec<&'a Read>,
    packing: Packing,
    rows: usize,
    transposed: bool,
    shape: Vec<usize>,
    dtype: DType,
    fault: &'a Cell<Option<Fault>>,
}

impl<'a> Stored<'a> {
    fn new(
        binding: &Binding,
        parameters: Vec<&'a Read>,
        packing: Packing,
        first: &[usize],
        dtype: DType,
        fault: &'a Cell<Option<Fault>>,
    ) -> Self {
        let mut shape = first.to_vec();
        let rows = shape[..shape.len() - 1].iter().product();
        if let Some(last) = shape.last_mut() {
            *last = packing.width();
        }
        if binding.transposed {
            shape.reverse();
        }
        Self { parameters, packing, rows, transposed: binding.transposed, shape, dtype, fault }
    }

    /// The values in stored order.
    fn values(&self) -> Vec<f32> {
        if self.parameters.len() == 1 && !self.transposed {
            return (self.parameters[0])();
        }
        let (rows, width) = (self.rows, self.packing.width());
        let mut stored = vec![0.0; rows * width];
        for (part, parameter) in self.parameters.iter().enumerate() {
            let values = parameter();
            let columns = values.len() / rows;
            for segment in self.packing.segments(part) {
                if self.transposed {
                    let from = Matrix { values: &values[..], width: columns, first: segment.own };
                    let to = &mut stored[segment.stored.start * rows..segment.stored.end * rows];
                    transpose(from, 0..rows, Matrix { values: to, width: rows, first: 0 });
                } else {
                    for (stored, values) in stored.chunks_mut(width).zip(values.chunks(columns)) {
                        let own = segment.own..segment.own + segment.stored.len();
                        stored[segment.stored.clone()].copy_from_slice(&values[own]);
                    }
                }
            }
        }
        stored
    }
}

impl View for Stored<'_> {
    fn dtype(&self) -> Dtype {
        match self.dtype {
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            _ => Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = self.values();
        if !all_finite(&values) {
            self.fault.set(Some(Fault::NotFinite));
        }
        let narrow = |bits: fn(f32) -> u16| {
            values.iter().flat_map(|&value| bits(value).to_le_bytes()).collect()
        };
        Cow::Owned(match self.dtype {
            DType::F16 => {
                let largest = half::f16::MAX.to_f32();
                if self.fault.get().is_none() && values.iter().any(|value| value.abs() > largest) {
                    self.fault.set(Some(Fault::TooLarge));
                }
                narrow(|value| half::f16::from_f32(value).to_bits())
            }
            DType::BF16 => narrow(|value| half::bf16::from_f32(value).to_bits()),
            _ => bytemuck::cast_slice(&values).to_vec(),
        })
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * if self.dtype == DType::F32 { 4 } else { 2 }
    }
}
