//! Win rates: every variant at the end of its training against π_sft and against the answers that people
//! gave, one sample a prompt.

use std::collections::{HashMap, VecDeque};

use exalign::Result;
use exalign::config::EndpointSettings;
use exalign::data::{Completion, Group};
use exalign::evaluation::{BothOrders, WinRate};
use exalign::judges::{Comparison, Judge};
use exalign::report::WinRateRow;

use super::labels::{CHOSEN, REFERENCE};
use super::measured::{Lineage, Outcome};
use super::rule::Rule;
use super::run::{Run, stage_settings};
use super::variants;
use crate::judging::{self, Asked, JudgeSpec};

/// A policy's answers beside an opponent's, over all repetitions.
struct Match {
    policy: String,
    opponent: &'static str,
    comparisons: Vec<Comparison>,
}

/// Refuses a judge that the run does not have, before anything is computed.
pub fn check(run: &Run, comparison: &variants::Comparison) -> Result<()> {
    let rule = Rule::new(run)?;
    let scores = |group: &Group, answer: &Completion| rule.score(group, answer);
    open(run, comparison, rule.exists().then_some(&scores)).map(|_| ())
}

fn open<'a>(
    run: &Run,
    comparison: &variants::Comparison,
    rule: Option<&'a judging::Rule<'a>>,
) -> Result<Box<dyn Judge + 'a>> {
    let EndpointSettings { judge: settings } = stage_settings(&run.config, "judge")?;
    let experiment = run.task.name();
    JudgeSpec::of_experiment(&comparison.judge)?.open(Asked {
        settings,
        reading: None,
        experiment,
        rule,
    })
}

/// Every variant against the reference and against the answers people gave. Repetitions are pooled;
/// a prompt that recurs in them counts as one for the interval.
pub fn win_rates(run: &Run, outcome: &Outcome, rule: &Rule) -> Result<Vec<WinRateRow>> {
    let seed = run.config.seed();
    let scores = |group: &Group, answer: &Completion| rule.score(group, answer);
    let mut judge = open(run, &outcome.comparison, rule.exists().then_some(&scores))?;
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
