//! Where everything lies that is known by its content.

use std::path::{Path, PathBuf};

/// The folder of everything that is keyed by content: `EXALIGN_CACHE`, else the user's cache
/// folder, else `.exalign` here.
pub fn cache_folder() -> PathBuf {
    let under = |name: &str, rest: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(|value| Path::new(&value).join(rest))
    };
    under("EXALIGN_CACHE", "")
        .or_else(|| under("XDG_CACHE_HOME", "exalign"))
        .or_else(|| under("HOME", ".cache/exalign"))
        .unwrap_or_else(|| PathBuf::from(".exalign"))
}
