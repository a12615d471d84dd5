//! Validation: figures over records that are not trained on, every so many steps.
//!
//! The figures stand in the line of the step after which they were taken, as `validation/loss` and so on;
//! those from before the first step stand in the first line, as `validation_before/loss`. Validation runs
//! without autodiff and changes nothing: with it and without it, the weights are the same to the bit.

use std::sync::Arc;

use serde_json::Value;

use super::course::{DRIFT, PREFIX, Rules};
use super::step::{StepOutput, Trainable, Trainee};
use crate::model::precision::computing_in;
use crate::{Error, Result};

/// The beginning of the names of figures from before the first step.
const PREFIX_BEFORE: &str = "validation_before/";

/// Figures by name.
pub type Figures = Vec<(String, f64)>;

/// Takes figures of a module, which is without autodiff, after so many steps.
pub type Measure<T> = Arc<dyn Fn(usize, &T) -> Result<Figures> + Send + Sync>;

/// How a training is validated.
#[derive(Clone)]
pub struct Validation<T: Trainable> {
    /// Steps between two validations, at least 1; one more follows the last step.
    pub every: usize,
    /// The figures over the records: `loss` and those of the objective.
    pub measure: Measure<T>,
    /// What is concluded from them.
    pub rules: Rules,
}

impl<T: Trainable> Validation<T> {
    /// Whether there is one after `step` of `num_steps` steps.
    pub(super) fn is_due(&self, step: usize, num_steps: usize) -> bool {
        step.is_multiple_of(self.every) || step == num_steps
    }

    /// The figures of the trained module after `step` steps.
    pub(super) fn figures(&self, step: usize, trainee: &Trainee<T>) -> Result<Figures> {
        let module = computing_in(trainee.module.valid(), trainee.compute());
        let figures = (self.measure)(step, &module)?;
        if let Some((name, value)) = figures.iter().find(|(_, value)| !value.is_finite()) {
            return Err(Error::Numeric(format!(
                "validation after step {step}: `{name}` is {value}. Lower training.learning_rate, or look at \
                 the validation records"
            )));
        }
        let shown: Vec<_> =
            figures.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
        tracing::info!("validation after step {step}: {}", shown.join("   "));
        Ok(figures)
    }

    /// The figures from before the first step, with which a training may begin.
    ///
    /// # Errors
    /// Where the figure that tells the best model is none of them, or the budget is used up already.
    pub(super) fn before(&self, trainee: &Trainee<T>) -> Result<Figures> {
        let figures = self.figures(0, trainee)?;
        let found = |name: &str| figures.iter().find(|(known, _)| known == name);
        if let Some((name, _)) = self.rules.best.figure()
            && found(name).is_none()
        {
            let names: Vec<&str> = figures.iter().map(|(name, _)| name.as_str()).collect();
            return Err(Error::usage(format!(
                "checkpoint.best: expected a figure of this training's validation, which has {}; `{name}` is \
                 none of them",
                names.join(", ")
            )));
        }
        if let (Some(budget), Some((_, kl))) = (self.rules.kl_budget, found(DRIFT[0]))
            && *kl >= budget
        {
            return Err(Error::usage(format!(
                "--kl-budget: expected more than the drift before the first step, which is {kl:.4} nats, found \
                 {budget}; raise it, or start from the reference"
            )));
        }
        Ok(figures)
    }
}

/// Writes figures into a step's line.
pub(super) fn write(line: &mut Value, figures: Figures) {
    figures.into_iter().for_each(|(name, value)| line[format!("{PREFIX}{name}")] = value.into());
}

/// Writes figures from before the first step into its line.
pub(super) fn write_before(line: &mut Value, figures: Figures) {
    let name = |name| format!("{PREFIX_BEFORE}{name}");
    figures.into_iter().for_each(|(key, value)| line[name(key)] = value.into());
}

