//! One step on several devices: each device computes the gradient of its micro-batches on a copy of the
//! model; the first device adds the gradients up and updates the weights.
//!
//! The workers are those of burn's `ExecutionStrategy::multi`; [`super::step_loop`] says why burn's loop
//! around them is not used. Collective operations (`ddp`) would avoid the detour over the first device, but
//! only one backend of burn 0.22 has them.

use burn::data::dataloader::{DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::optim::GradientsAccumulator;
use burn::tensor::Device;
use burn::train::TrainOutput;
use burn::train::train::MultiDevicesTrainStep;

use super::step::{Step, StepOutput, Trainable, Trainee};
use crate::{Error, Result};

/// The devices of a training, each with a thread of its own.
pub(super) struct SeveralDevices<T: Trainable> {
    devices: Vec<Device>,
    workers: MultiDevicesTrainStep<Trainee<T>>,
}

impl<T: Trainable> SeveralDevices<T> {
    /// Starts a thread for each device; the model lies on the first.
    pub fn new(devices: &[Device]) -> Self {
        Self { devices: devices.to_vec(), workers: MultiDevicesTrainStep::new(devices) }
    }

    /// The step's mean gradient on the first device.
    ///
    /// # Errors
    /// If a device fails.
    pub fn train_step(
        &self,
        model: &Trainee<T>,
        step: Step<T::Batch>,
    ) -> Result<TrainOutput<StepOutput>> {
        let mut parts: Vec<Box<dyn DataLoaderIterator<Step<T::Batch>>>> = step
            .by_device(self.devices.len())
            .into_iter()
            .map(|part| Box::new(Once(part)) as Box<dyn DataLoaderIterator<_>>)
            .collect();
        let (mut outputs, _) = self.workers.step(&mut parts, model).map_err(|error| {
            let error = error.to_string();
            Error::Device(error.split_whitespace().collect::<Vec<_>>().join(" "))
        })?;
        // They come as they finish; a sum must not depend on who is fastest.
        outputs.sort_by_key(|it| it.output.item.device);
        let mut accumulator = GradientsAccumulator::new();
        let mut whole = StepOutput::default();
        for TrainOutput { grads, item } in outputs.into_iter().map(|it| it.output) {
            accumulator.accumulate(model, grads.to_device(&self.devices[0], model));
            whole.merge(item);
        }
        Ok(TrainOutput { grads: accumulator.grads(), item: whole })
    }
}

/// What one device gets of a step, if anything.
struct Once<B>(Option<Step<B>>);

impl<B> Iterator for Once<B> {
    type Item = Result<Step<B>, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(Ok)
    }
}

impl<B> DataLoaderIterator<Step<B>> for Once<B> {
    fn progress(&self) -> Progress {
        Progress::new(0, 1, Some("steps".to_owned()))
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use burn::module::{Module, ModuleVisitor, Param};
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::GradientsParams;
    use burn::tensor::{Tensor, TensorData};
    use burn::train::TrainStep;

    use super::*;
    use crate::alignment::Statistic;
    use crate::model::Precision;
    use crate::training::{Micro, MicroLoss};

    #[derive(Module, Debug)]
    struct Squares {
        linear: Linear,
    }

    impl Trainable for Squares {
        type Batch = Tensor<2>;

        fn loss(&self, batch: &Tensor<2>) -> MicroLoss {
            let mean = self.linear.forward(batch.clone()).square().mean();
            (mean.clone(), vec![Statistic::new("mean", f64::from(mean.into_scalar::<f32>()))])
        }
    }

    fn values(model: &Trainee<Squares>, gradients: &GradientsParams) -> Vec<f32> {
        struct Collect<'a>(&'a GradientsParams, Vec<f32>);
        impl ModuleVisitor for Collect<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let gradient = self.0.get::<D>(param.id).expect("every parameter takes part");
                self.1.extend(gradient.into_data().try_into_vec::<f32>().unwrap());
            }
        }
        let mut visitor = Collect(gradients, Vec::new());
        model.visit(&mut visitor);
        visitor.1
    }

    /// A step of `rows` rows in micro-batches of at most `size`, dealt to `devices`.
    fn step(rows: usize, size: usize, devices: &[Device]) -> Step<Tensor<2>> {
        let number = |it: usize| ((it * 7) as f32).sin();
        let parts = (0..rows).step_by(size).enumerate().map(|(i, start)| {
            let len = size.min(rows - start);
            let values: Vec<f32> = (4 * start..4 * (start + len)).map(number).collect();
            let device = i % devices.len();
            let data = TensorData::new(values, [len, 4]);
            (Tensor::from_data(data, &devices[device]), len as f64, device)
        });
        let micro_batches = Micro::weighted(parts.collect());
        Step { micro_batches, num_groups: rows, ..Step::default() }
    }

    #[test]
    fn several_devices_have_the_gradient_loss_and_figures_of_one() {
        let device = Device::flex().autodiff();
        let squares = Squares { linear: LinearConfig::new(4, 5).init(&device) };
        let model = Trainee::new(squares, Precision::F32);
        for (rows, count) in [(14, 2), (14, 3), (2, 3), (9, 2)] {
            let devices = vec![device.clone(); count];
            // All at once on the one, threes and what is left of them on the others.
            let one = TrainStep::step(&model, step(rows, rows, &devices[..1]));
            let several = step(rows, 3, &devices);
            let several = SeveralDevices::new(&devices).train_step(&model, several).unwrap();
            // The order of the sum is all that differs.
            assert!((one.item.loss - several.item.loss).abs() < 1e-6);
            let [(_, one_mean)] = one.item.statistics(1.0)[..] else { panic!("one figure") };
            let [(_, several_mean)] = several.item.statistics(1.0)[..] else {
                panic!("one figure")
            };
            assert!((one_mean - several_mean).abs() < 1e-6 && one_mean > 0.0);
            let (one, several) = (values(&model, &one.grads), values(&model, &several.grads));
            for (one, several) in one.iter().zip(&several) {
                assert!((one - several).abs() < 1e-6 * (1.0 + one.abs()), "{one} {several}");
            }
        }
    }

    #[test]
    fn a_device_that_fails_is_an_error_on_one_line() {
        let device = Device::flex().autodiff();
        let squares = Squares { linear: LinearConfig::new(4, 5).init(&device) };
        let model = Trainee::new(squares, Precision::F32);
        let mut step = step(6, 3, &[device.clone(), device.clone()]);
        step.micro_batches[1].batch = Tensor::zeros([2, 3], &device); // 4 columns are wanted
        let several = SeveralDevices::new(&[device.clone(), device]);
        let error = several.train_step(&model, step).err().unwrap().to_string();
        assert!(error.contains("device 1") && error.lines().count() == 1, "{error}");
    }
}
