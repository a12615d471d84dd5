//! Exact alignment of language models.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod alignment;
pub mod data;
mod error;
pub mod files;
pub mod log_probs;
pub mod model;

pub use error::{Error, Result};
