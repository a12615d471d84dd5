//! Rewards of completions: what reward models, programs, rules and graders give each completion of a group.
//!
//! | room | what |
//! |---|---|
//! | `spec` | rewards as the command line and settings write them: `reward:DIR*1.0,command:./verify.py*0.1` |
//! | `kind` | what each kind of reward tells: its argument, its key, how to open it |
//! | `model` | reward models |
//! | `command` | programs, as JSON Lines through pipes |
//! | `endpoint` | grades of a model behind an endpoint |
//! | `rule` | rules for answers that can be checked, and those that a program adds |
//!
//! A kind of reward is one file with its `Kind`, and one line in `KINDS`.
//!
//! Invariant: every completion has a finite reward, or its group is left out by name, or scoring ends in an error
//! that names the group. A reward that is missing is never taken for 0.

mod command;
mod endpoint;
mod kind;
mod model;
mod rule;
mod spec;

use std::borrow::Cow;

use burn::tensor::Device;

use crate::config::RewardsSettings;
use crate::data::{ChatSettings, Group, Intake, Located, Tolerance};
use crate::model::WeightType;
use crate::{Error, Result};
use kind::Kind;

pub use command::end_programs;
pub use model::{RewardScorer, rewards_of};
pub use rule::{OwnRule, register_rule};
pub use spec::RewardSpecs;

/// All kinds of rewards, in the order in which they are listed.
const KINDS: &[&Kind] = &[&model::KIND, &command::KIND, &rule::KIND, &endpoint::KIND];

/// Gives completions rewards.
pub trait Reward: Send {
    /// Refuses a group that cannot be scored, before any is scored; its completions may still be missing.
    /// Returns the tokens that are read of it, 0 where none are.
    ///
    /// # Errors
    /// What the record lacks.
    fn look_at(&self, _group: &Located<Group>, _intake: &mut Intake) -> Result<usize> {
        Ok(0)
    }

    /// The reward of every completion, `[group][completion]`.
    ///
    /// # Errors
    /// If a completion has no reward; the message names its group.
    fn score(&mut self, groups: &[Located<Group>]) -> Result<Vec<Vec<f64>>>;

    /// The same, and none for a group that has no reward for a reason of its own, as long as `tolerance` sets such
    /// groups aside.
    ///
    /// # Errors
    /// If a completion has no reward and its group is not set aside; the message names its group.
    fn score_within(
        &mut self,
        groups: &[Located<Group>],
        _tolerance: &mut Tolerance,
    ) -> Result<Vec<Option<Vec<f64>>>> {
        Ok(self.score(groups)?.into_iter().map(Some).collect())
    }

    /// Whether an error has shown that rewards of earlier groups may be wrong as well.
    fn is_in_doubt(&self) -> bool {
        false
    }

    /// Called after the last group.
    ///
    /// # Errors
    /// If the end shows that rewards were wrong.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Everything that a reward may need when it is opened.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// Where a reward model computes.
    pub device: &'a Device,
    /// What its weights are kept as.
    pub dtype: WeightType,
    /// How it writes conversations.
    pub chat: &'a ChatSettings,
    /// How programs and endpoints are asked.
    pub settings: &'a RewardsSettings,
}

/// Several rewards with their weights, opened.
pub struct Rewards {
    parts: Vec<Part>,
}

/// One of several rewards.
struct Part {
    name: String,
    weight: f64,
    reward: Box<dyn Reward>,
}

/// The rewards of groups.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scores {
    /// The weighted sum for every completion, `[group][completion]`.
    pub totals: Vec<Vec<f64>>,
    /// What each reward gave by itself, before it was weighted, by its name.
    pub parts: Vec<(String, Vec<Vec<f64>>)>,
}

impl Rewards {
    /// Of rewards with their names and weights. Equal names get a number.
    pub fn new(rewards: Vec<(String, f64, Box<dyn Reward>)>) -> Self {
        let names = numbered(rewards.iter().map(|(name, ..)| name.clone()).collect());
        let parts = names.into_iter().zip(rewards);
        let part = |(name, (_, weight, reward))| Part { name, weight, reward };
        Self { parts: parts.map(part).collect() }
    }

    /// Their names, each once.
    pub fn names(&self) -> Vec<&str> {
        self.parts.iter().map(|part| part.name.as_str()).collect()
    }

    /// Refuses a group that one of them cannot score, before any is scored. Returns the most tokens that
    /// one of them reads of it.
    ///
    /// # Errors
    /// What the record lacks.
    pub fn look_at(&self, group: &Located<Group>, intake: &mut Intake) -> Result<usize> {
        self.parts
            .iter()
            .try_fold(0, |most, part| Ok(most.max(part.reward.look_at(group, intake)?)))
    }

    /// The rewards of every completion.
    ///
    /// # Errors
    /// If a completion has no finite reward; the message names its group.
    pub fn score(&mut self, groups: &[Located<Group>]) -> Result<Scores> {
        Ok(self.score_within(groups, &mut Tolerance::none())?.1)
    }

