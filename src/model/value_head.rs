//! A value of every token, read off a decoder's last hidden states.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, Param};
use burn::nn::{Initializer, Linear, LinearConfig};
use burn::tensor::{DType, Device, Tensor, TensorData};

use super::weights::{SafetensorsFiles, shown, write_tensors};
use crate::kernels::product::multiply;
use crate::{Error, Result};

/// The file of a value head, beside the weights of its decoder in a checkpoint.
pub const VALUE_HEAD: &str = "value_head.safetensors";

/// The names that TRL gives the tensors, `[1, hidden]` and `[1]`.
const WEIGHT: &str = "v_head.summary.weight";
const BIAS: &str = "v_head.summary.bias";

/// A linear reading of hidden states as one number, always computed in f32.
#[derive(Module, Debug)]
pub struct ValueHead {
    /// `[hidden, 1]`, with a bias.
    linear: Linear,
}

impl ValueHead {
    /// A head over states of a width; every value is 0.
    pub fn new(hidden_size: usize, device: &Device) -> Self {
        let zeros = LinearConfig::new(hidden_size, 1).with_initializer(Initializer::Zeros);
        Self { linear: zeros.init(device) }
    }

    /// The width of the states it reads.
    pub fn hidden_size(&self) -> usize {
        self.linear.weight.dims()[0]
    }

    /// The value of each hidden state `[tokens, hidden]`, `[tokens]`.
    pub fn values(&self, hidden: Tensor<2>) -> Tensor<1> {
        let Linear { weight, bias } = &self.linear;
        let values = multiply(hidden.cast(DType::F32), weight.val().cast(DType::F32)); // [tokens, 1]
        match bias {
            Some(bias) => values.squeeze_dim(1) + bias.val().cast(DType::F32),
            None => values.squeeze_dim(1),
        }
    }

    /// Reads the head of a checkpoint for states of a width.
    ///
    /// # Errors
    /// If there is none, or one of another width.
    pub fn load(folder: &Path, hidden_size: usize, device: &Device) -> Result<Self> {
        let path = folder.join(VALUE_HEAD);
        let files = SafetensorsFiles::open(std::slice::from_ref(&path), |name| name)?;
        for (name, expected) in [(WEIGHT, &[1, hidden_size][..]), (BIAS, &[1])] {
            let found = files.shape(name);
            if found != Some(expected) {
                return Err(Error::file(
                    &path,
                    format!("`{name}`: expected a shape {expected:?}, found {}", shown(found)),
                ));
            }
        }
        let weight = tensor(files.read(WEIGHT)?, [hidden_size, 1], device);
        let bias = tensor(files.read(BIAS)?, [1], device);
        let linear =
            Linear { weight: Param::from_tensor(weight), bias: Some(Param::from_tensor(bias)) };
        Ok(Self { linear })
    }

    /// Writes the head into the folder of a checkpoint, in f32.
    ///
    /// # Errors
    /// If it cannot be written, or has numbers that are not finite.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let mut tensors = BTreeMap::from([(
            WEIGHT.to_owned(),
            (vec![1, self.hidden_size()], values(&self.linear.weight)),
        )]);
        if let Some(bias) = &self.linear.bias {
            tensors.insert(BIAS.to_owned(), (vec![1], values(bias)));
        }
        write_tensors(tensors, DType::F32, &folder.join(VALUE_HEAD))
    }
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    let tensor = Tensor::from_data(TensorData::new(values, shape), device);
    if device.is_autodiff() { tensor.require_grad() } else { tensor }
}

fn values<const D: usize>(parameter: &Param<Tensor<D>>) -> Vec<f32> {
    parameter.val().into_data_as::<f32>().try_into_vec().expect("converted to f32")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_back_as_it_was_written_and_one_of_another_width_is_refused() {
        let (device, folder) = (Device::flex(), tempfile::tempdir().unwrap());
        let hidden = Tensor::from_data([[1.0, 2.0, -1.0], [0.5, 0.0, 4.0]], &device);
        let of = |head: &ValueHead| -> Vec<f32> {
            head.values(hidden.clone()).into_data().iter::<f32>().collect()
        };
        let mut head = ValueHead::new(3, &device);
        assert_eq!(of(&head), [0.0, 0.0]);
        let weight = tensor(vec![0.25, -1.0, 3.0], [3, 1], &device);
        let bias = tensor(vec![0.5], [1], &device);
        head.linear.weight = Param::from_tensor(weight);
        head.linear.bias = Some(Param::from_tensor(bias));
        head.save(folder.path()).unwrap();
        let read = ValueHead::load(folder.path(), 3, &device).unwrap();
        assert_eq!(of(&read), of(&head));
        assert_eq!(of(&read), [-4.25, 12.625]);
        let refusal = ValueHead::load(folder.path(), 4, &device).unwrap_err().to_string();
        assert!(refusal.contains("`v_head.summary.weight`: expected a shape [1, 4]"), "{refusal}");
    }
}
