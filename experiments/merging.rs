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
    /// What the whole comes to, of what its shards came to.
    fn merged(whole: &Whole<'_>, shards: Vec<Self::Summary>) -> Result<Self::Summary>;

    /// What a summary says of the shard it is of.
    fn shard_of(summary: &Self::Summary) -> Option<&ShardOutput>;
}
