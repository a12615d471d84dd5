//! The reports of a page, with what each policy is called and looks like.
//!
//! The policies of a sweep have the colour of their objective, a marker by K and dashes by β; where
//! only one of the two varies, it has both.

use super::schema::{NamedReport, ObjectiveLabel, PolicyKind, PolicyLabel, Report, Trained};
use super::style::Style;

/// A report on a page.
pub struct Run<'a> {
    /// Which of the page's reports it is, from 0.
    pub index: usize,
    /// What it is called beside others; none where it is alone.
    pub name: Option<&'a str>,
    pub report: &'a Report,
    policies: Vec<Policy>,
}

/// A policy on a page.
#[derive(Clone)]
pub struct Policy {
    label: PolicyLabel,
    /// What the sweep it belongs to varies; nothing without a sweep.
    pub varied: Varied,
    pub style: Style,
}

/// The settings of a policy that a sweep varies.
#[derive(Clone, Copy, Default, PartialEq)]
pub struct Varied {
    beta_policy: Option<f64>,
    beta_reward: Option<f64>,
    completions: Option<usize>,
}

/// The policies of a sweep that have a value in common: a β, or a K where only that varies.
pub struct Facet {
    /// The value, as `β 0.5`.
    pub title: String,
    value: Varied,
}

impl<'a> Run<'a> {
    /// The reports of a page.
    pub fn all(reports: &'a [NamedReport]) -> Vec<Self> {
        let mut runs: Vec<Self> = reports
            .iter()
            .enumerate()
            .map(|(index, it)| Self {
                index,
                name: (reports.len() > 1).then_some(it.name.as_str()),
                report: &it.report,
                policies: policies(&it.report),
            })
            .collect();
        let all = || runs.iter().flat_map(|run| &run.policies);
        let (betas, counts) = (values(all(), Varied::beta), values(all(), Varied::count));
        for policy in runs.iter_mut().flat_map(|run| &mut run.policies) {
            let place = |known: &[Varied], value| known.iter().position(|it| *it == value);
            let beta = place(&betas, policy.varied.beta());
            let count = place(&counts, policy.varied.count());
            // A pair has no K; where K has the markers, it keeps its own.
            let marker = if counts.len() > 1 { count } else { beta };
            let dashes = if betas.len() > 1 { beta } else { count };
            policy.style = policy.style.of_part(marker, dashes);
        }
        runs
    }

    /// The policy of a name.
    pub fn policy(&self, name: &str) -> Policy {
        let known = self.policies.iter().find(|it| it.label.name == name);
        known.cloned().unwrap_or_else(|| Policy::unknown(name))
    }

    /// `text`, with this run's name where there are several.
    pub fn named(&self, text: &str) -> String {
        match self.name {
            None => text.to_owned(),
            Some(name) => format!("{text} · {name}"),
        }
    }

    /// The reverse of [`Self::named`]: this run's name first.
    pub fn prefixed(&self, text: &str) -> String {
        match self.name {
            None => text.to_owned(),
            Some(name) => format!("{name} · {text}"),
        }
    }

    /// What a sweep falls into; nothing without a sweep.
    pub fn facets(&self) -> Vec<Facet> {
        let by_beta = values(self.policies.iter(), Varied::beta);
        let by_count = values(self.policies.iter(), Varied::count);
        let values = if by_beta.len() > 1 { by_beta } else { by_count };
        let facet = |value: Varied| Facet { title: value.to_string(), value };
        if values.len() > 1 { values.into_iter().map(facet).collect() } else { Vec::new() }
    }

    /// Those of `policies` that no objective trained, and of each objective the policy with the most
    /// reward.
    pub fn leading<'n>(&self, policies: &[&'n str]) -> Vec<&'n str> {
        let reward = |policy: &str| {
            let row = self.report.results.iter().find(|row| row.policy == policy);
            row.map_or(f64::NEG_INFINITY, |row| row.reward.mean)
        };
        let objective =
            |policy: &str| self.policy(policy).objective().map(|objective| objective.name.clone());
        let is_leading = |policy: &&&str| {
            objective(policy).is_none_or(|own| {
                let rivals = policies.iter().filter(|it| objective(it).as_ref() == Some(&own));
                // Of several that earn the same, the first.
                let best = rivals.rev().max_by(|a, b| reward(a).total_cmp(&reward(b)));
                best == Some(policy)
            })
        };
        policies.iter().filter(is_leading).copied().collect()
    }
}

impl Policy {
    fn unknown(name: &str) -> Self {
        let (name, label) = (name.to_owned(), name.to_owned());
        Self::new(PolicyLabel { name, label, kind: PolicyKind::Other }, Varied::default())
    }

    fn new(label: PolicyLabel, varied: Varied) -> Self {
        let style = Style::of(&label);
        Self { label, varied, style }
    }

    /// The name that the report's parts call it by.
    pub fn name(&self) -> &str {
        &self.label.name
    }

    /// The name for people.
    pub fn label(&self) -> &str {
        &self.label.label
    }

    /// Whether it is the reference.
    pub fn is_reference(&self) -> bool {
        self.label.kind == PolicyKind::Reference
    }

    /// Whether it is Best-of-N.
    pub fn is_best_of_n(&self) -> bool {
        self.label.kind == PolicyKind::BestOfN
    }

    /// The same as drawn for one of several runs, told apart by dashes.
    pub fn in_run(self, run: usize) -> Self {
        Self { style: self.style.of_run(run), ..self }
    }

    /// The objective that trained it.
    pub fn objective(&self) -> Option<&ObjectiveLabel> {
        trained(&self.label).map(|it| &it.objective)
    }

