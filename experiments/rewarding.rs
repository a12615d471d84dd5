//! The rewards that a stage asks for, as one of its inputs.

use std::collections::BTreeMap;
use std::path::Path;

use exalign::Result;
use exalign::config::RewardsSettings;
use exalign::rewards::RewardSpecs;
use serde_json::Value;

/// Rewards by their text, with the settings by which programs and endpoints are asked.
#[derive(Clone, Debug)]
pub struct Rewarding {
    pub specs: RewardSpecs,
    pub settings: RewardsSettings,
    /// The key of the stage that made the reward model; none for rewards from outside.
    key: Option<String>,
}

impl Rewarding {
    /// Rewards from outside.
    pub fn new(specs: RewardSpecs, settings: RewardsSettings) -> Self {
        Self { specs, settings, key: None }
    }

    /// A reward model alone, perhaps made by the stage of a key.
    pub fn model(path: &Path, key: Option<String>) -> Result<Self> {
        let (specs, settings) = (RewardSpecs::model(path), RewardsSettings::defaults()?);
        Ok(Self { specs, settings, key })
    }

    /// The settings that shape the rewards, written into those of a stage.
    pub fn shape(&self, settings: &mut Value) {
        let shaping = self.specs.shaping(&self.settings);
        if !shaping.is_null() {
            settings["rewards"] = shaping;
        }
    }

    /// What the rewards depend on, by name, each with the hash of its content.
    pub fn content(&self) -> Result<BTreeMap<String, String>> {
        self.specs.content(&self.settings)
    }

    /// The same, with the output of another stage identified by its key.
    pub fn planned(&self) -> Result<BTreeMap<String, String>> {
        match &self.key {
            Some(key) => Ok([("reward model".to_owned(), key.clone())].into()),
            None => self.content(),
        }
    }
}

/// The flag's text as rewards.
pub fn parse(text: &str) -> std::result::Result<RewardSpecs, String> {
    text.parse()
}
