//! From the parameters of a module to stored tensors.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor};
use safetensors::{Dtype, View};

use super::files::all_finite;
use super::packing::{Matrix, Packing, transpose};
use super::parameters::ParameterPath;
use crate::files::Output;
use crate::files::{persist, temporary};
use crate::model::adapter::is_packed;
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
/// If the file cannot be written, weights are in few bits, or a value is beyond what `dtype` can hold.
pub fn save<M: Module>(module: &M, saving: Saving, file: &Path) -> Result<()> {
    if is_packed(module) {
        return Err(Error::file(
            file,
            "expected weights in f32, bf16 or f16 to write, found some in q8 or q4, which have lost digits; load \
             the model with its weights as bf16 or f32",
        ));
    }
    let mut collector = Collector { path: ParameterPath::default(), found: HashMap::new() };
    module.visit(&mut collector);
    let tensors = saving.bindings.iter().map(|binding| {
        let parameters: Vec<&(Read, Vec<usize>)> = binding
            .parameters
            .iter()
            .map(|name| collector.found.get(name).expect("bindings name parameters"))
            .collect();
        let widths = parameters.iter().map(|it| *it.1.last().expect("an axis")).collect();
        let packing = Packing::new(binding, widths);
        let mut shape = parameters[0].1.clone();
        let rows = shape[..shape.len() - 1].iter().product();
        if let Some(last) = shape.last_mut() {
            *last = packing.width();
        }
        if binding.transposed {
            shape.reverse();
        }
        let read = move || {
            let parts: Vec<&Read> = parameters.iter().map(|it| &it.0).collect();
            packed(&parts, &packing, rows, binding.transposed)
        };
        (binding.name.clone(), shape, Box::new(read) as Read<'_>)
    });
    write_file(tensors.collect(), saving.dtype, file)
}

/// Writes tensors, given by name with their shapes, into the safetensors file `file` as `dtype`.
///
/// # Errors
/// If it cannot be written, or a value is beyond what `dtype` can hold.
pub(in crate::model) fn write_tensors(
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    dtype: DType,
    file: &Path,
) -> Result<()> {
    let tensors = tensors.into_iter().map(|(name, (shape, values))| {
        let read: Read<'_> = Box::new(move || values.clone());
        (name, shape, read)
    });
    write_file(tensors.collect(), dtype, file)
}

/// Writes the file whole or not at all; not with values that are no weights.
fn write_file(
    tensors: Vec<(String, Vec<usize>, Read<'_>)>,
    dtype: DType,
    file: &Path,
) -> Result<()> {
    let fault = OnceCell::new();
    let stored: Vec<(String, Stored)> = tensors
        .into_iter()
        .map(|(name, shape, read)| {
            let stored = Stored { name: name.clone(), shape, read, dtype, fault: &fault };
            (name, stored)
        })
        .collect();
    let target = Output::resolve(file)?;
    let file = target.path();
    let temporary = temporary(file)?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(stored, Some(metadata), temporary.path())
        .map_err(|error| Error::file(file, format!("cannot write: {error}")))?;
    match fault.get() {
        None => persist(temporary, file),
        Some(Fault::TooLarge(name)) => Err(Error::file(
            file,
            format!(
                "`{name}`: expected values that {dtype:?} can hold, found larger ones; write f32 or bf16 \
                 instead"
            ),
        )),
        Some(Fault::NotFinite(name)) => Err(Error::Numeric(format!(
            "`{name}`: expected finite weights to write, found some that are not; nothing was written. After a \
             training, lower optimizer.learning_rate; where an adapter was added, look at its lora_alpha and its \
             factors"
        ))),
    }
}

/// Why values are not written, and whose.
#[derive(Clone, Debug)]
enum Fault {
    /// Beyond what the type can hold.
    TooLarge(String),
    /// Infinite, or no number.
    NotFinite(String),
}

/// Reads the values of one tensor.
type Read<'a> = Box<dyn Fn() -> Vec<f32> + 'a>;

struct Collector {
    path: ParameterPath,
    found: HashMap<String, (Read<'static>, Vec<usize>)>,
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

/// The values of parameters in stored order.
fn packed(parameters: &[&Read], packing: &Packing, rows: usize, transposed: bool) -> Vec<f32> {
    if parameters.len() == 1 && !transposed {
        return (parameters[0])();
    }
    let width = packing.width();
    let mut stored = vec![0.0; rows * width];
    for (part, parameter) in parameters.iter().enumerate() {
        let values = parameter();
        let columns = values.len() / rows;
        for segment in packing.segments(part) {
            if transposed {
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

/// A tensor whose values are read when it is written.
struct Stored<'a> {
    name: String,
    shape: Vec<usize>,
    read: Read<'a>,
    dtype: DType,
    fault: &'a OnceCell<Fault>,
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
        let values = (self.read)();
        if !all_finite(&values) {
            let _ = self.fault.set(Fault::NotFinite(self.name.clone()));
        }
        let narrow = |bits: fn(f32) -> u16| {
            values.iter().flat_map(|&value| bits(value).to_le_bytes()).collect()
        };
        Cow::Owned(match self.dtype {
            DType::F16 => {
                let largest = half::f16::MAX.to_f32();
                if values.iter().any(|value| value.abs() > largest) {
                    let _ = self.fault.set(Fault::TooLarge(self.name.clone()));
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
