//! Whose answers are better, in the eyes of a judge: every variant at the end of its training against
//! π_sft and against the answers people gave, one sample a prompt.

use std::collections::{HashMap, VecDeque};

use exalign::data::{Completion, Group};
use exalign::evaluation::{BothOrders, Verdict, WinRate};
use exalign::judges::{Comparison, Judge, Judgement};
use exalign::report::WinRateRow;
use exalign::{Error, Result};
use serde_json::json;

use super::labels::{CHOSEN, REFERENCE};
use super::measured::{Lineage, Outcome};
use super::rule::Rule;
use super::variants;
use crate::run::Run;
use crate::stages::judge::endpoint;

/// A policy's answers beside an opponent's, over all repetitions.
struct Match {
    policy: String,
    opponent: &'static str,
    comparisons: Vec<Comparison>,
}

/// Refuses a judge that the run does not have, before anything is computed.
pub fn check(run: &Run, comparison: &variants::Comparison) -> Result<()> {
    if comparison.judge == "rule" && !Rule::new(run)?.exists() {
        return Err(Error::usage(format!(
            "comparison.judge: expected reward or openai:URL, found rule, which {} does not have on this data",
            run.task.name()
        )));
    }
    if let Some(url) = comparison.judge.strip_prefix("openai:") {
        endpoint(url, &run.settings("judge", run.config.seed())?.judge)?;
    }
    Ok(())
}

/// Every variant against the reference and against the answers people gave. Repetitions are pooled;
/// a prompt that recurs in them counts as one for the interval.
pub fn win_rates(run: &Run, outcome: &Outcome, rule: &Rule) -> Result<Vec<WinRateRow>> {
    let seed = run.config.seed();
    let mut judge: Box<dyn Judge + '_> = match outcome.comparison.judge.as_str() {
        "rule" => Box::new(ByRule(rule)),
        other => match other.strip_prefix("openai:") {
            Some(url) => Box::new(endpoint(url, &run.settings("judge", seed)?.judge)?),
            None => Box::new(ByReward),
        },
    };
    let matches = matches(outcome);
    // All at once: an endpoint answers several questions at a time.
    let all: Vec<Comparison> = matches.iter().flat_map(|it| it.comparisons.clone()).collect();
    let mut judgements = judge.judge(&all)?.into_iter();
    let rows = matches.into_iter().filter_map(|it| {
        let said = judgements.by_ref().take(it.comparisons.len());
        let asked: Vec<(String, BothOrders)> = it
            .comparisons
            .iter()
            .zip(said)
            .map(|(it, said)| (it.prompt_key(), said.both))
            .collect();
        Some(row(it.policy, it.opponent, judge.name(), WinRate::new(&asked, seed)?))
    });
    Ok(rows.collect())
}

fn row(policy: String, opponent: &str, judge: String, found: WinRate) -> WinRateRow {
    WinRateRow {
        policy,
        opponent: opponent.to_owned(),
        judge,
        rate: found.rate_over_prompts,
        wins: found.wins,
        ties: found.ties,
        losses: found.losses,
        order_dependent: found.order_dependent,
        no_verdict: found.no_verdict,
        prompts_to_tell_apart: found.prompts_to_tell_apart,
    }
}

fn matches(outcome: &Outcome) -> Vec<Match> {
    let mut matches = Vec::new();
    for (index, variant) in outcome.variants.iter().enumerate() {
        let against = |opponent, theirs: &dyn Fn(&Lineage) -> Vec<Group>| Match {
            policy: variant.folder(),
            opponent,
            comparisons: outcome
                .lineages
                .iter()
                .flat_map(|it| paired(it, index, &theirs(it), outcome.comparison.judged_prompts))
                .collect(),
        };
        matches.push(against(REFERENCE, &|it| it.reference.evaluated.groups.clone()));
        matches.push(against(CHOSEN, &|it| it.chosen.clone().unwrap_or_default()));
    }
    matches.retain(|it| !it.comparisons.is_empty());
    matches
}

/// The first answers of a variant beside those of an opponent, for the first held-out prompts.
fn paired(lineage: &Lineage, variant: usize, theirs: &[Group], count: usize) -> Vec<Comparison> {
    let Some(ours) = lineage.last(variant) else { return Vec::new() };
    // Prompts may repeat: the first answer to one is beside the first, the second beside the second.
    let mut by_prompt: HashMap<String, VecDeque<&Group>> = HashMap::new();
    for group in theirs {
        if let Some(own) = compared(group, group) {
            by_prompt.entry(own.prompt_key()).or_default().push_back(group);
        }
    }
    ours.evaluated
        .groups
        .iter()
        .take(count)
        .filter_map(|group| {
            let other = by_prompt.get_mut(&compared(group, group)?.prompt_key())?.pop_front()?;
            compared(group, other)
        })
        .collect()
}

/// The first completions of two groups of one prompt, with the rewards they have.
fn compared(ours: &Group, theirs: &Group) -> Option<Comparison> {
    let first = |group: &Group| -> Option<Completion> { group.completions.first().cloned() };
    let reward = |group: &Group| group.rewards.as_ref()?.first().copied();
    let answers = [first(ours)?, first(theirs)?];
    let mut comparison = Comparison::new(ours.id.clone(), ours.prompt.clone(), answers);
    comparison.group.rewards = reward(ours).zip(reward(theirs)).map(|(a, b)| vec![a, b]);
    Some(comparison)
}

/// By the rewards that the stages have measured.
struct ByReward;

impl Judge for ByReward {
    fn name(&self) -> String {
        "the reward model".to_owned()
    }

    fn judge(&mut self, comparisons: &[Comparison]) -> Result<Vec<Judgement>> {
        Ok(comparisons.iter().map(|it| by_scores(it.group.rewards.as_deref())).collect())
    }
}

/// By the rule that good answers follow.
struct ByRule<'a>(&'a Rule<'a>);

impl Judge for ByRule<'_> {
    fn name(&self) -> String {
        "the rule behind the labels".to_owned()
    }

    fn judge(&mut self, comparisons: &[Comparison]) -> Result<Vec<Judgement>> {
        let scores = |it: &Comparison| -> Option<Vec<f64>> {
            it.group.completions.iter().map(|answer| self.0.score(&it.group, answer)).collect()
        };
        Ok(comparisons.iter().map(|it| by_scores(scores(it).as_deref())).collect())
    }
}

/// A score each for the two answers; without them no verdict.
fn by_scores(scores: Option<&[f64]>) -> Judgement {
    let verdict = match scores {
        Some([a, b]) => Verdict::of_scores(*a, *b),
        _ => None,
    };
    Judgement::new(BothOrders::unordered(verdict), json!(scores))
}
