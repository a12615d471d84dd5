//! The table of objectives, and the settings from which an objective is built.

use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::json;

use super::{
    Alignment, KlWeight, Labels, alpha_pref, alpha_rw, apo_down, apo_zero, cdpo, dpo, dpo_list,
    dpo_norm, dpo_rw, exo_pref, exo_rw, grpo, hinge, ipo, jeffreys_rw, js_rw, kto, nca_pair, nll,
    orpo, ppo, rloo, robust_dpo, simpo, sppo_hard, sum,
};
use crate::{Error, Result};

/// All objectives of the library, in the order in which they are listed.
const TABLE: &[&Entry] = &[
    &exo_pref::ENTRY,
    &exo_rw::ENTRY,
    &dpo::ENTRY,
    &dpo_rw::ENTRY,
    &alpha_pref::ENTRY,
    &alpha_rw::ENTRY,
    &jeffreys_rw::ENTRY,
    &js_rw::ENTRY,
    &dpo_list::ENTRY,
    &cdpo::ENTRY,
    &robust_dpo::ENTRY,
    &dpo_norm::ENTRY,
    &ipo::ENTRY,
    &hinge::ENTRY,
    &nca_pair::ENTRY,
    &apo_zero::ENTRY,
    &apo_down::ENTRY,
    &sppo_hard::ENTRY,
    &kto::ENTRY,
    &simpo::ENTRY,
    &orpo::ENTRY,
    &nll::ENTRY,
    &rloo::ENTRY,
    &grpo::ENTRY,
    &ppo::ENTRY,
];

/// The objectives that a program has added.
static ADDED: RwLock<Vec<&'static Entry>> = RwLock::new(Vec::new());

/// An objective's entry in the table: everything the program knows about it before building it.
#[derive(Debug)]
pub struct Entry {
    /// The name on the command line, in settings and in records: `exo-rw`.
    pub name: &'static str,
    /// The name as the field writes it: `EXO-rw`.
    pub label: &'static str,
    /// The quantity that it minimises, in half a sentence.
    pub about: &'static str,
    /// The data that it learns from.
    pub takes: Takes,
    /// The divergence between the policy and its target that it minimises.
    pub divergence: Divergence,
    /// The keys of [`ObjectiveConfig`] that it reads.
    pub reads: &'static [&'static str],
    /// Named variants that a comparison may list beside the objective.
    pub forms: &'static [Form],
    /// Builds the objective; refuses numbers out of their range.
    pub build: fn(&ObjectiveConfig) -> Result<Arc<dyn Alignment>>,
}

/// An objective with some of its settings fixed, under a name of its own.
#[derive(Debug)]
pub struct Form {
    /// The name in settings: `exo-pref-official`.
    pub name: &'static str,
    /// The name as people write it.
    pub label: &'static str,
    /// Fixes the settings.
    pub set: fn(&mut ObjectiveConfig),
}

/// The data that an objective learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Takes {
    /// Pairs: K = 2, the first completion is the chosen one.
    Pairs,
    /// Groups with rewards, any K ≥ 2.
    Rewards,
    /// Completions that are desirable or not, each by itself, any K ≥ 1: those of positive reward are.
    Labels,
}

/// The divergence between the policy's side q of a group and the target p that an objective minimises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Divergence {
    /// KL(q ‖ p), which seeks modes.
    Reverse,
    /// KL(p ‖ q), which covers mass.
    Forward,
    /// One that lies between the two.
    Between,
    /// None between q and p.
    Other,
}

/// Adds an objective to the table, for the rest of the process.
///
/// # Errors
/// [`Error::Usage`] when there is an objective of that name, or the name reads as a sum.
pub fn register(entry: &'static Entry) -> Result<()> {
    if sum::is_sum(entry.name) {
        return Err(Error::usage(format!(
            "expected a name for an objective without + and *, which are for sums, found `{}`",
            entry.name
        )));
    }
    if objectives().iter().any(|known| known.name == entry.name) {
        return Err(Error::usage(format!(
            "expected a new name for an objective, found `{}`, which is taken",
            entry.name
        )));
    }
    ADDED.write().unwrap_or_else(PoisonError::into_inner).push(entry);
    Ok(())
}

