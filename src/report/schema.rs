//! What `report.json` holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::alignment::{Divergence, Takes};
use crate::evaluation::{OptimumPoint, VarianceComponents};
use crate::statistics::Interval;

/// What a run found, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The page's title: what was done.
    pub title: String,
    /// The experiment, as on the command line.
    pub experiment: String,
    /// The experiment's preset.
    pub preset: String,
    /// What was found, in plain sentences, the most important one first.
    pub summary: Vec<String>,
    /// What rewards are measured in, such as `log-odds`; empty: in nothing that has a name.
    pub reward_unit: String,
    /// What the policies are that the parts below call by name. A policy without an entry is shown
    /// by its name alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyLabel>,
    /// The policies at the end of their training, the reference (`sft`) first.
    pub results: Vec<ResultRow>,
    /// How often the reward model is right about held-out records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reward_model: Option<RewardModelRow>,
    /// Reward and KL along the checkpoints of each objective.
    pub frontier: Vec<Series>,
    /// Objectives compared at the same KL.
    pub comparisons: Vec<Comparison>,
    /// Policies against each other by a judge.
    pub win_rates: Vec<WinRateRow>,
    /// Where the exact optimum lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimum: Option<Optimum>,
    /// What was measured during training.
    pub curves: Vec<TrainingCurve>,
    /// Each training from its first to its last step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trainings: Vec<TrainingRow>,
    /// All rewards behind the means, policy by policy.
    pub distributions: Vec<Distribution>,
    /// Completions of the same prompts by several policies.
    pub samples: Vec<SamplePrompt>,
    /// What each stage cost.
    pub stages: Vec<StageCost>,
    /// The whole configuration.
    pub configuration: Value,
    /// Name and value of what else is needed to repeat the run: versions, device, hashes, seed,
    /// command line.
    pub provenance: Vec<(String, String)>,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            title: String::new(),
            experiment: String::new(),
            preset: String::new(),
            summary: Vec::new(),
            reward_unit: "log-odds".to_owned(),
            policies: Vec::new(),
            results: Vec::new(),
            reward_model: None,
            frontier: Vec::new(),
            comparisons: Vec::new(),
            win_rates: Vec::new(),
            optimum: None,
            curves: Vec::new(),
            trainings: Vec::new(),
            distributions: Vec::new(),
            samples: Vec::new(),
            stages: Vec::new(),
            configuration: Value::Null,
            provenance: Vec::new(),
        }
    }
}

/// A policy: what it is called and what it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PolicyLabel {
    /// The name that the report's parts call it by: `sft`, `exo-rw-b0.5-k4`, …
    pub name: String,
    /// The name for people: `SFT`, `EXO-rw, β 0.5, K 4`, …
    pub label: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: PolicyKind,
}

/// What a policy is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum PolicyKind {
    /// π_sft, which the others are compared with.
    Reference,
    /// The answers that people gave.
    Chosen,
    /// The best of N samples of the reference.
    BestOfN,
    /// π*, the exact optimum.
    Optimum,
    /// A policy that an objective has trained.
    Trained(Trained),
    /// Anything else.
    #[default]
    #[serde(other)]
    Other,
}

/// What a policy was trained with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// The objective.
    pub objective: ObjectiveLabel,
    /// Sharpness of the policy side, β_π.
    pub beta_policy: f64,
    /// Temperature of the rewards, β_r; none of an objective that reads no rewards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta_reward: Option<f64>,
    /// Completions of a group, K; none of an objective on pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completions: Option<usize>,
    /// Whether it learned from samples that the policy drew while it was trained.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub online: bool,
}

/// An objective: what it is called, and where it stands among the others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ObjectiveLabel {
    /// The name in settings.
    pub name: String,
    /// The name for people.
    pub label: String,
    /// Which divergence from the optimum it makes small.
    pub divergence: Divergence,
    /// What it learns from.
    pub takes: Takes,
    /// Its number among the objectives with the same divergence that learn from the same, from 0.
    #[serde(default)]
    pub rank: usize,
}

/// A policy's row in the table of results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResultRow {
    /// The policy: `sft`, `chosen`, `best-of-4`, or what was trained: `dpo`, `exo-rw-b0.5`, …
    pub policy: String,
    /// Mean reward.
    pub reward: Interval,
    /// KL to the reference, in nats, by the plain mean of the log-ratio; none of what no model wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<Interval>,
    /// The same KL by the estimator of low variance, the mean of exp(−l) − 1 + l for a log-ratio l.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl_low_variance: Option<Interval>,
    /// The same KL by the exact KL of the next token, summed over the tokens of what was drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl_rao_blackwell: Option<Interval>,
    /// The gain in reward over the reference, paired by prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward_gain: Option<Interval>,
    /// That gain as a share of the exact optimum's at the same KL, where samples support one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_of_optimum: Option<Interval>,
    /// Mean score by a rule that the reward was learned to follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Interval>,
    /// Samples the row was measured on.
    pub num_samples: usize,
    /// Completions that its training learned from: its own, or those that were drawn before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned_from: Option<usize>,
    /// What its training took.
    pub seconds: f64,
}

impl ResultRow {
    /// The estimate of the KL that varies least.
    pub fn best_kl(&self) -> Option<Interval> {
        self.kl_rao_blackwell.or(self.kl)
    }
}

/// How often the reward model is right about records that it has not learned from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RewardModelRow {
    /// Share of the pairs in which the chosen answer has the higher reward, or of the texts whose reward has the sign
    /// of their label, with Wilson's interval, or Student's over several repetitions.
    pub accuracy: Interval,
    /// Pairs or texts, over all repetitions.
    pub records: usize,
}

