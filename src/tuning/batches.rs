//! How the batches of a training are made from its records.

use std::sync::Arc;

use burn::tensor::Device;

use crate::Result;

/// A batch and its weight within its step: the number of groups or tokens its loss is a mean over.
pub(super) type Weighted<B> = (B, f64);

/// Makes the batch of some records on a device.
pub(super) type MakeBatch<I, B> = Arc<dyn Fn(&[I], &Device) -> Weighted<B> + Send + Sync>;

/// Gives the records of a step what they have in common, from the module as it is before the step, without autodiff,
/// in the float type of the passes.
pub(super) type Prepare<T, I> = Arc<dyn Fn(&T, &mut [I]) -> Result<()> + Send + Sync>;
