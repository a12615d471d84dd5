//! The judge `rule`: the rule that good answers of an embedded corpus follow.

use exalign::Error;
use exalign::judges::Comparison;
use serde_json::json;

use super::kind::{Behind, ByScores, Kind};

pub const KIND: Kind = Kind {
    name: "rule",
    command: None,
    experiment: Some(Behind::Nothing),
    needs_labels: false,
    shaping: |_, _| json!({ "judge": "rule" }),
    reads: |_, _| None,
    open: |_, asked| {
        let Some(rule) = asked.rule else {
            return Err(Error::usage(format!(
                "comparison.judge: expected reward or openai:URL, found rule, which {} does not have on this data",
                asked.experiment
            )));
        };
        let scores = move |comparison: &Comparison| -> Option<Vec<f64>> {
            let group = &comparison.group;
            group.completions.iter().map(|answer| rule(group, answer)).collect()
        };
        Ok(Box::new(ByScores { name: "the rule behind the labels", scores }))
    },
};