/// An objective's way through the reward–KL plane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// The policy, or `best-of-n`.
    pub objective: String,
    /// Its checkpoints in the order of training; of several repetitions, their means.
    pub points: Vec<FrontierPoint>,
    /// Each repetition's own way, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repetitions: Vec<Repetition>,
    /// The area under it, where it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub area: Option<Area>,
}

/// The area between a frontier and the reward of the reference it starts at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Area {
    /// Over KLs from 0 to this one, in nats.
    pub up_to_kl: f64,
    /// The area, in reward × nats.
    pub area: Interval,
}

/// A repetition's way through the reward–KL plane.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Repetition {
    /// Its seed.
    pub seed: u64,
    /// KL in nats and mean reward at each of the series' points.
    pub points: Vec<(f64, f64)>,
}

/// A checkpoint in the reward–KL plane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrontierPoint {
    /// Optimizer steps taken; N of Best-of-N.
    pub step: usize,
    /// Mean reward.
    pub reward: Interval,
    /// KL to the reference, in nats.
    pub kl: Interval,
}

/// Two objectives on their way, compared at the same KL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The one.
    pub ours: String,
    /// The other.
    pub theirs: String,
    /// Up to this KL both go, in nats; the mean over repetitions.
    pub common_kl: f64,
    /// Difference in reward at that KL.
    pub at_common_kl: Interval,
    /// Difference in reward, averaged over all KLs up to there.
    pub mean_gain: Interval,
    /// `mean_gain` of each repetition: seed and interval over prompts.
    pub repetitions: Vec<(u64, Interval)>,
    /// The two after the same number of steps, where one may have gone further than the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_equal_steps: Option<EqualSteps>,
    /// Where the error of `mean_gain` comes from: what a larger run would be planned with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variance_components: Option<VarianceComponents>,
}

/// Two objectives after the same number of steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EqualSteps {
    /// The last step that both have a checkpoint of.
    pub step: usize,
    /// Difference in reward, paired by prompt.
    pub reward: Interval,
    /// Difference in KL to the reference, in nats: how much further ours has gone.
    pub kl: Interval,
}

/// How often a judge finds a policy's answers better than an opponent's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WinRateRow {
    /// The policy.
    pub policy: String,
    /// `sft`, or `chosen` for the answers people gave.
    pub opponent: String,
    /// Who judges.
    pub judge: String,
    /// Share of comparisons won, ties as half, with its Wilson interval; a prompt that recurs in
    /// several repetitions counts as one.
    pub rate: Interval,
    /// Comparisons won.
    pub wins: usize,
    /// Comparisons on which the two are as good, or that the order of the answers decided.
    pub ties: usize,
    /// Comparisons lost.
    pub losses: usize,
    /// Ties because the order of the answers decided.
    #[serde(default)]
    pub order_dependent: usize,
    /// Comparisons without a verdict; they count nowhere else.
    #[serde(default)]
    pub no_verdict: usize,
    /// Prompts that would tell the two apart with 80 % power; none where the rate is exactly ½.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts_to_tell_apart: Option<usize>,
}

/// The exactly optimal policies π*(y|x) ∝ π_sft(y|x) exp(r(x, y) / β).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Optimum {
    /// The optimum at this run's β.
    pub point: OptimumPoint,
    /// The optimum along β: the best frontier any policy can reach.
    pub curve: Vec<OptimumPoint>,
}

/// A quantity along a training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingCurve {
    /// The policy or another model.
    pub name: String,
    /// The quantity: `loss`, `accuracy`, …
    pub metric: String,
    /// Optimizer steps.
    pub steps: Vec<f64>,
    /// Its values at these steps.
    pub values: Vec<f64>,
}

/// A training, from its first to its last step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingRow {
    /// The policy or another model.
    pub name: String,
    /// Optimizer steps.
    pub steps: usize,
    /// Tokens that the model read a second, prompts counted once.
    pub tokens_per_second: f64,
    /// The share of steps whose gradient was clipped.
    pub clipped: f64,
    /// Figures by name, such as `logps/chosen`: at the first and at the last step.
    pub figures: BTreeMap<String, [f64; 2]>,
}

/// The rewards of a policy's samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// The policy.
    pub policy: String,
    /// One reward for each sample.
    pub rewards: Vec<f64>,
}

/// A prompt and what the policies made of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplePrompt {
    /// The prompt.
    pub prompt: String,
    /// Its completions.
    pub completions: Vec<SampleCompletion>,
}

/// A completion shown on the page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleCompletion {
    /// The policy it was drawn from.
    pub policy: String,
    /// The completion.
    pub text: String,
    /// Its reward.
    pub reward: f64,
    /// Its log-ratio to the reference, in nats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
}

/// What a stage cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageCost {
    /// The stage.
    pub name: String,
    /// Time it took when it was computed.
    pub seconds: f64,
    /// Whether its result was found and not computed again.
    pub cached: bool,
    /// What it was computed from, as a hash.
    pub key: String,
}

/// A report and what it is called beside others.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedReport {
    /// What the run is called: its folder's name.
    pub name: String,
    /// Its report.
    pub report: Report,
}

impl Report {
    /// What a policy is; none of a policy without an entry.
    pub fn policy(&self, name: &str) -> Option<&PolicyLabel> {
        self.policies.iter().find(|policy| policy.name == name)
    }

    /// A policy's name for people.
    pub fn label<'a>(&'a self, name: &'a str) -> &'a str {
        self.policy(name).map_or(name, |policy| &policy.label)
    }
}
