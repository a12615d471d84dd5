//! What each kind of reward tells: its argument, what identifies it, how to open it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Opening, Reward};
use crate::Result;
use crate::config::RewardsSettings;

/// A kind of reward.
#[derive(Debug)]
pub struct Kind {
    /// The name before the colon.
    pub name: &'static str,
    /// The argument after the colon, as the help names it.
    pub argument: &'static str,
    /// Refuses an argument that makes no sense, whatever is on disk.
    pub check: fn(argument: &str) -> Result<(), String>,
    /// What the reward is called in records and figures.
    pub title: fn(argument: &str) -> String,
    /// What identifies the argument where it is no file whose content does; null: only its content.
    pub shaping: fn(argument: &str, settings: &RewardsSettings) -> Value,
    /// The contents that rewards depend on, as hashes by name.
    pub content: fn(argument: &str, settings: &RewardsSettings) -> Result<BTreeMap<String, String>>,
    /// Opens the reward.
    pub open: fn(argument: &str, opening: &Opening<'_>) -> Result<Box<dyn Reward>>,
}
