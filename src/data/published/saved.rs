//! Folders that `save_to_disk` of datasets writes: `state.json` names the files of Arrow.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use crate::{Error, Result, files};

/// What names the files of a set.
const STATE: &str = "state.json";

#[derive(Deserialize)]
struct State {
    #[serde(rename = "_data_files", default)]
    data_files: Vec<DataFile>,
}

#[derive(Deserialize)]
struct DataFile {
    filename: String,
}

/// The names of the files of a saved set; none if `folder` is none.
///
/// # Errors
/// If one of them is not there, or the state cannot be read.
pub(super) fn files_of(folder: &Path) -> Result<Option<BTreeSet<String>>> {
    let path = folder.join(STATE);
    if !path.is_file() || !folder.join("dataset_info.json").is_file() {
        return Ok(None);
    }
    let state: State = files::read_json(&path)?;
    for DataFile { filename } in &state.data_files {
        if !files::is_plain_name(filename) {
            return Err(Error::file(
                &path,
                format!(
                    "`_data_files`: expected the name of a file beside it, found {filename:?}; copy the \
                     whole folder again"
                ),
            ));
        }
        if !folder.join(filename).is_file() {
            return Err(Error::file(
                &path,
                format!(
                    "expected the file {filename} beside it, found none; copy the whole folder again"
                ),
            ));
        }
    }
    Ok(Some(state.data_files.into_iter().map(|it| it.filename).collect()))
}

/// Whether a file is one that datasets keeps beside a set and that is no part of it.
pub(super) fn is_cache(name: &str) -> bool {
    name.starts_with("cache-") && name.ends_with(".arrow")
}
