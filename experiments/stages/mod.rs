//! The stages of an alignment. Each stage is a command of its own and a step of every experiment.
//!
//! A file holds the command line of one stage, and its struct, which declares the inputs and settings of the
//! stage ([`crate::stage`]). Commands fill the struct from the command line, experiments from their presets.

pub mod align;
pub mod check;
pub mod data;
pub mod evaluate;
pub mod info;
pub mod judge;
pub mod label;
pub mod loss;
pub mod merge;
pub mod merge_shards;
mod objective;
pub mod online;
pub mod pairs;
pub mod plan;
pub mod report;
pub mod reward;
pub mod sample;
pub mod score;
pub mod scorer;
#[cfg(feature = "remote")]
pub mod serve_device;
pub mod sft;
pub mod training;
