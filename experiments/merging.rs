//! What a stage tells `merge-shards` about its outputs.

use std::path::Path;

use exalign::Result;
use serde_json::Value;

use crate::shard::ShardOutput;
use crate::stage::Stage;

/// The output of a whole stage, its lines put together.
pub struct Whole<'a> {
    /// Its file.
    pub out: &'a Path,
    /// The settings that all shards share.
    pub settings: &'a Value,
    /// Its lines.
    pub num_lines: usize,
}

/// A stage whose records several processes may share.
pub trait Mergeable: Stage {
    /// The result of the whole, from the results of its shards.
    fn merged(whole: &Whole<'_>, shards: Vec<Self::Summary>) -> Result<Self::Summary>;

    /// The shard that a summary is of.
    fn shard_of(summary: &Self::Summary) -> Option<&ShardOutput>;
}
