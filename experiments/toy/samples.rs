//! Reviews again, by a policy that can represent any distribution over them, from a π_sft that seldom writes two
//! sentences that agree: how fast objectives come to π* on samples of π_sft, and on samples of the policy itself.
//!
//! At π* every completion has the same reward minus β·KL, and q = p in every group: the gradients of all of them
//! vanish there without any noise, so that all come to the same point.

use burn::optim::{Adam, AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Int, Tensor, TensorData};
use exalign::alignment::{GroupLogProbs, ObjectiveConfig};
use exalign::policy::{Listed, Table};
use exalign::training::Schedule;
use exalign::{Result, interrupt};
use rand::SeedableRng;
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};

use super::divergence::{divergence, log_normalized, rows};
use super::reviews::{all_agreeing, all_rewards};

/// A way to π*.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Path {
    pub objective: String,
    /// Whether the policy draws the samples, or π_sft.
    pub online: bool,
    /// KL(π ‖ π*) in nats after so many samples.
    pub points: Vec<PathPoint>,
}

/// A place on the way.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathPoint {
    pub samples: usize,
    /// KL(π ‖ π*) in nats.
    pub reverse_kl: f64,
    /// The mean effective sample size of the step's groups, where samples are weighted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_sample_size: Option<f64>,
}

/// What is compared: an objective, and whether the policy draws.
pub const WAYS: [(&str, bool); 5] =
    [("exo-rw", true), ("rloo", true), ("dpo-rw", true), ("exo-rw", false), ("dpo-rw", false)];
/// β_r, with β_π = 1.
pub const BETA: f64 = 0.4;
/// How much less π_sft likes a review that agrees with itself than one that does not, in nats.
const RELUCTANCE: f64 = 4.0;
/// Completions of a group.
pub const COMPLETIONS: usize = 8;
const GROUPS: usize = 16;
const STEPS: usize = 600;
/// Steps between two places.
const EVERY: usize = 10;
const RATE: f64 = 0.1;

/// All ways to π*.
pub fn paths(seed: u64, device: &Device) -> Result<Vec<Path>> {
    let rewards = all_rewards();
    WAYS.iter()
        .map(|&(objective, online)| path(objective, online, &rewards, seed, device))
        .collect()
}

fn path(
    objective: &str,
    online: bool,
    rewards: &[f64],
    seed: u64,
    device: &Device,
) -> Result<Path> {
    let name = objective.parse()?;
    let numbers =
        ObjectiveConfig { name, beta_policy: 1.0, beta_reward: BETA, ..ObjectiveConfig::default() };
    let built = numbers.init()?;
    let count = rewards.len();
    let row =
        |values: Vec<f64>| Tensor::<2>::from_data(TensorData::new(values, [1, count]), device);
    let log_reference = log_reference();
    let reference = row(log_reference.clone());
    let tilted = log_reference.iter().zip(rewards).map(|(log, reward)| log + reward / BETA);
    let optimum = log_normalized(&tilted.collect::<Vec<_>>());
    let mut policy = Table::new(row(log_reference.clone()));
    let adam: Adam = AdamConfig::new().build();
    let mut optimizer = ModuleOptimizer::from(adam);
    let schedule = Schedule::cosine(RATE, 0, STEPS);
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    let mut points = Vec::new();
    let mut size = None;
    for step in 0..=STEPS {
        interrupt::check()?;
        if step.is_multiple_of(EVERY) {
            points.push(PathPoint {
                samples: step * GROUPS * COMPLETIONS,
                reverse_kl: divergence(&rows(&policy)[0], &optimum).max(0.0),
                effective_sample_size: size,
            });
        }
        if step == STEPS {
            break;
        }
        let drawn = match online {
            true => draw(&rows(&policy)[0], &mut random),
            false => draw(&log_reference, &mut random),
        };
        let drawn =
            Tensor::<2, Int>::from_data(TensorData::new(drawn, [GROUPS, COMPLETIONS]), device);
        let prompts = Tensor::<1, Int>::zeros([GROUPS], device);
        let of_policy = policy.log_probs_of(prompts, drawn.clone(), 1.0);
        let of = |table: &Tensor<2>| table.clone().expand([GROUPS, count]).gather(1, drawn.clone());
        let log_probs = GroupLogProbs {
            proposal: online.then(|| of_policy.clone().detach()),
            ..GroupLogProbs::new(of_policy, of(&reference))
        };
        let rewards = of(&row(rewards.to_vec()));
        let statistics = built.statistics(&log_probs, &rewards);
        size = statistics.iter().find(|it| it.name == "effective_sample_size").map(|it| it.mean);
        let loss = built.loss(&log_probs, &rewards);
        let gradients = GradientsParams::from_grads(loss.backward(), &policy);
        policy = optimizer.step(schedule.rate(step), policy, gradients);
    }
    Ok(Path { objective: objective.to_owned(), online, points })
}

/// log π_sft of every review.
fn log_reference() -> Vec<f64> {
    let logit = |agrees: bool| if agrees { -RELUCTANCE } else { 0.0 };
    log_normalized(&all_agreeing().into_iter().map(logit).collect::<Vec<_>>())
}

/// The share of reviews under π_sft that agree with themselves.
pub fn agreeing_share() -> f64 {
    let agreeing = log_reference().into_iter().zip(all_agreeing());
    agreeing.filter(|(_, agrees)| *agrees).map(|(log, _)| log.exp()).sum()
}

/// Numbers of completions for all groups of a step, drawn by log-probs up to a constant.
fn draw(log_probs: &[f64], random: &mut ChaCha12Rng) -> Vec<i64> {
    let weights = WeightedIndex::new(log_probs.iter().map(|it| it.exp())).expect("weights above 0");
    (0..GROUPS * COMPLETIONS).map(|_| weights.sample(random) as i64).collect()
}

impl Path {
    /// Where it ends, KL(π ‖ π*) in nats.
    pub fn end(&self) -> f64 {
        self.points.last().map_or(f64::NAN, |point| point.reverse_kl)
    }

    /// The samples after which it stays below so many nats; none where it never does.
    pub fn samples_to(&self, nats: f64) -> Option<usize> {
        let above = self.points.iter().rposition(|point| point.reverse_kl > nats);
        self.points.get(above.map_or(0, |last| last + 1)).map(|point| point.samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_its_own_samples_exo_comes_to_the_optimum_and_rloo_to_the_same_point() {
        let paths = paths(0, &Device::flex().autodiff()).unwrap();
        let of = |objective: &str, online| {
            paths.iter().find(|it| it.objective == objective && it.online == online).unwrap()
        };
        let start = of("exo-rw", true).points[0].reverse_kl;
        assert!(start > 1.0, "{start}");
        for (objective, online) in WAYS {
            let end = of(objective, online).end();
            // Groups of π_sft seldom hold what π* wants.
            let bounds = if online { 0.0..1e-3 } else { 1e-2..start };
            assert!(bounds.contains(&end), "{objective} {online}: {end}");
        }
        // Adam does not see a gradient's scale, and the two gradients differ in nothing else but rounding, which
        // changes a draw now and then.
        let [exo, rloo] = ["exo-rw", "rloo"].map(|it| of(it, true).points[3].reverse_kl);
        assert!((exo / rloo).ln().abs() < 0.1, "{exo} {rloo}");
    }
}
