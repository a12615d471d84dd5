//! Models on the hub: the files that are read.

use std::path::{Path, PathBuf};

use super::adapter;
use super::weights::{INDEX, SINGLE, shards};
use crate::Result;
use crate::data::COMPANIONS;
use crate::hub::{HubId, Kind, Wanted};

/// The folder of a model that `given` names by its hub id, fetched where it is not in the cache yet;
/// none where there is something at the path `given`, or it is no hub id.
///
/// # Errors
/// If it cannot be fetched.
pub fn published_folder(given: &Path) -> Result<Option<PathBuf>> {
    let id = given.to_str().filter(|_| !given.exists()).and_then(HubId::parse);
    let wanted = Wanted { kind: Kind::Model, files: &files, marks_whole: &|file| is_config(file) };
    id.map(|id| id.folder(&wanted)).transpose()
}

fn is_config(file: &str) -> bool {
    [super::folder::CONFIG, adapter::CONFIG].contains(&file)
}

/// The files of a model that this software, or whoever gets the model from it, reads, among those
/// that are `there`.
fn files(there: &[&str], folder: &Path) -> Vec<String> {
    let is_read = |file: &&&str| is_config(file) || COMPANIONS.contains(*file);
    let read = there.iter().filter(is_read).map(|file| file.to_string());
    read.chain(weights(there, folder)).collect()
}

/// The files of a model's weights: an adapter's, else the one file, else the index and, once it is
/// in `folder`, those that it names. Other copies of the weights stay away.
fn weights(there: &[&str], folder: &Path) -> Vec<String> {
    let is_adapter = there.contains(&adapter::CONFIG);
    let single = if is_adapter { adapter::WEIGHTS } else { SINGLE };
    if there.contains(&single) {
        return vec![single.to_owned()];
    }
    if is_adapter || !there.contains(&INDEX) {
        return Vec::new();
    }
    // An index that cannot be read is named where the weights are.
    let named = shards(&folder.join(INDEX)).unwrap_or_default();
    let named = named.into_iter().filter(|file| there.contains(&file.as_str()));
    std::iter::once(INDEX.to_owned()).chain(named).collect()
}
