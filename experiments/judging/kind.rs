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
    /// What stands before the colon.
    pub name: &'static str,
    /// What stands behind it where `exalign judge` asks, as help calls it; none where the command has
    /// no such judge.
    pub command: Option<Behind>,
    /// The same where `comparison.judge` of an experiment asks.
    pub experiment: Option<Behind>,
    /// Whether comparisons must have labels.
    pub needs_labels: bool,
    /// What of the settings its verdicts depend on.
    pub shaping: fn(argument: &str, settings: &JudgingSettings) -> Value,
    /// What it reads.
    pub reads: fn(argument: &str, settings: &JudgingSettings) -> Option<Reads>,
    pub open: for<'a> fn(argument: &str, asked: Asked<'a>) -> Result<Box<dyn Judge + 'a>>,
}

/// What stands behind the colon of a judge.
#[derive(Clone, Copy, Debug)]
pub enum Behind {
    /// No colon and nothing.
    Nothing,
    /// Something that help calls so.
    Argument(&'static str),
}

/// Something that a judge reads.
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

/// What a judge is asked with.
pub struct Asked<'a> {
    /// The settings of `exalign judge`; of an experiment, those of its endpoint alone.
    pub settings: JudgeSettings,
    /// How a reward model is loaded and reads; none in an experiment, whose comparisons have rewards.
    pub reading: Option<Reading>,
    /// What the experiment is called; empty where a command asks.
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
