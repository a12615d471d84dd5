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
    /// Whether it learns from samples that the policy draws itself.
    pub online: bool,
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
        for Named { name, form, online } in
            self.objectives.iter().filter_map(|name| parse(name).ok())
        {
            let mut objective = ObjectiveConfig { name, labels: Labels::default(), ..base.clone() };
            if let Some(form) = form {
                (form.set)(&mut objective);
            }
            let reads = |key| name.reads.contains(&key);
            let beta_policies =
                Swept::of(&self.beta_policy, base.beta_policy, reads("beta_policy"));
            let beta_rewards = Swept::of(&self.beta_reward, base.beta_reward, reads("beta_reward"));
            let takes_groups = name.takes == Takes::Rewards;
            let counts = Swept::of(&self.completions, drawn, takes_groups);
            for (beta_policy, varied_policy) in beta_policies.values() {
                for (beta_reward, varied_reward) in beta_rewards.values() {
                    variants.extend(counts.values().map(|(count, varied_count)| Variant {
                        objective: ObjectiveConfig {
                            beta_policy,
                            beta_reward,
                            ..objective.clone()
                        },
                        form,
                        online,
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

    /// Whether its name says that it learns from its own samples: where others of its objective do not.
    fn is_said_online(&self) -> bool {
        self.online && !needs_own_samples(self.objective.name)
    }

    /// Its folder, and its name in reports' data: `exo-rw`, `exo-rw-b0.5-k4`.
    pub fn folder(&self) -> String {
        let Varied { beta_policy, beta_reward, completions } = self.varied;
        // No folder has a name that shells take for a pattern.
        let mut name =
            self.form.map_or(self.objective.name.name, |form| form.name).replace('*', "");
        if self.is_said_online() {
            name += ONLINE;
        }
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
        let mut label = self.form.map_or(self.objective.name.label, |form| form.label).to_owned();
        if self.is_said_online() {
            label += " online";
        }
        let parts = [
            beta_policy.map(|value| format!(", β {value}")),
            beta_reward.map(|value| format!(", β_r {value}")),
            completions.map(|value| format!(", K {value}")),
        ];
        parts.into_iter().flatten().fold(label, |name, part| name + &part)
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
            && self.online == other.online
            && self.varied == other.varied
    }

    /// Whether `other` is the same on samples of π_sft that were drawn before, where this draws its own.
    pub fn is_drawn_anew(&self, other: &Self) -> bool {
        let forms = [self, other].map(|it| it.form.map(|form| form.name));
        self.online
            && !other.online
            && self.objective.name == other.objective.name
            && forms[0] == forms[1]
            && self.varied == other.varied
    }
}

/// What follows the name of an objective that learns from its own samples.
const ONLINE: &str = "-online";

/// An objective, and its form, as a comparison names it.
struct Named {
    name: ObjectiveName,
    form: Option<&'static Form>,
    online: bool,
}

/// Whether an objective learns from nothing but its own samples.
fn needs_own_samples(name: ObjectiveName) -> bool {
    let config = ObjectiveConfig { name, ..ObjectiveConfig::default() };
    config.init().is_ok_and(|objective| objective.needs_proposal())
}

/// The objective, and its form, of a name.
fn parse(name: &str) -> Result<Named> {
    let known = objectives();
    let (name, is_said_online) = match name.strip_suffix(ONLINE) {
        Some(name) => (name, true),
        None => (name, false),
    };
    let forms = || {
        known.iter().flat_map(|&entry| entry.entry().forms.iter().map(move |form| (entry, form)))
    };
    if let Some((entry, form)) = forms().find(|(_, form)| form.name == name) {
        return Ok(Named { name: entry, form: Some(form), online: is_said_online });
    }
    let objective: ObjectiveName = name.parse().map_err(|error| {
        let forms: Vec<&str> = forms().map(|(_, form)| form.name).collect();
        Error::usage(format!("comparison.objectives: {error} or {}", forms.join(" or ")))
    })?;
    if is_said_online && objective.takes == Takes::Labels {
        return Err(Error::usage(format!(
            "comparison.objectives: expected an objective that can learn from its own samples before `{ONLINE}`, found \
             `{name}`, which learns from labels"
        )));
    }
    let online = is_said_online || needs_own_samples(objective);
    Ok(Named { name: objective, form: None, online })
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
            ("objectives = ['exo']", "comparison.objectives: "),
            ("objectives = ['kto-online']", "comparison.objectives: "),
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
        let own = "[comparison]\nobjectives = ['exo-pref-online', 'exo-rw-online', 'rloo']";
        assert_eq!(variants(own), ["exo-pref-online", "exo-rw-online", "rloo"]);
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
