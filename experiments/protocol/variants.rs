//! The variants that a run compares: objectives, each with one or several β and K.

use clap::ValueEnum;
use exalign::alignment::{
    Divergence, Form, Labels, ObjectiveConfig, ObjectiveName, Takes, objectives,
};
use exalign::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::judging::JudgeSpec;
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
#[derive(Clone, Debug)]
pub struct Variant {
    pub objective: ObjectiveConfig,
    /// The form of the objective, where it is not the plain one.
    pub form: Option<&'static Form>,
    /// K, the completions of a group.
    pub completions: usize,
    /// K where it is less than what was drawn.
    pub fewer_completions: Option<usize>,
    /// What of its numbers the run varies.
    pub varied: Varied,
}

/// The numbers of a variant that a run varies; none of those that all variants share.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Varied {
    pub beta_policy: Option<f64>,
    pub beta_reward: Option<f64>,
    pub completions: Option<usize>,
}

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
        JudgeSpec::of_experiment(&self.judge)?;
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

    /// Every objective with every number that concerns it, over `base`, of groups of `drawn`
    /// completions.
    pub fn variants(&self, base: &ObjectiveConfig, drawn: usize) -> Vec<Variant> {
        let mut variants = Vec::new();
        for (name, form) in self.objectives.iter().filter_map(|name| parse(name).ok()) {
            let mut objective = ObjectiveConfig { name, labels: Labels::default(), ..base.clone() };
            if let Some(form) = form {
                (form.set)(&mut objective);
            }
            let reads = |key| name.reads.contains(&key);
            let beta_policies =
                Swept::of(&self.beta_policy, base.beta_policy, reads("beta_policy"));
            let beta_rewards = Swept::of(&self.beta_reward, base.beta_reward, reads("beta_reward"));
            let counts = Swept::of(&self.completions, drawn, name.takes == Takes::Rewards);
            for (beta_policy, varied_policy) in beta_policies.values() {
                for (beta_reward, varied_reward) in beta_rewards.values() {
                    variants.extend(counts.values().map(|(count, varied_count)| Variant {
                        objective: ObjectiveConfig {
                            beta_policy,
                            beta_reward,
                            ..objective.clone()
                        },
                        form,
                        completions: count,
                        fewer_completions: (count < drawn).then_some(count),
                        varied: Varied {
                            beta_policy: varied_policy,
                            beta_reward: varied_reward,
                            completions: varied_count,
                        },
                    }));
                }
            }
        }
        variants
    }
}

/// The values of a number.
struct Swept<T>(Vec<T>);

impl<T: Copy> Swept<T> {
    /// Those that are listed; the one of the settings where none is, or where they do not concern the
    /// objective.
    fn of(listed: &[T], value: T, concerns: bool) -> Self {
        match concerns && !listed.is_empty() {
            true => Self(listed.to_vec()),
            false => Self(vec![value]),
        }
    }

    /// Each, and once more where there are several.
    fn values(&self) -> impl Iterator<Item = (T, Option<T>)> {
        let several = self.0.len() > 1;
        self.0.iter().map(move |&value| (value, several.then_some(value)))
    }
}

impl Variant {
    /// Whether it learns from pairs, or from what is made of them.
    pub fn takes_pairs(&self) -> bool {
        self.objective.name.takes != Takes::Rewards
    }

    /// Its folder, and its name in reports' data: `exo-rw`, `exo-rw-b0.5-k4`.
    pub fn folder(&self) -> String {
        let Varied { beta_policy, beta_reward, completions } = self.varied;
        // No folder has a name that shells take for a pattern.
        let name = self.form.map_or(self.objective.name.name, |form| form.name).replace('*', "");
        let parts = [
            beta_policy.map(|value| format!("-b{value}")),
            beta_reward.map(|value| format!("-r{value}")),
            completions.map(|value| format!("-k{value}")),
        ];
        parts.into_iter().flatten().fold(name, |name, part| name + &part)
    }

    /// As people write it: `EXO-rw, β 0.5, K 4`.
    pub fn name(&self) -> String {
        let Varied { beta_policy, beta_reward, completions } = self.varied;
        let label = self.form.map_or(self.objective.name.label, |form| form.label);
        let parts = [
            beta_policy.map(|value| format!(", β {value}")),
            beta_reward.map(|value| format!(", β_r {value}")),
            completions.map(|value| format!(", K {value}")),
        ];
        parts.into_iter().flatten().fold(label.to_owned(), |name, part| name + &part)
    }

    /// β_π · β_r: the weight of the KL at the optimum.
    pub fn beta(&self) -> f64 {
        self.objective.beta_policy * self.objective.beta_reward
    }

    /// Whether `other` is the plain objective that descends the other divergence and differs in nothing
    /// else.
    pub fn is_counterpart(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.objective.name, other.objective.name);
        let divergences = [ours.divergence, theirs.divergence];
        ours.takes == theirs.takes
            && (divergences == [Divergence::Reverse, Divergence::Forward]
                || divergences == [Divergence::Forward, Divergence::Reverse])
            && other.form.is_none()
            && self.varied == other.varied
    }
}

/// The objective, and its form, of a name.
fn parse(name: &str) -> Result<(ObjectiveName, Option<&'static Form>)> {
    let known = objectives();
    let forms = || {
        known.iter().flat_map(|&entry| entry.entry().forms.iter().map(move |form| (entry, form)))
    };
    if let Some((entry, form)) = forms().find(|(_, form)| form.name == name) {
        return Ok((entry, Some(form)));
    }
    let objective = name.parse().map_err(|error| {
        let forms: Vec<&str> = forms().map(|(_, form)| form.name).collect();
        Error::usage(format!("comparison.objectives: {error} or {}", forms.join(" or ")))
    })?;
    Ok((objective, None))
}

#[cfg(test)]
mod tests {
    use super::super::settings::comparison_of as variants_of;
    use super::*;

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
        let sum = "[comparison]\nobjectives = ['exo-pref + 0.10*nll', 'kto']";
        assert_eq!(variants(sum), ["exo-pref+0.1nll", "kto"]);
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