/// The mean loss and figures of `module` over batches, each weighted by the number of groups or tokens
/// that its own means are over.
///
/// The objective's `kl` to its target is called `kl_target` here: `kl` is the drift from the reference.
pub fn means<T: Trainable>(
    module: &T,
    batches: impl IntoIterator<Item = Result<(T::Batch, f64)>>,
) -> Result<Figures> {
    let (mut sums, mut whole) = (StepOutput::default(), 0.0);
    for batch in batches {
        let (batch, weight) = batch?;
        let (mean, statistics) = module.loss(&batch);
        sums.add(f64::from(mean.into_scalar::<f32>()) * weight, statistics, weight);
        whole += weight;
    }
    let name = |name: &str| if name == DRIFT[0] { "kl_target".to_owned() } else { name.to_owned() };
    let statistics = sums.statistics(whole).into_iter().map(|(key, mean)| (name(key), mean));
    Ok(std::iter::once(("loss".to_owned(), sums.loss / whole)).chain(statistics).collect())
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::module::{Module, Param};
    use burn::tensor::{Device, Tensor};
    use serde_json::json;

    use super::*;
    use crate::alignment::Statistic;
    use crate::config::BestBy;
    use crate::model::Precision;
    use crate::training::MicroLoss;

    /// The mean of a batch times a weight.
    #[derive(Module, Debug)]
    struct Scaled {
        weight: Param<Tensor<1>>,
    }

    impl Trainable for Scaled {
        type Batch = Vec<f32>;

        fn loss(&self, batch: &Vec<f32>) -> MicroLoss {
            let device = self.weight.val().device();
            let mean = Tensor::<1>::from_floats(batch.as_slice(), &device).mean();
            let first = f64::from(batch[0]);
            (
                mean * self.weight.val(),
                vec![
                    Statistic::new("kl", first),
                    Statistic::new("autodiff", f64::from(device.is_autodiff())),
                ],
            )
        }
    }

    fn scaled() -> Trainee<Scaled> {
        let weight = Tensor::<1>::from_floats([2.0], &Device::flex().autodiff());
        Trainee::new(Scaled { weight: Param::from_tensor(weight) }, Precision::F32)
    }

    fn validation(rules: Rules, batches: Vec<Vec<f32>>) -> Validation<Scaled> {
        let measure = move |_: usize, module: &Scaled| {
            let weighted = batches.iter().map(|batch| (batch.clone(), batch.len() as f64));
            means(module, weighted.map(Ok))
        };
        Validation { every: 4, measure: Arc::new(measure), rules }
    }

    #[test]
    fn figures_are_means_over_all_records_whatever_the_batches_and_without_autodiff() {
        let of = |batches| validation(Rules::default(), batches).figures(3, &scaled()).unwrap();
        let several = of(vec![vec![1.0, 2.0, 3.0], vec![6.0]]);
        assert_eq!(several[0], ("loss".to_owned(), 6.0), "2 × 12 / 4");
        assert_eq!(several[1], ("kl_target".to_owned(), (3.0 * 1.0 + 6.0) / 4.0));
        assert_eq!(several[2], ("autodiff".to_owned(), 0.0));
        assert_eq!(of(vec![vec![1.0, 2.0, 3.0, 6.0]])[0], several[0]);
    }

    #[test]
    fn validations_are_due_every_so_many_steps_and_after_the_last() {
        let validation = validation(Rules::default(), vec![vec![1.0]]);
        let due: Vec<usize> = (1..=10).filter(|&step| validation.is_due(step, 10)).collect();
        assert_eq!(due, [4, 8, 10]);
    }

    #[test]
    fn a_best_figure_that_there_is_not_and_a_figure_that_is_no_number_are_refused() {
        let rules = Rules { best: BestBy::Accuracy, kl_budget: None };
        let error = validation(rules, vec![vec![1.0]]).before(&scaled()).unwrap_err();
        insta::assert_snapshot!(error, @"checkpoint.best: expected a figure of this training's validation, which has loss, kl_target, autodiff; `accuracy` is none of them");
        let error = validation(Rules::default(), vec![vec![f32::NAN]]).figures(7, &scaled());
        insta::assert_snapshot!(error.unwrap_err(), @"validation after step 7: `loss` is NaN. Lower training.learning_rate, or look at the validation records");
    }

    #[test]
    fn figures_stand_in_a_line_under_the_names_of_validation() {
        let mut line = json!({ "step": 1 });
        write(&mut line, vec![("loss".to_owned(), 0.5)]);
        write_before(&mut line, vec![("loss".to_owned(), 0.75)]);
        assert_eq!(
            line,
            json!({ "step": 1, "validation/loss": 0.5, "validation_before/loss": 0.75 })
        );
    }
}
