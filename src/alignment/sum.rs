//! Weighted sums of objectives: `exo-pref+0.1*nll`.
//!
//! A sum is an objective under its own name. Its terms share all settings.

use std::sync::{Arc, PoisonError, RwLock};

use burn::tensor::Tensor;

use super::nll::{self, Nll};
use super::objective::find;
use super::{
    Alignment, Divergence, Entry, Gae, GroupLogProbs, ObjectiveConfig, ObjectiveName, Statistic,
    Takes, check_beta,
};
use crate::{Error, Result};

/// The entries of the sums that were named so far.
static NAMED: RwLock<Vec<&'static Entry>> = RwLock::new(Vec::new());

/// A sum, and the likelihood that [`ObjectiveConfig::nll_weight`] adds to any objective.
#[derive(Debug)]
struct Sum {
    entry: &'static Entry,
    terms: Vec<(f64, Arc<dyn Alignment>)>,
}

/// Whether a name is that of a sum.
pub(super) fn is_sum(name: &str) -> bool {
    name.contains(['+', '*'])
}

/// The entry of a sum by its name.
///
/// # Errors
/// [`Error::Usage`] where a term is no objective or its weight no positive number.
pub(super) fn entry(name: &str) -> Result<&'static Entry> {
    let terms = terms(name)?;
    let written: Vec<String> =
        terms.iter().map(|(weight, entry)| term(*weight, "*", entry.name)).collect();
    let name = written.join("+");
    let mut named = NAMED.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = named.iter().find(|known| known.name == name) {
        return Ok(known);
    }
    let labels: Vec<String> =
        terms.iter().map(|(weight, entry)| term(*weight, " ", entry.label)).collect();
    let mut reads: Vec<&str> = terms.iter().flat_map(|(_, entry)| entry.reads).copied().collect();
    reads.sort_unstable();
    reads.dedup();
    // There are as many sums as a process is told of: a handful.
    let entry: &'static Entry = Box::leak(Box::new(Entry {
        name: name.leak(),
        label: labels.join(" + ").leak(),
        about: "a weighted sum of objectives",
        takes: takes(&terms),
        divergence: Divergence::Other,
        reads: reads.leak(),
        forms: &[],
        build,
    }));
    named.push(entry);
    Ok(entry)
}

fn term(weight: f64, between: &str, name: &str) -> String {
    if weight == 1.0 { name.to_owned() } else { format!("{weight}{between}{name}") }
}

/// The weights and entries of a sum's terms.
fn terms(name: &str) -> Result<Vec<(f64, &'static Entry)>> {
    name.split('+')
        .map(|term| {
            let (weight, name) = term.split_once('*').unwrap_or(("1", term));
            let weight = weight.trim().parse().ok().filter(|it| check_beta("weight", *it).is_ok());
            let weight = weight.ok_or_else(|| {
                Error::usage(format!(
                    "expected a sum of objectives with positive weights, such as exo-pref+0.1*nll, found the \
                     term `{term}`"
                ))
            })?;
            Ok((weight, find(name.trim())?.entry()))
        })
        .collect()
}

/// What a sum learns from: what the most demanding of its terms needs.
fn takes(terms: &[(f64, &Entry)]) -> Takes {
    let any = |takes| {
        terms.iter().any(|(_, entry)| entry.takes == takes && entry.name != nll::ENTRY.name)
    };
    match () {
        () if any(Takes::Pairs) => Takes::Pairs,
        () if any(Takes::Labels) => Takes::Labels,
        () => Takes::Rewards,
    }
}

fn build(config: &ObjectiveConfig) -> Result<Arc<dyn Alignment>> {
    let entry = config.name.entry();
    let terms = terms(entry.name)?.into_iter().map(|(weight, term)| {
        if term.name == nll::ENTRY.name {
            return Ok((weight, likelihood(entry.takes, config)));
        }
        let config = ObjectiveConfig { name: ObjectiveName::of(term), ..config.clone() };
        Ok((weight, (term.build)(&config)?))
    });
    Ok(Arc::new(Sum { entry, terms: terms.collect::<Result<_>>()? }))
}

/// `objective` with the likelihood of the best completion at a weight.
pub(super) fn with_likelihood(
    objective: Arc<dyn Alignment>,
    config: &ObjectiveConfig,
) -> Arc<dyn Alignment> {
    let entry = objective.entry();
    let likelihood = likelihood(entry.takes, config);
    Arc::new(Sum { entry, terms: vec![(1.0, objective), (config.nll_weight, likelihood)] })
}

fn likelihood(of: Takes, config: &ObjectiveConfig) -> Arc<dyn Alignment> {
    Arc::new(Nll { of, beta_policy: config.beta_policy })
}

impl Sum {
    fn any(&self, needs: impl Fn(&dyn Alignment) -> bool) -> bool {
        self.terms.iter().any(|(_, term)| needs(&**term))
    }
}

impl Alignment for Sum {
    fn loss(&self, log_probs: &GroupLogProbs, rewards: &Tensor<2>) -> Tensor<1> {
        let term = |(weight, term): &(f64, Arc<dyn Alignment>)| {
            let loss = term.loss(log_probs, rewards);
            if *weight == 1.0 { loss } else { loss * *weight }
        };
        let mut terms = self.terms.iter().map(term);
        let first = terms.next().expect("a sum has terms");
        terms.fold(first, |sum, term| sum + term)
    }

    fn entry(&self) -> &'static Entry {
        self.entry
    }

    fn beta_policy(&self) -> f64 {
        self.terms[0].1.beta_policy()
    }

    fn needs_rewards(&self) -> bool {
        self.any(|term| term.needs_rewards())
    }

    fn needs_reference(&self) -> bool {
        self.any(|term| term.needs_reference())
    }

    fn needs_num_tokens(&self) -> bool {
        self.any(|term| term.needs_num_tokens())
    }

    fn needs_mismatched_kl(&self) -> bool {
        self.any(|term| term.needs_mismatched_kl())
    }

    fn reads_proposal(&self) -> bool {
        self.any(|term| term.reads_proposal())
    }

    fn needs_proposal(&self) -> bool {
        self.any(|term| term.needs_proposal())
    }

    fn needs_tokens(&self) -> bool {
        self.any(|term| term.needs_tokens())
    }

    fn gae(&self) -> Option<&Gae> {
        self.terms.iter().find_map(|(_, term)| term.gae())
    }

    fn check_log_probs(&self, policy: &[f64]) -> Result<()> {
        self.terms.iter().try_for_each(|(_, term)| term.check_log_probs(policy))
    }

    fn check(&self, num_completions: usize) -> Result<()> {
        self.terms.iter().try_for_each(|(_, term)| term.check(num_completions))
    }

    fn scores(&self, log_probs: &GroupLogProbs) -> Tensor<2> {
        self.terms[0].1.scores(log_probs)
    }

    fn statistics(&self, log_probs: &GroupLogProbs, rewards: &Tensor<2>) -> Vec<Statistic> {
        self.terms[0].1.statistics(log_probs, rewards)
    }

    fn log_target(&self, log_probs: &GroupLogProbs, rewards: &Tensor<2>) -> Option<Tensor<2>> {
        self.terms.iter().find_map(|(_, term)| term.log_target(log_probs, rewards))
    }
}
