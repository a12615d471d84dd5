//! One error type: what was expected, what was found, where, and what to do.

use std::path::{Path, PathBuf};

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something could not be done. Every message is one line that says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A wrong request: a flag, a configuration key or a combination of them.
    #[error("{0}")]
    Usage(String),

    /// A setting whose value makes no sense.
    #[error("`{key}` {message}")]
    Setting {
        /// Its name within its section.
        key: String,
        /// What was expected, what was found and what to do; a sentence that begins with the key.
        message: String,
    },

    /// A record that cannot be used, with the place it stands at.
    #[error("{}:{line}: {message}", file.display())]
    Record {
        /// The file.
        file: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The field, what was expected, what was found and what to do.
        message: String,
    },

    /// A file or folder whose content cannot be used.
    #[error("{}: {message}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was expected, what was found and what to do.
        message: String,
    },

    /// The operating system refused a file operation.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried, as a verb: `read`, `write`, `create`.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },

    /// A device failed while it was computing.
    #[error("{0}")]
    Device(String),

    /// A number that makes going on pointless: a loss or gradient that is not finite.
    #[error("{0}")]
    Numeric(String),

    /// Stopped by the user; the same command continues.
    #[error("interrupted; the same command continues where it stopped")]
    Interrupted,
}

impl Error {
    /// A wrong request.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// A setting whose value makes no sense.
    pub fn setting(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Setting { key: key.into(), message: message.into() }
    }

    /// A file or folder whose content cannot be used.
    pub fn file(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::File { path: path.as_ref().to_owned(), message: message.into() }
    }

    /// A record that cannot be used.
    pub fn record(file: impl AsRef<Path>, line: usize, message: impl Into<String>) -> Self {
        Self::Record { file: file.as_ref().to_owned(), line, message: message.into() }
    }

    /// For `map_err`: the operating system refused `action` on `path`.
    pub fn io(path: impl AsRef<Path>, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { path, action, source }
    }

    /// The exit code a program ends with: 1 failed, 2 wrong use, 130 interrupted.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Usage(_) | Self::Setting { .. } => 2,
            Self::Interrupted => 130,
            _ => 1,
        }
    }
}
