//! One optimizer step: micro-batches in; the mean gradient and a line of metrics out.

use std::sync::{Arc, Mutex};

use burn::backend::ExecutionError;
use burn::module::{Module, ModuleDisplay};
use burn::optim::lr_scheduler::module_lr_scheduler::ModuleLearningRate;
use burn::optim::{GradientsParams, ModuleOptimizer, OptimizerRecord};
use burn::tensor::{Gradients, Tensor};
use burn::train::{InferenceStep, ItemLazy, TrainOutput, TrainStep};

use super::gradients::{add, widened};
use crate::alignment::Statistic;
use crate::deferred::Deferred;
use crate::kernels::linear::Dropout;
use crate::model::Precision;
use crate::model::precision::computing_in;

/// A part of a step small enough for memory.
#[derive(Clone, Debug)]
pub struct Micro<B> {
    /// The input of the model.
    pub batch: B,
    /// The part's share of the step's loss; the shares of a step add up to 1.
    pub share: f64,
    /// Which of the training's devices the batch is on, from 0.
    pub device: usize,
    /// Dropout of what adapters read, if there is one.
    pub dropout: Option<Dropout>,
}

impl<B> Micro<B> {
    /// The parts of a step from their batches, the device of each, and its weight: the number of groups
    /// or tokens that its loss is a mean over.
    pub fn weighted(parts: Vec<(B, f64, usize)>) -> Vec<Self> {
        let whole: f64 = parts.iter().map(|(_, weight, _)| weight).sum();
        let part = |(batch, weight, device)| {
            let share = weight / whole;
            Self { batch, share, device, dropout: None }
        };
        parts.into_iter().map(part).collect()
    }
}

/// One optimizer step: its micro-batches.
#[derive(Clone, Debug)]
pub struct Step<B> {
    /// The epoch, from 0.
    pub epoch: usize,
    /// The parts.
    pub micro_batches: Vec<Micro<B>>,
    /// Groups (or texts) in the step.
    pub num_groups: usize,
    /// Tokens the model reads in the step, padding not counted.
    pub num_tokens: usize,
    /// Names of the records, for messages.
    pub records: Vec<String>,
    /// What came before the step, each with the seconds it took.
    pub preparation: Vec<(&'static str, f64)>,
    /// Further figures for the step's line of metrics.
    pub figures: Vec<(String, f64)>,
}

impl<B> Default for Step<B> {
    fn default() -> Self {
        Self {
            epoch: 0,
            micro_batches: Vec::new(),
            num_groups: 0,
            num_tokens: 0,
            records: Vec::new(),
            preparation: Vec::new(),
            figures: Vec::new(),
        }
    }
}

impl<B> Step<B> {
    /// The step with dropout of what adapters read, another one in each micro-batch.
    pub fn with_dropout(mut self, dropout: Option<Dropout>) -> Self {
        for (number, micro) in (0..).zip(&mut self.micro_batches) {
            micro.dropout = dropout.map(|of_step| of_step.part(number));
        }
        self
    }

    /// The part of each of `count` devices; none for a device without a micro-batch.
    pub(super) fn by_device(self, count: usize) -> Vec<Option<Self>> {
        let Self { epoch, num_groups, num_tokens, .. } = self;
        let mut parts: Vec<Vec<Micro<B>>> = (0..count).map(|_| Vec::new()).collect();
        for micro in self.micro_batches {
            parts[micro.device].push(micro);
        }
        let part = |micro_batches: Vec<Micro<B>>| {
            // What is told of the whole step is told once, by no part.
            let part = Self { epoch, micro_batches, num_groups, num_tokens, ..Self::default() };
            (!part.micro_batches.is_empty()).then_some(part)
        };
        parts.into_iter().map(part).collect()
    }
}

/// The result of one optimizer step, or of a device's part of it.
#[derive(Clone, Debug, Default)]
pub struct StepOutput {
    /// Mean loss.
    pub loss: f64,
    /// The objective's own figures.
    sums: Vec<FigureSum>,
    /// The device it comes from, from 0.
    pub device: usize,
}

/// A figure of several parts: the weighted sum of its means, and the sum of its weights.
#[derive(Clone, Copy, Debug)]
struct FigureSum {
    name: &'static str,
    sum: f64,
    weight: f64,
}

impl ItemLazy for StepOutput {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(self)
    }
}

/// A module with the loss it is trained on.
pub trait Trainable: Module + ModuleDisplay + 'static {
    /// The input of the model, one micro-batch at a time.
    type Batch: Send + 'static;

    /// The mean loss of a micro-batch and the objective's own figures.
    fn loss(&self, batch: &Self::Batch) -> MicroLoss;

    /// Where parts of the backward pass are left that are computed again, if there are such.
    fn deferred(&self) -> Option<&Deferred> {
        None
    }
}

/// A trainable module as burn's `Learner` takes it.
#[derive(Module, Debug)]
pub struct Trainee<T: Module> {
    /// The module.
    pub module: T,
    #[module(skip)]
    compute: Precision,
    #[module(skip)]
    slot: OptimizerSlot,
}

impl<T: Trainable> Trainee<T> {
    /// Wraps `module`, whose parameters stay what they are while its passes are computed in
    /// `compute`.
    pub fn new(module: T, compute: Precision) -> Self {
        Self { module, compute, slot: OptimizerSlot::default() }
    }

