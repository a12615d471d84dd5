//! Exact alignment of language models.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

mod error;

pub use error::{Error, Result};
