//! Inputs of the kernels' tests: values that vary, the same everywhere.

use burn::tensor::{Device, Tensor, TensorData};

/// sin(turn · i) for the i-th element.
pub fn waves<const D: usize>(shape: [usize; D], turn: f32, device: &Device) -> Tensor<D> {
    let count: usize = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|place| (place as f32 * turn).sin()).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}
