//! The judge `labels`: the people who labelled the comparisons.

use exalign::judges::People;
use serde_json::json;

use super::kind::{Behind, Kind};

pub const KIND: Kind = Kind {
    name: "labels",
    command: Some(Behind::Nothing),
    experiment: None,
    needs_labels: true,
    shaping: |_, _| json!({ "judge": "labels" }),
    reads: |_, _| None,
    open: |_, _| Ok(Box::new(People)),
};