    /// The float type of the passes.
    pub(super) fn compute(&self) -> Precision {
        self.compute
    }

    /// Where the optimizer leaves its state when asked.
    pub fn slot(&self) -> &OptimizerSlot {
        &self.slot
    }
}

/// Mean loss and figures of one micro-batch.
pub type MicroLoss = (Tensor<1>, Vec<Statistic>);

impl<T: Trainable> TrainStep for Trainee<T> {
    type Input = Step<T::Batch>;
    type Output = StepOutput;

    /// The step's mean gradient: every micro-batch's loss weighted by its share, backward, summed.
    fn step(&self, step: Self::Input) -> TrainOutput<StepOutput> {
        let mut sums = GradientsParams::new();
        let mut output = StepOutput::default();
        for micro in step.micro_batches {
            output.device = micro.device;
            let module = computing_in(self.module.clone(), self.compute);
            let (mean, statistics) = Dropout::during(micro.dropout, || module.loss(&micro.batch));
            let weighted = mean * micro.share;
            output.add(weighted.clone().into_scalar::<f32>() as f64, statistics, micro.share);
            sums = add(self, sums, self.gradients(&module, weighted.backward()));
        }
        TrainOutput { grads: sums, item: output }
    }

    fn optimize(
        self,
        optimizer: &mut ModuleOptimizer,
        rate: ModuleLearningRate,
        gradients: GradientsParams,
    ) -> Self {
        let slot = self.slot.clone();
        let module = optimizer.step(rate, self, gradients);
        slot.fill(optimizer);
        module
    }
}

impl<T: Trainable> Trainee<T> {
    /// The gradients of the parameters by those of their copies in `module`, with those of the parts that were
    /// deferred.
    fn gradients(&self, module: &T, gradients: Gradients) -> GradientsParams {
        let of_parameters = |gradients| {
            let of_copies = GradientsParams::from_grads(gradients, module);
            match self.compute {
                Precision::F32 => of_copies,
                _ => widened(module, of_copies),
            }
        };
        let mut sums = GradientsParams::new();
        if let Some(deferred) = self.module.deferred() {
            deferred.resume(&gradients, &mut |part| {
                sums = add(self, std::mem::take(&mut sums), of_parameters(part));
            });
        }
        add(self, sums, of_parameters(gradients))
    }
}

impl<T: Trainable> InferenceStep for Trainee<T> {
    type Input = Step<T::Batch>;
    type Output = StepOutput;

    fn step(&self, step: Self::Input) -> StepOutput {
        let mut output = StepOutput::default();
        let module = computing_in(self.module.clone(), self.compute);
        for micro in step.micro_batches {
            let (mean, statistics) = module.loss(&micro.batch);
            output.add(mean.into_scalar::<f32>() as f64 * micro.share, statistics, micro.share);
        }
        output
    }
}

impl StepOutput {
    /// Adds a part, its loss weighted already.
    pub(super) fn add(&mut self, weighted_loss: f64, statistics: Vec<Statistic>, share: f64) {
        self.loss += weighted_loss;
        for Statistic { name, mean, per_group } in statistics {
            let weight = per_group * share;
            self.add_figure(FigureSum { name, sum: mean * weight, weight });
        }
    }

    /// Adds a device's part of the step.
    pub(super) fn merge(&mut self, part: Self) {
        self.loss += part.loss;
        part.sums.into_iter().for_each(|figure| self.add_figure(figure));
    }

    fn add_figure(&mut self, FigureSum { name, sum, weight }: FigureSum) {
        match self.sums.iter_mut().find(|known| known.name == name) {
            Some(known) => {
                known.sum += sum;
                known.weight += weight;
            }
            None => self.sums.push(FigureSum { name, sum, weight }),
        }
    }

    /// The objective's own figures, each a mean over what it concerns, where the weights of all parts add
    /// up to `whole`.
    pub fn statistics(&self, whole: f64) -> Vec<(&'static str, f64)> {
        let mean = |figure: &FigureSum| {
            // Weights that add up to the whole but for rounding.
            let is_of_all = (figure.weight / whole - 1.0).abs() < 1e-9;
            let weight = if is_of_all { whole } else { figure.weight };
            (figure.name, figure.sum / weight)
        };
        self.sums.iter().map(mean).collect()
    }
}

/// A slot for a copy of the optimizer's state, filled when a checkpoint is due: burn's `Learner` owns the
/// optimizer and shows it to the step alone.
#[derive(Clone, Debug, Default)]
pub struct OptimizerSlot(Arc<Mutex<Request>>);

#[derive(Debug, Default)]
enum Request {
    #[default]
    None,
    Wanted,
    Filled(OptimizerRecord),
}

impl OptimizerSlot {
    /// The next update leaves its state here.
    pub fn request(&self) {
        self.set(Request::Wanted);
    }

    /// The state, if one was left.
    pub fn take(&self) -> Option<OptimizerRecord> {
        match self.set(Request::None) {
            Request::Filled(record) => Some(record),
            _ => None,
        }
    }

    /// Leaves the optimizer's state if it was asked for.
    fn fill(&self, optimizer: &ModuleOptimizer) {
        if matches!(self.set(Request::None), Request::Wanted) {
            self.set(Request::Filled(optimizer.to_record()));
        }
    }

    fn set(&self, request: Request) -> Request {
        let mut slot = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::replace(&mut *slot, request)
    }
}
