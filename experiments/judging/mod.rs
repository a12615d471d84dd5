//! Judges, as the command line and settings write them: `reward:FOLDER`, `openai:URL`, `labels`, `rule`.
//!
//! A judge is one file with its `Kind`, and one line in [`KINDS`].

mod endpoint;
mod kind;
mod labels;
mod reward;
mod rule;

use exalign::config::JudgingSettings;
use exalign::judges::Judge;
use exalign::{Error, Result};
use serde_json::Value;

pub use kind::{Asked, Reading, Reads, Rule};
use kind::{Behind, Kind};

/// All judges, in the order in which they are listed.
const KINDS: &[&Kind] = &[&reward::KIND, &rule::KIND, &endpoint::KIND, &labels::KIND];

/// A judge by its text.
#[derive(Clone, Debug)]
pub struct JudgeSpec {
    kind: &'static Kind,
    argument: String,
}

impl JudgeSpec {
    /// The judge of `exalign judge --judge TEXT`.
    pub fn of_command(text: &str) -> std::result::Result<Self, String> {
        Self::parse(text, |kind| kind.command)
    }

    /// The judge of the setting `comparison.judge`.
    pub fn of_experiment(text: &str) -> Result<Self> {
        Self::parse(text, |kind| kind.experiment).map_err(|expected| {
            Error::usage(format!("comparison.judge: {expected}, found `{text}`"))
        })
    }

    fn parse(text: &str, behind: fn(&Kind) -> Option<Behind>) -> std::result::Result<Self, String> {
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        let fits = |kind: &&&'static Kind| match (behind(kind), argument) {
            (Some(Behind::Nothing), None) => true,
            (Some(Behind::Argument(_)), Some(argument)) => !argument.is_empty(),
            _ => false,
        };
        match KINDS.iter().filter(|kind| kind.name == name).find(fits) {
            Some(kind) => Ok(Self { kind, argument: argument.unwrap_or_default().to_owned() }),
            None => Err(format!("expected {}", spellings(behind))),
        }
    }

    /// Whether comparisons must have labels.
    pub fn needs_labels(&self) -> bool {
        self.kind.needs_labels
    }

    /// The settings that its verdicts depend on.
    pub fn shaping(&self, settings: &JudgingSettings) -> Value {
        (self.kind.shaping)(&self.argument, settings)
    }

    /// The input that it reads, if any.
    pub fn reads(&self, settings: &JudgingSettings) -> Option<Reads> {
        (self.kind.reads)(&self.argument, settings)
    }

    /// The judge.
    ///
    /// # Errors
    /// If it cannot be asked with what there is.
    pub fn open<'a>(&self, asked: Asked<'a>) -> Result<Box<dyn Judge + 'a>> {
        (self.kind.open)(&self.argument, asked)
    }
}

/// How judges are spelt: `a, b or c`.
fn spellings(behind: fn(&Kind) -> Option<Behind>) -> String {
    let spelling = |kind: &&Kind| match behind(kind)? {
        Behind::Nothing => Some(kind.name.to_owned()),
        Behind::Argument(argument) => Some(format!("{}:{argument}", kind.name)),
    };
    let all: Vec<String> = KINDS.iter().filter_map(spelling).collect();
    match all.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => all.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judge_is_a_kind_and_where_it_is() {
        let judge = |text: &str| {
            let spec = JudgeSpec::of_command(text).ok()?;
            Some(format!("{} {}", spec.kind.name, spec.argument))
        };
        assert_eq!(judge("labels").as_deref(), Some("labels "));
        assert_eq!(judge("reward:out/model").as_deref(), Some("reward out/model"));
        assert_eq!(judge("openai:http://h:1/v1").as_deref(), Some("openai http://h:1/v1"));
        for none in ["reward", "reward:", "openai:", "gpt", "labels:x", "rule"] {
            assert_eq!(judge(none), None, "{none}");
        }
    }

    #[test]
    fn what_is_no_judge_is_refused_with_those_that_are() {
        let refusal = JudgeSpec::of_command("gpt").err().unwrap();
        assert_eq!(refusal, "expected reward:FOLDER, openai:URL or labels");
        let refusal = JudgeSpec::of_experiment("labels").err().unwrap().to_string();
        assert_eq!(
            refusal,
            "comparison.judge: expected reward, rule or openai:URL, found `labels`"
        );
    }
}
