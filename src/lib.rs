//! Exact alignment of language models.
#![warn(missing_docs)]
#![forbid(unsafe_code)]

pub mod alignment;
pub mod config;
pub mod data;
pub mod device;
mod error;
pub mod evaluation;
pub mod files;
pub mod generation;
pub mod interrupt;
pub mod log_probs;
pub mod model;
pub mod progress;
pub mod reference;
pub mod report;
pub mod training;

pub use error::{Error, Result};