/// All objectives.
pub fn objectives() -> Vec<ObjectiveName> {
    let added = ADDED.read().unwrap_or_else(PoisonError::into_inner);
    TABLE.iter().copied().chain(added.iter().copied()).map(ObjectiveName).collect()
}

/// The names of the objectives that `wanted` selects, as a sentence lists them: `a, b or c`.
pub fn objective_names(wanted: impl Fn(&Entry) -> bool) -> String {
    let names: Vec<&str> =
        objectives().iter().filter(|entry| wanted(entry)).map(|entry| entry.0.name).collect();
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => names.concat(),
    }
}

/// An objective by its name, with its entry in the [table](objectives).
#[derive(Clone, Copy)]
pub struct ObjectiveName(&'static Entry);

impl ObjectiveName {
    /// The objective of an entry, which need not be in the table.
    pub const fn of(entry: &'static Entry) -> Self {
        Self(entry)
    }

    /// Its entry.
    pub const fn entry(self) -> &'static Entry {
        self.0
    }
}

impl Deref for ObjectiveName {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        self.0
    }
}

impl PartialEq for ObjectiveName {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for ObjectiveName {}

impl fmt::Debug for ObjectiveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl fmt::Display for ObjectiveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

impl FromStr for ObjectiveName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        if sum::is_sum(name) { sum::entry(name).map(Self) } else { find(name) }
    }
}

/// The objective of a name in the table.
pub(super) fn find(name: &str) -> Result<ObjectiveName> {
    let known = objectives();
    known.iter().copied().find(|known| known.name == name).ok_or_else(|| {
        let known: Vec<_> = known.iter().map(|known| known.name).collect();
        Error::usage(format!("unknown objective `{name}`; one of {}", known.join(", ")))
    })
}

impl Serialize for ObjectiveName {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for ObjectiveName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The objective and all its numbers, as in configuration files (`objective.*`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// Which objective.
    pub name: ObjectiveName,
    /// Sharpness of the policy side, β_π > 0.
    pub beta_policy: f64,
    /// Temperature of the rewards, β_r > 0.
    pub beta_reward: f64,
    /// Divides the logits of policy and reference, τ > 0. The code that computes log-probs reads it; no
    /// objective does.
    pub temperature: f64,
    /// Label smoothing of the target, 0 < ε < 1/2.
    pub epsilon: f64,
    /// The labels of EXO-pref.
    pub labels: Labels,
    /// The place between EXO (0) and DPO (1).
    pub alpha: f64,
    /// The probability that a label is wrong, 0 ≤ s < 1/2, of cDPO and robust DPO.
    pub label_smoothing: f64,
    /// The margin of SimPO, γ ≥ 0.
    pub gamma: f64,
    /// Whether IPO reads log-ratios per token.
    pub ipo_average: bool,
    /// KTO's weight of desirable completions.
    pub desirable_weight: f64,
    /// KTO's weight of the others.
    pub undesirable_weight: f64,
    /// The weight of the best completion's negative log-likelihood per token, added to any objective.
    pub nll_weight: f64,
    /// The weight of the KL from the reference, of RLOO, GRPO and PPO.
    pub kl_weight: KlWeight,
    /// How far below 1 a ratio to the sampling policy counts, 0 < c ≤ 1, of RLOO, GRPO and PPO.
    pub clip_range: f64,
    /// How far above 1; 0: as far as below.
    pub clip_range_high: f64,
    /// Whether GRPO divides by the deviation of a group's rewards.
    pub grpo_deviation: bool,
    /// What GRPO divides a completion's sum over tokens by; 0: by its number of tokens.
    pub grpo_length: f64,
    /// How far rewards reach back past the values of PPO, 0 ≤ λ ≤ 1.
    pub gae_lambda: f64,
    /// The weight of PPO's loss of values.
    pub value_weight: f64,
    /// How far from its old value a value of PPO counts.
    pub value_clip_range: f64,
    /// The KL from the reference, in nats a completion, that PPO's weight of the KL is led by; 0: it stays.
    pub kl_target: f64,
    /// Completions over which that weight may change by a fifth.
    pub kl_horizon: f64,
}

/// The default settings of objectives.
pub(super) const DEFAULTS: ObjectiveConfig = ObjectiveConfig {
    name: ObjectiveName(&exo_pref::ENTRY),
    beta_policy: 0.1,
    beta_reward: 0.1,
    temperature: 1.0,
    epsilon: 1e-3,
    labels: Labels::Paper,
    alpha: 0.5,
    label_smoothing: 0.1,
    gamma: 0.5,
    ipo_average: true,
    desirable_weight: 1.0,
    undesirable_weight: 1.0,
    nll_weight: 0.0,
    kl_weight: KlWeight::Target,
    clip_range: 0.2,
    clip_range_high: 0.0,
    grpo_deviation: true,
    grpo_length: 0.0,
    gae_lambda: 0.95,
    value_weight: 0.1,
    value_clip_range: 0.2,
    kl_target: 0.0,
    kl_horizon: 10000.0,
};

/// The keys that concern any objective.
const OF_ALL: [&str; 3] = ["name", "temperature", "nll_weight"];

impl Default for ObjectiveConfig {
    fn default() -> Self {
        DEFAULTS
    }
}

impl ObjectiveConfig {
    /// The objective.
    ///
    /// Only the numbers that the objective reads are checked.
    ///
    /// # Errors
    /// [`Error::Setting`] when a number is out of its range.
    pub fn init(&self) -> Result<Arc<dyn Alignment>> {
        let objective = (self.name.build)(self)?;
        match self.nll_weight {
            0.0 => Ok(objective),
            weight if weight > 0.0 && (weight as f32).is_normal() => {
                Ok(sum::with_likelihood(objective, self))
            }
            weight => {
                let message = format!("must be 0 or a positive finite number, found {weight}");
                Err(Error::setting("nll_weight", message))
            }
        }
    }

