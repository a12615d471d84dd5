//! Policies that can represent only some distributions, and how they are fitted.

use burn::module::{Module, ModuleDisplay, Param};
use burn::optim::{Adam, AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Int, Tensor};
use exalign::alignment::{GroupLogProbs, ObjectiveConfig};
use exalign::policy::Listed;
use exalign::training::Schedule;
use exalign::{Result, interrupt};

/// A Gaussian on the points of a grid, one list of completions.
#[derive(Module, Debug)]
pub struct Gaussian {
    mean: Param<Tensor<2>>,
    log_scale: Param<Tensor<2>>,
    /// `[1, completions]`.
    grid: Tensor<2>,
}

impl Gaussian {
    pub fn new(mean: f64, scale: f64, grid: Tensor<2>) -> Self {
        let device = grid.device();
        let value = |value: f64| Param::from_tensor(Tensor::full([1, 1], value, &device));
        Self { mean: value(mean), log_scale: value(scale.ln()), grid }
    }

    /// Mean and scale.
    pub fn shape(&self) -> (f64, f64) {
        let number = |it: &Param<Tensor<2>>| it.val().into_data().iter::<f64>().sum::<f64>();
        (number(&self.mean), number(&self.log_scale).exp())
    }
}

impl Listed for Gaussian {
    fn logits(&self) -> Tensor<2> {
        let deviation = (self.grid.clone() - self.mean.val()) / self.log_scale.val().exp();
        deviation.powi_scalar(2) * -0.5 // [1, completions]
    }
}

/// Completions of two parts that are chosen independently: π(a, b) = π₁(a) π₂(b).
#[derive(Module, Debug)]
pub struct Product {
    /// `[prompts, a]`.
    first: Param<Tensor<2>>,
    /// `[prompts, b]`.
    second: Param<Tensor<2>>,
}

impl Product {
    /// The uniform policy.
    pub fn new(prompts: usize, [a, b]: [usize; 2], device: &Device) -> Self {
        let zeros = |len| Param::from_tensor(Tensor::zeros([prompts, len], device));
        Self { first: zeros(a), second: zeros(b) }
    }
}

impl Listed for Product {
    fn logits(&self) -> Tensor<2> {
        let first: Tensor<3> = self.first.val().unsqueeze_dim(2); //  [prompts, a, 1]
        let second: Tensor<3> = self.second.val().unsqueeze_dim(1); // [prompts, 1, b]
        (first + second).flatten(1, 2) //                              [prompts, a · b]
    }
}

/// What is fitted to: π* ∝ π_sft exp(r), over lists of completions.
pub struct Problem {
    /// log π_sft, `[prompts, completions]`.
    pub reference: Tensor<2>,
    /// Rewards in units of β, `[prompts, completions]`.
    pub rewards: Tensor<2>,
}

/// Groups to learn from, by the numbers of their prompts, `[groups]`, and completions `[groups, K]`.
pub struct Groups {
    pub prompts: Tensor<1, Int>,
    pub completions: Tensor<2, Int>,
}

impl Problem {
    /// Every prompt with all its completions: what sampled groups tend to as K grows, π_sft being
    /// uniform.
    pub fn whole(&self) -> Groups {
        let [prompts, completions] = self.rewards.dims();
        let device = self.rewards.device();
        let arange = |len: usize| Tensor::<1, Int>::arange(0..len as i64, &device);
        Groups {
            prompts: arange(prompts),
            completions: arange(completions).unsqueeze_dim::<2>(0).expand([prompts, completions]),
        }
    }

    fn of(&self, table: &Tensor<2>, groups: &Groups) -> Tensor<2> {
        table.clone().select(0, groups.prompts.clone()).gather(1, groups.completions.clone())
    }
}

/// What is compared, the forward KL first.
pub const OBJECTIVES: [&str; 2] = ["dpo-rw", "exo-rw"];

/// The settings of an objective at β_π = β_r = 1.
pub fn plain(objective: &str) -> Result<ObjectiveConfig> {
    let name = objective.parse()?;
    Ok(ObjectiveConfig { name, beta_policy: 1.0, beta_reward: 1.0, ..ObjectiveConfig::default() })
}

/// Minimises an objective by Adam, over `groups` drawn anew for each of `steps`.
pub fn fit<P: Listed + ModuleDisplay>(
    mut policy: P,
    objective: &ObjectiveConfig,
    problem: &Problem,
    steps: usize,
    mut groups: impl FnMut() -> Groups,
) -> Result<P> {
    let objective = objective.init()?;
    let adam: Adam = AdamConfig::new().build();
    let mut optimizer = ModuleOptimizer::from(adam);
    let schedule = Schedule::cosine(0.05, 0, steps);
    for step in 0..steps {
        interrupt::check()?;
        let groups = groups();
        let rewards = problem.of(&problem.rewards, &groups);
        let log_probs = GroupLogProbs::new(
            policy.log_probs_of(groups.prompts.clone(), groups.completions.clone(), 1.0),
            problem.of(&problem.reference, &groups),
        );
        let loss = objective.loss(&log_probs, &rewards);
        let gradients = GradientsParams::from_grads(loss.backward(), &policy);
        policy = optimizer.step(schedule.rate(step), policy, gradients);
    }
    Ok(policy)
}