    /// The rewards of every completion of the groups that are left, and the places of these groups. A group is left
    /// out where a reward has none for it and `tolerance` sets the group aside; the rewards behind do not see it.
    ///
    /// # Errors
    /// If a completion has no finite reward and its group is not set aside; the message names its group.
    pub fn score_within(
        &mut self,
        groups: &[Located<Group>],
        tolerance: &mut Tolerance,
    ) -> Result<(Vec<usize>, Scores)> {
        let mut left = Cow::Borrowed(groups);
        let mut places: Vec<usize> = (0..groups.len()).collect();
        let mut parts: Vec<(String, Vec<Vec<f64>>)> = Vec::new();
        for Part { name, reward, .. } in &mut self.parts {
            let rewards = reward.score_within(&left, tolerance)?;
            let is_scored: Vec<bool> = rewards.iter().map(Option::is_some).collect();
            if is_scored.contains(&false) {
                retain(left.to_mut(), &is_scored);
                retain(&mut places, &is_scored);
                parts.iter_mut().for_each(|(_, all)| retain(all, &is_scored));
            }
            if places.is_empty() && !groups.is_empty() {
                return Ok(Default::default());
            }
            let rewards: Vec<Vec<f64>> = rewards.into_iter().flatten().collect();
            check(name, &left, &rewards)?;
            parts.push((name.clone(), rewards));
        }
        let nothing = |group: &Located<Group>| vec![0.0; group.record.completions.len()];
        let mut totals: Vec<Vec<f64>> = left.iter().map(nothing).collect();
        for (Part { weight, .. }, (_, rewards)) in self.parts.iter().zip(&parts) {
            for (totals, rewards) in totals.iter_mut().zip(rewards) {
                totals.iter_mut().zip(rewards).for_each(|(total, one)| *total += *weight * one);
            }
        }
        check("the sum of the rewards", &left, &totals)?;
        Ok((places, Scores { totals, parts }))
    }

    /// Whether an error has shown that rewards of earlier groups may be wrong as well, so that none of them
    /// should be kept.
    pub fn is_in_doubt(&self) -> bool {
        self.parts.iter().any(|part| part.reward.is_in_doubt())
    }

    /// Called after the last group: programs end, and answers that nobody asked for are an error.
    ///
    /// # Errors
    /// If the end shows that rewards were wrong.
    pub fn close(&mut self) -> Result<()> {
        self.parts.iter_mut().try_for_each(|part| part.reward.close())
    }
}

impl Scores {
    /// Writes the rewards of the group at `index` into it, and those of each reward where there are several.
    pub fn write_into(&self, index: usize, group: &mut Group) {
        group.rewards = Some(self.totals[index].clone());
        group.reward_parts = match self.parts.len() {
            0 | 1 => Vec::new(),
            _ => {
                let of_group =
                    |(name, all): &(String, Vec<Vec<f64>>)| (name.clone(), all[index].clone());
                self.parts.iter().map(of_group).collect()
            }
        };
    }
}

/// Keeps the items of `all` whose place is marked.
fn retain<T>(all: &mut Vec<T>, is_kept: &[bool]) {
    let mut marks = is_kept.iter();
    all.retain(|_| marks.next().copied().unwrap_or(true));
}

/// Refuses rewards that are not one a completion, or not finite.
fn check(name: &str, groups: &[Located<Group>], rewards: &[Vec<f64>]) -> Result<()> {
    if rewards.len() != groups.len() {
        let message = format!(
            "{name}: expected rewards of {} groups, found those of {}",
            groups.len(),
            rewards.len()
        );
        return Err(Error::Numeric(message));
    }
    for (group, rewards) in groups.iter().zip(rewards) {
        let k = group.record.completions.len();
        if rewards.len() != k {
            let message = format!("{name}: expected {k} rewards, found {}", rewards.len());
            return Err(group.error(message));
        }
        if let Some(i) = rewards.iter().position(|reward| !reward.is_finite()) {
            return Err(group.error(format!(
                "{name}: expected a finite reward of completion {}, found {}",
                i + 1,
                rewards[i]
            )));
        }
    }
    Ok(())
}

