//! What each judge tells the program: its name, its settings, its inputs, how to open it.

use std::path::PathBuf;

use burn::tensor::Device;
use exalign::Result;
use exalign::config::{JudgeSettings, JudgingSettings};
use exalign::data::{Completion, Group};
use exalign::evaluation::{BothOrders, Verdict};
use exalign::judges::{Comparison, Judge, Judgement};
use serde_json::{Value, json};

use crate::stage::{Input, Source};

/// A way of judging.
#[derive(Debug)]
pub struct Kind {
    /// The name before the colon.
    pub name: &'static str,
    /// The argument after the colon in `exalign judge --judge`, as the help names it; none if the command
    /// has no such judge.
    pub command: Option<Behind>,
    /// The same for `comparison.judge` of an experiment.
    pub experiment: Option<Behind>,
    /// Whether comparisons must have labels.
    pub needs_labels: bool,
    /// The settings that its verdicts depend on.
    pub shaping: fn(argument: &str, settings: &JudgingSettings) -> Value,
    /// The input that it reads, if any.
    pub reads: fn(argument: &str, settings: &JudgingSettings) -> Option<Reads>,
    pub open: for<'a> fn(argument: &str, asked: Asked<'a>) -> Result<Box<dyn Judge + 'a>>,
}

/// The part after the colon of a judge.
#[derive(Clone, Copy, Debug)]
pub enum Behind {
    /// No colon and nothing.
    Nothing,
    /// An argument, by its name in the help.
    Argument(&'static str),
}

/// An input of a judge.
pub enum Reads {
    /// A file, by its name in records.
    File(&'static str, Source),
    /// A reward model.
    RewardModel(Source),
}

impl Reads {
    /// As an input of a stage.
    pub fn input(&self) -> Input<'_> {
        match self {
            Self::File(name, source) => source.file(name),
            Self::RewardModel(source) => source.reward_model("reward"),
        }
    }
}

/// Everything that a judge may need when it is opened.
pub struct Asked<'a> {
    /// The settings of `exalign judge`; of an experiment, those of its endpoint alone.
    pub settings: JudgeSettings,
    /// How a reward model is loaded and reads; none in an experiment, whose comparisons have rewards.
    pub reading: Option<Reading>,
    /// The experiment's name; empty in a command.
    pub experiment: &'a str,
    /// The score that an experiment's rule gives a completion of a group; none where there is no rule.
    pub rule: Option<&'a Rule<'a>>,
}

/// A rule that gives a completion of a group a score, where it can.
pub type Rule<'a> = dyn Fn(&Group, &Completion) -> Option<f64> + 'a;

/// How a reward model is loaded and reads.
#[derive(Clone)]
pub struct Reading {
    pub settings: JudgingSettings,
    /// The file that errors name.
    pub file: PathBuf,
    pub device: Device,
}

/// A score each for the two answers; without them no verdict.
pub fn by_scores(scores: Option<&[f64]>) -> Judgement {
    let verdict = match scores {
        Some([a, b]) => Verdict::of_scores(*a, *b),
        _ => None,
    };
    Judgement::new(BothOrders::unordered(verdict), json!(scores))
}

/// A judge by the scores that a function gives both answers.
pub struct ByScores<F> {
    pub name: &'static str,
    pub scores: F,
}

impl<F: Fn(&Comparison) -> Option<Vec<f64>>> Judge for ByScores<F> {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn judge(&mut self, comparisons: &[Comparison]) -> Result<Vec<Judgement>> {
        Ok(comparisons.iter().map(|it| by_scores((self.scores)(it).as_deref())).collect())
    }
}
