//! Flex tensors as slices, and slices as Flex tensors.

use burn::backend::flex::FlexTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{DType, Element, Shape, Tensor, TensorData};
use bytemuck::Pod;
use half::bf16;
use rayon::prelude::*;

use super::matrix::Matrix;

/// Elements one task takes of a pass that does little with each: what fits the cache nearest to a
/// core, and enough to be worth a task.
pub const TASK: usize = 1 << 14;

/// As [`TASK`], of whole rows.
pub fn task_of_rows(width: usize) -> usize {
    (TASK / width).max(1) * width
}

/// The values of an f32 tensor whose rows follow one another; [`contiguous`] makes it so.
pub fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().expect("an f32 tensor that `contiguous` returned")
}

/// The tensor with its values in order; copies only where they are not.
pub fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// A tensor of these values.
pub fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// The tensor after `change` of all its values, in place where nobody else holds it.
pub fn changed(tensor: FlexTensor, change: impl FnOnce(&mut [f32])) -> FlexTensor {
    let mut tensor = whole(tensor);
    if !tensor.is_unique() {
        tensor = copy(&tensor);
    }
    change(tensor.storage_mut::<f32>());
    tensor
}

/// A copy on all cores; the tensor's own would be made on one, and clear its memory first.
fn copy(tensor: &FlexTensor) -> FlexTensor {
    let values = values(tensor).par_iter().with_min_len(TASK).copied().collect::<Vec<f32>>();
    self::tensor(values, tensor.shape())
}

/// A bf16 tensor in f32, its values where they were; an f32 tensor as it is.
pub fn widened(tensor: FlexTensor) -> FlexTensor {
    if tensor.dtype() == DType::F32 {
        return tensor;
    }
    let values = tensor.storage::<bf16>().par_iter().with_min_len(TASK).map(|it| it.to_f32());
    let wide: Vec<f32> = values.collect();
    let len = wide.len();
    self::tensor(wide, [len]).with_layout(tensor.layout().clone())
}

/// An f32 tensor as `dtype`, which is f32 or bf16.
pub fn of_type(tensor: FlexTensor, dtype: DType) -> FlexTensor {
    if dtype == DType::F32 {
        return tensor;
    }
    let tensor = contiguous(tensor);
    let narrow = values(&tensor).par_iter().with_min_len(TASK).map(|&it| bf16::from_f32(it));
    FlexTensor::from_data(TensorData::new(narrow.collect::<Vec<bf16>>(), tensor.shape()))
}

/// So many zeros, written by all cores.
pub fn zeros(len: usize) -> Vec<f32> {
    rayon::iter::repeat_n(0.0, len).with_min_len(TASK).collect()
}

/// The rows of a tensor as a matrix, `[.., width]` → `rows × width`.
pub fn rows(tensor: &FlexTensor) -> Matrix<'_> {
    let (rows, width) = rows_and_width(tensor);
    Matrix::rows(values(tensor), rows, width, width)
}

/// A tensor of two axes as a matrix of its entries, whatever its strides.
pub fn matrix<T: Element + Pod>(tensor: &FlexTensor) -> Matrix<'_, T> {
    let extent = [0, 1].map(|axis| tensor.shape()[axis]);
    let strides = [0, 1].map(|axis| tensor.layout().strides()[axis].unsigned_abs());
    let start = tensor.layout().start_offset();
    Matrix::strided(&tensor.storage::<T>()[start..], extent, strides)
}

/// The tensor with its values in order and nothing else in its buffer.
pub fn whole(tensor: FlexTensor) -> FlexTensor {
    let whole = tensor.is_contiguous()
        && tensor.layout().start_offset() == 0
        && tensor.bytes().len() == 4 * tensor.shape().num_elements();
    if whole { tensor } else { tensor.to_contiguous() }
}

/// The last extent of a shape, and the product of those before it.
pub fn rows_and_width(tensor: &FlexTensor) -> (usize, usize) {
    let shape = tensor.shape();
    let width = shape[shape.num_dims() - 1];
    (shape.num_elements() / width.max(1), width)
}

/// The values of a tensor of indices.
///
/// # Panics
/// If one is negative.
pub fn indices(tensor: FlexTensor) -> Vec<usize> {
    let tensor = contiguous(tensor);
    let index = |it: i64| usize::try_from(it).expect("an index is not negative");
    match tensor.dtype() {
        DType::I32 => {
            let values = tensor.as_slice::<i32>().unwrap_or_default();
            values.iter().map(|&it| index(it.into())).collect()
        }
        _ => {
            let values = tensor.as_slice::<i64>().unwrap_or_default();
            values.iter().map(|&it| index(it)).collect()
        }
    }
}

/// The tensor as Flex holds it, without a history.
pub fn primitive<const D: usize>(x: Tensor<D>) -> FlexTensor {
    let x = if x.device().is_autodiff() { x.inner() } else { x };
    x.try_into_primitive::<Flex>().expect("`takes` has asked for the backend")
}
