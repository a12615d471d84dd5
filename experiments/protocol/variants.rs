//! What a run compares: objectives, each with one or several β and K.

use clap::ValueEnum;
use exalign::alignment::{Labels, ObjectiveName};
use exalign::config::Config;
use exalign::{Error, Result};
use serde::{Deserialize, Serialize};

use super::labels::label_of;
use crate::stages::pairs::Method;

/// `comparison.*`; what each means stands in `assets/presets/common.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    pub objectives: Vec<String>,
    pub beta_policy: Vec<f64>,
    pub beta_reward: Vec<f64>,
    pub completions: Vec<usize>,
    pub seeds: usize,
    pub pairs: String,
    pub best_of: Vec<usize>,
    pub judge: String,
    pub judged_prompts: usize,
    pub shown_prompts: usize,
}

/// Where pairs come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairsFrom {
    /// Two completions of each labelled group.
    Groups(Method),
    /// The pairs that people labelled, which the reward model learns from as well.
    Data,
}

/// An objective with its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    pub objective: ObjectiveName,
    pub labels: Labels,
    pub beta_policy: f64,
    pub beta_reward: f64,
    /// K, the completions of a group.
    pub completions: usize,
    /// K where it is less than what was drawn.
    pub fewer_completions: Option<usize>,
    /// What of its numbers the run varies, as `b0.5`, `r2`, `k4`.
    pub(super) varied: Vec<String>,
}

/// `exo-pref` with the labels of the official code.
const OFFICIAL: &str = "exo-pref-official";

impl Comparison {
    /// Refuses what makes no sense, where groups of `drawn` completions are sampled.
    pub fn check(&self, drawn: usize) -> Result<()> {
        if self.objectives.is_empty() {
            return Err(Error::usage("comparison.objectives: expected at least one, found none"));
        }
        for name in &self.objectives {
            parse(name)?;
        }
        let positive = |key: &str, values: &[f64]| match values.iter().find(|it| **it <= 0.0) {
            Some(found) => Err(Error::usage(format!(
                "comparison.{key}: expected numbers above 0, found {found}"
            ))),
            None => Ok(()),
        };
        positive("beta_policy", &self.beta_policy)?;
        positive("beta_reward", &self.beta_reward)?;
        if self.completions.iter().any(|it| *it < 2) {
            return Err(Error::usage("comparison.completions: expected at least 2, found less"));
        }
        if let Some(more) = self.completions.iter().find(|it| **it > drawn) {
            return Err(Error::usage(format!(
                "comparison.completions: expected at most {drawn}, what sample.generation.completions draws, found \
                 {more}; raise that"
            )));
        }
        if self.seeds == 0 {
            return Err(Error::usage("comparison.seeds: expected at least 1, found 0"));
        }
        let known = ["reward", "rule"].contains(&self.judge.as_str());
        if !known && !self.judge.starts_with("openai:") {
            return Err(Error::usage(format!(
                "comparison.judge: expected reward, rule or openai:URL, found `{}`",
                self.judge
            )));
        }
        self.pairs_from().map(|_| ())
    }

    /// Where the pairs that objectives on pairs learn from come from.
    pub fn pairs_from(&self) -> Result<PairsFrom> {
        match self.pairs.as_str() {
            "data" => Ok(PairsFrom::Data),
            name => Method::from_str(name, false).map(PairsFrom::Groups).map_err(|_| {
                Error::usage(format!(
                    "comparison.pairs: expected best-worst, bradley-terry or data, found `{name}`"
                ))
            }),
        }
    }

    /// Every objective with every number that concerns it.
    pub fn variants(&self, align: &Config, sample: &Config) -> Vec<Variant> {
        let or = |values: &[f64], value: f64| match values {
            [] => vec![value],
            _ => values.to_vec(),
        };
        let drawn = sample.generation.completions;
        let beta_policies = or(&self.beta_policy, align.objective.beta_policy);
        let beta_rewards = or(&self.beta_reward, align.objective.beta_reward);
        let counts =
            if self.completions.is_empty() { vec![drawn] } else { self.completions.clone() };
        let mut variants = Vec::new();
        for (objective, labels) in self.objectives.iter().filter_map(|name| parse(name).ok()) {
            // Objectives on pairs read neither β_r nor K.
            let (beta_rewards, counts) = match takes_pairs(objective) {
                true => (vec![align.objective.beta_reward], vec![drawn]),
                false => (beta_rewards.clone(), counts.clone()),
            };
            for &beta_policy in &beta_policies {
                for &beta_reward in &beta_rewards {
                    variants.extend(counts.iter().map(|&count| {
                        let varied = [
                            (beta_policies.len() > 1, format!("b{beta_policy}")),
                            (beta_rewards.len() > 1, format!("r{beta_reward}")),
                            (counts.len() > 1, format!("k{count}")),
                        ];
                        Variant {
                            objective,
                            labels,
                            beta_policy,
                            beta_reward,
                            completions: count,
                            fewer_completions: (count < drawn).then_some(count),
                            varied: varied.into_iter().filter(|it| it.0).map(|it| it.1).collect(),
                        }
                    }));
                }
            }
        }
        variants
    }
}

