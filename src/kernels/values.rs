//! Flex tensors as slices, and slices as Flex tensors.

use burn::backend::flex::FlexTensor;
use burn::backend::{Flex, TensorMetadata};
use burn::tensor::{DType, Shape, Tensor, TensorData};

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
    change(tensor.storage_mut::<f32>());
    tensor
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
