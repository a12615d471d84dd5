//! Policies whose completions can be listed, so that every probability is known. Tests of the theory and the
//! toy experiment use them.
//!
//! A completion is one token, its number in the list. A prompt is one token, the row of its list.

use burn::module::{Module, ModuleDisplay, Param};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

use super::Policy;
use crate::data::GroupBatch;
use crate::model::ValueHead;

/// A policy over a list of completions. How its logits come about is what it can represent: a
/// [`Table`] anything, a restricted one less.
pub trait Listed: Module + ModuleDisplay {
    /// log π(y | x) up to a constant of each prompt, `[prompts, completions]`.
    fn logits(&self) -> Tensor<2>;

    /// log π(y | x) of all completions, logits divided by `temperature`, `[prompts, completions]`.
    fn log_probs_of_all(&self, temperature: f64) -> Tensor<2> {
        log_softmax(self.logits() / temperature, 1)
    }

    /// log π(y | x) of groups, `[groups, K]`, from the number of each group's prompt, `[groups]`,
    /// and of its completions, `[groups, K]`.
    fn log_probs_of(
        &self,
        prompts: Tensor<1, Int>,
        completions: Tensor<2, Int>,
        temperature: f64,
    ) -> Tensor<2> {
        let lists = self.log_probs_of_all(temperature).select(0, prompts); // [groups, completions]
        lists.gather(1, completions) //                                       [groups, K]
    }
}

/// # Panics
/// When a prompt or a completion is longer than a token, or not in the list.
impl<P: Listed> Policy for P {
    fn log_probs(&self, batch: &GroupBatch, temperature: f64) -> Tensor<2> {
        let (groups, size) = (batch.num_groups, 1 + batch.num_completions);
        let listed = batch.tokens.shape().num_elements();
        assert_eq!(listed, groups * size, "a listed prompt or completion is one token");
        // Groups of one size follow one another, each in a row of its own or not.
        let tokens = batch.tokens.clone().reshape([groups, size]);
        let prompts = tokens.clone().narrow(1, 0, 1).reshape([groups]);
        let completions = tokens.narrow(1, 1, batch.num_completions);
        self.log_probs_of(prompts, completions, temperature)
    }

    fn token_log_probs(&self, batch: &GroupBatch, temperature: f64) -> Tensor<3> {
        self.log_probs(batch, temperature).unsqueeze_dim(2)
    }

    /// A list has no hidden states: every value is that of zeros.
    fn token_log_probs_and_values(
        &self,
        batch: &GroupBatch,
        temperature: f64,
        head: &ValueHead,
    ) -> [Tensor<3>; 2] {
        let log_probs = self.token_log_probs(batch, temperature);
        let [groups, completions, _] = log_probs.dims();
        let hidden = Tensor::zeros([groups * completions, head.hidden_size()], &log_probs.device());
        let values = head.values(hidden).reshape([groups, completions, 1]);
        let values = values.cast(log_probs.dtype());
        [log_probs, values]
    }
}

/// A logit for every completion of every prompt: π_θ = softmax(θ / τ).
#[derive(Module, Debug)]
pub struct Table {
    logits: Param<Tensor<2>>,
}

impl Table {
    /// The policy with these logits, `[prompts, completions]`, which are its parameters.
    pub fn new(logits: Tensor<2>) -> Self {
        Self { logits: Param::from_tensor(logits) }
    }

    /// Its parameters.
    pub fn parameters(&self) -> Tensor<2> {
        self.logits.val()
    }
}

impl Listed for Table {
    fn logits(&self) -> Tensor<2> {
        self.logits.val()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::data::TokenGroup;

    fn numbers(tensor: Tensor<2>) -> Vec<f64> {
        tensor.into_data().iter::<f64>().collect()
    }

    #[test]
    fn a_batch_of_groups_has_the_log_probs_of_the_rows_of_its_prompts() {
        let device = Device::flex().autodiff();
        let weights: [[f64; 3]; 2] = [[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]];
        let logits = weights.map(|row| row.map(|it| it.ln() as f32 + 4.0));
        let table = Table::new(Tensor::from_data(logits, &device));
        let group = |prompt: u32, completions: [u32; 2]| TokenGroup {
            prompt: vec![prompt],
            completions: completions.map(|it| vec![it]).to_vec(),
            ..TokenGroup::default()
        };
        let batch = GroupBatch::new(&[group(1, [2, 0]), group(0, [1, 1])], &device);
        let found = numbers(table.log_probs(&batch, 1.0));
        for (found, expected) in found.into_iter().zip([0.8f64, 0.1, 0.3, 0.3]) {
            assert!((found - expected.ln()).abs() < 1e-6, "{found} and ln {expected}"); // f32
        }
        // At τ = ½ probabilities are squared and normalised again.
        let sharp = numbers(table.log_probs(&batch, 0.5));
        assert!((sharp[0] - (0.64f64 / 0.66).ln()).abs() < 1e-6);
    }

    #[test]
    fn the_gradient_reaches_the_parameters_of_the_prompt_alone() {
        let device = Device::flex().autodiff();
        let table = Table::new(Tensor::zeros([2, 4], &device));
        let ints = |values: [i64; 2]| Tensor::<1, Int>::from_data(values, &device);
        let log_probs =
            table.log_probs_of(ints([1, 1]).narrow(0, 0, 1), ints([0, 3]).reshape([1, 2]), 1.0);
        let gradient = table.parameters().grad(&log_probs.sum().backward()).unwrap();
        // Σ (onehot − softmax) over the two.
        assert_eq!(numbers(gradient), [0.0, 0.0, 0.0, 0.0, 0.5, -0.5, -0.5, 0.5]);
    }
}
