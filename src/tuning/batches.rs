//! How the batches of a training are made from its records.

use std::sync::Arc;

use burn::data::dataset::Dataset;
use burn::tensor::Device;

use crate::config::TrainSettings;
use crate::training::BatchOrder;
use crate::{Error, Result};

/// Records that are read one by one, since all of them may be too many for memory.
pub(super) type Records<I> = Arc<dyn Dataset<I, Error>>;

/// A batch and its weight within its step: the number of groups or tokens its loss is a mean over.
pub(super) type Weighted<B> = (B, f64);

/// Makes the batch of some records on a device.
pub(super) type MakeBatch<I, B> = Arc<dyn Fn(&[I], &Device) -> Weighted<B> + Send + Sync>;

/// Gives the records of a step what they have in common, from the module as it is before the step, without autodiff,
/// in the float type of the passes.
pub(super) type Prepare<T, I> = Arc<dyn Fn(&T, &mut [I]) -> Result<()> + Send + Sync>;

/// What a step learns from.
pub(super) struct StepRecords<I> {
    /// The epoch, from 0.
    pub epoch: usize,
    pub records: Vec<I>,
    /// What came before the step, each with the seconds it took.
    pub preparation: Vec<(&'static str, f64)>,
    /// Figures of the records for the step's line of metrics.
    pub figures: Vec<(String, f64)>,
}

/// The records of a step of a number, counted from 0, for the module as it is before the step.
pub(super) type RecordsOfStep<T, I> =
    Arc<dyn Fn(usize, &T) -> Result<StepRecords<I>> + Send + Sync>;

/// Where a training takes its records from.
pub(super) struct Source<T, I> {
    /// Number of optimizer steps.
    pub num_steps: usize,
    pub of_step: RecordsOfStep<T, I>,
}

impl<T, I: 'static> Source<T, I> {
    /// All `records`, epoch after epoch, as the settings say.
    pub fn of_all(records: impl Dataset<I, Error> + 'static, settings: &TrainSettings) -> Self {
        let TrainSettings { training, data, seed, .. } = settings;
        let order = BatchOrder::new(
            records.len(),
            training.batch_size,
            training.epochs,
            training.max_steps,
            data.shuffle.then_some(*seed),
        );
        let num_steps = order.num_steps();
        let of_step = move |step: usize, _: &T| {
            let (epoch, numbers) = order.records(step);
            let records = records.get_many(numbers)?;
            Ok(StepRecords { epoch, records, preparation: Vec::new(), figures: Vec::new() })
        };
        Self { num_steps, of_step: Arc::new(of_step) }
    }
}
