//! Which prompts each round draws for, and which of its groups each step learns from: a function of the settings
//! alone.

use crate::config::{OnlineRounds, TrainSettings};
use crate::training::BatchOrder;

/// The rounds of a training.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// A round's prompts as a step's records.
    prompts: BatchOrder,
    num_steps: usize,
    steps_per_round: usize,
    batch_size: usize,
    shuffle: Option<u64>,
}

impl Plan {
    /// As the settings say, over `num_prompts` prompts.
    pub fn new(num_prompts: usize, settings: &TrainSettings, rounds: &OnlineRounds) -> Self {
        let TrainSettings { training, data, seed, .. } = settings;
        let per_round = rounds.prompts_per_round.min(num_prompts).max(1);
        let shuffle = data.shuffle.then_some(*seed);
        let epochs = if rounds.rounds == 0 { training.epochs } else { usize::MAX };
        let prompts = BatchOrder::new(num_prompts, per_round, epochs, rounds.rounds, shuffle);
        let steps = prompts.num_steps().saturating_mul(rounds.steps_per_round);
        let num_steps = if training.max_steps == 0 { steps } else { steps.min(training.max_steps) };
        Self {
            prompts,
            num_steps,
            steps_per_round: rounds.steps_per_round,
            batch_size: training.batch_size,
            shuffle,
        }
    }

    /// Number of optimizer steps.
    pub fn num_steps(&self) -> usize {
        self.num_steps
    }

    /// The round of a step, and the step's turn in it; all from 0.
    pub fn round_of(&self, step: usize) -> (usize, usize) {
        (step / self.steps_per_round, step % self.steps_per_round)
    }

    /// The pass over the prompts that a round belongs to, and its prompts in ascending order.
    pub fn prompts(&self, round: usize) -> (usize, Vec<usize>) {
        self.prompts.records(round)
    }

    /// The groups of a step among the `num_groups` of its round: all of them in turn, `training.batch_size` at a
    /// time, as often as there are steps.
    pub fn groups(&self, round: usize, turn: usize, num_groups: usize) -> Vec<usize> {
        if num_groups == 0 {
            return Vec::new();
        }
        let batch_size = self.batch_size.min(num_groups);
        // Each round has an order of its own, not that of the prompts.
        let shuffle = self.shuffle.map(|seed| seed ^ (round as u64 + 1).rotate_left(32));
        let order = BatchOrder::new(num_groups, batch_size, self.steps_per_round, 0, shuffle);
        order.records(turn).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, Sources, Stage};

    fn plan(num_prompts: usize, keys: &[&str]) -> Plan {
        let set = keys.iter().map(|key| (*key).to_owned()).collect();
        let sources = Sources { set, ..Sources::default() };
        let settings = crate::config::OnlineSettings::load(Stage::Online, &sources).unwrap();
        Plan::new(num_prompts, &settings.align.train, &settings.online)
    }

    #[test]
    fn every_prompt_comes_once_a_pass_and_a_short_last_round_is_kept() {
        let plan = plan(10, &["online.prompts_per_round=4", "online.steps_per_round=2"]);
        assert_eq!(plan.num_steps(), 6);
        let mut all: Vec<usize> = (0..3).flat_map(|round| plan.prompts(round).1).collect();
        assert_eq!(plan.prompts(2).1.len(), 2);
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
        assert_eq!(plan.round_of(5), (2, 1));
    }

    #[test]
    fn rounds_are_as_many_as_asked_for_and_go_through_the_prompts_again() {
        let keys = ["online.prompts_per_round=4", "online.rounds=7", "training.max_steps=6"];
        let plan = plan(10, &keys);
        assert_eq!(plan.num_steps(), 6);
        assert_eq!(plan.prompts(3).0, 1);
        assert_ne!(plan.prompts(3).1, plan.prompts(0).1, "each pass has an order of its own");
    }

    #[test]
    fn steps_take_the_groups_of_a_round_in_turn() {
        let keys = ["online.steps_per_round=3", "training.batch_size=4"];
        let plan = plan(64, &keys);
        let mut of_pass: Vec<usize> = (0..2).flat_map(|turn| plan.groups(0, turn, 8)).collect();
        of_pass.sort_unstable();
        assert_eq!(of_pass, (0..8).collect::<Vec<_>>());
        assert_eq!(plan.groups(0, 2, 8).len(), 4);
        assert_eq!(plan.groups(0, 0, 3), [0, 1, 2], "a step takes no group twice");
        assert!(plan.groups(0, 0, 0).is_empty());
        assert_ne!(plan.groups(0, 0, 8), plan.groups(1, 0, 8));
    }
}