    /// Its label without what it has in common with a facet.
    pub fn label_in(&self, facet: &Facet) -> String {
        match self.objective() {
            None => self.label().to_owned(),
            Some(objective) => match self.varied.without(facet.value) {
                rest if rest.is_nothing() => objective.label.clone(),
                rest => format!("{}, {rest}", objective.label),
            },
        }
    }
}

impl Varied {
    fn beta(self) -> Self {
        Self { completions: None, ..self }
    }

    fn count(self) -> Self {
        Self { completions: self.completions, ..Self::default() }
    }

    /// Whether no setting varies.
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }

    /// The settings that `other` has not.
    fn without(self, other: Self) -> Self {
        Self {
            beta_policy: self.beta_policy.filter(|_| other.beta_policy.is_none()),
            beta_reward: self.beta_reward.filter(|_| other.beta_reward.is_none()),
            completions: self.completions.filter(|_| other.completions.is_none()),
        }
    }
}

/// As people write them: `β 0.5, K 4`.
impl std::fmt::Display for Varied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            self.beta_policy.map(|value| format!("β {value}")),
            self.beta_reward.map(|value| format!("β_r {value}")),
            self.completions.map(|value| format!("K {value}")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

impl Facet {
    /// Whether a policy has the value, or none of the kind.
    pub fn holds(&self, policy: &Policy) -> bool {
        let by_count = self.value.completions.is_some();
        let own = if by_count { policy.varied.count() } else { policy.varied.beta() };
        own.is_nothing() || own == self.value
    }
}

fn trained(label: &PolicyLabel) -> Option<&Trained> {
    match &label.kind {
        PolicyKind::Trained(trained) => Some(trained),
        _ => None,
    }
}

/// A report's policies, each with those of its settings in which the report's policies differ.
fn policies(report: &Report) -> Vec<Policy> {
    let all = || report.policies.iter().filter_map(trained);
    let beta_policy = differs(all().map(|it| Some(it.beta_policy)));
    let beta_reward = differs(all().map(|it| it.beta_reward));
    let completions = differs(all().map(|it| it.completions));
    let policy = |label: &PolicyLabel| {
        let varied = trained(label).map_or_else(Varied::default, |it| Varied {
            beta_policy: Some(it.beta_policy).filter(|_| beta_policy),
            beta_reward: it.beta_reward.filter(|_| beta_reward),
            completions: it.completions.filter(|_| completions),
        });
        Policy::new(label.clone(), varied)
    };
    report.policies.iter().map(policy).collect()
}

/// Whether there are two values that are not the same.
fn differs<T: PartialEq>(values: impl Iterator<Item = Option<T>>) -> bool {
    let mut values = values.flatten();
    let first = values.next();
    values.any(|value| Some(value) != first)
}

/// What `of` policies is varied, each value once, the small ones first.
fn values<'p>(policies: impl Iterator<Item = &'p Policy>, of: fn(Varied) -> Varied) -> Vec<Varied> {
    let mut values: Vec<Varied> = Vec::new();
    for value in policies.map(|policy| of(policy.varied)) {
        if !value.is_nothing() && !values.contains(&value) {
            values.push(value);
        }
    }
    let number = |value: Option<f64>| value.unwrap_or(f64::NEG_INFINITY);
    values.sort_by(|a, b| {
        // Policies that read rewards after those that do not.
        let reads = a.beta_reward.is_some().cmp(&b.beta_reward.is_some());
        let policy = number(a.beta_policy).total_cmp(&number(b.beta_policy));
        let reward = number(a.beta_reward).total_cmp(&number(b.beta_reward));
        reads.then(policy).then(reward).then(a.completions.cmp(&b.completions))
    });
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::labels;

    #[test]
    fn a_sweep_keeps_an_objective_s_colour_and_varies_marker_by_k_and_dashes_by_beta() {
        let names =
            ["exo-rw-b0.5-k4", "exo-rw-b0.5-k16", "exo-rw-b2-k4", "dpo-rw-b0.5-k4", "dpo-b2"];
        let report = Report { policies: labels(&names), ..Report::default() };
        let reports = [NamedReport { name: String::new(), report }];
        let runs = Run::all(&reports);
        let [a, more, colder, other, pair] = names.map(|it| runs[0].policy(it).style);
        assert_eq!(a.color.name, "navy");
        assert_eq!((more.color.name, more.dashes), ("navy", a.dashes));
        let marker = |style: Style| {
            let mark = style.mark(0.0, 0.0, 1.0, crate::report::style::Ink::Page, true);
            mark.split(" fill").next().unwrap().to_owned()
        };
        assert_ne!(marker(more), marker(a));
        assert_eq!(marker(colder), marker(a));
        assert_ne!(colder.dashes, a.dashes);
        assert_eq!((marker(other), other.dashes), (marker(a), a.dashes));
        assert_ne!(other.color.name, a.color.name);
        assert_eq!(pair.dashes, colder.dashes, "β is what pairs have in common with groups");
    }

    #[test]
    fn what_one_report_does_not_vary_is_no_sweep_beside_another() {
        let mut reports = ["a", "b"].map(|name| {
            let report = Report { policies: labels(&["exo-rw", "dpo"]), ..Report::default() };
            NamedReport { name: name.to_owned(), report }
        });
        if let PolicyKind::Trained(it) = &mut reports[1].report.policies[0].kind {
            it.beta_policy = 7.0;
        }
        reports[1].report.policies.truncate(1);
        let runs = Run::all(&reports);
        assert!(runs.iter().all(|run| run.policy("exo-rw").varied.is_nothing()));
        assert_eq!(runs[1].policy("dpo").label(), "dpo", "a policy without an entry has its name");
    }
}
