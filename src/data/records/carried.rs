//! Fields of records that no form gives a meaning: they are carried through, so that what gives rewards can
//! read them, as TRL passes the columns of a data set to reward functions.

use serde::ser::SerializeMap;
use serde_json::{Map, Value};

use super::forms::{MEANT, PROMPT};
use crate::data::Fields;

/// Fields beside those of prompts that some form of record gives a meaning.
const OURS: [&str; 16] = [
    "completions",
    "completion_ids",
    "completion",
    "finished",
    "rewards",
    "reward_parts",
    "log_probs",
    "reference_log_probs",
    "chosen",
    "chosen_ids",
    "rejected",
    "rejected_ids",
    "text",
    "text_ids",
    "label",
    "labels",
];

/// Whether some form of record gives the field a meaning.
fn is_ours(name: &str) -> bool {
    let mut meant = MEANT.iter().flat_map(|(names, _)| names.iter());
    PROMPT.contains(&name) || OURS.contains(&name) || meant.any(|meant| *meant == name)
}

/// The fields of a record that are carried, in their order and as they are, nulls included.
pub(super) fn carried(fields: &Fields) -> Map<String, Value> {
    let others = fields.iter().filter(|(name, _)| !is_ours(name));
    others.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Writes carried fields behind those of the form; a field of the form is never written twice.
pub(super) fn write_carried<M: SerializeMap>(
    map: &mut M,
    others: &Map<String, Value>,
) -> Result<(), M::Error> {
    let own = others.iter().filter(|(name, _)| !is_ours(name));
    own.into_iter().try_for_each(|(name, value)| map.serialize_entry(name, value))
}