impl Variant {
    /// Whether it learns from pairs.
    pub fn takes_pairs(&self) -> bool {
        takes_pairs(self.objective)
    }

    /// Its folder, and its name in reports' data: `exo-rw`, `exo-rw-b0.5-k4`.
    pub fn folder(&self) -> String {
        let mut name = match self.labels {
            Labels::Official => OFFICIAL.to_owned(),
            Labels::Paper => self.objective.to_string(),
        };
        for part in &self.varied {
            name.push('-');
            name.push_str(part);
        }
        name
    }

    /// As people write it.
    pub fn name(&self) -> String {
        label_of(self).label
    }

    /// β_π · β_r: the weight of the KL at the optimum.
    pub fn beta(&self) -> f64 {
        self.beta_policy * self.beta_reward
    }

    /// Whether the two differ in nothing but the objective.
    pub fn is_counterpart(&self, other: &Self) -> bool {
        self.takes_pairs() == other.takes_pairs()
            && self.objective != other.objective
            && self.labels == other.labels
            && self.varied == other.varied
    }
}

fn takes_pairs(objective: ObjectiveName) -> bool {
    matches!(objective, ObjectiveName::ExoPref | ObjectiveName::Dpo)
}

fn parse(name: &str) -> Result<(ObjectiveName, Labels)> {
    if name == OFFICIAL {
        return Ok((ObjectiveName::ExoPref, Labels::Official));
    }
    let objective = name
        .parse()
        .map_err(|error| Error::usage(format!("comparison.objectives: {error} or {OFFICIAL}")))?;
    Ok((objective, Labels::Paper))
}

#[cfg(test)]
mod tests {
    use exalign::config::{ExperimentConfig, Sources};

    use super::*;
    use crate::protocol::{COMMON, STAGES};

    fn variants_of(over: &str) -> Result<Vec<Variant>> {
        let config = ExperimentConfig::load(&[COMMON, over], &STAGES, &Sources::default()).unwrap();
        let comparison: Comparison = config.section("comparison").unwrap();
        let stage = |name| config.stage(name).unwrap();
        comparison.check(stage("sample").generation.completions)?;
        Ok(comparison.variants(&stage("align"), &stage("sample")))
    }

    fn variants(over: &str) -> Vec<String> {
        variants_of(over).unwrap().iter().map(Variant::folder).collect()
    }

    #[test]
    fn a_comparison_that_makes_no_sense_is_refused_by_its_key() {
        for (over, message) in [
            ("objectives = []", "comparison.objectives: expected at least one, found none"),
            ("objectives = ['ppo']", "comparison.objectives: "),
            (
                "beta_policy = [0.1, 0.0]",
                "comparison.beta_policy: expected numbers above 0, found 0",
            ),
            ("beta_reward = [-1.0]", "comparison.beta_reward: expected numbers above 0, found -1"),
            ("completions = [1]", "comparison.completions: expected at least 2, found less"),
            (
                "completions = [4, 5]",
                "comparison.completions: expected at most 4, what sample.generation.completions draws, found 5",
            ),
            ("seeds = 0", "comparison.seeds: expected at least 1, found 0"),
            (
                "judge = 'nobody'",
                "comparison.judge: expected reward, rule or openai:URL, found `nobody`",
            ),
            (
                "pairs = 'any'",
                "comparison.pairs: expected best-worst, bradley-terry or data, found `any`",
            ),
        ] {
            let error = variants_of(&format!("[comparison]\n{over}")).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn counterparts_differ_in_their_objective_alone() {
        let all = variants_of("[comparison]\nbeta_policy = [0.2, 1.0]").unwrap();
        let pairs = all.iter().flat_map(|a| all.iter().map(move |b| (a, b)));
        let mut counterparts: Vec<String> = pairs
            .filter(|(a, b)| a.is_counterpart(b))
            .map(|(a, b)| format!("{} {}", a.folder(), b.folder()))
            .collect();
        counterparts.sort();
        assert_eq!(
            counterparts,
            [
                "dpo-b0.2 exo-pref-b0.2",
                "dpo-b1 exo-pref-b1",
                "dpo-rw-b0.2 exo-rw-b0.2",
                "dpo-rw-b1 exo-rw-b1",
                "exo-pref-b0.2 dpo-b0.2",
                "exo-pref-b1 dpo-b1",
                "exo-rw-b0.2 dpo-rw-b0.2",
                "exo-rw-b1 dpo-rw-b1",
            ]
        );
    }

    #[test]
    fn a_sweep_varies_what_concerns_an_objective_and_nothing_twice() {
        assert_eq!(variants(""), ["dpo", "exo-pref", "dpo-rw", "exo-rw"]);
        let sweep = "[comparison]\nobjectives = ['dpo', 'exo-pref-official', 'exo-rw']\nbeta_policy = [0.2, 1.0]\ncompletions = [2, 4]";
        assert_eq!(
            variants(sweep),
            [
                "dpo-b0.2",
                "dpo-b1",
                "exo-pref-official-b0.2",
                "exo-pref-official-b1",
                "exo-rw-b0.2-k2",
                "exo-rw-b0.2-k4",
                "exo-rw-b1-k2",
                "exo-rw-b1-k4"
            ]
        );
    }
}