    /// Whether the objective reads log-probs under the reference; it is taken to where its numbers are out
    /// of their range.
    pub fn needs_reference(&self) -> bool {
        self.init().map_or(true, |objective| objective.needs_reference())
    }

    /// Whether the objective reads `key`.
    pub fn reads(&self, key: &str) -> bool {
        OF_ALL.contains(&key) || self.name.reads.contains(&key)
    }

    /// The same objective, with the default for every key that it does not read.
    pub fn without_unread(&self) -> Self {
        let (mut keys, defaults) = (json!(self), json!(DEFAULTS));
        for (key, value) in keys.as_object_mut().into_iter().flatten() {
            if !self.reads(key) {
                *value = defaults[key].clone();
            }
        }
        serde_json::from_value(keys).unwrap_or_else(|_| self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_forms_are_told_apart() {
        let all = objectives();
        let forms = all.iter().flat_map(|entry| entry.forms.iter().map(|form| form.name));
        let mut names: Vec<&str> = all.iter().map(|entry| entry.name).chain(forms).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "{names:?}");
    }

    #[test]
    fn a_name_that_is_taken_is_not_taken_again() {
        let message = register(&exo_rw::ENTRY).unwrap_err().to_string();
        assert_eq!(message, "expected a new name for an objective, found `exo-rw`, which is taken");
    }

    #[test]
    fn what_an_objective_does_not_read_is_as_when_nothing_is_said() {
        let said = ObjectiveConfig {
            beta_policy: 0.5,
            beta_reward: 0.25,
            temperature: 0.8,
            epsilon: 0.1,
            labels: Labels::Official,
            ..DEFAULTS
        };
        let of = |name: &str| ObjectiveConfig { name: name.parse().unwrap(), ..said.clone() };
        let rewarded = ObjectiveConfig { epsilon: 1e-3, labels: Labels::Paper, ..of("exo-rw") };
        assert_eq!(of("exo-rw").without_unread(), rewarded);
        let pairs = ObjectiveConfig { beta_reward: 0.1, ..of("exo-pref") };
        assert_eq!(of("exo-pref").without_unread(), pairs);
    }
}