/// The names, of which equal ones get numbers from the second on: `len`, `len-2`.
fn numbered(names: Vec<String>) -> Vec<String> {
    let mut taken: Vec<String> = Vec::new();
    for name in names {
        let mut own = name.clone();
        let mut number = 2;
        while taken.contains(&own) {
            own = format!("{name}-{number}");
            number += 1;
        }
        taken.push(own);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Completion, Passage};

    /// Gives what it has.
    struct Fixed(Vec<Vec<f64>>);

    impl Reward for Fixed {
        fn score(&mut self, _: &[Located<Group>]) -> Result<Vec<Vec<f64>>> {
            Ok(self.0.clone())
        }
    }

    fn groups() -> Vec<Located<Group>> {
        let completion = |text: &str| Completion::finished(Passage::of_text(text));
        let group = |texts: &[&str]| Group {
            completions: texts.iter().map(|text| completion(text)).collect(),
            ..Group::default()
        };
        Located::numbered("g.jsonl", [group(&["a", "b"]), group(&["c"])])
    }

    fn scored(parts: &[(&str, f64, &[&[f64]])]) -> Result<Scores> {
        let fixed = |rewards: &[&[f64]]| -> Box<dyn Reward> {
            Box::new(Fixed(rewards.iter().map(|row| row.to_vec()).collect()))
        };
        let parts =
            parts.iter().map(|(name, weight, all)| ((*name).to_owned(), *weight, fixed(all)));
        Rewards::new(parts.collect()).score(&groups())
    }

    #[test]
    fn the_total_is_the_weighted_sum_and_each_part_stands_apart_under_its_own_name() {
        let scores = scored(&[
            ("len", 2.0, &[&[1.0, 2.0], &[3.0]]),
            ("len", -0.5, &[&[4.0, 0.0], &[2.0]]),
            ("len", 0.0, &[&[9.0, 9.0], &[9.0]]),
        ]);
        let scores = scores.unwrap();
        assert_eq!(scores.totals, [vec![0.0, 4.0], vec![5.0]]);
        let names: Vec<&str> = scores.parts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["len", "len-2", "len-3"]);
        assert_eq!(scores.parts[1].1, [vec![4.0, 0.0], vec![2.0]]);
        let mut group = groups()[0].record.clone();
        scores.write_into(0, &mut group);
        assert_eq!(group.rewards, Some(vec![0.0, 4.0]));
        assert_eq!(group.reward_parts[1], ("len-2".to_owned(), vec![4.0, 0.0]));
    }

    /// Gives what it has, and sets groups aside without.
    struct Sparse(Vec<Option<Vec<f64>>>);

    impl Reward for Sparse {
        fn score(&mut self, groups: &[Located<Group>]) -> Result<Vec<Vec<f64>>> {
            let all = self.score_within(groups, &mut Tolerance::none())?;
            Ok(all.into_iter().flatten().collect())
        }

        fn score_within(
            &mut self,
            groups: &[Located<Group>],
            tolerance: &mut Tolerance,
        ) -> Result<Vec<Option<Vec<f64>>>> {
            for (group, _) in groups.iter().zip(&self.0).filter(|(_, found)| found.is_none()) {
                tolerance.refuse(group.error("no reward; ask again"))?;
            }
            Ok(self.0.clone())
        }
    }

    #[test]
    fn a_group_without_a_reward_is_left_out_of_all_parts_within_the_tolerance() {
        let of = |rewards: Vec<Option<Vec<f64>>>, others: &[&[f64]]| {
            let others = Fixed(others.iter().map(|row| row.to_vec()).collect());
            let all: [(&str, f64, Box<dyn Reward>); 3] = [
                ("len", 1.0, Box::new(Fixed(vec![vec![1.0, 2.0], vec![3.0]]))),
                ("sparse", 2.0, Box::new(Sparse(rewards))),
                ("others", 1.0, Box::new(others)),
            ];
            Rewards::new(all.into_iter().map(|it| (it.0.to_owned(), it.1, it.2)).collect())
        };
        let first_missing = || of(vec![None, Some(vec![10.0])], &[&[100.0]]);
        let mut tolerance = Tolerance::new(1);
        let (places, scores) = first_missing().score_within(&groups(), &mut tolerance).unwrap();
        assert_eq!((places, scores.totals), (vec![1], vec![vec![123.0]]));
        let parts: Vec<_> = scores.parts.into_iter().map(|(_, rewards)| rewards).collect();
        assert_eq!(parts, [vec![vec![3.0]], vec![vec![10.0]], vec![vec![100.0]]]);
        let one_more = first_missing().score_within(&groups(), &mut tolerance).unwrap_err();
        insta::assert_snapshot!(one_more, @"g.jsonl:1: no reward; ask again or pass --skip-bad 2");
        insta::assert_snapshot!(first_missing().score(&groups()).unwrap_err(), @"g.jsonl:1: no reward; ask again");
        let none = of(vec![None, None], &[]).score_within(&groups(), &mut Tolerance::new(2));
        assert_eq!(none.unwrap(), (vec![], Scores::default()));
    }

    #[test]
    fn rewards_that_are_missing_or_not_finite_are_refused_with_their_group() {
        let refusal =
            |rewards: &[&[f64]]| scored(&[("len", 1.0, rewards)]).unwrap_err().to_string();
        insta::assert_snapshot!(refusal(&[&[1.0, 2.0]]), @"len: expected rewards of 2 groups, found those of 1");
        insta::assert_snapshot!(refusal(&[&[1.0, 2.0], &[1.0, 2.0]]), @"g.jsonl:2: len: expected 1 rewards, found 2");
        insta::assert_snapshot!(refusal(&[&[1.0, f64::NAN], &[1.0]]), @"g.jsonl:1: len: expected a finite reward of completion 2, found NaN");
        let huge = scored(&[("len", 1e300, &[&[1.0, 1e10], &[1.0]])]).unwrap_err();
        insta::assert_snapshot!(huge, @"g.jsonl:1: the sum of the rewards: expected a finite reward of completion 2, found inf");
    }
}
