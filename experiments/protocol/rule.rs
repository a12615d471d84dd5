//! The rule that the good answers of an embedded corpus follow.

use exalign::Result;
use exalign::data::{Completion, Group};

use super::data::Sizes;
use super::measured::mean;
use super::run::Run;
use crate::grammar::Grammar;
use crate::rules::prompt_text;

/// The rule that good answers follow, where the run's texts have one.
pub struct Rule<'a> {
    run: &'a Run,
    grammar: Option<Grammar>,
}

impl<'a> Rule<'a> {
    pub fn new(run: &'a Run) -> Result<Self> {
        // It is one of the embedded corpus; about published texts it says nothing.
        let embedded = run.config.section::<Sizes>("data")?.path.is_empty();
        let grammar = embedded.then(|| Grammar::parse(run.task.grammar())).transpose()?;
        Ok(Self { run, grammar })
    }

    /// Whether there is one.
    pub fn exists(&self) -> bool {
        let rule = |grammar| self.run.task.rule(grammar, "", "");
        self.grammar.as_ref().and_then(rule).is_some()
    }

    /// The score of one completion of a group.
    pub fn score(&self, group: &Group, completion: &Completion) -> Option<f64> {
        let answer = completion.passage.text.as_deref()?;
        self.run.task.rule(self.grammar.as_ref()?, &prompt_text(&group.prompt), answer)
    }

    /// Mean score of each group's completions.
    pub fn means(&self, groups: &[Group]) -> Option<Vec<f64>> {
        groups
            .iter()
            .map(|group| {
                let scores: Option<Vec<f64>> =
                    group.completions.iter().map(|answer| self.score(group, answer)).collect();
                scores.filter(|scores| !scores.is_empty()).map(|scores| mean(&scores))
            })
            .collect()
    }
}
